"""HTTP servers side by side: one machine, one run, contenders in turns.

    python -m bench.http_models OUT/models                   # once, with TensorFlow
    python -m bench.http_peers install OUT/peers             # once, from PyPI
    python -m bench.http_compare OUT/models --peers OUT/peers --json OUT/http.json
    python -m bench.plots --http OUT/http.json               # what was measured, as pictures

`--workloads tabular,tokens` and `--servers jaxrt,echo` choose, `--rounds 1 --seconds 1` is quick.

All servers of a workload run at once, idle but for the one that is asked; each round asks all of
them. A table shows the medians of the rounds: latency with one connection, requests a second in a
closed loop of 16, and the highest constant rate at which 99 of 100 answers take 20 ms at most.
The sender shares the machine; `http_load` says how late it was.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.http_load import Plan, Sender, Summary, request
from bench.http_models import WORKLOADS, Workload
from bench.http_peers import PACKAGES
from bench.machine import machine

HERE = Path(__file__).parent
LIMIT = 0.020
"""Seconds that 99 of 100 answers may take."""
START_SECONDS = 180.0
STEPS = 5
"""Halvings of the interval in which the highest good rate lies."""


class Contender:
    """A server process and the requests that it takes."""

    def __init__(self, name: str, command: Sequence[str], messages: list[bytes], port: int) -> None:
        self.name = name
        self.address = ("127.0.0.1", port)
        self._messages = messages
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, log: Path) -> None:
        path = sysconfig.get_config_var("LIBDIR")
        env = os.environ | {"LD_LIBRARY_PATH": path, "TF_CPP_MIN_LOG_LEVEL": "2"}
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                self._command, stdout=file, stderr=file, env=env, start_new_session=True
            )

    def ready(self) -> bool:
        """Whether it answers with 200 before the time is up."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            assert self._process is not None
            if self._process.poll() is not None:
                return False
            with contextlib.suppress(OSError):
                if self.load(Plan(1, 0.2, warmup=0.0)).answered:
                    return True
            time.sleep(1.0)
        return False

    def load(self, plan: Plan) -> Summary:
        return Sender(self.address, self._messages, plan).run()

    def highest_rate(self, reached: float, seconds: float) -> tuple[float, list[Summary]]:
        """Requests a second in an open loop, 99 of 100 of them in time; from `reached` down.

        And the runs that showed it.
        """
        low, high = 0.0, reached
        runs: list[Summary] = []
        for _ in range(STEPS):
            rate = (low + high) / 2
            # What else the machine does may spoil one run, but seldom two.
            for _ in range(2):
                runs.append(self.load(_plan(16, seconds, rate)))
                if good := not runs[-1].failed and runs[-1].p99 <= LIMIT:
                    break
            low, high = (rate, high) if good else (low, rate)
        return low, runs

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, 15)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, 9)


def contenders(workload: Workload, models: Path, peers: Path | None, port: int) -> list[Contender]:
    name = workload.name
    version = str(models / name / "1")
    path = f"/v1/models/{name}:predict"
    bodies = workload.bodies()
    usual = [request(path, body) for body in bodies]
    serve = [sys.executable, "-m", "jaxrt", "serve", str(models / f"{name}.jaxrt")]
    serve += ["--model_name", name, "--rest_api_port", str(port)]
    found = [Contender("jaxrt", serve, usual, port)]
    script = str(HERE / "http_peers.py")
    installed = {"echo": sys.executable}
    if peers is not None:
        installed |= {peer: str(peers / peer / "bin" / "python") for peer in PACKAGES}
    for peer, python in installed.items():
        port = free_port()
        if not Path(python).exists():
            print(f"{peer}: not installed in {peers}", file=sys.stderr)
            continue
        messages = usual
        if peer == "litserve":
            messages = [request("/predict", body) for body in bodies]
        if peer == "pytriton":
            messages = [request(f"/v2/models/{name}/infer", _v2(body)) for body in bodies]
        command = [python, script, peer, name, version, str(port)]
        found.append(Contender(peer, command, messages, port))
    return found


def _v2(body: bytes) -> bytes:
    """`instances` of one item as KServe's v2 protocol writes it."""
    (item,) = json.loads(body)["instances"]
    if isinstance(item, dict):
        tensor = {"shape": [1, 1], "datatype": "BYTES", "data": [item["b64"]]}
    else:
        shape, flat = [1], [item]
        while isinstance(flat[0], list):
            shape.append(len(flat[0]))
            flat = [value for part in flat for value in part]
        kind = "FP32" if isinstance(flat[0], float) else "INT32"
        tensor = {"shape": shape, "datatype": kind, "data": flat}
    return json.dumps({"inputs": [{"name": "x"} | tensor]}).encode()


