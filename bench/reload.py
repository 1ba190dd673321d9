"""Versions that come and go under load: what clients notice, and what stays in memory.

    python -m bench.http_models OUT/models      # once, with TensorFlow
    python -m bench.reload OUT/models [--workload tabular] [--artifacts] [--seconds 60]

An open loop sends requests at a constant rate, first to one version (steady), then while versions
come and go: each is moved into place whole, and its predecessor's directory is removed once it
serves. SavedModels differ in content, so that each is compiled anew, in another process, on the
same cores; with `--artifacts` they were compiled before. Then versions come and go without load,
and the memory of the server process is read after each.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from bench.http_load import Plan, Sender, Summary, request
from bench.http_models import WORKLOADS
from bench.machine import machine

START_SECONDS = 180.0
CONNECTIONS = 4


class Server:
    """`jaxrt serve` on a base path of its own."""

    def __init__(self, home: Path, source: Path, *, artifacts: bool) -> None:
        self.base = home / "m"
        self.base.mkdir()
        self._home = home
        self._source = source
        self._artifacts = artifacts
        self._made = 0
        self._serving: int | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = ("127.0.0.1", probe.getsockname()[1])
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Server":
        self.put(self.prepare())
        flags = [
            f"--rest_api_port={self.address[1]}", "--port=0", "--model_name=m",
            f"--model_base_path={self.base}", f"--cache-dir={self._home / 'cache'}",
        ]  # fmt: skip
        with (self._home / "server.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jaxrt", "serve", *flags], stdout=log, stderr=log
            )
        self._serving = 1
        self.wait(1)
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def prepare(self) -> Path:
        """The next version, beside the base path; another content than those before."""
        self._made += 1
        path = self._home / str(self._made)
        if self._artifacts:
            compiled = self._home / "compiled.jaxrt"
            if not compiled.exists():
                jaxrt = [sys.executable, "-m", "jaxrt", "compile"]
                command = [*jaxrt, str(self._source), "-o", str(compiled)]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            shutil.copytree(compiled, path)
        else:
            shutil.copytree(self._source, path)
            (path / "assets.extra").mkdir(exist_ok=True)
            (path / "assets.extra" / "number").write_text(str(self._made))
        return path

    def put(self, path: Path) -> int:
        path.rename(self.base / path.name)
        return int(path.name)

    def wait(self, version: int) -> None:
        """Until it serves, and it alone."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            assert self.process is not None
            if self.process.poll() is not None:
                raise RuntimeError((self._home / "server.log").read_text())
            states = self.states()
            if states.pop(version, "") == "AVAILABLE" and set(states.values()) <= {"END"}:
                return
            time.sleep(0.1)
        raise TimeoutError(f"version {version} did not come: {self.states()}")

    def states(self) -> dict[int, str]:
        url = f"http://{self.address[0]}:{self.address[1]}/v1/models/m"
        with contextlib.suppress(OSError), urllib.request.urlopen(url) as answer:
            found = json.load(answer)["model_version_status"]
            return {int(entry["version"]): entry["state"] for entry in found}
        return {}

    def swap(self, path: Path) -> float:
        """Seconds until the version has taken over and its predecessor is gone."""
        started = time.monotonic()
        version = self.put(path)
        self.wait(version)
        shutil.rmtree(self.base / str(self._serving))
        self._serving = version
        return time.monotonic() - started

    def resident(self) -> float:
        """MB of the server process."""
        assert self.process is not None
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextlib.contextmanager
def swapping(server: Server, paths: list[Path], every: float) -> Iterator[list[float]]:
    """Swaps in a thread, one each `every` seconds or as soon as the last one ended."""
    took: list[float] = []
    ended = threading.Event()

    def swap() -> None:
        due = time.monotonic()
        for path in paths:
            if ended.wait(max(0.0, due - time.monotonic())):
                return
            took.append(server.swap(path))
            due += every

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield took
    finally:
        ended.set()
        thread.join()


def load(server: Server, messages: list[bytes], seconds: float, rate: float) -> Summary:
    return Sender(server.address, messages, Plan(CONNECTIONS, seconds, rate)).run()


def line(name: str, found: Summary) -> str:
    times = " | ".join(f"{t * 1e3:.2f}" for t in (found.p50, found.p90, found.p99, found.worst))
    return f"| {name} | {found.sent} | {found.failed} | {times} | {found.lag_p99 * 1e3:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path)
    parser.add_argument("--workload", choices=list(WORKLOADS), default="tabular")
    parser.add_argument("--artifacts", action="store_true")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--steady", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("--versions", type=int, default=10)
    parser.add_argument("--reloads", type=int, default=20)
    given = parser.parse_args()
    workload = WORKLOADS[given.workload]
    sys.setswitchinterval(0.0005)  # the thread that swaps must not hold up the sender
    messages = [request("/v1/models/m:predict", body) for body in workload.bodies()]
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        source = given.models / workload.name / "1"
        with Server(Path(folder), source, artifacts=given.artifacts) as server:
            paths = [server.prepare() for _ in range(given.versions)]
            load(server, messages, 3.0, given.rate)
            steady = load(server, messages, given.steady, given.rate)
            with swapping(server, paths, given.seconds / given.versions) as took:
                swaps = load(server, messages, given.seconds, given.rate)
            print("| | sent | failed | p50 ms | p90 ms | p99 ms | worst ms | sender late, p99 ms |")
            print("| --- | --- | --- | --- | --- | --- | --- | --- |")
            print(line("steady", steady))
            print(line(f"{len(took)} versions come and go", swaps))
            print(f"p99: {swaps.p99 / steady.p99:.2f} of steady; ", end="")
            print(f"a version takes over after {statistics.median(took):.1f} s (median)")
            sizes = [server.resident()]
            for _ in range(given.reloads):
                server.swap(server.prepare())
                sizes.append(server.resident())
            print(f"resident after 0 to {given.reloads} more versions, MB:", end=" ")
            print(", ".join(f"{size:.0f}" for size in sizes))
            print(f"last of them: {sizes[-1] / sizes[0]:.3f} of the first")


if __name__ == "__main__":
    main()
