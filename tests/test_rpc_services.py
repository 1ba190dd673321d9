import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from rest_server import Echo, FakeModels, spec
from rpc_server import (
    HEALTH,
    MODELS,
    PREDICTIONS,
    UNLIMITED,
    Running,
    call,
    echo,
    failure,
    predict_request,
    serving,
    stub,
    tensor,
)

from jaxrt.errors import Code, FailedPrecondition, ResourceExhausted, Unavailable
from jaxrt.serving.config import ModelConfig
from jaxrt.serving.engine.servable import HostTensors, State, VersionStatus
from jaxrt.serving.engine.source import Specific
from jaxrt.serving.monitoring.calls import Calls
from jaxrt.serving.monitoring.cells import read
from jaxrt.serving.rpc.arguments import Arguments
from jaxrt.serving.rpc.messages import message
from jaxrt.serving.rpc.service import Options
from jaxrt.specs import SignatureSpec

ONE = np.array([[1.0, 2.0]], np.float32)
DEFAULT = {
    "dtype": "DT_FLOAT",
    "tensor_shape": {"dim": [{"size": "2", "name": ""}], "unknown_rank": False},
    "version_number": 0,
    "tensor_content": "",
    "float_val": [0.5],
    "resource_handle_val": [],
}


def several() -> Echo:
    """Two inputs, one with a default, and two outputs."""
    ends = {"a": spec("float32", "a:0"), "b": spec("float32", "b:0")}
    plain = SignatureSpec(inputs=ends, outputs=ends)
    defaulted = SignatureSpec(inputs=ends, outputs=ends, defaults={"b": DEFAULT})
    return Echo(
        name="two", version=3, signatures={"serving_default": plain, "defaulted": defaulted}
    )


def inferring() -> Echo:
    """Classify and regress signatures over serialized examples."""
    text, number = spec("string", "examples:0"), spec("float32", "y:0")
    label = spec("string", "label:0")
    classify, regress = "tensorflow/serving/classify", "tensorflow/serving/regress"
    signatures = {
        "classify": SignatureSpec(
            inputs={"inputs": text},
            outputs={"classes": label, "scores": number},
            method_name=classify,
        ),
        "regress": SignatureSpec(
            inputs={"inputs": text}, outputs={"outputs": number}, method_name=regress
        ),
        "other": SignatureSpec(
            inputs={"inputs": spec("string", "z:0")},
            outputs={"outputs": number},
            method_name=regress,
        ),
    }

    def work(inputs: HostTensors, deadline: float | None) -> HostTensors:
        sizes = [len(text) for text in inputs["inputs"]]
        labels = np.empty((len(sizes), 2), np.object_)
        labels[:] = [[b"", text] for text in inputs["inputs"]]
        return {
            "classes": labels,
            "scores": np.array([[0.0, size] for size in sizes], np.float32),
            "outputs": np.array(sizes, np.float32)[:, None] - 3,
        }

    return Echo(name="infer", version=1, signatures=signatures, work=work)


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving(FakeModels(servables=[echo(), several(), inferring()])) as running:
        yield running


def predict(running: Running, request: Any, **given: Any) -> Any:
    return call(running.address, "Predict", request, "PredictResponse", **given)


def fails(running: Running, method: str, request: Any) -> tuple[str, str]:
    return failure(running.address, method, request)


# Predict


def test_a_prediction_names_the_version_and_the_signature_that_answered(server: Running) -> None:
    answer = predict(server, predict_request(x=ONE))
    assert list(answer.outputs["x"].float_val) == [1.0, 2.0]
    assert [dim.size for dim in answer.outputs["x"].tensor_shape.dim] == [1, 2]
    assert answer.model_spec.name == "m"
    assert answer.model_spec.version.value == 7
    assert answer.model_spec.signature_name == "serving_default"


def test_answers_are_typed_fields_or_content_as_the_flag_says(server: Running) -> None:
    request = predict_request(x=tensor(ONE, content=True))
    assert predict(server, request).outputs["x"] == tensor(ONE)
    with serving(options=Options(content=True)) as running:
        assert predict(running, request).outputs["x"] == tensor(ONE, content=True)


