"""HTTP/1.1 for the REST API: requests read whole, answered in one write, one task each.

uvicorn's protocol speaks HTTP, and serves every other path. A request for the
API skips the ASGI messages, which cost as much as a small prediction.
"""

import asyncio
import http
import logging
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from jaxrt.serving.answer import Answer, Answers

_log = logging.getLogger("jaxrt.serving")

APIS = (b"/v1/", b"/v2/")
_METHODS = frozenset((b"GET", b"POST"))
_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
    for status in http.HTTPStatus
} | {499: b"HTTP/1.1 499 \r\n"}


class _Exchange:
    """One request for the API and its answer.

    It stands where uvicorn keeps its own cycle, so these names are uvicorn's.
    """

    __slots__ = (
        "body",
        "disconnected",
        "headers",
        "keep_alive",
        "message_event",
        "method",
        "path",
        "response_complete",
        "task",
    )

    def __init__(
        self, method: str, path: bytes, headers: list[tuple[bytes, bytes]], keep_alive: bool
    ) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.keep_alive = keep_alive
        self.body: list[bytes] = []
        self.response_complete = False
        self.disconnected = False
        self.message_event = _NOBODY_WAITS
        self.task: asyncio.Task[None] | None = None


class _NobodyWaits:
    def set(self) -> None:
        """As of an asyncio.Event."""


_NOBODY_WAITS = _NobodyWaits()


class ApiProtocol(HttpToolsProtocol):
    """One connection. What is out of the ordinary (pipelining, Expect) goes uvicorn's way."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        api: Answers,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._api = api
        self._exchange: _Exchange | None = None
        """The one being answered."""

    def on_message_begin(self) -> None:
        # The scope is made when it turns out to be needed.
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        parser = self.parser
        method = parser.get_method()
        if (
            not self.url.startswith(APIS)
            or method not in _METHODS
            or b"#" in self.url  # uvicorn drops the fragment
            or self.expect_100_continue
            or not (self.cycle is None or self.cycle.response_complete)
            or self.flow.write_paused
            or parser.should_upgrade()
        ):
            self._go_uvicorns_way()
            return
        keep_alive = parser.should_keep_alive() and parser.get_http_version() != "1.0"
        self.cycle = _Exchange(method.decode(), self.url, self.headers, keep_alive)  # type: ignore[assignment]

    def _go_uvicorns_way(self) -> None:
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.headers.extend(headers)
        self.url, self.expect_100_continue = url, expect
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        cycle: Any = self.cycle
        if type(cycle) is _Exchange:
            cycle.body.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        cycle: Any = self.cycle
        if type(cycle) is not _Exchange:
            super().on_message_complete()
        elif not cycle.response_complete:
            self._exchange = cycle
            cycle.task = self.loop.create_task(self._serve(cycle))

    async def _serve(self, exchange: _Exchange) -> None:
        body = exchange.body[0] if len(exchange.body) == 1 else b"".join(exchange.body)
        exchange.body.clear()
        try:
            answer = await self._api.answer(exchange.method, exchange.path, exchange.headers, body)
        except asyncio.CancelledError:
            return  # the client hung up, or the server gave up on it
        except BaseException:
            _log.exception("%s %s", exchange.method, exchange.path.decode("latin-1"))
            self.transport.close()
            raise
        if not exchange.disconnected:
            self._write(answer, exchange.keep_alive)
            exchange.response_complete = True
            self._exchange = None
            self.on_response_complete()

    def _write(self, answer: Answer, keep_alive: bool) -> None:
        head = [_STATUS_LINES[answer.status]]
        for name, value in self.server_state.default_headers:
            head += (name, b": ", value, b"\r\n")
        for name, value in answer.headers:
            head += (name, b": ", value, b"\r\n")
        head.append(b"\r\n" if keep_alive else b"connection: close\r\n\r\n")
        if len(answer.body) <= _JOINED:
            head.append(answer.body)
            self.transport.write(b"".join(head))
        else:
            self.transport.write(b"".join(head))
            self.transport.write(answer.body)
        if not keep_alive:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None and exchange.task is not None:
            exchange.disconnected = True
            exchange.task.cancel()
        super().connection_lost(exc)


_JOINED = 64 << 10
"""Bytes of an answer up to which a copy costs less than a second write."""
