"""`jaxrt serve --num-workers N`: the process that starts, restarts and stops the workers."""

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Sequence

from jaxrt.serving import workers

log = logging.getLogger("jaxrt.serving")


def supervise(host: str, port: int, count: int, *, started: float) -> None:
    """Serves with `count` processes that are given this one's arguments; returns after a stop.

    Raises SystemExit with a worker's exit code when one cannot start, with 1 when one failed to
    finish its requests, and UsageError when the port is taken.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(sock) for sock in workers.bind(host, port, count)]
        bound = sockets[0].getsockname()[1]

        def command(post: workers.Post) -> Sequence[str]:
            return [sys.executable, "-m", "jaxrt", *sys.argv[1:], "--worker", str(post)]

        def opened() -> None:
            log.info(
                "ready in %.2f s: %d workers on port %d",
                time.perf_counter() - started,
                count,
                bound,
            )

        async def run() -> int:
            return await workers.Supervisor(sockets, command, opened).run()

        code = asyncio.run(run())
    if code:
        raise SystemExit(code)