def test_a_version_and_a_label_choose_the_servable(server: Running) -> None:
    request = predict_request(x=ONE)
    request.model_spec.version.value = 7
    assert predict(server, request).model_spec.version.value == 7
    request.model_spec.version.value = 8
    assert fails(server, "Predict", request) == (
        "NOT_FOUND",
        "Servable not found for request: Specific(m, 8)",
    )
    request.model_spec.version_label = "stable"
    assert predict(server, request).model_spec.version.value == 7
    request.model_spec.version_label = "canary"
    assert fails(server, "Predict", request) == (
        "INVALID_ARGUMENT",
        "Unrecognized servable version label: canary",
    )


def test_the_output_filter_chooses_outputs(server: Running) -> None:
    request = predict_request("two", a=ONE, b=ONE + 1)
    request.output_filter.append("b")
    assert dict(predict(server, request).outputs) == {"b": tensor(ONE + 1)}
    request.output_filter.append("b")
    assert fails(server, "Predict", request) == (
        "INVALID_ARGUMENT",
        "duplicate output tensor alias: b",
    )
    request.output_filter[:] = ["z"]
    assert fails(server, "Predict", request) == (
        "INVALID_ARGUMENT",
        "output tensor alias not found in signature: z Outputs expected to be in the set {a,b}.",
    )


def test_defaults_stand_for_inputs_that_are_left_out(server: Running) -> None:
    answer = predict(server, predict_request("two", "defaulted", a=ONE))
    assert answer.outputs["b"] == tensor(np.array([0.5, 0.5], np.float32))
    assert answer.outputs["a"] == tensor(ONE)


MISSPELT = (
    "input size does not match signature: 1!=2 len({a}) != len({a,b}). Sent extra: {}. "
    "Missing but required: {b}."
)
NO_DEFAULT = (
    "Signature input alias: a(feed name: a:0) not found in request and no default value provided. "
    "Inputs expected to be in the request {b}, or default input alias set: b"
)


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        (message("PredictRequest")(), ("INVALID_ARGUMENT", "Missing ModelSpec")),
        (predict_request(""), ("INVALID_ARGUMENT", "ModelSpec has no name specified.")),
        (predict_request("q"), ("NOT_FOUND", "Servable not found for request: Latest(q)")),
        (
            predict_request("m", "nope"),
            ("FAILED_PRECONDITION", 'Serving signature key "nope" not found.'),
        ),
        (predict_request("two", a=ONE), ("INVALID_ARGUMENT", MISSPELT)),
        (
            predict_request("two", a=ONE, z=ONE),
            ("INVALID_ARGUMENT", "Signature input alias: b(feed name: b:0) not found in request and"
             " no default value provided. Inputs expected to be in the request {a,z}, or default"
             " input alias set: "),
        ),
        (predict_request("two", "defaulted", b=ONE), ("INVALID_ARGUMENT", NO_DEFAULT)),
        (
            predict_request("two", "defaulted", a=ONE, z=ONE),
            ("INVALID_ARGUMENT", "Inputs contains invalid name. Used request inputs: a,"
             " request input: a,z"),
        ),
        (
            predict_request(x=message("TensorProto")(dtype=0)),
            ("INVALID_ARGUMENT", "tensor parsing error: x"),
        ),
        (
            predict_request("two", a=ONE, b=tensor(np.array([1], np.int32), "int32")),
            ("INVALID_ARGUMENT", "Expects arg[1] to be float but int32 is provided"),
        ),
    ],
)  # fmt: skip
def test_requests_that_are_refused(server: Running, request_: Any, wanted: tuple[str, str]) -> None:
    assert fails(server, "Predict", request_) == wanted


def test_long_messages_are_cut(server: Running) -> None:
    code, text = fails(server, "Predict", predict_request("m", "s" * 2000))
    assert code == "FAILED_PRECONDITION"
    assert text == ('Serving signature key "' + "s" * 2000)[:1024] + "...TRUNCATED"


def test_messages_may_hold_any_character(server: Running) -> None:
    _, text = fails(server, "Predict", predict_request("m", 'é%\n"\U0001f600'))
    assert text == 'Serving signature key "é%\n"\U0001f600" not found.'


