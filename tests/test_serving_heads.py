"""Heads of requests that have come before, and the short way that they open."""

import asyncio
import contextlib
import functools
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from test_serving_protocol import app, bodies, post, received

from jaxrt.serving.answer import Answer, Headers, Reply
from jaxrt.serving.heads import LONGEST, MOST, Heads
from jaxrt.serving.protocol import ApiProtocol


class Pending:
    def __init__(self, cancelled: threading.Event) -> None:
        self._cancelled = cancelled

    def cancel(self) -> None:
        self._cancelled.set()


class Api:
    """Begins what has a body, but for "slowly"; "never" is begun and not answered."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        """Paths whose head was read."""
        self.begun = threading.Event()
        self.cancelled = threading.Event()

    async def answer(self, method: str, path: bytes, headers: Headers, body: bytes) -> Answer:
        return _answer(b"waited %d %s" % (len(headers), body))

    def about(self, method: str, path: bytes, headers: Headers) -> Any:
        self.asked.append(path)
        return path if method == "POST" else None

    def begin(self, about: Any, body: bytes, reply: Reply) -> Pending | None:
        if not body or body == b"slowly":
            return None
        if body == b"never!":
            self.begun.set()
        else:
            loop = asyncio.get_running_loop()
            loop.call_soon(reply, _answer(b"begun %s %s" % (about, body)))
        return Pending(self.cancelled)


def _answer(text: bytes) -> Answer:
    return Answer(200, [(b"content-length", str(len(text)).encode())], text)


@contextlib.contextmanager
def running(api: Api) -> Iterator[Callable[[], socket.socket]]:
    listener = socket.create_server(("127.0.0.1", 0))
    protocol: Any = functools.partial(ApiProtocol, api=api, heads=Heads(api))
    config = uvicorn.Config(app, http=protocol, ws="none", lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield lambda: socket.create_connection(listener.getsockname(), timeout=20)
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def ask(connection: socket.socket, message: bytes, until: bytes) -> bytes:
    connection.sendall(message)
    (body,) = bodies(received(connection, until))
    return body


def test_a_head_is_read_once_and_holds_for_every_connection() -> None:
    api = Api()
    with running(api) as connect:
        for _ in range(2):
            with connect() as connection:
                for body in (b"one", b"two"):
                    assert ask(connection, post(b"/v1/a", body), body) == b"begun /v1/a " + body
        assert api.asked == [b"/v1/a"]
        with connect() as connection:
            ask(connection, post(b"/v1/a", b"three"), b"three")
    assert api.asked == [b"/v1/a"] * 2  # its length is another


def test_what_is_not_begun_is_answered_as_ever() -> None:
    with running(Api()) as connect, connect() as connection:
        for _ in range(3):
            assert ask(connection, post(b"/v1/a", b"slowly"), b"y") == b"waited 2 slowly"
            assert ask(connection, post(b"/v1/a", b"sooner"), b"r") == b"begun /v1/a sooner"


def test_the_parser_goes_on_where_it_was_left_out() -> None:
    """Known heads, in pieces, in one piece with others, and in between all that is not known."""
    known, other = post(b"/v1/a", b"1"), post(b"/other", b"2")
    with running(Api()) as connect, connect() as connection:
        for _ in range(2):
            assert ask(connection, known, b"a 1") == b"begun /v1/a 1"
            connection.sendall(known[:20])
            assert ask(connection, known[20:], b"a 1") == b"begun /v1/a 1"
            connection.sendall(known + other + known)
            found = received(connection, b"app /v1/a 1")  # in order: what waits goes the ASGI way
            assert bodies(found) == [b"begun /v1/a 1", b"app /other 2", b"app /v1/a 1"]
            assert ask(connection, other, b"other 2") == b"app /other 2"
            assert ask(connection, b"\r\n" + known, b"a 1") == b"begun /v1/a 1"


def test_the_bytes_of_a_known_head_inside_a_body_are_a_body() -> None:
    inner = post(b"/v1/a", b"1")
    outer = post(b"/v1/a", inner)
    with running(Api()) as connect, connect() as connection:
        ask(connection, inner, b"a 1")
        connection.sendall(outer[: -len(inner)])
        assert ask(connection, inner, b"\r\n\r\n1") == b"begun /v1/a " + inner


def test_a_connection_that_is_not_kept_teaches_nothing() -> None:
    api = Api()
    message = post(b"/v1/a", b"1", b"Connection: close")
    with running(api) as connect:
        for _ in range(2):
            with connect() as connection:
                connection.sendall(message)
                assert b"connection: close" in received(connection, b"never")
    assert api.asked == [b"/v1/a"] * 2


def test_a_client_that_hangs_up_cancels_what_was_begun() -> None:
    api = Api()
    with running(api) as connect:
        with connect() as connection:
            ask(connection, post(b"/v1/a", b"always"), b"always")
            connection.sendall(post(b"/v1/a", b"never!"))
            assert api.begun.wait(20)
        assert api.cancelled.wait(20)


def _learnt(heads: Heads, data: bytes, body: bytes, *headers: tuple[bytes, bytes]) -> bool:
    heads.learn(data, "POST", b"/v1/a", [(b"content-length", b"%d" % len(body)), *headers], body, 1)
    return heads.find(data) is not None


def test_only_whole_requests_of_one_length_are_learnt() -> None:
    heads = Heads(Api())
    chunked = b"POST /v1/a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    assert not _learnt(heads, chunked, b"x")
    assert not _learnt(heads, post(b"/v1/a", b"x") + b"POST", b"x")
    assert not _learnt(heads, post(b"/v1/a", b"x", b"X: " + b"y" * LONGEST), b"x")
    assert _learnt(heads, post(b"/v1/a", b"x"), b"x")
    assert heads.find(post(b"/v1/a", b"x") + b"y") is None
    assert heads.find(post(b"/v1/a", b"x")[:-1]) is None


def test_strange_heads_do_not_fill_the_memory() -> None:
    heads = Heads(Api())
    for number in range(MOST + 1):
        assert _learnt(heads, post(b"/v1/a", b"x", b"X: %d" % number), b"x")
    assert heads.find(post(b"/v1/a", b"x", b"X: 0")) is None


@pytest.mark.parametrize("data", [b"", b"\r\n\r\n", b"POST"])
def test_no_head_is_no_known_head(data: bytes) -> None:
    assert Heads(Api()).find(data) is None
