"""The queue of one device: tasks by group, in order of arrival. Not thread-safe by itself."""

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Sequence

from jaxrt.serving.engine.batching import Line
from jaxrt.serving.engine.lane import Lane
from jaxrt.serving.engine.task import Task


class _Group:
    """The waiting tasks that may share a batch."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        # Ordered and linked: cancelling removes from the middle, batches from the front.
        self.tasks: OrderedDict[Task, None] = OrderedDict()
        self.rows = 0

    @property
    def batches(self) -> int:
        return -(-self.rows // self.lane.buckets.largest)


class Queue:
    """Invariants: no group is empty; `batches` is the sum over groups of rows / largest bucket,
    rounded up."""

    def __init__(self) -> None:
        self._groups: dict[Hashable, _Group] = {}
        self.batches = 0

    def __bool__(self) -> bool:
        return bool(self._groups)

    def __iter__(self) -> Iterator[Task]:
        for entry in self._groups.values():
            yield from entry.tasks

    def batches_with(self, tasks: Sequence[Task]) -> int:
        """What `batches` would be after `add(tasks)`."""
        entry = self._groups.get(tasks[0].group)
        held, own = (entry.rows, entry.batches) if entry else (0, 0)
        rows = held + sum(task.rows for task in tasks)
        return self.batches - own - (-rows // tasks[0].lane.buckets.largest)

    def add(self, tasks: Sequence[Task]) -> None:
        """Appends tasks of one group, none of which is in a queue."""
        entry = self._groups.get(tasks[0].group)
        if entry is None:
            entry = self._groups[tasks[0].group] = _Group(tasks[0].lane)
        before = entry.batches
        for task in tasks:
            entry.tasks[task] = None
            entry.rows += task.rows
        self.batches += entry.batches - before

    def remove(self, tasks: Iterable[Task]) -> int:
        """Takes out those that are here; how many were."""
        found = 0
        entry: _Group | None = None
        group: Hashable = None
        for task in tasks:
            if entry is None or task.group is not group:
                self._leave(group, entry)
                group = task.group
                entry = self._groups.get(group)
                if entry is None:
                    continue
                self.batches -= entry.batches
            if task in entry.tasks:
                found += 1
                del entry.tasks[task]
                entry.rows -= task.rows
        self._leave(group, entry)
        return found

    def _leave(self, group: Hashable, entry: _Group | None) -> None:
        """Counts a group again, whose batches were taken out of the count."""
        if entry is None:
            return
        self.batches += entry.batches
        if not entry.tasks:
            del self._groups[group]

    def lines(self) -> list[Line[Task]]:
        """What the batching policy sees; valid until the next change."""
        return [
            Line(tasks=entry.tasks, buckets=entry.lane.buckets, seconds=entry.lane.seconds)
            for entry in self._groups.values()
        ]
