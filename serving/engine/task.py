"""A task: what waits in the queue, and the request its answer goes to."""

import asyncio
import dataclasses
from collections.abc import Callable, Hashable

import numpy as np

from jaxrt.serving.engine.lane import Lane
from jaxrt.serving.engine.servable import HostTensors


class Ticket:
    """One request inside the scheduler: the future of its caller and the parts it was cut into.

    `deliver` is called from the device's thread, `settle` from the event loop.
    """

    def __init__(self, future: asyncio.Future[HostTensors], parts: int) -> None:
        self.future = future
        self.dropped = False
        """Nobody waits any more: do not start it, discard what runs. Set once, never cleared."""
        self._parts: list[HostTensors | None] = [None] * parts
        self._missing = set(range(parts)) if parts > 1 else set()

    @property
    def done(self) -> bool:
        """Whether the caller has an answer, or left."""
        return self.future.done()

    def deliver(self, part: int, outputs: HostTensors) -> HostTensors | None:
        """Keeps one part; the whole answer once the last one is here."""
        if len(self._parts) == 1:
            return outputs
        self._parts[part] = outputs
        self._missing.discard(part)  # a part that is run again comes twice
        if self._missing:
            return None
        parts = [p for p in self._parts if p is not None]
        return {a: np.concatenate([p[a] for p in parts]) for a in outputs}

    def settle(self, answer: HostTensors | Exception) -> None:
        """Answers the caller; the first answer counts."""
        self.dropped = True
        if self.future.done():
            return
        if isinstance(answer, Exception):
            self.future.set_exception(answer)
        else:
            self.future.set_result(answer)


Told = Callable[["HostTensors | Exception"], None]
"""Is told the answer to a request, on the event loop."""


class Call(Ticket):
    """A request of one part whose caller is called back: no future, and no task that waits."""

    def __init__(self, told: Told) -> None:
        self.dropped = False
        self._told = told

    @property
    def done(self) -> bool:
        return self.dropped

    def deliver(self, part: int, outputs: HostTensors) -> HostTensors:
        return outputs

    def settle(self, answer: HostTensors | Exception) -> None:
        if not self.dropped:
            self.dropped = True
            self._told(answer)

    def cancel(self) -> None:
        """The caller left: it is told nothing any more."""
        self.dropped = True


@dataclasses.dataclass(kw_only=True, slots=True, eq=False)
class Task:
    """Rows of one request that run together; a request above the largest bucket is several.

    Never changed; not frozen, which would cost each request a microsecond and a half.
    """

    lane: Lane
    inputs: HostTensors
    rows: int
    """Dim 0 of every input with rows; 1 in a DEPENDENT lane. From 1 to the largest bucket."""
    group: Hashable
    """Tasks of equal groups may share a batch."""
    arrival: float
    deadline: float | None
    ticket: Ticket
    part: int


def cut(
    lane: Lane, inputs: HostTensors, rows: int, *, arrival: float, deadline: float | None,
    ticket: Ticket, sizes: list[int],
) -> list[Task]:  # fmt: skip
    """One request → its tasks, `sizes` rows each, in order; the arrays are views."""
    group = group_of(lane, inputs)
    tasks = []
    start = 0
    for part, size in enumerate(sizes):
        tasks.append(
            Task(
                lane=lane,
                inputs=inputs if size == rows else _piece(lane, inputs, start, start + size),
                rows=size,
                group=group,
                arrival=arrival,
                deadline=deadline,
                ticket=ticket,
                part=part,
            )
        )
        start += size
    return tasks


def _piece(lane: Lane, inputs: HostTensors, start: int, end: int) -> HostTensors:
    return {a: x if a in lane.shared else x[start:end] for a, x in inputs.items()}


# Comparing more than this costs more than a batch of strangers brings.
_COMPARED = 4096


def group_of(lane: Lane, inputs: HostTensors) -> Hashable:
    """The lane, and the values of its shared inputs: by bits, so that NaN equals itself."""
    if not lane.shared:
        return lane.key
    values = [inputs[alias] for alias in sorted(lane.shared)]
    if sum(x.nbytes for x in values) > _COMPARED:
        return object()
    return (
        lane.key,
        *(tuple(x.flat) if x.dtype.hasobject else x.tobytes() for x in values),
    )
