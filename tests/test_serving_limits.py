"""What one connection may cost: bodies, heads and silence, over raw sockets."""

import asyncio
import contextlib
import dataclasses
import functools
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from jaxrt.serving.answer import Answer, Headers
from jaxrt.serving.limits import MAX_BODY, MAX_INFLATED, Limits, unlimited_if_zero
from jaxrt.serving.protocol import ApiProtocol

BODY = 200_000
HEAD = 100_000


class Api:
    """Says how much it got; /v1/slow after a while, /v1/large much."""

    def __init__(self) -> None:
        self.slow = threading.Event()
        self.got: list[int] = []

    async def answer(self, method: str, path: bytes, headers: Headers, body: bytes) -> Answer:
        self.got.append(len(body))
        text = b"got %d" % len(body)
        if path == b"/v1/slow":
            self.slow.set()
            await asyncio.sleep(0.5)
        if path == b"/v1/large":
            text = b"x" * (64 << 20)
        return Answer(200, [(b"content-length", str(len(text)).encode())], text)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    size = 0
    while (message := await receive())["type"] == "http.request":
        size += len(message["body"])
        if not message["more_body"]:
            break
    else:
        return
    text = b"app got %d" % size
    headers = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


@contextlib.contextmanager
def running(**values: Any) -> Iterator[tuple[tuple[str, int], Api]]:
    limits = dataclasses.replace(Limits(body=BODY, head=HEAD), **values)
    api = Api()
    listener = socket.create_server(("127.0.0.1", 0))
    protocol: Any = functools.partial(ApiProtocol, api=api, limits=limits)
    config = uvicorn.Config(app, http=protocol, ws="none", lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield ("127.0.0.1", listener.getsockname()[1]), api
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[tuple[str, int], Api]]:
    with running() as found:
        yield found


def connect(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address, timeout=20)


def to_the_end(connection: socket.socket) -> bytes:
    found = b""
    while data := connection.recv(1 << 20):
        found += data
    return found


