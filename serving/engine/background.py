"""Work beside the requests: in threads that give way to them, and memory given back."""

import asyncio
import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

LOWEST = 19
"""The nice value that gives way to all others, for a process of its own."""

LOWER = 5
"""That of a thread: a third of a share. It holds the interpreter's lock now and then, and whoever
waits for the lock then waits for the thread to be scheduled: lower still, that takes long where
others keep all cores busy."""

SHORT_TURN = 0.0005
"""Seconds that a calm thread keeps the interpreter's lock when the event loop wants it; Python's
own 5 ms are longer than a request takes."""


async def in_thread(work: Callable[[], T], *, calm: bool) -> T:
    """What `work` gives, or raises, in a thread of its own; `calm`: of the lowest priority.

    Cancelled, it leaves the thread to itself. The thread does not hold up the end of the process.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            with _giving_way() if calm else contextlib.nullcontext():
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


_calm = 0
_lock = threading.Lock()


@contextlib.contextmanager
def _giving_way() -> Iterator[None]:
    """The calling thread lets others go first, to the cores and to the interpreter's lock."""
    global _calm
    with contextlib.suppress(OSError, AttributeError):  # Linux has a nice value for each thread
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWER)
    with _lock:
        if not _calm:
            sys.setswitchinterval(SHORT_TURN)
        _calm += 1
    try:
        yield
    finally:
        with _lock:
            _calm -= 1
            if not _calm:
                sys.setswitchinterval(_TURN)


_TURN = sys.getswitchinterval()


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
