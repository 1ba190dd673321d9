"""The pool of batch threads: which queue's batch runs next, and how its requests are answered.

What are threads in TensorFlow Serving are tasks of the event loop here: a batch waits for the
device's own queue, not for a core.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from jaxrt.errors import Internal, RequestError, ResourceExhausted
from jaxrt.serving.engine import merging
from jaxrt.serving.engine.batchqueue import Batch, BatchQueue, Part
from jaxrt.serving.engine.servable import HostTensors

_log = logging.getLogger("jaxrt.serving")

OFF_LOOP = 256 << 10
"""Batches of more bytes are merged in a thread."""


class Observer(Protocol):
    """What TensorFlow Serving measures of its batches (batching_session.cc, batching_util.h)."""

    def accepted(self, rows: int) -> None:
        """A request's tensor of so many rows was taken; once for each of its inputs."""

    def queued(self, seconds: float) -> None:
        """A part waited so long."""

    def merged(self, rows: int, padding: int) -> None:
        """A batch of `rows`, of which `padding` are none of a request's, is about to run."""


class Unobserved:
    """Nobody looks."""

    def accepted(self, rows: int) -> None: ...

    def queued(self, seconds: float) -> None: ...

    def merged(self, rows: int, padding: int) -> None: ...


class BatchPool:
    """Runs the batches of all queues, so many at once, one queue after the other.

    Used from one event loop.
    """

    def __init__(
        self,
        *,
        threads: int,
        clock: Callable[[], float] = time.monotonic,
        observer: Observer | None = None,
    ) -> None:
        """`threads`: batches that run at once."""
        if threads < 1:
            raise ValueError(f"num_batch_threads must be positive; was {threads}")
        self.clock = clock
        self.observer: Observer = observer or Unobserved()
        self._free = threads
        self._waiting: deque[BatchQueue] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._called = False
        self._timer: asyncio.TimerHandle | None = None

    def wake(self, queue: BatchQueue) -> None:
        """To be called after a change of the queue; requests of this turn come to share a batch."""
        if queue not in self._waiting:
            self._waiting.append(queue)
        if not self._called:
            self._called = True
            asyncio.get_running_loop().call_soon(self.pump)

    def pump(self) -> None:
        """Starts what is due while threads are free."""
        self._called = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._free and (found := self._next()) is not None:
            self._free -= 1
            task = asyncio.get_running_loop().create_task(self._run(*found))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        if self._free:
            self._sleep()

    def _next(self) -> tuple[BatchQueue, Batch] | None:
        """The next due batch, its queue last in turn afterwards."""
        now = self.clock()
        for _ in range(len(self._waiting)):
            queue = self._waiting.popleft()
            batch = queue.take(now)
            if queue:
                self._waiting.append(queue)
            if batch is not None:
                return queue, batch
        return None

    def _sleep(self) -> None:
        """Until the first open batch is due."""
        dues = [due for queue in self._waiting if (due := queue.due()) is not None]
        if dues:
            delay = max(0.0, min(dues) - self.clock())
            self._timer = asyncio.get_running_loop().call_later(delay, self.pump)

    async def _run(self, queue: BatchQueue, batch: Batch) -> None:
        parts = batch.parts
        try:
            answers = await self._execute(queue, parts)
        except asyncio.CancelledError:
            for part in parts:
                part.ticket.future.cancel()
            raise
        except Exception as error:
            for part in parts:
                part.ticket.settle(_own(error))
        else:
            for part, outputs in zip(parts, answers, strict=True):
                whole = part.ticket.deliver(part.number, outputs)
                if whole is not None:
                    part.ticket.settle(whole)
        finally:
            self._free += 1
            self.pump()

    async def _execute(self, queue: BatchQueue, parts: list[Part]) -> list[HostTensors]:
        """The outputs of each part. Any error is that of the whole batch."""
        now = self.clock()
        for part in parts:
            self.observer.queued(now - part.arrival)
        deadline = _deadline(parts, now)
        rows = [part.rows for part in parts]
        size = queue.parameters.padded(sum(rows))
        self.observer.merged(size, size - sum(rows))
        merged = await self._merge(queue, parts, size)
        outputs = await queue.execute(merged, deadline)
        return merging.split(outputs, rows, size)

    async def _merge(self, queue: BatchQueue, parts: list[Part], size: int) -> HostTensors:
        tensors = [part.tensors for part in parts]
        pad = queue.parameters.pad_variable_length_inputs
        if sum(x.nbytes for part in tensors for x in part.values()) <= OFF_LOOP:
            return merging.merge(tensors, size, pad=pad)
        return await asyncio.to_thread(merging.merge, tensors, size, pad=pad)


def _deadline(parts: list[Part], now: float) -> float | None:
    """The last deadline of the parts that have not missed theirs; None: one has none.

    Raises ResourceExhausted when all have.
    """
    live = [p.deadline for p in parts if p.deadline is None or p.deadline > now]
    if not live:
        raise ResourceExhausted("Run() timeout exceeded while waiting in batching queue")
    bounds = [deadline for deadline in live if deadline is not None]
    return max(bounds) if len(bounds) == len(live) else None


def _own(error: Exception) -> Exception:
    """An error of its own for each request: a raised exception keeps who it was raised to."""
    if isinstance(error, RequestError):
        return type(error)(str(error))
    _log.error("a batch failed", exc_info=error)
    return Internal(f"the batch failed: {type(error).__name__}: {error}")
