"""HTTP/1.1 for the REST API: requests read whole, answered in one write, by one task each at most.

uvicorn's protocol speaks HTTP, and serves every other path. A request for the
API skips the ASGI messages, which cost as much as a small prediction; where its head is known, it
skips the parser too.
"""

import asyncio
import http
import logging
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from jaxrt.serving.answer import Answer, Answers, Begun, Headers
from jaxrt.serving.heads import Heads
from jaxrt.serving.limits import Limits
from jaxrt.serving.rest.errors import error_body, html_page

_log = logging.getLogger("jaxrt.serving")

APIS = (b"/v1/", b"/v2/")
_METHODS = frozenset((b"GET", b"POST"))
_DEFAULTS = Limits()
_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
    for status in http.HTTPStatus
} | {499: b"HTTP/1.1 499 \r\n"}


class _Exchange:
    """One request for the API and its answer.

    It stands where uvicorn keeps its own cycle, so these names are uvicorn's.
    """

    __slots__ = (
        "begun",
        "body",
        "disconnected",
        "headers",
        "keep_alive",
        "message_event",
        "method",
        "path",
        "response_complete",
        "size",
        "task",
    )

    def __init__(self, method: str, path: bytes, headers: Headers, keep_alive: bool) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.keep_alive = keep_alive
        self.body: list[bytes] = []
        self.size = 0
        self.response_complete = False
        self.disconnected = False
        self.message_event = _NOBODY_WAITS
        self.task: asyncio.Task[None] | None = None
        self.begun: Begun | None = None

    @property
    def whole(self) -> bool:
        """Whether it was read to its end."""
        return self.task is not None or self.begun is not None


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
        limits: Limits = _DEFAULTS,
        heads: Heads | None = None,
    ) -> None:
        """`heads` are shared by the connections of a server; None: `api` answers by tasks alone."""
        super().__init__(config, server_state, app_state, _loop)
        self._api = api
        self._limits = limits
        self._heads = heads
        self._between = heads is not None
        """The parser has seen nothing of another message yet, and may be left out."""
        self._first: bytes | None = None
        """What came last, if a message begins with it and none has ended in it."""
        self._exchange: _Exchange | None = None
        """The one being answered."""
        self._barren = 0
        """Bytes since the last that belonged to a body, or that ended a head."""
        self._refused = False
        """The client was told that it sends too much; what it goes on to send is dropped."""
        self._heard = 0.0
        self._size = 0
        """Bytes of a body that goes uvicorn's way."""
        self._unsent = 0
        """Bytes of answers that were waiting for the client at the last look."""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._heard = self.loop.time()
        self._timer = self.loop.call_later(self._limits.idle_seconds, self._look)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._heard = self.loop.time()
        if self._between and self._heads is not None:
            cycle = self.cycle
            if (cycle is None or cycle.response_complete) and not self.flow.write_paused:
                known = self._heads.find(data)
                if known is not None:
                    head, body = known
                    self._barren = 0
                    self.cycle = exchange = _Exchange(head.method, head.path, head.headers, True)  # type: ignore[assignment]
                    self._begin(exchange, body, head.about)
                    return
                self._first = data
        self._barren += len(data)
        super().data_received(data)
        self._first = None
        if self._barren > self._limits.head:
            self._refuse(431, b"text/html", html_page(431))

    def on_message_begin(self) -> None:
        # The scope is made when it turns out to be needed.
        self._between = False
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        self._barren = 0
        if self._refused:
            return
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
        if expect and _declared(headers) > self._limits.body:
            self._refuse_body()  # rather than ask for it
            return
        self._size = 0
        super().on_message_begin()
        self.headers.extend(headers)
        self.url, self.expect_100_continue = url, expect
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._barren = 0
        if self._refused:
            return
        cycle: Any = self.cycle
        if type(cycle) is _Exchange:
            cycle.body.append(body)
            cycle.size += len(body)
            if cycle.size > self._limits.body or (
                # There are several: what would be too much can be known now.
                len(cycle.body) == 2 and _declared(cycle.headers) > self._limits.body
            ):
                self._refuse_body()
        elif not cycle.response_complete:
            self._size += len(body)
            if self._size > self._limits.body:
                self._refuse_body()
            else:
                super().on_body(body)

    def on_message_complete(self) -> None:
        if self._refused:
            return
        first, self._first = self._first, None
        cycle: Any = self.cycle
        if type(cycle) is not _Exchange:
            super().on_message_complete()
            return
        self._between = self._heads is not None and cycle.keep_alive
        if cycle.response_complete:
            return
        body = cycle.body[0] if len(cycle.body) == 1 else b"".join(cycle.body)
        cycle.body.clear()
        about = None
        if self._heads is not None and not self.pipeline:
            about = self._heads.api.about(cycle.method, cycle.path, cycle.headers)
            if about is not None and first is not None and cycle.keep_alive:
                self._heads.learn(first, cycle.method, cycle.path, cycle.headers, body, about)
        self._begin(cycle, body, about)

    def _begin(self, exchange: _Exchange, body: bytes, about: Any) -> None:
        self._exchange = exchange
        if about is not None and self._heads is not None:
            exchange.begun = self._heads.api.begin(about, body, self._answered)
            if exchange.begun is not None:
                return
        exchange.task = self.loop.create_task(self._serve(exchange, body))

    async def _serve(self, exchange: _Exchange, body: bytes) -> None:
        try:
            answer = await self._api.answer(exchange.method, exchange.path, exchange.headers, body)
        except asyncio.CancelledError:
            return  # the client hung up, or the server gave up on it
        except BaseException:
            _log.exception("%s %s", exchange.method, exchange.path.decode("latin-1"))
            self.transport.close()
            raise
        if not exchange.disconnected:
            self._answered(answer)

    def _answered(self, answer: Answer) -> None:
        """The answer to the request that is being answered."""
        exchange = self._exchange
        assert exchange is not None  # a client that hung up has cancelled it
        self._write(answer, exchange.keep_alive)
        exchange.response_complete = True
        self._exchange = None
        if self.pipeline or self.flow.read_paused:
            self.on_response_complete()
        else:  # without a timer of its own: `_look` ends what is idle
            self._heard = self.loop.time()
            self.server_state.total_requests += 1

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

    def _refuse_body(self) -> None:
        limit = self._limits.body
        text = error_body(
            f"The request body is larger than the server takes, which is {limit} bytes; see "
            "--rest_api_max_body_bytes"
        )
        self._refuse(413, b"application/json", text)

    def _refuse(self, status: int, content_type: bytes, body: bytes) -> None:
        """Answers what is still being read, and lets the connection end."""
        self._refused = True
        cycle: Any = self.cycle
        unanswered = cycle is not None and not cycle.response_complete
        if unanswered and (self._answering() or self.pipeline):
            cycle.keep_alive = False  # what came before on this connection has its answer first
            return
        if unanswered:
            cycle.response_complete = cycle.disconnected = True
            cycle.message_event.set()
        length = str(len(body)).encode()
        headers = [(b"content-type", content_type), (b"content-length", length), _CLOSE]
        self._write(Answer(status, headers, body), keep_alive=True)
        # A connection that closes with unread bytes may take the answer with it.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    def _look(self) -> None:
        """Ends the connection if nothing has moved on it that should have."""
        limit = self._limits.idle_seconds
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent == self._unsent:
            self.transport.abort()
            return
        self._unsent = unsent
        now = self.loop.time()
        if unsent or self._answering():
            self._heard = now
        elif now - self._heard >= limit:
            self.transport.close()
        if not self.transport.is_closing() or unsent:
            self._timer = self.loop.call_later(max(self._heard + limit - now, 0.0), self._look)

    def _answering(self) -> bool:
        """Whether a request was read whole and has no answer yet."""
        cycle: Any = self.cycle
        if cycle is None or cycle.response_complete:
            return False
        return cycle.whole if type(cycle) is _Exchange else not cycle.more_body

    def connection_lost(self, exc: Exception | None) -> None:
        exchange, self._exchange = self._exchange, None
        if self._timer is not None:
            self._timer.cancel()
        if exchange is not None:
            exchange.disconnected = True
            going = exchange.begun or exchange.task
            assert going is not None
            going.cancel()
        super().connection_lost(exc)


def _declared(headers: Headers) -> int:
    """The length that a request claims to have; 0 where it claims none."""
    return next((int(value) for name, value in headers if name == b"content-length"), 0)


_CLOSE = (b"connection", b"close")
_LINGER_SECONDS = 2.0
"""For a client that was refused to read so."""

_JOINED = 64 << 10
"""Bytes of an answer up to which a copy costs less than a second write."""
