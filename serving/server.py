"""The HTTP server process: the socket, the event loop, and a stop that loses nothing."""

import asyncio
import contextlib
import errno
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Generator

import uvicorn
from starlette.types import ASGIApp

from jaxrt.errors import UsageError

log = logging.getLogger("jaxrt.serving")

IDLE_SECONDS = 50
"""Keep-alive of an idle connection: libevent's default, as TensorFlow Serving has it."""


def bind(host: str, port: int) -> socket.socket:
    """A bound socket that does not listen yet: taken at start, opened when models are ready.

    Port 0 takes any free one. Raises UsageError when the port is taken or not allowed.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        if host == "::" and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            return bind("0.0.0.0", port)
        reason = error.strerror or str(error)
        raise UsageError(
            f"port {port} of {host}: {reason.lower()}; stop what uses it or pass another "
            "--rest_api_port"
        ) from None
    return sock


class _Server(uvicorn.Server):
    """uvicorn's own signal handling ends the process by the signal; a drained stop is exit 0."""

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


def run(
    app: ASGIApp,
    sock: socket.socket,
    *,
    start: Callable[[], Awaitable[None]],
    drain: Callable[[], Awaitable[None]],
    grace_seconds: int,
) -> None:
    """Runs `start` (warm-up), opens the port, serves until SIGTERM or SIGINT, then drains.

    Requests accepted before the signal are answered, for `grace_seconds` at most.
    """
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=grace_seconds,
    )
    server = _Server(config)

    async def serve() -> None:
        await start()
        await server.serve(sockets=[sock])
        await drain()
        log.info("stopped")

    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(serve())