def test_the_method_name_is_checked_where_the_flag_says_so() -> None:
    signature = SignatureSpec(
        inputs={"x": spec("float32")}, outputs={"x": spec("float32")}, method_name="mine"
    )
    models = FakeModels(
        servables=[Echo(name="m", version=1, signatures={"serving_default": signature})]
    )
    with serving(models, Options(check_method_name=True)) as running:
        code, text = fails(running, "Predict", predict_request(x=ONE))
    assert code == "INTERNAL"
    assert text.endswith("tensorflow/serving/regress}. Was: mine")


def test_bytes_that_are_no_request_are_refused(server: Running) -> None:
    with grpc.insecure_channel(server.address) as channel:
        for method in ("Predict", "Classify", "GetModelMetadata"):
            with pytest.raises(grpc.RpcError) as error:
                channel.unary_unary(f"/{PREDICTIONS}/{method}")(b"\x0a\xff", timeout=30)
            assert error.value.code().name == "INTERNAL"


def test_unknown_methods_and_services_are_not_implemented(server: Running) -> None:
    request = predict_request()
    assert fails(server, "PredictStreamed", request)[0] == "UNIMPLEMENTED"
    for service in ("tensorflow.serving.SessionService", "tensorflow.ProfilerService", HEALTH):
        assert failure(server.address, "Check", request, service)[0] == "UNIMPLEMENTED"


@pytest.mark.parametrize("megabytes", [4, 40])
def test_large_messages_go_through(server: Running, megabytes: int) -> None:
    array = np.random.default_rng(0).normal(size=megabytes << 18).astype(np.float32)
    request = predict_request(x=tensor(array, content=True))
    answer = predict(server, request)
    assert answer.outputs["x"].SerializeToString() == tensor(array).SerializeToString()


def test_messages_may_be_compressed(server: Running) -> None:
    array = np.zeros(100_000, np.float32)
    for way in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        answer = predict(server, predict_request(x=array), compression=way)
        assert answer.outputs["x"] == tensor(array)


def test_a_message_over_the_limit_is_refused() -> None:
    arguments = Arguments(max_receive_message_length=1000, max_send_message_length=500)
    with serving(options=Options(arguments=arguments)) as running:
        code, text = fails(running, "Predict", predict_request(x=np.zeros(1000, np.float32)))
        assert (code, text) == (
            "RESOURCE_EXHAUSTED",
            "SERVER: Received message larger than max (4026 vs. 1000)",
        )
        code, text = fails(running, "Predict", predict_request(x=np.zeros(200, np.float32)))
        assert code == "RESOURCE_EXHAUSTED"
        assert text.startswith("SERVER: Sent message larger than max (")
        with pytest.raises(grpc.RpcError) as error:  # a bomb
            predict(
                running,
                predict_request(x=np.zeros(100_000, np.float32)),
                compression=grpc.Compression.Gzip,
            )
        assert error.value.code().name == "RESOURCE_EXHAUSTED"
        assert predict(running, predict_request(x=ONE)).outputs["x"] == tensor(ONE)


# Deadlines, cancelling, errors of the model


def held(work: Callable[[HostTensors, float | None], Any]) -> tuple[Echo, FakeModels]:
    found = echo()
    found.work = work
    return found, FakeModels(servables=[found])


def test_the_deadline_of_the_client_is_that_of_the_run() -> None:
    deadlines: list[float | None] = []

    def work(inputs: HostTensors, deadline: float | None) -> HostTensors:
        deadlines.append(deadline)
        return inputs

    _, models = held(work)
    with serving(models) as running, grpc.insecure_channel(running.address) as channel:
        method = stub(channel, "Predict", "PredictResponse")
        method(predict_request(x=ONE), timeout=20)
        method(predict_request(x=ONE))
    assert deadlines[0] is not None
    assert 10 < deadlines[0] - time.monotonic() < 21  # gRPC rounds timeouts up
    assert deadlines[1] is None


