"""A queue of batches: requests in, batches out, as TensorFlow's shared batch scheduler forms them.

Pure: no clock, no event loop. Rules and texts are those of shared_batch_scheduler.h.
"""

import dataclasses
from collections import deque
from collections.abc import Awaitable, Callable

from jaxrt.errors import InvalidArgument, Unavailable
from jaxrt.serving.engine.parameters import BatchingParameters
from jaxrt.serving.engine.servable import HostTensors
from jaxrt.serving.engine.task import Ticket

Execute = Callable[[HostTensors, float | None], Awaitable[HostTensors]]
"""A merged batch by tensor name, its deadline → its outputs by tensor name."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Part:
    """Rows of one request that share a batch; a request that is split is several."""

    tensors: HostTensors
    rows: int
    arrival: float
    deadline: float | None
    ticket: Ticket
    number: int = 0
    """Of this part in its request."""


@dataclasses.dataclass(slots=True, eq=False)
class Batch:
    """Parts that run together."""

    parts: list[Part] = dataclasses.field(default_factory=list)
    rows: int = 0
    opened: float = 0.0
    """When the first part came."""


class BatchQueue:
    """Batches of tasks with the same input and output tensors: closed ones, then an open one."""

    def __init__(self, parameters: BatchingParameters, execute: Execute) -> None:
        self.parameters = parameters
        self.execute = execute
        self.draining = False
        """Nothing more will come: the open batch waits for nobody."""
        self._closed: deque[Batch] = deque()
        self._open = Batch()

    def __bool__(self) -> bool:
        return bool(self._closed or self._open.parts)

    @property
    def batches(self) -> int:
        """How many there are; the open one counts even while it is empty."""
        return len(self._closed) + 1

    def cut(self, rows: int) -> list[int]:
        """How a request of `rows` is split: one part, unless splitting is on.

        Raises InvalidArgument when it is too large, Unavailable when the queue is full.
        """
        of = self.parameters
        if rows > of.max_batch_size:
            raise InvalidArgument(
                f"Task size {rows} is larger than maximum input batch size {of.max_batch_size}"
            )
        free = of.largest_batch - self._open.rows
        if not of.enable_large_batch_splitting:
            if rows > free and self.batches >= max(of.max_enqueued_batches, 1):
                raise Unavailable(
                    "The batch scheduling queue to which this task was submitted is full; "
                    f"currently {self.batches} batches enqueued and max_enqueued_batches is "
                    f"{max(of.max_enqueued_batches, 1)}"
                )
            return [rows]
        capacity = (of.max_enqueued_batches - self.batches) * of.largest_batch + free
        if rows > capacity:
            raise Unavailable(
                "The batch scheduling queue to which this task was submitted is full; task size is "
                f"{rows} but scheduling capacity is only {capacity} "
                f"(num_enqueued_batches={self.batches}, "
                f"max_enqueued_batches={of.max_enqueued_batches}, "
                f"open_batch_size={self._open.rows}, max_execution_batch_size={of.largest_batch})"
            )
        if rows <= free:
            return [rows]
        whole, rest = divmod(rows - free, of.largest_batch)
        return [n for n in (free, *[of.largest_batch] * whole, rest) if n]

    def add(self, part: Part, now: float) -> None:
        """Puts a part, as `cut` made it, into the open batch, or into a new one."""
        if self._open.rows + part.rows > self.parameters.largest_batch:
            self._closed.append(self._open)
            self._open = Batch()
        if not self._open.parts:
            self._open.opened = now
        self._open.parts.append(part)
        self._open.rows += part.rows

    def due(self) -> float | None:
        """When the next batch may start; None when nothing waits."""
        if not self:
            return None
        full = self._open.rows >= self.parameters.largest_batch
        if self._closed or full or self.draining:
            return _NOW
        return self._open.opened + self.parameters.batch_timeout_micros * 1e-6

    def take(self, now: float) -> Batch | None:
        """The next batch, if it is due."""
        due = self.due()
        if due is None or due > now:
            return None
        if self._closed:
            return self._closed.popleft()
        batch, self._open = self._open, Batch()
        return batch

    def discard(self, part: Part) -> None:
        """Takes a part out again, if it is still here."""
        for batch in (*self._closed, self._open):
            if part in batch.parts:
                batch.parts.remove(part)
                batch.rows -= part.rows
                if not batch.parts and batch is not self._open:
                    self._closed.remove(batch)
                return


_NOW = float("-inf")
