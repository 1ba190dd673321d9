"""The page: TensorFlow Serving's text for its families, a text that Prometheus can read for all."""

import http.client
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rest_server import Echo, FakeModels, echo_signature, infer, serving

from jaxrt.errors import Code, InvalidArgument
from jaxrt.serving.app import build_app
from jaxrt.serving.engine.metrics import Metrics
from jaxrt.serving.engine.servable import HostTensors, State
from jaxrt.serving.engine.states import States
from jaxrt.serving.monitoring import cells, families
from jaxrt.serving.monitoring.batches import Batches
from jaxrt.serving.monitoring.calls import Calls
from jaxrt.serving.monitoring.cells import Cells
from jaxrt.serving.monitoring.families import Kind
from jaxrt.serving.monitoring.page import Page
from jaxrt.serving.monitoring.registry import Registry

PATH = "/monitoring/prometheus/metrics"
JSON = b'{"instances": [1]}'


def ask(
    address: tuple[str, int], method: str, path: str, **headers: str
) -> tuple[int, str | None, str]:
    connection = http.client.HTTPConnection(*address, timeout=30)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.getheader("content-type"), answer.read().decode()
    finally:
        connection.close()


def fails(inputs: HostTensors, deadline: float | None) -> HostTensors:
    raise InvalidArgument("no")