def test_a_client_that_hangs_up_cancels_its_prediction() -> None:
    found, models = held(lambda inputs, deadline: asyncio.get_running_loop().create_future())
    with serving(models) as running:
        with grpc.insecure_channel(running.address) as channel:
            pending = stub(channel, "Predict", "PredictResponse").future(predict_request(x=ONE))
            assert found.started.wait(10)
            pending.cancel()
            assert found.cancelled.wait(10)
        found.started.clear()
        found.cancelled.clear()
        channel = grpc.insecure_channel(running.address)
        # Kept: gRPC breaks off calls that nobody holds.
        pending = stub(channel, "Predict", "PredictResponse").future(predict_request(x=ONE))
        assert found.started.wait(10)
        channel.close()
        assert found.cancelled.wait(10)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Unavailable("full"), "UNAVAILABLE"),
        (ResourceExhausted("late"), "RESOURCE_EXHAUSTED"),
        (asyncio.CancelledError(), "CANCELLED"),
    ],
)
def test_errors_of_a_run_keep_their_code(error: BaseException, code: str) -> None:
    def work(inputs: HostTensors, deadline: float | None) -> HostTensors:
        raise error

    _, models = held(work)
    with serving(models) as running:
        assert fails(running, "Predict", predict_request(x=ONE))[0] == code


def test_a_fault_of_the_server_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    def work(inputs: HostTensors, deadline: float | None) -> HostTensors:
        raise ZeroDivisionError("secret")

    _, models = held(work)
    with serving(models) as running:
        code, text = fails(running, "Predict", predict_request(x=ONE))
    assert (code, text) == ("INTERNAL", "Internal error: see the log of the server")
    assert "secret" in caplog.text


def test_many_calls_share_a_connection(server: Running) -> None:
    with grpc.insecure_channel(server.address, options=UNLIMITED) as channel:
        method = stub(channel, "Predict", "PredictResponse")
        rng = np.random.default_rng(0)
        arrays = [rng.normal(size=n).astype(np.float32) for n in rng.integers(1, 60_000, 100)]
        pending = [method.future(predict_request(x=array), timeout=60) for array in arrays]
        for array, future in zip(arrays, pending, strict=True):
            assert future.result().outputs["x"] == tensor(array)


# Classify, Regress, MultiInference


def examples(*texts: bytes, context: bytes | None = None) -> Any:
    found = message("Input")()
    if context is None:
        found.example_list.examples.extend(texts)
    else:
        found.example_list_with_context.examples.extend(texts)
        found.example_list_with_context.context.append(context)
    return found


def inference_request(signature: str, given: Any, name: str = "infer") -> Any:
    request = message("InferenceRequest")(input=given)
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    return request


def test_classify(server: Running) -> None:
    request = inference_request("classify", examples(b"ab", b"c", context=b"-"))
    answer = call(server.address, "Classify", request, "ClassificationResponse")
    found = [[(c.label, c.score) for c in row.classes] for row in answer.result.classifications]
    assert found == [[("", 0.0), ("-ab", 3.0)], [("", 0.0), ("-c", 2.0)]]
    assert answer.model_spec.signature_name == "classify"
    assert answer.model_spec.version.value == 1


def test_regress(server: Running) -> None:
    request = inference_request("regress", examples(b"ab", b"abc"))
    answer = call(server.address, "Regress", request, "RegressionResponse")
    assert [found.value for found in answer.result.regressions] == [-1.0, 0.0]


@pytest.mark.parametrize(
    ("method", "request_", "wanted"),
    [
        (
            "Classify",
            message("InferenceRequest")(input=examples(b"a")),
            ("INVALID_ARGUMENT", "Missing ModelSpec"),
        ),
        (
            "Classify",
            inference_request("nope", examples(b"a")),
            ("INVALID_ARGUMENT", "No signature was found with the name: nope"),
        ),
        (
            "Classify",
            inference_request("classify", examples()),
            ("INVALID_ARGUMENT", "Input is empty."),
        ),
        (
            "Regress",
            inference_request("regress", message("Input")()),
            ("INVALID_ARGUMENT", "Input is empty."),
        ),
        (
            "Regress",
            inference_request("classify", examples(b"a")),
            ("INVALID_ARGUMENT", "Expected one output Tensor."),
        ),
        (
            "Regress",
            inference_request("", examples(b"a"), "nope"),
            ("NOT_FOUND", "Servable not found for request: Latest(nope)"),
        ),
    ],
)
def test_inferences_that_are_refused(
    server: Running, method: str, request_: Any, wanted: tuple[str, str]
) -> None:
    assert fails(server, method, request_) == wanted