def head(path: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join([b"POST " + path + b" HTTP/1.1", b"Host: h", *headers, b"", b""])


def sized(path: bytes, size: int, *headers: bytes) -> bytes:
    return head(path, b"Content-Length: %d" % size, *headers)


def check_refused(raw: bytes) -> None:
    lines, _, body = raw.partition(b"\r\n\r\n")
    assert lines.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in lines.lower()
    assert b"content-type: application/json" in lines
    message = json.loads(body)["error"]
    assert message.startswith(f"The request body is larger than the server takes, which is {BODY}")


def test_defaults_are_those_that_no_reasonable_client_meets() -> None:
    assert Limits().body == MAX_BODY == 2**31 - 1
    assert Limits().inflated == MAX_INFLATED == 100 * 2**20
    assert Limits().idle_seconds == 50
    assert unlimited_if_zero(0) == sys.maxsize
    assert unlimited_if_zero(7) == 7


@pytest.mark.parametrize("path", [b"/v1/a", b"/other"])
def test_a_body_of_the_limit_is_taken_and_one_byte_more_is_not(
    served: tuple[tuple[str, int], Api], path: bytes
) -> None:
    address, _ = served
    for size in (BODY, BODY + 1):
        with connect(address) as connection:
            connection.sendall(sized(path, size, b"Connection: close") + b"x" * size)
            found = to_the_end(connection)
        if size == BODY:
            assert found.endswith(b"got %d" % BODY)
        else:
            check_refused(found)


@pytest.mark.parametrize("path", [b"/v1/a", b"/other"])
def test_a_chunked_body_is_counted_as_it_comes(
    served: tuple[tuple[str, int], Api], path: bytes
) -> None:
    address, api = served
    before = len(api.got)
    with connect(address) as connection:
        connection.sendall(head(path, b"Transfer-Encoding: chunked"))
        chunk = b"%x\r\n%s\r\n" % (50_000, b"x" * 50_000)
        with contextlib.suppress(OSError):  # it need not read to the end
            for _ in range(100):
                connection.sendall(chunk)
        check_refused(to_the_end(connection))
    assert len(api.got) == before


def test_a_length_that_is_too_much_is_refused_before_the_body_has_come(
    served: tuple[tuple[str, int], Api],
) -> None:
    address, _ = served
    with connect(address) as connection:
        connection.sendall(sized(b"/v1/a", 10**12))
        connection.sendall(b"x" * 1000)
        time.sleep(0.05)
        connection.sendall(b"x" * 1000)
        check_refused(to_the_end(connection))


def test_nobody_is_told_to_continue_with_too_much(served: tuple[tuple[str, int], Api]) -> None:
    address, _ = served
    with connect(address) as connection:
        connection.sendall(sized(b"/v1/a", BODY + 1, b"Expect: 100-continue"))
        check_refused(to_the_end(connection))


def test_an_earlier_request_is_answered_before_the_connection_ends() -> None:
    with running() as (address, api), connect(address) as connection:
        connection.sendall(sized(b"/v1/slow", 1) + b"1")
        assert api.slow.wait(20)
        connection.sendall(sized(b"/v1/a", BODY + 1, b"Expect: 100-continue"))
        found = to_the_end(connection)
        assert found.startswith(b"HTTP/1.1 200 ")
        assert found.endswith(b"got 1")


def test_a_connection_that_was_refused_reads_no_more() -> None:
    with running() as (address, api), connect(address) as connection:
        connection.sendall(sized(b"/v1/a", BODY + 1) + b"x" * (BODY + 1))
        connection.sendall(sized(b"/v1/b", 1) + b"1")
        check_refused(to_the_end(connection))
        assert not api.got


@pytest.mark.parametrize(
    "start",
    [b"POST /v1/", b"GET /v1/a HTTP/1.1\r\nHost: h\r\nX-Long: "],
)
def test_heads_without_an_end_are_refused(
    served: tuple[tuple[str, int], Api], start: bytes
) -> None:
    address, _ = served
    with connect(address) as connection:
        connection.sendall(start)
        with contextlib.suppress(OSError):
            for _ in range(40):
                connection.sendall(b"a" * 10_000)
        found = to_the_end(connection)
        assert found.startswith(b"HTTP/1.1 431 ")
        assert b"<H1>Request Header Fields Too Large</H1>" in found


def test_trailers_without_an_end_are_refused(served: tuple[tuple[str, int], Api]) -> None:
    address, _ = served
    with connect(address) as connection:
        connection.sendall(head(b"/v1/a", b"Transfer-Encoding: chunked") + b"1\r\nx\r\n0\r\n")
        with contextlib.suppress(OSError):
            for _ in range(40):
                connection.sendall(b"X-More: " + b"a" * 10_000 + b"\r\n")
        assert to_the_end(connection).startswith(b"HTTP/1.1 431 ")


def test_large_heads_below_the_limit_are_read(served: tuple[tuple[str, int], Api]) -> None:
    address, _ = served
    with connect(address) as connection:
        connection.sendall(
            sized(b"/v1/a", 1, b"X-Long: " + b"a" * (HEAD - 1000), b"Connection: close")
        )
        connection.sendall(b"1")
        assert to_the_end(connection).endswith(b"got 1")


def test_small_chunks_are_no_head(served: tuple[tuple[str, int], Api]) -> None:
    address, _ = served
    with connect(address) as connection:
        connection.sendall(head(b"/v1/a", b"Transfer-Encoding: chunked", b"Connection: close"))
        for _ in range(20):
            connection.sendall(b"1\r\nx\r\n" * 1000)
        connection.sendall(b"0\r\n\r\n")
        assert to_the_end(connection).endswith(b"got 20000")


@pytest.mark.parametrize(
    "sent",
    [b"", b"POST /v1/a HT", sized(b"/v1/a", 10) + b"1234", sized(b"/other", 10) + b"1234"],
)
def test_a_client_that_falls_silent_is_hung_up_on(sent: bytes) -> None:
    with running(idle_seconds=0.2) as (address, _), connect(address) as connection:
        connection.sendall(sent)
        started = time.monotonic()
        assert to_the_end(connection) == b""
        assert 0.1 < time.monotonic() - started < 10


def test_a_client_that_sends_slowly_is_not() -> None:
    with running(idle_seconds=0.4) as (address, _), connect(address) as connection:
        connection.sendall(sized(b"/v1/a", 8, b"Connection: close"))
        for _ in range(8):
            time.sleep(0.1)
            connection.sendall(b"1")
        assert to_the_end(connection).endswith(b"got 8")


def test_a_client_that_waits_for_its_answer_is_not() -> None:
    with running(idle_seconds=0.1) as (address, _), connect(address) as connection:
        connection.sendall(sized(b"/v1/slow", 1, b"Connection: close") + b"1")
        assert to_the_end(connection).endswith(b"got 1")


def test_a_client_that_does_not_read_is_hung_up_on() -> None:
    with running(idle_seconds=0.2) as (address, _), connect(address) as connection:
        connection.sendall(sized(b"/v1/large", 1) + b"1")
        time.sleep(1.5)
        found = 0
        with contextlib.suppress(ConnectionResetError):
            while data := connection.recv(1 << 20):
                found += len(data)
        assert found < 64 << 20


def test_a_client_that_reads_slowly_gets_all() -> None:
    with running(idle_seconds=0.3) as (address, _), connect(address) as connection:
        connection.sendall(sized(b"/v1/large", 1, b"Connection: close") + b"1")
        found = 0
        for _ in range(10):
            time.sleep(0.1)
            for _ in range(5):
                found += len(connection.recv(1 << 20))
        while data := connection.recv(1 << 20):
            found += len(data)
        assert found > 64 << 20
