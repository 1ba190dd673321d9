"""One HTTP/2 connection of the gRPC server: frames in, calls out to the services.

It stands on asyncio directly: gRPC's own Python server costs more a call than all of a small
prediction (bench/RESULTS.md), and has threads of its own beside the event loop.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from jaxrt.errors import Code, RequestError
from jaxrt.serving.rpc import answers, frames
from jaxrt.serving.rpc.arguments import LARGEST_MESSAGE, Arguments
from jaxrt.serving.rpc.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    HEAD,
    HEAD_SIZE,
    MAX_WINDOW,
    PREFACE,
    PRIORITIZED,
    ConnectionFault,
    Fault,
    Kind,
    Setting,
)
from jaxrt.serving.rpc.headers import MAX_HEADERS, Head, HeaderReader
from jaxrt.serving.rpc.incoming import Incoming
from jaxrt.serving.rpc.outgoing import Outgoing
from jaxrt.serving.rpc.stream import Stream

FRAME = 128 << 10
"""Bytes of a frame that a client may send: few enough to be joined from pieces."""
STREAM_WINDOW, CONNECTION_WINDOW = 16 << 20, 64 << 20
"""Bytes that may be under way; messages are held whole, so they bound no memory."""
HANDSHAKE_SECONDS = 20.0
"""A client that has not said by then that it speaks HTTP/2 is hung up on."""
CALM = 1000
"""Calls that a client may break off beyond those it lets be answered."""
_FAREWELL = b"farewell"
"""The ping whose echo says that the client has read that it is to leave."""
_FAREWELL_SECONDS = 1.0

_HTTP1 = (b"GET ", b"POST", b"HEAD", b"PUT ", b"OPTI", b"DELE", b"PATC")
_HTTP1_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n"
    b"This port speaks gRPC; the REST API is on --rest_api_port.\n"
)


class Services(Protocol):
    """What answers the calls of a connection."""

    def knows(self, path: bytes) -> bool: ...

    def begin(self, connection: "Connection", stream: Stream) -> None:
        """The request is whole: answer it, in a task of the stream."""

    def opened(self, connection: "Connection") -> None: ...

    def closed(self, connection: "Connection") -> None: ...


class Connection(asyncio.Protocol):
    """The server's side of one connection. Used from its event loop alone."""

    def __init__(self, services: Services, arguments: Arguments) -> None:
        self._services = services
        self._arguments = arguments
        self._headers = HeaderReader()
        self._held = b""
        self._greeted = False
        self._block: tuple[int, int, bytes] | None = None
        """Stream, flags and beginning of a header block that goes on in the next frame."""
        self._last = 0
        """The newest stream."""
        self._unread = 0
        self._broken_off = 0
        self._leaving = self._closed_to_new = False
        self._timer: asyncio.TimerHandle | None = None
        self._streams: dict[int, Stream] = {}
        self._transport: Any = None
        self._out: Any = None
        """Outgoing, as soon as there is a transport."""
        self._on: dict[int, Callable[[int, int, bytes], None]] = {
            Kind.DATA: self._data,
            Kind.HEADERS: self._header_frame,
            Kind.RST_STREAM: self._rst_stream,
            Kind.SETTINGS: self._settings,
            Kind.PUSH_PROMISE: self._push_promise,
            Kind.PING: self._ping,
            Kind.WINDOW_UPDATE: self._window_update,
            Kind.CONTINUATION: self._continuation,
        }

    # For the services.

    def answer(self, stream: Stream, chunks: answers.Chunks) -> None:
        """The one message of an answer, and that all is well."""
        if self._is_open(stream):
            size = sum(map(len, chunks))
            if size > self._arguments.max_send_message_length:
                limit = self._arguments.max_send_message_length
                text = f"SERVER: Sent message larger than max ({size} vs. {limit})"
                self.fail(stream, Code.RESOURCE_EXHAUSTED, text)
            else:
                self._out.whole(stream, chunks)

    def message(self, stream: Stream, chunks: answers.Chunks) -> None:
        """One message of several."""
        if self._is_open(stream):
            self._out.message(stream, chunks)

    def fail(self, stream: Stream, code: Code, text: str) -> None:
        """How a call ends that is not answered with one message."""
        if self._is_open(stream):
            block = answers.trailers(code, text)
            self._out.end(stream, block if stream.started else answers.START + block)

    def leave(self) -> None:
        """Finishes the calls under way, and those the client sends until it knows; then closes."""
        if self._leaving or self._transport is None:
            return
        self._leaving = True
        if not self._greeted:
            self._transport.close()
            return
        self._out.write(
            frames.goaway(MAX_WINDOW, Fault.NO_ERROR) + frames.frame(Kind.PING, 0, 0, _FAREWELL)
        )
        self._restart_timer(_FAREWELL_SECONDS, self._close_to_new)

    def abort(self) -> None:
        """Closes at once."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio's callbacks.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._out = Outgoing(transport, self._answered)
        self._out.write(
            frames.settings(
                {
                    Setting.MAX_CONCURRENT_STREAMS: self._arguments.max_concurrent_streams,
                    Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                    Setting.MAX_FRAME_SIZE: FRAME,
                    Setting.MAX_HEADER_LIST_SIZE: MAX_HEADERS,
                }
            )
            + frames.window_update(0, CONNECTION_WINDOW - frames.DEFAULT_WINDOW)
        )
        self._restart_timer(HANDSHAKE_SECONDS, self.abort)
        self._services.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            if stream.task is not None:
                stream.task.cancel()
        self._services.closed(self)

    def pause_writing(self) -> None:
        self._out.paused = True

    def resume_writing(self) -> None:
        self._out.paused = False
        self._out.pump()

    def data_received(self, data: bytes) -> None:
        if self._held:
            data, self._held = self._held + data, b""
        try:
            at = 0 if self._greeted else self._greet(data)
            if self._greeted:
                self._frames(data, at)
                self._out.flush()
        except ConnectionFault as fault:
            self._out.write(frames.goaway(self._last, fault.code, str(fault)))
            self._transport.close()
            # It may never read what it was told.
            self._restart_timer(_FAREWELL_SECONDS, self.abort)

    def _greet(self, data: bytes) -> int:
        """The end of the preface; the frames may begin."""
        if data.startswith(PREFACE):
            self._greeted = True
            self._rest()
            return len(PREFACE)
        if data.startswith(_HTTP1):
            self._transport.write(_HTTP1_ANSWER)
            self._transport.close()
        elif not PREFACE.startswith(data):
            raise ConnectionFault(Fault.PROTOCOL_ERROR, "no HTTP/2 connection preface")
        self._held = data
        return 0

    def _frames(self, data: bytes, at: int) -> None:
        end = len(data)
        while end - at >= HEAD_SIZE:
            head, flags, number = HEAD.unpack_from(data, at)
            size, kind = head >> 8, head & 0xFF
            if size > FRAME:
                raise ConnectionFault(Fault.FRAME_SIZE_ERROR, f"a frame of {size} bytes")
            begin = at + HEAD_SIZE
            if end - begin < size:
                break
            if self._block is not None and kind != Kind.CONTINUATION:
                raise ConnectionFault(Fault.PROTOCOL_ERROR, "headers without their end")
            at = begin + size
            if handle := self._on.get(kind):
                handle(number & MAX_WINDOW, flags, data[begin:at])
        self._held = data[at:]

    # Frames: of calls.

    def _header_frame(self, number: int, flags: int, payload: bytes) -> None:
        if not number & 1:
            raise ConnectionFault(Fault.PROTOCOL_ERROR, f"headers of stream {number}")
        payload = frames.unpadded(flags, payload)
        if flags & PRIORITIZED:
            payload = payload[5:]
        self._block = (number, flags, payload)
        if flags & END_HEADERS:
            self._headers_end()

    def _continuation(self, number: int, flags: int, payload: bytes) -> None:
        if self._block is None or self._block[0] != number or not (payload or flags & END_HEADERS):
            raise ConnectionFault(Fault.PROTOCOL_ERROR, "headers go on that did not begin")
        self._block = (number, self._block[1], self._block[2] + payload)
        if len(self._block[2]) > MAX_HEADERS:
            raise ConnectionFault(Fault.ENHANCE_YOUR_CALM, f"headers of more than {MAX_HEADERS}")
        if flags & END_HEADERS:
            self._headers_end()

    def _headers_end(self) -> None:
        assert self._block is not None
        (number, flags, block), self._block = self._block, None
        head = self._headers.read(block)  # whatever becomes of them, the tables need them
        if number <= self._last:
            stream = self._streams.get(number)
            if stream is not None and flags & END_STREAM and not stream.ended:  # trailers
                stream.ended = True
                self._services.begin(self, stream)
            return
        self._last = number
        if self._closed_to_new or len(self._streams) >= self._arguments.max_concurrent_streams:
            self._out.reply(frames.reset(number, Fault.REFUSED_STREAM))
        elif head is None:
            self._out.reply(frames.reset(number, Fault.PROTOCOL_ERROR))
        else:
            self._open(number, head, ended=bool(flags & END_STREAM))

    def _open(self, number: int, head: Head, *, ended: bool) -> None:
        limit = self._arguments.max_receive_message_length
        stream = Stream(number, head, Incoming(limit), self._out.initial)
        stream.ended = ended
        self._streams[number] = stream
        self._stop_idling()
        if head.http_status != 200:
            self._out.end(stream, answers.refusal(head.http_status))
        elif not self._services.knows(head.path):
            self.fail(stream, Code.UNIMPLEMENTED, "")
        elif ended:
            self._services.begin(self, stream)

    def _data(self, number: int, flags: int, payload: bytes) -> None:
        self._unread += len(payload)
        if self._unread >= CONNECTION_WINDOW // 2:
            self._out.write(frames.window_update(0, self._unread))
            self._unread = 0
        stream = self._streams.get(number)
        if stream is None or stream.ended:
            if number > self._last or not number & 1:
                raise ConnectionFault(Fault.PROTOCOL_ERROR, f"data of stream {number}, not open")
            return  # of a call that was answered already
        stream.unread += len(payload)
        if stream.unread > STREAM_WINDOW:
            raise ConnectionFault(Fault.FLOW_CONTROL_ERROR, "more data than the window takes")
        if flags & END_STREAM:
            stream.ended = True
        elif stream.unread >= STREAM_WINDOW // 2:
            self._out.write(frames.window_update(number, stream.unread))
            stream.unread = 0
        try:
            stream.incoming.add(frames.unpadded(flags, payload))
        except RequestError as error:
            self.fail(stream, error.code, str(error))
            return
        if stream.ended:
            self._services.begin(self, stream)

    def _rst_stream(self, number: int, flags: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(Fault.FRAME_SIZE_ERROR, "RST_STREAM wants 4 bytes")
        if number > self._last or not number:
            raise ConnectionFault(Fault.PROTOCOL_ERROR, f"stream {number} is not open")
        stream = self._streams.pop(number, None)
        if stream is None:
            return
        # CVE-2023-44487: calls that are made to be broken off.
        self._broken_off += 1
        if self._broken_off > CALM:
            raise ConnectionFault(Fault.ENHANCE_YOUR_CALM, "calls are broken off, not answered")
        if stream.task is not None:
            stream.task.cancel()
        self._out.drop(stream)
        self._rest()

    def _answered(self, stream: Stream) -> None:
        self._broken_off = max(0, self._broken_off - 1)
        self._streams.pop(stream.number, None)
        if not stream.ended:
            self._out.write(frames.reset(stream.number, Fault.NO_ERROR))
        self._rest()

    def _is_open(self, stream: Stream) -> bool:
        return self._streams.get(stream.number) is stream

    # Frames: of the connection.

    def _settings(self, number: int, flags: int, payload: bytes) -> None:
        if number or (flags & ACK and payload):
            raise ConnectionFault(Fault.PROTOCOL_ERROR, "SETTINGS of a stream, or with an ACK")
        if not flags & ACK:
            self._out.apply(frames.pairs(payload), list(self._streams.values()))
            self._out.reply(frames.frame(Kind.SETTINGS, ACK, 0))
            self._out.flush()
            self._out.pump()

    def _ping(self, number: int, flags: int, payload: bytes) -> None:
        if number or len(payload) != 8:
            raise ConnectionFault(Fault.PROTOCOL_ERROR, "PING wants 8 bytes and no stream")
        if not flags & ACK:
            self._out.reply(frames.frame(Kind.PING, ACK, 0, payload))
        elif payload == _FAREWELL and self._leaving:
            self._close_to_new()

    def _window_update(self, number: int, flags: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(Fault.FRAME_SIZE_ERROR, "WINDOW_UPDATE wants 4 bytes")
        stream = self._streams.get(number)
        if not number or stream is not None:
            self._out.widen(stream, int.from_bytes(payload, "big") & MAX_WINDOW)
        elif number > self._last:
            raise ConnectionFault(Fault.PROTOCOL_ERROR, f"stream {number} is not open")

    def _push_promise(self, number: int, flags: int, payload: bytes) -> None:
        raise ConnectionFault(Fault.PROTOCOL_ERROR, "a client promises nothing")

    # The end.

    def _close_to_new(self) -> None:
        if not self._closed_to_new:
            self._stop_timer()
            self._closed_to_new = True
            self._out.write(frames.goaway(self._last, Fault.NO_ERROR))
            self._rest()

    def _rest(self) -> None:
        """Nothing is under way, perhaps: then the connection may end, now or later."""
        if self._streams:
            return
        if self._closed_to_new:
            self._transport.close()
        elif not self._leaving:
            self._stop_timer()
            idle = self._arguments.max_connection_idle_ms
            if idle < LARGEST_MESSAGE:
                self._restart_timer(idle / 1000, self.leave)

    def _stop_idling(self) -> None:
        if not self._leaving:
            self._stop_timer()

    def _restart_timer(self, seconds: float, call: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, call)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
