"""`jaxrt serve --monitoring_config_file`: one server and several workers, scraped over HTTP."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
from endtoend import Artifact, Case, Server
from prometheus_client.parser import text_string_to_metric_families

pytest_plugins = ("endtoend_fixtures",)

PATH = "/monitoring/prometheus/metrics"
COUNT = ':tensorflow:serving:request_count{model_name="rows",status="OK"}'


@pytest.fixture
def flag(tmp_path: Path) -> str:
    file = tmp_path / "monitoring.config"
    file.write_text("prometheus_config { enable: true }")
    return f"--monitoring_config_file={file}"


def page(server: Server) -> dict[str, float]:
    status, text = server.ask("GET", PATH)
    assert status == 200
    assert list(text_string_to_metric_families(text))
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_a_server_shows_its_requests_stages_batches_memory_and_states(
    artifact: Artifact, cases: dict[str, Case], tmp_path: Path, flag: str
) -> None:
    case = cases["dense 2"]
    with Server(artifact.path, flag, home=tmp_path) as server:
        for _ in range(2):
            case.assert_answered(*server.predict("rows", case.inputs))
        found = page(server)
    assert found[COUNT] == 2
    runtime = ':tensorflow:serving:runtime_latency_count{model_name="rows",API="Predict",'
    assert found[runtime + 'runtime="JAX"}'] == 2
    for stage in ("parse", "pad", "device", "encode"):
        of = f'{{model_name="rows",stage="{stage}",version="1"}}'
        assert found["jaxrt_stage_seconds_count" + of] == 2
        assert found["jaxrt_stage_seconds_sum" + of] > 0
    device = '{model_name="rows",on="device",version="1"}'
    assert found["jaxrt_queue_seconds_count" + device] == 2
    assert found["jaxrt_batch_rows_sum" + device] == 4
    assert found["jaxrt_padding_rows_total" + device] == 4
    of_version = '{model_name="rows",version="1"}'
    assert found["jaxrt_weights_bytes" + of_version] > 0
    assert found["jaxrt_requests_in_flight" + of_version] == 0
    code = 'jaxrt_executable_bytes{model_name="rows",part="code",version="1"}'
    assert found[code] > 0
    assert found['jaxrt_model_state{model_name="rows",state="AVAILABLE",version="1"}'] == 1
    assert found['jaxrt_process_resident_memory_bytes{worker="0"}'] > 0
    (built,) = [name for name in found if name.startswith("jaxrt_build_info")]
    assert re.search(r'platform="cpu".*version="\d', built)


def test_any_worker_shows_all_and_counters_outlive_one_that_is_killed(
    artifact: Artifact, cases: dict[str, Case], tmp_path: Path, flag: str
) -> None:
    case = cases["dense 1"]
    arguments = (artifact.path, flag, "--num-workers=2")
    with Server(*arguments, home=tmp_path, wait=False) as server:
        server.port = int(server.wait_for(r"ready in .*workers on port (\d+)")[1])
        for _ in range(20):  # connections of their own: the kernel deals them out
            case.assert_answered(*server.predict("rows", case.inputs))
        for _ in range(6):
            found = page(server)
            assert found[COUNT] == 20
            assert found["jaxrt_workers"] == 2
        processes = _children(server.process.pid)
        for process in processes:
            os.kill(process, signal.SIGKILL)
        server.wait_for(r"worker 0 ended")
        server.wait_for(r"worker 1 ended")
        after = _when_back(server)
        assert after[COUNT] == 20
        case.assert_answered(*server.predict("rows", case.inputs))
        assert page(server)[COUNT] == 21
        assert not set(processes) & set(_children(server.process.pid))
        assert server.stop() == 0


def _when_back(server: Server) -> dict[str, float]:
    until = time.monotonic() + 60
    while True:
        try:
            return page(server)
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.1)


def _children(process: int) -> list[int]:
    listed = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(child) for child in listed.split()]


def test_a_wrong_file_ends_the_start(artifact: Artifact, tmp_path: Path) -> None:
    file = tmp_path / "wrong"
    file.write_text("prometheus_config { enabled: true }")
    flag = f"--monitoring_config_file={file}"
    with Server(artifact.path, flag, home=tmp_path, wait=False) as server:
        assert server.process.wait(60) == 2
        assert "Error parsing text-format tensorflow.serving.MonitoringConfig" in server.log