def multi(*tasks: tuple[str, str, str], texts: Sequence[bytes] = (b"ab",)) -> Any:
    request = message("MultiInferenceRequest")(input=examples(*texts))
    for name, signature, method in tasks:
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name = name
        task.model_spec.signature_name = signature
    return request


def test_multi_inference_answers_all_tasks_in_order(server: Running) -> None:
    request = multi(("infer", "regress", "regress"), ("infer", "classify", "classify"))
    answer = call(server.address, "MultiInference", request, "MultiInferenceResponse")
    first, second = answer.results
    assert [found.value for found in first.regression_result.regressions] == [-1.0]
    assert second.classification_result.classifications[0].classes[1].label == "ab"
    assert first.model_spec.signature_name == "regress"
    assert second.model_spec.version.value == 1


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        (multi(), ("INVALID_ARGUMENT", "ModelSpec has no name specified.")),
        (
            multi(("infer", "regress", "regress"), ("", "classify", "classify")),
            ("INVALID_ARGUMENT", "Found ModelSpec with an empty model name."),
        ),
        (
            multi(("infer", "regress", "regress"), ("m", "classify", "classify")),
            ("INVALID_ARGUMENT", "All ModelSpecs in a MultiInferenceRequest must access the same"
             " model name."),
        ),
        (
            multi(("infer", "regress", "regress"), ("infer", "regress", "regress")),
            ("INVALID_ARGUMENT", "Duplicate evaluation of signature: regress"),
        ),
        (
            multi(("infer", "nope", "regress")),
            ("INVALID_ARGUMENT", "Requested signature not found in model graph: nope"),
        ),
        (
            multi(("infer", "regress", "predict")),
            ("UNIMPLEMENTED", "Unsupported signature method_name: tensorflow/serving/predict"),
        ),
        (
            multi(("infer", "regress", "regress"), ("infer", "other", "regress")),
            ("INVALID_ARGUMENT", "Input tensor must be the same for all Signatures."),
        ),
        (
            multi(("infer", "regress", "regress"), texts=()),
            ("INVALID_ARGUMENT", "Input is empty."),
        ),
    ],
)  # fmt: skip
def test_multi_inferences_that_are_refused(
    server: Running, request_: Any, wanted: tuple[str, str]
) -> None:
    assert fails(server, "MultiInference", request_) == wanted


# Metadata, status, reload, health


def metadata_request(*asked: str, name: str = "two") -> Any:
    request = message("GetModelMetadataRequest")(metadata_field=asked)
    request.model_spec.name = name
    return request


def test_metadata_lists_all_signatures(server: Running) -> None:
    answer = call(
        server.address,
        "GetModelMetadata",
        metadata_request("signature_def"),
        "GetModelMetadataResponse",
    )
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("two", 3)
    packed = answer.metadata["signature_def"]
    assert packed.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    signatures = message("SignatureDefMap").FromString(packed.value).signature_def
    assert sorted(signatures) == ["defaulted", "serving_default"]
    found = signatures["defaulted"]
    assert found.inputs["a"].name == "a:0"
    assert found.inputs["a"].dtype == 1
    assert [dim.size for dim in found.inputs["a"].tensor_shape.dim] == [-1]
    assert list(found.defaults["b"].float_val) == [0.5]


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        (message("GetModelMetadataRequest")(), ("INVALID_ARGUMENT", "Missing ModelSpec")),
        (
            metadata_request(),
            ("INVALID_ARGUMENT",
             "GetModelMetadataRequest must specify at least one metadata_field"),
        ),
        (
            metadata_request("signature_def", "x"),
            ("INVALID_ARGUMENT", "Metadata field x is not supported"),
        ),
        (
            metadata_request("signature_def", name="nope"),
            ("NOT_FOUND", "Servable not found for request: Latest(nope)"),
        ),
    ],
)  # fmt: skip
def test_metadata_that_is_refused(server: Running, request_: Any, wanted: tuple[str, str]) -> None:
    assert fails(server, "GetModelMetadata", request_) == wanted