def models() -> FakeModels:
    signatures = {"serving_default": echo_signature(x="int32")}
    return FakeModels(
        servables=[
            Echo(name="m", version=1, signatures=signatures),
            Echo(name="bad", version=1, signatures=signatures, work=fails),
        ]
    )


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """As the library reads them: it lets every counter's name end in `_total`."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def everything() -> Calls:
    """One of each that is counted."""
    calls = Calls()
    calls.finished("m", Code.OK, "predict", "REST", 0.001)
    calls.served("m", 1, "Predict", 0.001, 0.001, 0.001)
    calls.examples("m", 3)
    calls.warmed("/models/m/1", Code.OK, 0.1, 4)
    batches = Batches(calls.registry, "batch_threads")
    batches.accepted(1)
    batches.queued(0.000_15)
    batches.merged(4, 1)
    Metrics(calls.registry, "m", 1, "device").ran(3, 1, 0.001, 0.001)
    States(calls)("m", 1, State.AVAILABLE, Code.OK)
    States(calls)("m", 2, State.END, Code.INTERNAL)
    registry = calls.registry
    for family in families.JAXRT:
        labels = [{"version": "1", "model_name": "m"}.get(name, "x") for name in family.labels]
        if family.kind is Kind.GAUGE and family is not families.MODEL_STATE:
            registry.gauge(family, *labels).set(1)
    registry.gauge(families.MLMD_MAP, "m", "1").set(0)
    return calls


def test_calls_over_http_are_counted_by_model_and_status() -> None:
    calls = Calls()
    page = Page(PATH, calls.registry)
    with serving(build_app(models(), calls=calls, page=page)) as server:
        assert infer(server, "m:predict", JSON)[0] == 200
        assert infer(server, "m:predict", JSON)[0] == 200
        assert infer(server, "bad:predict", JSON)[0] == 400
        assert infer(server, "m:predict", b"{")[0] == 400
        assert infer(server, "none:predict", JSON)[0] == 404
        assert ask(server, "GET", "/v1/models/m")[0] == 200
        assert ask(server, "PUT", "/v1/models/m")[0] == 400
        assert ask(server, "OPTIONS", "/v1/x", Origin="http://a")[0] == 200
        assert ask(server, "OPTIONS", "/v1/x")[0] == 400
        assert ask(server, "GET", "/elsewhere")[0] == 404
        text = ask(server, "GET", PATH)[2]
    lines = [line for line in text.splitlines() if line.startswith(":tensorflow:serving:request_c")]
    assert lines == [
        ':tensorflow:serving:request_count{model_name="",status="INVALID_ARGUMENT"} 2',
        ':tensorflow:serving:request_count{model_name="",status="OK"} 1',
        ':tensorflow:serving:request_count{model_name="bad",status="INVALID_ARGUMENT"} 1',
        ':tensorflow:serving:request_count{model_name="m",status="INVALID_ARGUMENT"} 1',
        ':tensorflow:serving:request_count{model_name="m",status="OK"} 3',
        ':tensorflow:serving:request_count{model_name="none",status="NOT_FOUND"} 1',
    ]
    prefix = ":tensorflow:serving:request_latency_count"
    assert f'{prefix}{{model_name="m",API="predict",entrypoint="REST"}} 2' in text
    assert f'{prefix}{{model_name="m",API="",entrypoint="REST"}} 1' in text
    assert f'{prefix}{{model_name="",API="",entrypoint="REST"}} 1' in text
    assert f'{prefix}{{model_name="bad"' not in text
    runtime = ":tensorflow:serving:runtime_latency_count"
    assert f'{runtime}{{model_name="m",API="Predict",runtime="JAX"}} 2' in text


def test_v2_inferences_are_counted_and_its_probes_are_not() -> None:
    calls = Calls()
    body = b'{"inputs": [{"name": "x", "shape": [1], "datatype": "INT32", "data": [1]}]}'
    with serving(build_app(models(), calls=calls, page=Page(PATH, calls.registry))) as server:
        connection = http.client.HTTPConnection(*server, timeout=30)
        for name in ("m", "none"):
            connection.request("POST", f"/v2/models/{name}/infer", body)
            connection.getresponse().read()
        connection.close()
        ask(server, "GET", "/v2/health/ready")
        found = samples(ask(server, "GET", PATH)[2])
    counts = {
        labels: value
        for (name, labels), value in found.items()
        if name == families.REQUEST_COUNT.name + "_total"
    }
    assert counts == {
        (("model_name", "m"), ("status", "OK")): 1,
        (("model_name", "none"), ("status", "NOT_FOUND")): 1,
    }
    labels = (("API", "infer"), ("entrypoint", "V2"), ("model_name", "m"))
    assert found[families.REQUEST_LATENCY.name + "_count", labels] == 1


@pytest.mark.parametrize("path", [PATH, "/v1/models/m", "/x"])
def test_the_page_is_at_its_path_alone_for_any_method_before_the_api(path: str) -> None:
    calls = Calls()
    with serving(build_app(models(), calls=calls, page=Page(path, calls.registry))) as server:
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            status, kind, text = ask(server, method, path)
            assert (status, kind) == (200, "text/plain")
            assert "jaxrt_workers 1.0" in text
        assert ask(server, "HEAD", path)[:2] == (200, "text/plain")
        refused = f"Unexpected path: {path}?x=1. Should be {path}"
        assert ask(server, "GET", path + "?x=1") == (400, "text/plain", refused)
        assert "jaxrt" not in ask(server, "GET", path + "/more")[2]


def test_without_a_page_the_path_is_like_any_other() -> None:
    with serving(build_app(models())) as server:
        assert ask(server, "GET", PATH)[0] == 404


def test_every_family_is_on_the_page_and_a_prometheus_can_read_it() -> None:
    calls = everything()
    text = Page(PATH, calls.registry).text()
    found = samples(text)
    names = {name for name, _ in found}
    for family in (*families.TENSORFLOW, *families.JAXRT):
        if family is families.REQUEST_LOG_COUNT:
            continue  # requests are not logged
        ends = {Kind.HISTOGRAM: "_count", Kind.COUNTER: "_total", Kind.GAUGE: ""}
        assert family.name.removesuffix("_total") + ends[family.kind] in names, family.name
    assert "# TYPE :tensorflow:serving:request_log_count counter" in text.splitlines()
    keys = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(keys) == len(set(keys))


def test_tensorflow_servings_families_have_their_type_lines_and_no_help() -> None:
    text = Page(PATH, everything().registry).text()
    about = [line for line in text.splitlines() if line.startswith("#") and ":tensorflow" in line]
    assert all(line.startswith("# TYPE :tensorflow:serving:") for line in about)
    assert about == sorted(about) and len(about) == len(families.TENSORFLOW)
    for family in families.JAXRT:
        assert re.search(rf"^# HELP {family.name}(_total)? \w", text, re.MULTILINE)


def bounds(text: str, name: str, labels: str = "") -> list[str]:
    return re.findall(rf'^{name}_bucket\{{{labels}le="([^"]+)"\}} ', text, re.MULTILINE)


def test_bucket_bounds_are_tensorflow_servings() -> None:
    text = Page(PATH, everything().registry).text()
    latency = bounds(
        text,
        ":tensorflow:serving:request_latency",
        'model_name="m",API="predict",entrypoint="REST",',
    )
    assert latency[:7] == ["10", "18", "32.4", "58.32", "104.976", "188.957", "340.122"]
    assert len(latency) == 34 and latency[-2:] == ["1.47476e+09", "+Inf"]
    batching = ":tensorflow:serving:batching_session:"
    queue = bounds(text, batching + "queuing_latency", 'thread_pool_name="batch_threads",')
    assert queue[:4] == ["100", "120", "144", "172.8"] and len(queue) == 53
    rows = [str(2**k) for k in range(14)] + ["+Inf"]
    assert bounds(text, batching + "input_batch_size") == rows
    assert bounds(text, batching + "processed_batch_size") == rows
    assert bounds(text, batching + "padding_size", 'execution_batch_size="4",') == rows
    examples = bounds(text, ":tensorflow:serving:request_example_counts", 'model="m",')
    assert examples == [str(2**k) for k in range(15)] + ["+Inf"]


def test_a_batch_of_tensorflow_servings_queues_is_counted_as_there() -> None:
    calls = Calls()
    batches = Batches(calls.registry, "pool")
    for _ in range(3):
        batches.accepted(1)
    batches.queued(0.000_1)
    batches.merged(4, 1)
    text = Page(PATH, calls.registry).text()
    batching = ":tensorflow:serving:batching_session:"
    assert f"{batching}wrapped_run_count{{}} 1" in text
    # TensorFlow's buckets hold what is below their bound, without the bound.
    assert f'{batching}input_batch_size_bucket{{le="1"}} 0' in text
    assert f'{batching}input_batch_size_bucket{{le="2"}} 3' in text
    assert f"{batching}input_batch_size_sum{{}} 3" in text
    assert f'{batching}padding_size_bucket{{execution_batch_size="4",le="2"}} 1' in text
    assert f'{batching}queuing_latency_count{{thread_pool_name="pool"}} 1' in text


def test_names_cannot_break_the_page() -> None:
    calls = Calls()
    name = 'a"b\\c\nd\udcff'
    calls.finished(name, Code.NOT_FOUND, "predict", "REST", 0.0)
    text = Page(PATH, calls.registry).text().encode("utf-8", "replace").decode()
    assert 'model_name="a\\"b\\\\c\\nd?",status="NOT_FOUND"} 1' in text
    assert samples(text)


def test_a_page_of_several_processes_adds_them_up() -> None:
    memory = [cells.shared() for _ in range(3)]
    registries = [Registry(Cells(one)) for one in memory]
    for number, registry in enumerate(registries[:2]):
        calls = Calls(registry)
        for _ in range(number + 1):
            calls.finished("m", Code.OK, "predict", "REST", 0.001)
        registry.gauge(families.WEIGHTS_BYTES, "m", "1").set(100)
        registry.gauge(families.IN_FLIGHT, "m", "1").set(2)
    texts = [Page(PATH, registry, memory).text() for registry in registries]
    found = samples(texts[2])
    count = families.REQUEST_COUNT.name + "_total"
    assert found[count, (("model_name", "m"), ("status", "OK"))] == 3
    assert found["jaxrt_weights_bytes", (("model_name", "m"), ("version", "1"))] == 100
    assert found["jaxrt_requests_in_flight", (("model_name", "m"), ("version", "1"))] == 4
    assert found["jaxrt_workers", ()] == 3
    assert ("jaxrt_process_resident_memory_bytes", (("worker", "2"),)) in found


def test_long_sums_keep_all_their_digits() -> None:
    calls = Calls()
    calls.ran("m", "Predict", 123_456.789_012)
    assert "_sum{" in (text := Page(PATH, calls.registry).text())
    (value,) = re.findall(r"runtime_latency_sum\{.*\} (.*)", text)
    assert float(value) == pytest.approx(123_456_789_012, rel=1e-15)


def test_a_state_is_shown_while_it_lasts_and_a_failed_load_is_counted() -> None:
    calls = Calls()
    states = States(calls)
    for state in (State.START, State.LOADING, State.AVAILABLE, State.UNLOADING, State.END):
        states("m", 1, state, Code.OK)
    states("m", 2, State.LOADING, Code.OK)
    states("m", 2, State.END, Code.INVALID_ARGUMENT)
    found = samples(Page(PATH, calls.registry).text())
    shown = {dict(labels)["version"]: dict(labels)["state"] for name, labels in found
             if name == "jaxrt_model_state"}  # fmt: skip
    assert shown == {"1": "END", "2": "END"}
    assert found["jaxrt_failed_loads_total", (("model_name", "m"),)] == 1


def test_what_a_version_counted_goes_with_it() -> None:
    calls = Calls()
    states = States(calls)
    for version in (1, 2):
        states("m", version, State.AVAILABLE, Code.OK)
        Metrics(calls.registry, "m", version).ran(1, 0, 0.0, 0.0)
    states("m", 1, State.UNLOADING, Code.OK)
    states("m", 1, State.END, Code.OK)
    found = samples(Page(PATH, calls.registry).text())
    versions = {dict(labels)["version"] for name, labels in found if name == "jaxrt_batch_rows_sum"}
    assert versions == {"2"}
