"""The HTTP server process: the socket, the event loop, and a stop that loses nothing."""

import asyncio
import contextlib
import errno
import functools
import logging
import math
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Protocol

import uvicorn
from starlette.types import ASGIApp

from jaxrt.errors import UsageError
from jaxrt.serving import memory
from jaxrt.serving.answer import Answers, Direct
from jaxrt.serving.heads import Heads
from jaxrt.serving.limits import Limits
from jaxrt.serving.protocol import ApiProtocol

log = logging.getLogger("jaxrt.serving")

_DEFAULTS = Limits()

BACKLOG = 2048
"""Connections that may wait to be accepted; the kernel's own limit is often lower."""

MOMENT_SECONDS = 0.1
"""For threads that have nothing left to do to end."""

LINGER_SECONDS = 2
"""For clients to read their answers after the grace."""

Drain = Callable[[float], Awaitable[bool]]
"""Refuses new requests, waits up to so many seconds for the others; whether all were answered."""


def bind(
    host: str, port: int, *, shared: bool = False, flag: str = "--rest_api_port"
) -> socket.socket:
    """A bound socket that does not listen yet: taken at start, opened when models are ready.

    Port 0 takes any free one; others that share it may bind a `shared` port. Raises UsageError,
    which names the `flag`, when the port is taken or not allowed.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        if host == "::" and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            return bind("0.0.0.0", port, shared=shared, flag=flag)
        raise _unusable(host, port, error, flag) from None
    return sock


def bind_path(path: str) -> socket.socket:
    """A UNIX socket bound to `path`; what a server that is gone left there is removed.

    Raises UsageError when another server listens there, or the path cannot be bound.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
            except OSError:
                pass  # nothing there, or nothing to connect to: bind says what is wrong
            else:
                raise OSError(0, "another server listens there")
        sock.bind(path)
    except OSError as error:
        sock.close()
        reason = (error.strerror or str(error)).lower()
        raise UsageError(
            f"--grpc_socket_path {path}: {reason}; remove the file or pass another path"
        ) from None
    return sock


def listen(sock: socket.socket) -> None:
    """Opens a bound socket. Raises UsageError when another process opened the port meanwhile."""
    try:
        sock.listen(BACKLOG)
    except OSError as error:
        # Two sockets may bind one port (SO_REUSEADDR) as long as neither listens.
        host, port = sock.getsockname()[:2]
        raise _unusable(host, port, error, "--rest_api_port") from None


def _unusable(host: str, port: int, error: OSError, flag: str) -> UsageError:
    reason = (error.strerror or str(error)).lower()
    return UsageError(f"port {port} of {host}: {reason}; stop what uses it or pass another {flag}")


class Beside(Protocol):
    """Another server on the same event loop."""

    async def open(self) -> None:
        """Listens. Raises UsageError when its port was taken meanwhile."""

    async def stop(self, grace: float) -> bool:
        """Refuses what is new, waits up to so many seconds; whether all was answered.

        Cancelled when nobody waits any longer: then it breaks off what is left.
        """


class _Server(uvicorn.Server):
    """Stops on SIGTERM or SIGINT: finishes what was accepted, for `grace_seconds` at most.

    uvicorn's own signal handling ends the process by the signal; a drained stop is exit 0.
    """

    def __init__(
        self, config: uvicorn.Config, drain: Drain, grace_seconds: float, beside: Beside | None
    ) -> None:
        super().__init__(config)
        self._drain = drain
        self._beside = beside
        self._grace = grace_seconds
        self.finished = True
        """Whether every accepted request was answered."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _stop(self, number: int) -> None:
        if self.should_exit:
            log.warning("%s again: not waiting for requests", signal.Signals(number).name)
            self.force_exit = True
            return
        log.info("%s: finishing accepted requests, refusing new ones", signal.Signals(number).name)
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Closes the ports, waits for the answers, then for the devices."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._grace
        late = loop.create_task(self._give_up())
        beside = loop.create_task(self._stop_beside())
        # Waits for as long as there are connections, or until `force_exit`.
        await super().shutdown(sockets)
        while not beside.done() and not self.force_exit:
            await asyncio.wait([beside], timeout=MOMENT_SECONDS)
        beside.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beside
        late.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await late
        left = 0.0 if self.force_exit else end - loop.time()
        self.finished &= await self._drain(max(left, MOMENT_SECONDS))

    async def _stop_beside(self) -> None:
        if self._beside is not None:
            self.finished &= await self._beside.stop(self._grace + LINGER_SECONDS)

    async def _give_up(self) -> None:
        """Answers 503 to what is unfinished after the grace, and leaves slow readers behind."""
        await asyncio.sleep(self._grace)
        self.finished &= await self._drain(MOMENT_SECONDS)
        await asyncio.sleep(LINGER_SECONDS)
        self.force_exit = True


def run(
    app: ASGIApp,
    sock: socket.socket | None,
    *,
    api: Answers | None = None,
    beside: Beside | None = None,
    limits: Limits = _DEFAULTS,
    start: Callable[[], Awaitable[None]],
    opened: Callable[[], None] = lambda: None,
    drain: Drain,
    grace_seconds: float,
) -> bool:
    """Runs `start` (warm-up), opens the ports, serves until SIGTERM or SIGINT, then drains.

    `opened` is told when clients can connect.

    Without a socket nothing is served over HTTP; `beside` opens and stops with it. `api` answers
    requests under /v1/ without the detour through `app`; `limits` hold for it alone.

    True: every request accepted before the signal was answered; those unfinished after
    `grace_seconds`, or at a second signal, fail. Raises UsageError when the port was taken
    meanwhile.
    """
    protocol: Any = "httptools"
    if api is not None:
        heads = Heads(api) if isinstance(api, Direct) else None
        protocol = functools.partial(ApiProtocol, api=api, limits=limits, heads=heads)
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=math.ceil(limits.idle_seconds),
    )
    server = _Server(config, drain, grace_seconds, beside)

    async def serve() -> None:
        await start()
        memory.settle()
        if sock is not None:
            listen(sock)
        if beside is not None:
            await beside.open()
        opened()
        await server.serve(sockets=[sock] if sock is not None else [])
        log.info("stopped")

    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(serve())
    return server.finished