class Statuses(FakeModels):
    def status(self, name: str, version: int | None = None) -> Sequence[VersionStatus]:
        return [
            VersionStatus(version=9, state=State.LOADING),
            VersionStatus(
                version=8, state=State.END, code=Code.DATA_LOSS, message="torn \udcff apart"
            ),
            VersionStatus(version=7, state=State.AVAILABLE),
        ]


def test_status_lists_versions_with_their_errors() -> None:
    request = message("GetModelStatusRequest")()
    request.model_spec.name = "m"
    with serving(Statuses(servables=[])) as running:
        answer = call(running.address, "GetModelStatus", request, "GetModelStatusResponse", MODELS)
    found = [
        (s.version, s.state, s.status.error_code, s.status.error_message)
        for s in answer.model_version_status
    ]
    assert found == [(9, 20, 0, ""), (8, 50, 15, "torn ? apart"), (7, 30, 0, "")]


def test_status_that_is_refused(server: Running) -> None:
    request = message("GetModelStatusRequest")()
    assert failure(server.address, "GetModelStatus", request, MODELS) == (
        "INVALID_ARGUMENT",
        "Missing ModelSpec",
    )
    request.model_spec.name = "nope"
    assert failure(server.address, "GetModelStatus", request, MODELS) == (
        "NOT_FOUND",
        "Could not find any versions of model nope",
    )


class Reloads:
    """Records what it is given; fails for a model named `bad`."""

    def __init__(self, calls: Calls) -> None:
        self.sets: list[Sequence[ModelConfig]] = []
        self._calls = calls

    async def reload(self, models: Sequence[ModelConfig]) -> None:
        self.sets.append(models)
        self._calls.finished("m", Code.OK, "Predict", "GRPC", 0.1)
        if models[0].name == "bad":
            raise FailedPrecondition("Request to assign label to version 5 of model bad")


def reload_request(text: str, *metrics: str) -> Any:
    """`text`: a ModelConfigList, serialized through the text format of serving.config."""
    from google.protobuf import text_format

    from jaxrt.serving import config

    served = config.message_type()()
    text_format.Parse(text, served, descriptor_pool=served.DESCRIPTOR.file.pool)
    return message("ReloadConfigRequest")(config=[served.SerializeToString()], metric_names=metrics)


LISTED = """model_config_list { config { name: "%s" base_path: "/models/m"
model_platform: "tensorflow" model_version_policy { specific { versions: 4 } } } }"""


def test_a_reload_hands_the_new_set_on_and_counts_what_rose() -> None:
    calls = Calls()
    reloads = Reloads(calls)
    with serving(calls=calls, reload=reloads) as running:
        name = "/tensorflow/serving/request_count"
        request = reload_request(LISTED % "m", name, "/unknown")
        answer = call(
            running.address, "HandleReloadConfigRequest", request, "ReloadConfigResponse", MODELS
        )
    ((model,),) = reloads.sets
    assert model == ModelConfig(name="m", base_path="/models/m", policy=Specific((4,)))
    assert answer.status.error_code == 0
    assert [(m.name, m.int64_value_increase) for m in answer.metric] == [(name, 1), ("/unknown", 0)]


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("", "INVALID_ARGUMENT", "ServerModelConfig type not supported by HandleReloadConfigReq"),
        ("custom_model_config {}", "INVALID_ARGUMENT", "ServerModelConfig type not supported"),
        (LISTED % "bad", "FAILED_PRECONDITION", "Request to assign label to version 5"),
        (
            LISTED.replace("/models/m", "a") % "m",
            "INVALID_ARGUMENT",
            "Expected model m to have an absolute path or URI; got base_path()=a",
        ),
    ],
)
def test_reloads_that_are_refused(text: str, code: str, said: str) -> None:
    calls = Calls()
    with serving(calls=calls, reload=Reloads(calls)) as running:
        found = failure(running.address, "HandleReloadConfigRequest", reload_request(text), MODELS)
    assert found[0] == code
    assert found[1].startswith(said)


def test_a_server_of_fixed_models_does_not_reload(server: Running) -> None:
    found = failure(
        server.address, "HandleReloadConfigRequest", reload_request(LISTED % "m"), MODELS
    )
    assert found[0] == "UNIMPLEMENTED"


