"""Several processes on one port: real processes, a server that answers with its process id."""

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import jaxrt
from jaxrt.errors import UsageError
from jaxrt.serving import server, workers
from jaxrt.serving.workers import Post, cores

SUPERVISOR = """
import asyncio, logging, sys
from jaxrt.serving import workers

logging.basicConfig(level=logging.INFO, format="%(message)s")
sockets = workers.bind("127.0.0.1", 0, 2)
print(sockets[0].getsockname()[1], flush=True)

def command(post):
    return [sys.executable, "-c", sys.argv[1], str(post), sys.argv[2]]

async def run():
    return await workers.Supervisor(sockets, command, lambda: print("open", flush=True)).run()

sys.exit(asyncio.run(run()))
"""

WORKER = """
import asyncio, logging, os, socket, sys
from jaxrt.serving import server, workers

logging.basicConfig(level=logging.INFO, format="%(message)s")

post = workers.Post.parse(sys.argv[1])
if sys.argv[2] == f"fail {post.index}":
    sys.exit(7)
sock = socket.socket(fileno=post.socket)

async def app(scope, receive, send):
    text = b"%d %d" % (post.index, os.getpid())
    headers = [(b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})

async def start():
    await asyncio.sleep(0.5 * post.index)
    await workers.report(post)

async def drain(seconds):
    return sys.argv[2] != "unfinished"

sys.exit(not server.run(app, sock, start=start, drain=drain, grace_seconds=5.0))
"""


class Crew:
    """SUPERVISOR with two workers."""

    def __init__(self, mood: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, WORKER, mood],
            env=os.environ | {"PYTHONPATH": str(Path(jaxrt.__file__).parent.parent)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.out = self.process.stdout
        self.port = int(self.out.readline())

    def opened(self) -> None:
        assert self.out.readline() == "open\n"

    def ask(self) -> tuple[int, int]:
        """Which worker answers a new connection, and its process."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", "/")
            index, process = connection.getresponse().read().split()
            return int(index), int(process)
        finally:
            connection.close()

    def found(self) -> dict[int, int]:
        """Worker → process, of both."""
        seen: dict[int, int] = {}
        end = time.monotonic() + 20
        while len(seen) < 2:
            assert time.monotonic() < end, seen
            seen.update([self.ask()])
        return seen

    def end(self) -> tuple[int, str]:
        """Exit code, and what was logged."""
        _, log = self.process.communicate(timeout=30)
        return self.process.returncode, log


@pytest.fixture
def crew(request: pytest.FixtureRequest) -> Iterator[Crew]:
    found = Crew(request.param)
    yield found
    found.process.terminate()
    found.process.communicate(timeout=30)


def that(mood: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("crew", [mood], indirect=True)


@that("well")
def test_the_port_opens_when_all_workers_are_ready_and_a_signal_stops_them(crew: Crew) -> None:
    with pytest.raises(ConnectionRefusedError):
        crew.ask()
    crew.opened()
    processes = crew.found()
    assert len(set(processes.values())) == 2
    crew.process.send_signal(signal.SIGTERM)
    code, log = crew.end()
    assert (code, log.count("stopped\n")) == (0, 2)
    for process in processes.values():
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


@that("well")
def test_a_worker_that_dies_is_replaced_while_the_others_go_on(crew: Crew) -> None:
    crew.opened()
    before = crew.found()
    os.kill(before[1], signal.SIGKILL)
    # Connections that the kernel deals to the dead one wait for its successor.
    answers = dict(crew.ask() for _ in range(40))
    after = crew.found()
    assert after[0] == before[0] and after[1] != before[1]
    assert answers.items() <= after.items()
    crew.process.send_signal(signal.SIGTERM)
    code, log = crew.end()
    assert code == 0 and "worker 1 ended (SIGKILL); another one starts" in log


@pytest.mark.parametrize("crew", ["fail 0", "fail 1"], indirect=True)
def test_a_worker_that_cannot_start_stops_all_with_its_exit_code(crew: Crew) -> None:
    code, _ = crew.end()
    assert code == 7


@that("unfinished")
def test_requests_that_a_worker_did_not_finish_are_exit_code_1(crew: Crew) -> None:
    crew.opened()
    crew.process.send_signal(signal.SIGINT)
    assert crew.end()[0] == 1


@that("well")
def test_workers_stop_when_their_supervisor_is_killed(crew: Crew) -> None:
    crew.opened()
    processes = crew.found()
    crew.process.kill()
    _, log = crew.end()  # their end closes the pipe that is read here
    assert log.count("the supervisor is gone") == 2 == log.count("stopped\n")
    assert len(processes) == 2


def test_a_port_that_somebody_listens_on_is_not_shared() -> None:
    with server.bind("127.0.0.1", 0, shared=True) as stranger:
        server.listen(stranger)
        with pytest.raises(UsageError, match="address already in use"):
            workers.bind("127.0.0.1", stranger.getsockname()[1], 2)


def test_a_post_is_text_and_back() -> None:
    post = Post(index=1, count=3, socket=7, control=9, memory=(11, 12, 13))
    assert Post.parse(str(post)) == post


def test_cores_are_dealt_out_where_each_worker_gets_one() -> None:
    available = os.sched_getaffinity(0)
    assert cores(0, 1) is None
    assert cores(0, len(available) + 1) is None
    if len(available) > 1:
        shares = [cores(index, 2) or set() for index in range(2)]
        assert shares[0] | shares[1] == available and not shares[0] & shares[1]
