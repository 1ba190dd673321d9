"""The API's short way through uvicorn, over raw sockets."""

import asyncio
import contextlib
import functools
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from jaxrt.serving.answer import Answer, Headers
from jaxrt.serving.protocol import ApiProtocol


class Api:
    """Answers with what it was asked; /v1/hang waits until the client is gone."""

    def __init__(self) -> None:
        self.hanging = threading.Event()
        self.cancelled = threading.Event()

    async def answer(self, method: str, path: bytes, headers: Headers, body: bytes) -> Answer:
        if path == b"/v1/hang":
            self.hanging.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        if path == b"/v1/broken":
            raise RuntimeError("a bug")
        if path == b"/v1/large":
            body = b"x" * (1 << 20)
        text = b"api %s %s %d %s" % (method.encode(), path, len(headers), body)
        length = str(len(text)).encode()
        return Answer(200, [(b"content-type", b"text/plain"), (b"content-length", length)], text)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message["body"]
        if not message["more_body"]:
            break
    text = b"app %s %s" % (scope["raw_path"], body)
    headers = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


@contextlib.contextmanager
def running(api: Api) -> Iterator[tuple[str, int]]:
    listener = socket.create_server(("127.0.0.1", 0))
    protocol: Any = functools.partial(ApiProtocol, api=api)
    config = uvicorn.Config(app, http=protocol, ws="none", lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield "127.0.0.1", listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    with running(Api()) as found:
        yield found


def send(address: tuple[str, int], *parts: bytes, until: bytes) -> bytes:
    """What comes back until `until` has, or the server hangs up."""
    with socket.create_connection(address, timeout=20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            connection.sendall(part)
        return received(connection, until)


def received(connection: socket.socket, until: bytes) -> bytes:
    found = b""
    while until not in found:
        data = connection.recv(1 << 20)
        if not data:
            break
        found += data
    return found


def post(path: bytes, body: bytes, *headers: bytes) -> bytes:
    lines = [b"POST " + path + b" HTTP/1.1", b"Host: h", b"Content-Length: %d" % len(body)]
    return b"\r\n".join([*lines, *headers, b"", b""]) + body


def bodies(raw: bytes) -> Sequence[bytes]:
    """Of answers with a content-length."""
    found = []
    while raw:
        head, _, rest = raw.partition(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        found.append(rest[:size])
        raw = rest[size:]
    return found


def test_the_api_gets_whole_bodies_and_the_app_the_other_paths(address: tuple[str, int]) -> None:
    whole = send(address, post(b"/v1/a?q=1", b"12345"), until=b"12345")
    assert bodies(whole) == [b"api POST /v1/a?q=1 2 12345"]
    assert whole.startswith(b"HTTP/1.1 200 OK\r\ndate: ")
    halves = post(b"/v1/a", b"12345")
    assert bodies(send(address, halves[:-3], halves[-3:], until=b"12345"))[0].endswith(b" 12345")
    assert bodies(send(address, post(b"/other", b"1"), until=b"other 1")) == [b"app /other 1"]


def test_a_chunked_body_is_put_together(address: tuple[str, int]) -> None:
    head = b"POST /v1/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    found = send(address, head, b"2\r\nab\r\n", b"1\r\nc\r\n0\r\n\r\n", until=b"abc")
    assert bodies(found) == [b"api POST /v1/a 2 abc"]


def test_a_get_needs_no_body(address: tuple[str, int]) -> None:
    found = send(address, b"GET /v1/a HTTP/1.1\r\nHost: h\r\n\r\n", until=b"/v1/a 1")
    assert bodies(found) == [b"api GET /v1/a 1 "]


@pytest.mark.parametrize(
    "request_",
    [
        post(b"/v1/a#part", b"1"),
        b"PUT /v1/a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n1",
        post(b"/v1/a", b"", b"Connection: upgrade", b"Upgrade: x"),
    ],
)
def test_what_is_out_of_the_ordinary_goes_the_asgi_way(
    address: tuple[str, int], request_: bytes
) -> None:
    assert bodies(send(address, request_, until=b"app /v1/a"))[0].startswith(b"app /v1/a")


def test_expect_is_answered_before_the_body_is_sent(address: tuple[str, int]) -> None:
    message = post(b"/v1/a", b"12345", b"Expect: 100-continue")
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(message[:-5])
        assert received(connection, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(message[-5:])
        assert bodies(received(connection, b"12345")) == [b"app /v1/a 12345"]


def test_pipelined_requests_are_answered_in_order(address: tuple[str, int]) -> None:
    paths = (b"/v1/a", b"/v1/b", b"/other", b"/v1/c")
    found = send(address, b"".join(post(path, path) for path in paths), until=b"/v1/c /v1/c")
    assert [body.split()[-1] for body in bodies(found)] == list(paths)
    assert found.index(b"/v1/a") < found.index(b"/v1/b") < found.index(b"/v1/c")


@pytest.mark.parametrize("kind", [b"HTTP/1.0", b"HTTP/1.1\r\nConnection: close"])
def test_a_connection_that_is_not_kept_is_closed(address: tuple[str, int], kind: bytes) -> None:
    message = b"POST /v1/a " + kind + b"\r\nHost: h\r\nContent-Length: 1\r\n\r\n1"
    found = send(address, message, until=b"never")
    assert b"\r\nconnection: close\r\n" in found
    assert found.endswith(b" 1")


def test_a_large_answer_arrives_whole_on_a_connection_that_is_kept(
    address: tuple[str, int],
) -> None:
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(post(b"/v1/large", b""))
        assert len(received(connection, b"x" * (1 << 20))) > 1 << 20
        connection.sendall(post(b"/v1/a", b"again"))
        assert bodies(received(connection, b"again")) == [b"api POST /v1/a 2 again"]


def test_no_http_is_a_400(address: tuple[str, int]) -> None:
    assert send(address, b"nonsense\r\n\r\n", until=b"never").startswith(b"HTTP/1.1 400 ")


def test_a_client_that_hangs_up_cancels_its_answer() -> None:
    api = Api()
    with running(api) as address:
        with socket.create_connection(address, timeout=20) as connection:
            connection.sendall(post(b"/v1/hang", b""))
            assert api.hanging.wait(20)
        assert api.cancelled.wait(20)


def test_an_api_that_breaks_its_promise_costs_the_connection_and_no_other() -> None:
    with running(Api()) as address:
        assert send(address, post(b"/v1/broken", b""), until=b"never") == b""
        assert bodies(send(address, post(b"/v1/a", b"1"), until=b" 1")) == [b"api POST /v1/a 2 1"]