def health(running: Running, service: str) -> Any:
    request = message("HealthCheckRequest")(service=service)
    return call(running.address, "Check", request, "HealthCheckResponse", HEALTH).status


def test_health_is_that_of_the_services_tensorflow_serving_names() -> None:
    with serving(options=Options(health=True)) as running:
        assert [health(running, name) for name in ("", "ModelService", "PredictionService")] == [
            1
        ] * 3
        request = message("HealthCheckRequest")(service="nope")
        assert failure(running.address, "Check", request, HEALTH)[0] == "NOT_FOUND"


def test_who_watches_the_health_is_told_of_the_stop() -> None:
    answers: list[int] = []
    begun = threading.Event()

    def watch(address: str, service: str) -> None:
        with grpc.insecure_channel(address) as channel:
            calls = channel.unary_stream(
                f"/{HEALTH}/Watch",
                request_serializer=lambda request: request.SerializeToString(),
                response_deserializer=message("HealthCheckResponse").FromString,
            )(message("HealthCheckRequest")(service=service), timeout=30)
            for answer in calls:
                answers.append(answer.status)
                begun.set()

    with serving(options=Options(health=True)) as running:
        watcher = threading.Thread(target=watch, args=(running.address, ""))
        watcher.start()
        assert begun.wait(10)
    watcher.join(10)
    assert answers == [1, 2]


# The server


def test_it_answers_on_a_unix_socket_and_takes_over_what_a_dead_server_left(
    tmp_path: Path,
) -> None:
    path = str(tmp_path / "grpc.sock")
    with serving(path=path) as running:
        assert predict_on(f"unix:{running.address}")
    assert not Path(path).exists()


def predict_on(address: str) -> bool:
    answer = call(address, "Predict", predict_request(x=ONE), "PredictResponse")
    return bool(answer.outputs["x"] == tensor(ONE))


def test_a_stop_finishes_what_was_accepted_and_refuses_what_is_new() -> None:
    release: list[asyncio.Future[HostTensors]] = []

    def work(inputs: HostTensors, deadline: float | None) -> Any:
        release.append(asyncio.get_running_loop().create_future())
        return release[-1]

    found, models = held(work)
    with serving(models) as running, grpc.insecure_channel(running.address) as channel:
        method = stub(channel, "Predict", "PredictResponse")
        pending = method.future(predict_request(x=ONE), timeout=30)
        assert found.started.wait(10)
        running.do(lambda service: begin_stop(service))
        code, _ = fails(running, "Predict", predict_request(x=ONE))
        assert code == "UNAVAILABLE"
        running.do(lambda _: finish(release[0]))
        assert pending.result().outputs["x"] == tensor(ONE)


async def begin_stop(service: Any) -> None:
    service.stopping = asyncio.get_running_loop().create_task(service.stop(10))
    await asyncio.sleep(0.1)


async def finish(future: "asyncio.Future[HostTensors]") -> None:
    future.set_result({"x": ONE})


def test_calls_are_counted_by_model_status_and_api() -> None:
    calls = Calls()
    with serving(FakeModels(servables=[echo(), inferring()]), calls=calls) as running:
        predict(running, predict_request(x=ONE))
        fails(running, "Predict", predict_request("nope"))
        request = inference_request("regress", examples(b"a"))
        call(running.address, "Regress", request, "RegressionResponse")
        request = multi(("infer", "regress", "regress"), texts=(b"a", b"b"))
        call(running.address, "MultiInference", request, "MultiInferenceResponse")
    found = read(calls.registry.cells.memory)
    counted = {
        labels: n[0] for (name, labels), n in found.items() if name.endswith("request_count")
    }
    assert counted == {("m", "OK"): 1, ("nope", "NOT_FOUND"): 1, ("infer", "OK"): 1}
    latencies = [labels for name, labels in found if name.endswith(":request_latency")]
    assert sorted(latencies) == [("infer", "Regress", "GRPC"), ("m", "Predict", "GRPC")]
    totals = [n[0] for (name, _), n in found.items() if name.endswith("example_count_total")]
    assert totals == [2]
