"""A task: what waits in the queue, and the request its answer goes to."""

import asyncio
import dataclasses

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
        self._missing = set(range(parts))

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


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Task:
    """Rows of one request that run together; a request above the largest bucket is several."""

    lane: Lane
    inputs: HostTensors
    rows: int
    """Dim 0 of every input; 1 in a DEPENDENT lane. At least 1, at most the largest bucket."""
    arrival: float
    deadline: float | None
    ticket: Ticket
    part: int


def cut(
    lane: Lane, inputs: HostTensors, rows: int, *, arrival: float, deadline: float | None,
    ticket: Ticket, sizes: list[int],
) -> list[Task]:  # fmt: skip
    """One request → its tasks, `sizes` rows each, in order; the arrays are views."""
    tasks = []
    start = 0
    for part, size in enumerate(sizes):
        whole = size == rows
        piece = inputs if whole else {a: x[start : start + size] for a, x in inputs.items()}
        tasks.append(
            Task(
                lane=lane,
                inputs=piece,
                rows=size,
                arrival=arrival,
                deadline=deadline,
                ticket=ticket,
                part=part,
            )
        )
        start += size
    return tasks
