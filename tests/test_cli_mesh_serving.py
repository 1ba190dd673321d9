"""`jaxrt serve` on emulated devices, by real processes over HTTP: meshes, replicas, two hosts."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import mesh_artifact
import numpy as np
import pytest

pytest_plugins = ("endtoend_fixtures",)

POLL = "--file_system_poll_wait_seconds=0.2"
SECONDS = 120
"""For a server to start on a busy machine."""


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mesh_artifact.made(tmp_path_factory.mktemp("mesh") / "m", 2, 2)


def test_weights_of_a_mesh_are_checkpoints_that_give_back_every_dtype(artifact: Path) -> None:
    assert not (artifact / "weights.safetensors").exists()
    index = json.loads((artifact / "weights.json").read_bytes())
    found = {name: entry["dtype"] for name, entry in index.items()}
    assert found == {name: array.dtype.name for name, array in mesh_artifact.weights().items()}


@pytest.mark.slow
def test_two_replicas_of_a_mesh_give_the_numbers_of_one_device(artifact: Path) -> None:
    port = _ports()
    with _serving(artifact, port, "--device=cpu:8") as server:
        _wait(server, port)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda seed: _check(port, seed), range(16)))
        server.send_signal(signal.SIGTERM)
        _, log = server.communicate(timeout=SECONDS)
    assert server.returncode == 0, log
    assert "a mesh of 2×2, replicas: 2" in " ".join(log.split())


@pytest.mark.slow
def test_two_hosts_answer_together_and_stop_when_one_is_lost(artifact: Path) -> None:
    port, coordinator = _ports(), _ports(2)
    flags = ["--device=cpu:2", f"--coordinator=localhost:{coordinator}", "--num-hosts=2"]
    with (
        _serving(artifact, port, *flags, "--host-index=0") as first,
        _serving(artifact, 0, *flags, "--host-index=1") as second,
    ):
        _wait(first, port)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda seed: _check(port, seed), range(16)))
        second.kill()
        _, log = first.communicate(timeout=SECONDS)
    assert first.returncode == 1
    assert "host 1 is gone" in log


@pytest.mark.slow
def test_a_new_version_of_a_mesh_takes_over(artifact: Path, tmp_path: Path) -> None:
    shutil.copytree(artifact, tmp_path / "m" / "1")
    port = _ports()
    with _serving(tmp_path / "m", port, "--device=cpu:4", POLL) as server:
        _wait(server, port)
        _check(port, 1)
        newer = mesh_artifact.made(tmp_path / "newer", 2, 2, "yes", "2")
        newer.rename(tmp_path / "m" / "2")
        end = time.monotonic() + SECONDS
        while _version(port) != "2":
            assert time.monotonic() < end and server.poll() is None
            time.sleep(0.2)
        _check(port, 1, scale=2.0)


@pytest.mark.slow
def test_a_saved_model_is_compiled_for_the_mesh_that_flags_say(
    models: Path, tmp_path: Path
) -> None:
    port = _ports()
    flags = ["--device=cpu:4", "--mesh=2x2", "--shard=.*=0:model", "--batch-sizes=4"]
    cache = f"--cache-dir={tmp_path}"
    with _serving(models / "rows", port, *flags, cache) as server:
        _wait(server, port)
        rows = np.ones((4, 4), np.float32).tolist()
        url = f"http://localhost:{port}/v1/models/m:predict"
        split = httpx.post(url, json={"inputs": {"x": rows}}, timeout=SECONDS)
        assert split.status_code == 200, split.text
        server.send_signal(signal.SIGTERM)
        _, log = server.communicate(timeout=SECONDS)
    assert "a mesh of 2×2" in " ".join(log.split())
    assert "shapes that nobody planned get 400" in " ".join(log.split())
    with _serving(models / "rows", port, "--batch-sizes=4", cache) as server:
        _wait(server, port)
        whole = httpx.post(url, json={"inputs": {"x": rows}}, timeout=SECONDS)
        assert whole.status_code == 200, whole.text
    for name, array in whole.json()["outputs"].items():
        np.testing.assert_allclose(split.json()["outputs"][name], array, rtol=1e-5, atol=1e-6)


def _version(port: int) -> str:
    found = httpx.get(f"http://localhost:{port}/v1/models/m", timeout=SECONDS).json()
    ready = [one for one in found["model_version_status"] if one["state"] == "AVAILABLE"]
    return str(ready[0]["version"]) if len(ready) == 1 else ""


def _check(port: int, seed: int, scale: float = 1.0) -> None:
    given = mesh_artifact.inputs((1, 8, 5, 20)[seed % 4], seed)
    body = {"inputs": {name: array.tolist() for name, array in given.items()}}
    url = f"http://localhost:{port}/v1/models/m:predict"
    answer = httpx.post(url, json=body, timeout=SECONDS)
    assert answer.status_code == 200, answer.text
    y, z = mesh_artifact.wanted(given["ids"], given["x"], scale)
    found = answer.json()["outputs"]
    np.testing.assert_allclose(found["y"], y, rtol=1e-3, atol=2e-3)
    np.testing.assert_allclose(found["z"], z, rtol=1e-6)


@contextlib.contextmanager
def _serving(path: Path, port: int, *flags: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "jaxrt", "serve", str(path), "--model_name=m", "--port=0"]
    with subprocess.Popen(
        [*command, f"--rest_api_port={port}", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _wait(server: subprocess.Popen[str], port: int) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        assert server.poll() is None, server.communicate()[1]
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"http://localhost:{port}/readyz").status_code == 200:
                return
        time.sleep(0.2)
    raise AssertionError("the server did not become ready")


def _ports(count: int = 1) -> int:
    """The first of free ports in a row."""
    while True:
        with contextlib.ExitStack() as stack:
            sock = stack.enter_context(socket.create_server(("", 0)))
            first = int(sock.getsockname()[1])
            try:
                for more in range(1, count):
                    stack.enter_context(socket.create_server(("", first + more)))
            except OSError:
                continue
            return first
