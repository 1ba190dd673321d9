"""The end of a server whose model spans several hosts, of which one is lost."""

import asyncio
import logging
import os
import signal

from jaxrt.serving.engine.manager import Manager

log = logging.getLogger("jaxrt.serving")


class Loss:
    """Answers 503 to what waits and to what comes, and stops the server."""

    def __init__(self, loop: asyncio.AbstractEventLoop, manager: Manager) -> None:
        self._loop = loop
        self._manager = manager
        self._drain: asyncio.Task[bool] | None = None

    def told(self, why: str) -> None:
        """From any thread."""
        self._loop.call_soon_threadsafe(self._end, why)

    def _end(self, why: str) -> None:
        log.error("%s: no request can be answered without it; stopping", why)
        # Programs that wait for the lost host never end: nothing is worth waiting for.
        self._drain = self._loop.create_task(self._manager.drain(0.0))
        os.kill(os.getpid(), signal.SIGTERM)
