"""Work beside the requests: in threads that give way to them, and memory given back."""

import asyncio
import contextlib
import ctypes
import os
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LOWEST = 19
"""The nice value that gives way to all others."""


async def in_thread(work: Callable[[], T], *, calm: bool) -> T:
    """What `work` gives, or raises, in a thread of its own; `calm`: of the lowest priority.

    Cancelled, it leaves the thread to itself. The thread does not hold up the end of the process.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        if calm:
            give_way()
        try:
            result = work()
        except BaseException as raised:
            error = _raisable(raised)
            _post(loop, future, lambda: future.set_exception(error))
        else:
            _post(loop, future, lambda: future.set_result(result))

    threading.Thread(target=run, name="jaxrt-background", daemon=True).start()
    return await future


def _post(
    loop: asyncio.AbstractEventLoop, future: "asyncio.Future[T]", settle: Callable[[], None]
) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(lambda: None if future.done() else settle())


def _raisable(error: BaseException) -> BaseException:
    # A future refuses StopIteration, which would end the coroutine that waits for it.
    return RuntimeError(repr(error)) if isinstance(error, StopIteration) else error


def give_way() -> None:
    """The calling thread gets what others leave. Linux has a nice value for each thread."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST)


def give_way_whole() -> None:
    """The calling process, and all that it starts, gets what others leave."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, 0, LOWEST)
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def trim() -> None:
    """Returns freed memory to the system; glibc keeps it for itself otherwise."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
