"""`jaxrt serve --num-workers N`: the process that starts, restarts and stops the workers."""

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Sequence

from jaxrt.cli import ports
from jaxrt.cli.settings import Settings
from jaxrt.errors import UsageError
from jaxrt.serving import workers

log = logging.getLogger("jaxrt.serving")


def supervise(settings: Settings, *, started: float) -> None:
    """Serves with several processes that are given this one's arguments; returns after a stop.

    Raises SystemExit with a worker's exit code when one cannot start, with 1 when one failed to
    finish its requests, and UsageError when REST is off or its port is taken.
    """
    host, port, count = settings.rest_api_host, settings.rest_api_port, settings.num_workers
    if port is None:
        raise UsageError("--num-workers: processes share the REST port; pass --rest_api_port too")
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(sock) for sock in workers.bind(host, port, count)]
        if (grpc := ports.reserve(settings)) is not None:
            stack.enter_context(grpc)
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
