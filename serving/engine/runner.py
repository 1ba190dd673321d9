"""The runner: executes one batch on the thread it is called from, and says who gets what."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from jaxrt.errors import DeadlineExceeded, Internal, JaxrtError
from jaxrt.serving.engine import assembly
from jaxrt.serving.engine.metrics import Metrics
from jaxrt.serving.engine.servable import HostTensors, Rows
from jaxrt.serving.engine.task import Task, Ticket

_log = logging.getLogger("jaxrt.serving")


class Answer(NamedTuple):
    """What the caller of one request is told."""

    ticket: Ticket
    value: HostTensors | Exception


class Runner:
    """Knows programs and arrays; never sees a queue or an event loop."""

    def __init__(self, *, clock: Callable[[], float], metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics

    def execute(self, tasks: Sequence[Task]) -> list[Answer]:
        """Runs tasks of one group, at most its largest bucket in rows, as one batch.

        If a batch of several fails, each task runs again by itself: a request that breaks the
        program fails alone.
        """
        now = self._clock()
        self._metrics_of(tasks[0]).waited(now - task.arrival for task in tasks)
        try:
            return self._answers(tasks, self._run(tasks))
        except Exception as error:
            if len(tasks) == 1:
                return [Answer(tasks[0].ticket, _told(tasks[0], error))]
            _log.warning(
                "%s: a batch of %d requests failed and they run one by one: %s",
                tasks[0].lane.title,
                len(tasks),
                error,
            )
        return [answer for task in tasks for answer in self._again(task)]

    def _again(self, task: Task) -> Iterator[Answer]:
        if task.ticket.dropped:
            return
        if task.deadline is not None and task.deadline <= self._clock():
            yield Answer(task.ticket, late(task))
            return
        self._metrics_of(task).retried()
        try:
            yield from self._answers([task], self._run([task]))
        except Exception as error:
            yield Answer(task.ticket, _told(task, error))

    def _run(self, tasks: Sequence[Task]) -> list[HostTensors]:
        """The outputs of each task: gather, compute, scatter."""
        lane = tasks[0].lane
        rows = [task.rows for task in tasks]
        bucket = sum(rows) if lane.flexible else lane.buckets.fit(sum(rows))
        program = lane.programs[lane.buckets.fit(bucket)]
        began = self._clock()
        if lane.rows is Rows.DEPENDENT:
            inputs = tasks[0].inputs
        else:
            inputs = assembly.gather([t.inputs for t in tasks], bucket, shared=lane.shared)
        started = self._clock()
        try:
            outputs = program.run(inputs)
        finally:
            ended = self._clock()
            count = sum(rows)
            metrics = self._metrics_of(tasks[0])
            metrics.ran(count, bucket - count, started - began, ended - started)
        if lane.rows is Rows.DEPENDENT:
            return [outputs]
        return assembly.scatter(outputs, rows, bucket, where=lane.title)

    def _metrics_of(self, task: Task) -> Metrics:
        return task.lane.metrics or self._metrics

    def _answers(self, tasks: Sequence[Task], outputs: Sequence[HostTensors]) -> list[Answer]:
        """Those requests that are complete with these outputs."""
        answers = []
        for task, part in zip(tasks, outputs, strict=True):
            whole = task.ticket.deliver(task.part, part)
            if whole is not None:
                answers.append(Answer(task.ticket, whole))
        return answers


def late(task: Task) -> DeadlineExceeded:
    return DeadlineExceeded(f"{task.lane.title}: the deadline passed before the answer was ready")


def _told(task: Task, error: Exception) -> Exception:
    """Our own errors as they are; others as Internal, logged with their traceback."""
    if isinstance(error, JaxrtError):
        return error
    _log.error("%s: the program failed", task.lane.title, exc_info=error)
    internal = Internal(f"{task.lane.title}: the program failed: {type(error).__name__}: {error}")
    internal.__cause__ = error
    return internal
