"""The server process: its socket, and how it stops."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import jaxrt
from jaxrt.errors import UsageError
from jaxrt.serving import server

PROGRAM = """
import asyncio, logging, sys
from jaxrt.serving import server

logging.basicConfig(level=logging.INFO, format="%(message)s")
sock = server.bind("127.0.0.1", 0)
release = asyncio.Event()
busy = 0

async def app(scope, receive, send):
    print("asked", scope["path"], flush=True)
    status = 200
    if scope["path"] == "/slow":
        status = 200 if await answer() else 503
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})

async def answer():
    global busy
    busy += 1
    for _ in range(int(sys.argv[2])):
        if release.is_set():
            break
        await asyncio.sleep(0.01)
    busy -= 1
    return not release.is_set()

async def start():
    print("starting", sock.getsockname()[1], flush=True)
    await asyncio.sleep(0.2)

async def drain(seconds):
    print(f"drain {seconds:.1f}", flush=True)
    release.set()
    return not busy

sys.exit(not server.run(app, sock, start=start, drain=drain, grace_seconds=float(sys.argv[1])))
"""


class Process:
    """PROGRAM with a grace in seconds, whose /slow takes `hundredths` of a second."""

    def __init__(self, grace: float, hundredths: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(grace), str(hundredths)],
            env=os.environ | {"PYTHONPATH": str(Path(jaxrt.__file__).parent.parent)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.out = self.process.stdout
        self.port = int(self.out.readline().split()[1])

    def ask(self, path: str) -> http.client.HTTPConnection:
        """Sends a request; the answer is not awaited, but the server has begun with it."""
        until = time.monotonic() + 20
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
            try:
                connection.request("GET", path)
            except ConnectionRefusedError:
                assert time.monotonic() < until
                time.sleep(0.02)
                continue
            assert self.out.readline() == f"asked {path}\n"
            return connection

    def end(self) -> tuple[int, str, str]:
        """Exit code, and the rest of what it wrote."""
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err


@pytest.fixture
def started(request: pytest.FixtureRequest) -> Iterator[Process]:
    process = Process(*request.param)
    yield process
    process.process.kill()
    process.process.communicate()


def with_(grace: float, hundredths: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("started", [(grace, hundredths)], indirect=True)


@with_(grace=20, hundredths=50)
def test_requests_before_the_signal_are_answered_and_the_exit_code_is_0(started: Process) -> None:
    connection = started.ask("/slow")
    started.process.send_signal(signal.SIGTERM)
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"done")
    connection.close()
    code, out, err = started.end()
    assert code == 0
    assert out.startswith("drain 1") or out.startswith("drain 2")  # of the 20 s
    assert "SIGTERM: finishing accepted requests" in err and "stopped" in err


@with_(grace=0.3, hundredths=1000)
def test_after_the_grace_what_is_unfinished_is_answered_as_failed(started: Process) -> None:
    connection = started.ask("/slow")
    started.process.send_signal(signal.SIGTERM)
    assert connection.getresponse().status == 503
    connection.close()
    code, out, _ = started.end()
    assert code == 1
    assert out.splitlines()[0] == "drain 0.1"


@with_(grace=20, hundredths=1000)
def test_a_second_signal_ends_the_wait(started: Process) -> None:
    connection = started.ask("/slow")
    begun = time.monotonic()
    started.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    started.process.send_signal(signal.SIGTERM)
    code, out, err = started.end()
    assert code == 1 and time.monotonic() - begun < 8
    assert out.splitlines() == ["drain 0.1"]
    assert "SIGTERM again: not waiting for requests" in err
    connection.close()


@with_(grace=20, hundredths=0)
def test_the_port_is_closed_before_the_start_has_ended_and_after_the_stop(started: Process) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", started.port), timeout=5)
    connection = started.ask("/")
    assert connection.getresponse().read() == b"done"
    started.process.send_signal(signal.SIGTERM)  # the connection is kept alive and idle
    assert started.end()[0] == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", started.port), timeout=5)
    connection.close()


def test_any_free_port_of_all_addresses() -> None:
    with server.bind("::", 0) as sock:
        port = sock.getsockname()[1]
        server.listen(sock)
        socket.create_connection(("127.0.0.1", port), timeout=5).close()


def test_a_port_that_is_listened_on_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(
            UsageError, match=f"^port {port} of 127.0.0.1: address already in use; "
        ):
            server.bind("127.0.0.1", port)


def test_a_port_that_somebody_opened_meanwhile_is_taken() -> None:
    """Two servers that start at once both bind; the second to be ready is told."""
    with server.bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with server.bind("127.0.0.1", port) as second:
            server.listen(first)
            with pytest.raises(UsageError, match=f"^port {port} of 127.0.0.1: address already"):
                server.listen(second)


def test_an_address_that_is_not_ours() -> None:
    with pytest.raises(UsageError, match=r"^port 0 of 192\.0\.2\.1: cannot assign requested"):
        server.bind("192.0.2.1", 0)
