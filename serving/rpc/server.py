"""The gRPC server: ports, connections, calls as tasks, and a stop that loses nothing."""

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Callable, Sequence

from jaxrt.errors import Cancelled, Code, Internal, RequestError
from jaxrt.serving.rpc.arguments import Arguments
from jaxrt.serving.rpc.connection import Connection
from jaxrt.serving.rpc.encode import Chunk
from jaxrt.serving.rpc.methods import Methods
from jaxrt.serving.rpc.stream import Stream
from jaxrt.serving.rpc.wire import Malformed

_log = logging.getLogger("jaxrt.serving")

BACKLOG = 2048
"""As for HTTP."""


class Server:
    """Answers `methods` on sockets. Used from one event loop; `clock` is that of deadlines."""

    def __init__(
        self,
        methods: Methods,
        *,
        arguments: Arguments = Arguments(),  # noqa: B008  # frozen
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._methods = methods
        self._arguments = arguments
        self._tls = tls
        self._clock = clock
        self._listeners: list[asyncio.Server] = []
        self._connections: set[Connection] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    async def listen(self, sockets: Sequence[socket.socket]) -> None:
        """Opens bound sockets, of TCP or UNIX."""
        loop = asyncio.get_running_loop()
        for sock in sockets:
            make = loop.create_server
            if sock.family == socket.AF_UNIX:
                make = loop.create_unix_server  # type: ignore[assignment]
            self._listeners.append(
                await make(self._connect, sock=sock, ssl=self._tls, backlog=BACKLOG)
            )

    async def stop(self, grace: float) -> bool:
        """Closes the ports and finishes what came until clients know it, for `grace` seconds.

        True: every call was answered. Those that were not are broken off, also where this is
        cancelled.
        """
        for listener in self._listeners:
            listener.close()
        for connection in list(self._connections):
            connection.leave()
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), grace)
            return not self._connections
        finally:
            for connection in list(self._connections):
                connection.abort()

    def _connect(self) -> Connection:
        return Connection(self, self._arguments)

    # What connections ask for.

    def opened(self, connection: Connection) -> None:
        self._connections.add(connection)
        self._empty.clear()

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def knows(self, path: bytes) -> bool:
        return path in self._methods

    def begin(self, connection: Connection, stream: Stream) -> None:
        task = asyncio.get_running_loop().create_task(self._call(connection, stream))
        stream.task = task

    async def _call(self, connection: Connection, stream: Stream) -> None:
        try:
            answer = await self._run(connection, stream)
        except RequestError as error:
            connection.fail(stream, error.code, str(error))
        except Exception:
            _log.exception("%s", stream.head.path.decode("latin-1"))
            connection.fail(stream, Code.INTERNAL, "Internal error: see the log of the server")
        else:
            if answer is None:
                connection.fail(stream, Code.OK, "")
            else:
                connection.answer(stream, answer)

    async def _run(self, connection: Connection, stream: Stream) -> Sequence[Chunk] | None:
        """The answer; None where its messages were sent one by one."""
        head = stream.head
        deadline = None if head.timeout is None else self._clock() + head.timeout
        data, at = stream.incoming.message(head.encoding)
        stream.incoming.clear()
        try:
            if head.path in self._methods.unary:
                return await self._methods.unary[head.path](data, at, deadline)
            async for chunks in self._methods.streaming[head.path](data, at):
                connection.message(stream, chunks)
            return None
        except Malformed as error:
            path = head.path.decode("latin-1")
            raise Internal(f"{path}: the request is not its message: {error}") from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise Cancelled("the server dropped the request") from None
