"""Batching policy: given what waits and the time, what runs next. Pure: no clock, no queue."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Generic, Protocol, TypeVar

from jaxrt.buckets import Buckets


class Waiting(Protocol):
    """What the policy sees of a task."""

    @property
    def rows(self) -> int:
        """From 1 to the largest bucket of its lane."""

    @property
    def arrival(self) -> float: ...

    @property
    def deadline(self) -> float | None: ...


T = TypeVar("T", bound=Waiting)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Line(Generic[T]):
    """The tasks that may share a batch, by arrival, and the batch sizes compiled for them."""

    tasks: Iterable[T]
    buckets: Buckets
    seconds: Mapping[int, float] = dataclasses.field(default_factory=dict)
    """Bucket → seconds on the device, where known."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Decision(Generic[T]):
    """What to do now: answer `expired`, run `batch` (if any); else look again at `wake`."""

    batch: tuple[T, ...] = ()
    """Tasks of one line, at most its largest bucket in rows."""
    expired: tuple[T, ...] = ()
    """Seen to be past their deadline; never in `batch`."""
    wake: float | None = None
    """When an open batch is due; None when only a new task can change anything."""


def decide(lines: Iterable[Line[T]], now: float, *, timeout: float) -> Decision[T]:
    """The next batch for an idle device.

    First come, first served across lines: the line whose first live task is oldest runs, if its
    batch is due. `timeout` (seconds) holds a batch open while it is not full; 0 starts at once.
    """
    expired: list[T] = []
    ready: list[tuple[float, int, float, Line[T], list[T]]] = []
    for index, line in enumerate(lines):
        taken, late, full = _take(line, now)
        expired += late
        if taken:
            due = _NOW if full else _due(taken, taken[0].arrival + timeout)
            ready.append((taken[0].arrival, index, due, line, taken))
    wakes = []
    for _, _, due, line, taken in sorted(ready, key=lambda entry: entry[:2]):
        if due <= now:
            return Decision(batch=tuple(_worthwhile(line, taken)), expired=tuple(expired))
        wakes.append(due)
    return Decision(expired=tuple(expired), wake=min(wakes, default=None))


_NOW = float("-inf")


def _take(line: Line[T], now: float) -> tuple[list[T], list[T], bool]:
    """As many whole tasks as fit the largest bucket, by arrival; the expired ones met; is it full?

    Full: waiting longer can bring nothing more.
    """
    taken: list[T] = []
    late: list[T] = []
    free = line.buckets.largest
    full = False
    for task in line.tasks:
        if task.deadline is not None and task.deadline <= now:
            late.append(task)
        # A task too big for what is left is passed over, not waited for: the oldest always heads
        # the next batch, so it cannot starve.
        elif task.rows > free:
            full = True
        else:
            taken.append(task)
            free -= task.rows
            if not free:
                return taken, late, True
    return taken, late, full


def _due(taken: list[T], open_until: float) -> float:
    """When an open batch starts: at once if a task would not live to see it closed."""
    late = any(task.deadline is not None and task.deadline <= open_until for task in taken)
    return _NOW if late else open_until


# A shorter batch must promise this much more rows a second: bucket times are measured once.
_GAIN = 1.1


def _worthwhile(line: Line[T], taken: list[T]) -> list[T]:
    """The first tasks of `taken` that give the most rows a second, by the measured times.

    9 rows with buckets 8 and 32 are padded to 32, which on a CPU costs four times the bucket 8:
    then 8 rows go now and one goes with those that arrive meanwhile. All, if a time is unknown.
    """
    best, best_rate = taken, 0.0
    rows = sum(task.rows for task in taken)
    fit = line.buckets.fit(rows)
    for bucket in (fit, *(size for size in reversed(line.buckets.sizes) if size < fit)):
        seconds = line.seconds.get(bucket)
        if not seconds:
            return best
        prefix, rows = _prefix(taken, bucket)
        if rows / seconds > best_rate * _GAIN:
            best, best_rate = prefix, rows / seconds
    return best


def _prefix(tasks: list[T], limit: int) -> tuple[list[T], int]:
    """The longest start of `tasks` with at most `limit` rows, and its rows."""
    rows = 0
    for count, task in enumerate(tasks):
        if rows + task.rows > limit:
            return tasks[:count], rows
        rows += task.rows
    return tasks, rows
