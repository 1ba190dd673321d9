"""The answers of one connection, as fast as the client's windows and its socket take them."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from jaxrt.serving.rpc import answers, frames
from jaxrt.serving.rpc.encode import Chunk
from jaxrt.serving.rpc.frames import (
    DEFAULT_FRAME,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    HEAD,
    LARGEST_FRAME,
    MAX_WINDOW,
    ConnectionFault,
    Fault,
    Kind,
    Setting,
)
from jaxrt.serving.rpc.stream import Stream

HIGH_WATER = 1 << 20
"""Bytes in the socket's buffer from which nothing more is written."""
_FLOOD = 8 * HIGH_WATER
"""Bytes in that buffer at which a client that asks on and reads nothing is cut off."""
_TABLE = 4096
"""Bytes of the client's header table that `answers` counts on."""


class Outgoing:
    """What is written, and what waits for a window. `sent` is told of answers that went out."""

    def __init__(self, transport: Any, sent: Callable[[Stream], None]) -> None:
        transport.set_write_buffer_limits(high=HIGH_WATER)
        self._later = asyncio.get_running_loop().call_soon
        self._transport = transport
        self._sent = sent
        self._waiting: dict[int, Stream] = {}
        self._replies: list[bytes] = []
        self.paused = False
        self._window = DEFAULT_WINDOW
        self._frame = DEFAULT_FRAME
        self.initial = DEFAULT_WINDOW
        """The window of a new stream."""
        self._start = answers.FIRST_START
        self._prefix = b""
        """Of the next header block."""

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def reply(self, data: bytes) -> None:
        """What the client can ask for without end: written by `flush`."""
        self._replies.append(data)

    def flush(self) -> None:
        """Writes the replies. Raises ConnectionFault where the client does not read them."""
        if not self._replies:
            return
        if self._transport.get_write_buffer_size() > _FLOOD:
            raise ConnectionFault(Fault.ENHANCE_YOUR_CALM, "replies are not read")
        self._transport.write(b"".join(self._replies))
        self._replies.clear()

    def whole(self, stream: Stream, chunks: Sequence[Chunk]) -> None:
        """The answer of a call that has one message."""
        size = sum(map(len, chunks))
        prefix = b"\0" + size.to_bytes(4, "big")
        size += len(prefix)
        if self._waiting or self.paused or size > min(self._frame, self._window, stream.window):
            self.begin(stream)
            stream.queue((prefix, *chunks))
            self.end(stream, answers.OK)
            return
        number = stream.number
        self._window -= size
        start, end = self._started(), answers.OK
        self._transport.write(
            b"".join(
                (
                    HEAD.pack(len(start) << 8 | Kind.HEADERS, END_HEADERS, number),
                    start,
                    HEAD.pack(size << 8, 0, number),
                    prefix,
                    *chunks,
                    HEAD.pack(len(end) << 8 | Kind.HEADERS, END_HEADERS | END_STREAM, number),
                    end,
                )
            )
        )
        self._sent(stream)

    def begin(self, stream: Stream) -> None:
        """Before the first message."""
        if not stream.started:
            stream.started = True
            self.write(frames.frame(Kind.HEADERS, END_HEADERS, stream.number, self._started()))

    def message(self, stream: Stream, chunks: Sequence[Chunk]) -> None:
        """One of several."""
        self.begin(stream)
        size = sum(map(len, chunks))
        stream.queue((b"\0" + size.to_bytes(4, "big"), *chunks))
        self._waiting[stream.number] = stream
        self.pump()

    def end(self, stream: Stream, trailers: bytes) -> None:
        """After the last message, if there was one."""
        stream.trailers = trailers
        self._waiting[stream.number] = stream
        self.pump()

    def drop(self, stream: Stream) -> None:
        """Nothing more of this answer is sent."""
        stream.outgoing.clear()
        self._waiting.pop(stream.number, None)

    def pump(self) -> None:
        """Writes what may be written: a frame of each answer in turn."""
        moved = True
        while moved and self._waiting and not self.paused:
            moved = False
            for stream in list(self._waiting.values()):
                if self._transport.get_write_buffer_size() > HIGH_WATER:
                    # uvloop writes at the end of a turn of the loop; then it knows if to pause.
                    self._later(self.pump)
                    return
                moved |= self._step(stream)

    def _step(self, stream: Stream) -> bool:
        """Whether anything of this answer was written."""
        size = min(self._frame, self._window, stream.window)
        taken = stream.take(size) if size > 0 else []
        if taken:
            size = sum(map(len, taken))
            self._window -= size
            stream.window -= size
            self._transport.writelines([HEAD.pack(size << 8, 0, stream.number), *taken])
        if stream.outgoing or stream.trailers is None:
            if not stream.outgoing:
                del self._waiting[stream.number]
            return bool(taken)
        block = self._prefix + stream.trailers
        self._prefix = b""
        del self._waiting[stream.number]
        self.write(frames.frame(Kind.HEADERS, END_HEADERS | END_STREAM, stream.number, block))
        self._sent(stream)
        return True

    def _started(self) -> bytes:
        """The header block that begins an answer."""
        block = self._prefix + self._start
        self._prefix = b""
        if self._start is answers.FIRST_START:
            self._start = answers.LATER_START
        return block

    def widen(self, stream: Stream | None, size: int) -> None:
        """The client takes more: of one answer, or of all. Raises ConnectionFault."""
        if not size:
            raise ConnectionFault(Fault.PROTOCOL_ERROR, "a window grows by nothing")
        if stream is None:
            self._window += size
        else:
            stream.window += size
        if (self._window if stream is None else stream.window) > MAX_WINDOW:
            raise ConnectionFault(Fault.FLOW_CONTROL_ERROR, "a window grows beyond 2^31-1")
        self.pump()

    def apply(self, settings: Sequence[tuple[int, int]], streams: Sequence[Stream]) -> None:
        """The client's settings. Raises ConnectionFault for values that RFC 9113 forbids.

        They hold from their acknowledgement on: `pump` comes after it.
        """
        for name, value in settings:
            match name:
                case Setting.HEADER_TABLE_SIZE:
                    if value < _TABLE and self._start is not answers.START:
                        self._start, self._prefix = answers.START, answers.EMPTY_TABLE
                case Setting.ENABLE_PUSH:
                    if value > 1:
                        raise ConnectionFault(Fault.PROTOCOL_ERROR, f"ENABLE_PUSH {value}")
                case Setting.INITIAL_WINDOW_SIZE:
                    self._resize(value, streams)
                case Setting.MAX_FRAME_SIZE:
                    if not DEFAULT_FRAME <= value <= LARGEST_FRAME:
                        raise ConnectionFault(Fault.PROTOCOL_ERROR, f"MAX_FRAME_SIZE {value}")
                    self._frame = min(value, HIGH_WATER)

    def _resize(self, value: int, streams: Sequence[Stream]) -> None:
        if value > MAX_WINDOW:
            raise ConnectionFault(Fault.FLOW_CONTROL_ERROR, f"INITIAL_WINDOW_SIZE {value}")
        for stream in streams:
            stream.window += value - self.initial
            if stream.window > MAX_WINDOW:
                raise ConnectionFault(Fault.FLOW_CONTROL_ERROR, "a window grows beyond 2^31-1")
        self.initial = value