def compile_model(models: Path, name: str) -> None:
    artifact = models / f"{name}.jaxrt"
    if not artifact.exists():
        command = [sys.executable, "-m", "jaxrt", "compile", str(models / name)]
        sizes = ["--batch-sizes", "1,8,32", "--output", str(artifact)]
        subprocess.run([*command, *sizes], check=True)


@contextlib.contextmanager
def running(found: Sequence[Contender], logs: Path) -> Iterator[list[Contender]]:
    """Those that answer; all are stopped at the end."""
    try:
        for contender in found:
            contender.start(logs / f"{contender.name}.log")
        ready = []
        for contender in found:
            if contender.ready():
                ready.append(contender)
            else:
                print(f"{contender.name}: does not answer, see {logs}", file=sys.stderr)
        yield ready
    finally:
        for contender in found:
            contender.stop()


def _plan(connections: int, seconds: float, rate: float | None = None) -> Plan:
    return Plan(connections, seconds, rate, warmup=min(0.5, seconds))


Run = dict[str, Any]
"""One round of one server: latencies in milliseconds, rates in requests a second."""


def measure(found: Sequence[Contender], rounds: int, seconds: float) -> dict[str, list[Run]]:
    """Server → its rounds."""
    figures: dict[str, list[Run]] = {c.name: [] for c in found}
    for _ in range(rounds):
        for contender in found:
            figures[contender.name].append(_round(contender, seconds))
    return figures


def _round(contender: Contender, seconds: float) -> Run:
    one = contender.load(_plan(1, seconds))
    many = contender.load(_plan(16, seconds))
    highest, runs = contender.highest_rate(many.rate * 1.1, seconds)
    return {
        "p50": one.p50 * 1e3,
        "p99": one.p99 * 1e3,
        "closed": many.rate,
        "open": highest,
        "lag": max((run.lag_p99 for run in runs if run.rate <= highest), default=0.0) * 1e3,
        "failed": one.failed + many.failed,
        "curve": [
            {"rate": run.sent / run.seconds, "p50": run.p50 * 1e3, "p99": run.p99 * 1e3}
            for run in runs
        ],
    }


def _cells(runs: Sequence[Run]) -> list[str]:
    def middle(key: str) -> float:
        return statistics.median([float(run[key]) for run in runs])

    spread = f"{min(r['open'] for r in runs):.0f}–{max(r['open'] for r in runs):.0f}"
    return [
        f"{middle('p50'):.2f}",
        f"{middle('p99'):.2f}",
        f"{middle('closed'):.0f}",
        f"{middle('open'):.0f}",
        spread,
        f"{middle('lag'):.2f}",
        f"{sum(run['failed'] for run in runs):.0f}",
    ]


HEAD = [
    "server",
    "p50 ms, alone",
    "p99 ms, alone",
    "req/s, 16 at once",
    "req/s at p99 ≤ 20 ms",
    "spread",
    "sender's lag, ms",
    "failed",
]


def table(figures: Mapping[str, Sequence[Run]]) -> str:
    rows = [[name, *_cells(runs)] for name, runs in figures.items()]
    lines = ["| " + " | ".join(row) + " |" for row in [HEAD, ["---"] * len(HEAD), *rows]]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    parser.add_argument("--servers", help="all that are installed when left out")
    parser.add_argument("--json", type=Path, help="where the figures go, all rounds of them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    given: Any = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers are stopped on the way
    if unknown := {*given.workloads.split(",")} - WORKLOADS.keys():
        parser.error(f"no workload {', '.join(unknown)}; there are {', '.join(WORKLOADS)}")
    print(f"{machine()}\n")
    stored: dict[str, Any] = {"machine": machine(), "seconds": given.seconds, "workloads": {}}
    for name in given.workloads.split(","):
        workload = WORKLOADS[name]
        found = contenders(workload, given.models, given.peers, free_port())
        if given.servers:
            found = [c for c in found if c.name in given.servers.split(",")]
        if any(c.name == "jaxrt" for c in found):
            compile_model(given.models, name)
        with running(found, given.models) as ready:
            figures = measure(ready, given.rounds, given.seconds)
        print(f"### {name}: {workload.what}\n\n{table(figures)}\n", flush=True)
        stored["workloads"][name] = {"what": workload.what, "servers": figures}
        if given.json:
            given.json.write_text(json.dumps(stored, indent=1))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
