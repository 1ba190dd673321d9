"""One call on its connection: the request as it comes, the answer as it may go."""

import asyncio
import collections
from collections.abc import Iterable

from jaxrt.serving.rpc.encode import Chunk
from jaxrt.serving.rpc.headers import Head
from jaxrt.serving.rpc.incoming import Incoming


class Stream:
    """State of an HTTP/2 stream that the client opened."""

    __slots__ = (
        "ended",
        "head",
        "incoming",
        "number",
        "outgoing",
        "started",
        "task",
        "trailers",
        "unread",
        "window",
    )

    def __init__(self, number: int, head: Head, incoming: Incoming, window: int) -> None:
        self.number = number
        self.head = head
        self.incoming = incoming
        self.window = window
        """Bytes the client takes."""
        self.unread = 0
        """Bytes that came since the client was last told that it may send more."""
        self.ended = False
        """The client has sent all of its request."""
        self.started = False
        """The answer has begun."""
        self.outgoing: collections.deque[memoryview] = collections.deque()
        self.trailers: bytes | None = None
        """What ends the answer, when it is known."""
        self.task: asyncio.Task[None] | None = None

    def queue(self, chunks: Iterable[Chunk]) -> None:
        self.outgoing.extend(memoryview(chunk) for chunk in chunks if len(chunk))

    def take(self, size: int) -> list[memoryview]:
        """The next bytes to send, `size` at most."""
        taken = []
        while size and self.outgoing:
            chunk = self.outgoing.popleft()
            if len(chunk) > size:
                self.outgoing.appendleft(chunk[size:])
                chunk = chunk[:size]
            taken.append(chunk)
            size -= len(chunk)
        return taken
