"""The queue of one device: tasks by lane, in order of arrival. Not thread-safe by itself."""

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Sequence

from jaxrt.serving.engine.batching import Line
from jaxrt.serving.engine.lane import Lane
from jaxrt.serving.engine.task import Task


class _Lane:
    """The waiting tasks of one lane."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        # Ordered and linked: cancelling removes from the middle, batches from the front.
        self.tasks: OrderedDict[Task, None] = OrderedDict()
        self.rows = 0

    @property
    def batches(self) -> int:
        return -(-self.rows // self.lane.buckets.largest)


class Queue:
    """Invariants: no lane is empty; `batches` is the sum over lanes of rows / largest bucket,
    rounded up."""

    def __init__(self) -> None:
        self._lanes: dict[Hashable, _Lane] = {}
        self.batches = 0

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def __iter__(self) -> Iterator[Task]:
        for entry in self._lanes.values():
            yield from entry.tasks

    def batches_with(self, lane: Lane, rows: int) -> int:
        """What `batches` would be with `rows` more in this lane."""
        entry = self._lanes.get(lane.key)
        held, own = (entry.rows, entry.batches) if entry else (0, 0)
        return self.batches - own - (-(held + rows) // lane.buckets.largest)

    def add(self, tasks: Sequence[Task]) -> None:
        """Appends tasks of one lane, none of which is in a queue."""
        lane = tasks[0].lane
        entry = self._lanes.setdefault(lane.key, _Lane(lane))
        self.batches -= entry.batches
        entry.tasks.update(dict.fromkeys(tasks))
        entry.rows += sum(task.rows for task in tasks)
        self.batches += entry.batches

    def remove(self, tasks: Iterable[Task]) -> int:
        """Takes out those that are here; how many were."""
        found = 0
        for task in tasks:
            entry = self._lanes.get(task.lane.key)
            if entry is None or task not in entry.tasks:
                continue
            found += 1
            self.batches -= entry.batches
            del entry.tasks[task]
            entry.rows -= task.rows
            self.batches += entry.batches
            if not entry.tasks:
                del self._lanes[task.lane.key]
        return found

    def lines(self) -> list[Line[Task]]:
        """What the batching policy sees; valid until the next change."""
        return [
            Line(tasks=entry.tasks, buckets=entry.lane.buckets, seconds=entry.lane.seconds)
            for entry in self._lanes.values()
        ]
