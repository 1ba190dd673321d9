"""How `jaxrt serve` ends: what was accepted is answered, what comes later is refused."""

import concurrent.futures
import http.client
import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from endtoend import Array, Artifact, Case, Server, bridges_of, wait_for_bridge

pytest_plugins = ("endtoend_fixtures",)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as threads:
        yield threads


def slow_for(server: Server, case: Case, seconds: float) -> dict[str, Array]:
    """Inputs for a request of about so many seconds on this machine; the answer is the same."""
    steps, took = 2000.0, []
    for _ in range(3):
        started = time.monotonic()
        case.assert_answered(*server.predict("rows", {"x": [[steps]]}, "slow"))
        took.append(time.monotonic() - started)
    return {"x": np.full((1, 1), steps * seconds / min(took), np.float32)}


def ask_slowly(
    server: Server,
    cases: dict[str, Case],
    pool: ThreadPoolExecutor,
    count: int,
    seconds: float = 0.3,
) -> list["concurrent.futures.Future[tuple[int, object]]"]:
    """Requests that run one after the other; the first one is on the device, the rest wait."""
    inputs = slow_for(server, cases["slow"], seconds)
    asked = [pool.submit(server.predict, "rows", inputs, "slow") for _ in range(count)]
    time.sleep(0.3)
    assert not all(future.done() for future in asked)
    return asked


def test_what_was_accepted_is_answered_after_sigterm(
    artifact: Artifact, cases: dict[str, Case], pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    with Server(artifact.path, home=tmp_path) as server:
        asked = ask_slowly(server, cases, pool, 8)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("SIGTERM: finishing accepted requests")
        time.sleep(0.3)
        assert server.process.poll() is None  # it still works
        with pytest.raises(OSError):
            server.ask("GET", "/readyz")
        for future in asked:
            cases["slow"].assert_answered(*future.result())
        assert server.process.wait(30) == 0
        assert "stopped" in server.log and "Traceback" not in server.log


def test_sigint_drains_too(artifact: Artifact, tmp_path: Path) -> None:
    with Server(artifact.path, home=tmp_path) as server:
        assert server.stop(signal.SIGINT) == 0
        assert "SIGINT: finishing accepted requests" in server.log


def test_a_second_signal_does_not_wait(
    artifact: Artifact, cases: dict[str, Case], pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    with Server(artifact.path, home=tmp_path) as server:
        asked = ask_slowly(server, cases, pool, 32)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("SIGTERM: finishing accepted requests")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(5) == 1
        assert "SIGTERM again: not waiting for requests" in server.log
        assert "requests were unfinished and failed" in server.log
    answered = [f for f in asked if f.exception() is None and f.result()[0] == 200]
    assert len(answered) < len(asked)


def test_the_grace_ends_with_503_for_what_is_unfinished(
    artifact: Artifact, cases: dict[str, Case], pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    with Server(artifact.path, "--grace", "1", home=tmp_path) as server:
        asked = ask_slowly(server, cases, pool, 32, seconds=1.0)
        server.process.send_signal(signal.SIGTERM)
        statuses = [future.result()[0] for future in asked]
        assert set(statuses) == {200, 503}
        assert server.process.wait(10) == 1
        assert "requests were unfinished and failed" in server.log


def test_a_full_queue_is_a_503(
    artifact: Artifact, cases: dict[str, Case], pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    with Server(artifact.path, "--max_enqueued_batches", "1", home=tmp_path) as server:
        asked = ask_slowly(server, cases, pool, 12)
        answers = [future.result() for future in asked]
        statuses = [status for status, _ in answers]
        assert set(statuses) == {200, 503}
        full = [error for status, error in answers if status == 503]
        assert all("queue to which this task was submitted is full" in str(e) for e in full)
        case = cases["slow"]
        case.assert_answered(*server.predict("rows", case.inputs, "slow"))


def test_a_client_that_hangs_up_frees_the_queue(
    artifact: Artifact, cases: dict[str, Case], pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    case = cases["slow"]
    with Server(artifact.path, home=tmp_path) as server:
        inputs = slow_for(server, case, 0.3)
        body = json.dumps({"signature_name": "slow", "inputs": inputs["x"].tolist()})
        started = time.monotonic()
        case.assert_answered(*server.predict("rows", inputs, "slow"))
        alone = time.monotonic() - started
        leaving: list[http.client.HTTPConnection] = []
        for _ in range(40):
            leaving.append(server.connect())
            leaving[-1].request("POST", "/v1/models/rows:predict", body)
        time.sleep(0.2)
        for connection in leaving:
            connection.close()
        started = time.monotonic()
        case.assert_answered(*server.predict("rows", inputs, "slow"))
        # Behind the one that was running and those that started before all had left.
        assert time.monotonic() - started < 20 * alone


def test_the_port_opens_when_the_models_are_ready(artifact: Artifact, tmp_path: Path) -> None:
    server = Server(artifact.path, home=tmp_path)
    with server:
        assert server.log.index("rows version 1 from") < server.log.index("ready in")
        assert server.ask("GET", "/readyz") == (200, "ok")
        assert server.ask("GET", "/healthz") == (200, "ok")
        idle = server.connect()
        idle.request("GET", "/healthz")
        assert idle.getresponse().read() == b"ok"
        # A connection that is kept alive and idle does not hold the stop up.
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 10
        idle.close()


def test_sigterm_before_the_port_is_open_leaves_nothing(models: Path, tmp_path: Path) -> None:
    with Server(models / "linear" / "1", home=tmp_path, wait=False) as server:
        server.wait_for("compiling")
        wait_for_bridge(tmp_path)
        assert server.stop() == 128 + signal.SIGTERM
        assert server.log.splitlines()[-1] == "jaxrt: error: stopped by SIGTERM"
        assert "Traceback" not in server.log
    assert list((tmp_path / "tmp").iterdir()) == []
    assert list(bridges_of(tmp_path)) == []


def test_a_compile_on_demand_does_not_hold_up_a_forced_stop(
    models: Path, pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    with Server(models / "linear" / "1", "--grace", "0", home=tmp_path) as server:
        asked = pool.submit(server.predict, "linear", {"x": [[1.0]]})
        time.sleep(0.1)
        started = time.monotonic()
        assert server.stop() in (0, 1)
        assert time.monotonic() - started < 10
        assert asked.exception() is not None or asked.result()[0] in (200, 400, 503)
    until = time.monotonic() + 20
    while list(bridges_of(tmp_path)) and time.monotonic() < until:
        time.sleep(0.05)
    assert list(bridges_of(tmp_path)) == []
