"""A turn of the event loop: quick programs run on the loop itself, after what it had read.

Handing a batch to the device's thread and its answers back costs more than a small program takes,
and both threads want the interpreter's lock. Here nothing changes hands: the requests whose bytes
came in the same turn share a batch, and a lone one waits for nobody.
"""

import asyncio
import weakref
from collections.abc import Callable, Sequence

from jaxrt.serving.engine.batching import decide
from jaxrt.serving.engine.lane import Lane
from jaxrt.serving.engine.queue import Queue
from jaxrt.serving.engine.runner import Runner, late
from jaxrt.serving.engine.task import Task

LONG = 0.005
"""Seconds of a batch from which it holds up the loop."""

PATIENCE = 0.05
"""Seconds beyond LONG, over recent batches, after which a lane has to leave the loop.

Warm-up's inputs may end a loop at once that a request's keep busy for long.
"""

FORGIVEN = 0.0005
"""Seconds of them that a batch makes good which is not long: a busy machine is nobody's fault."""


class Turn:
    """Used from one event loop. Its queue is empty again a few turns after the last `add`."""

    def __init__(self, runner: Runner, clock: Callable[[], float]) -> None:
        self.queue = Queue()
        self._runner = runner
        self._clock = clock
        self._called = False
        self._beyond: weakref.WeakKeyDictionary[Lane, float] = weakref.WeakKeyDictionary()

    def welcomes(self, lane: Lane) -> bool:
        """Whether the lane's batches have been short; once they were not, they never are again."""
        return self._beyond.get(lane, 0.0) <= PATIENCE

    def add(self, tasks: Sequence[Task]) -> None:
        self.queue.add(tasks)
        if not self._called:
            self._called = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        """One batch: the loop reads and writes before the next one."""
        self._called = False
        # Cancelled in this turn: the task that asked has not had its own turn yet.
        if gone := [task for task in self.queue if task.ticket.done]:
            self.queue.remove(gone)
        decision = decide(self.queue.lines(), self._clock(), timeout=0.0)
        if decision.expired:
            self.queue.remove(decision.expired)
        self.queue.remove(decision.batch)
        if self.queue:
            self._called = True
            asyncio.get_running_loop().call_soon(self._run)
        for task in decision.expired:
            task.ticket.settle(late(task))
        if decision.batch:
            started = self._clock()
            for answer in self._runner.execute(decision.batch):
                answer.ticket.settle(answer.value)
            self._judge(decision.batch[0].lane, self._clock() - started)

    def _judge(self, lane: Lane, seconds: float) -> None:
        beyond = self._beyond.get(lane, 0.0)
        if seconds > LONG:
            self._beyond[lane] = beyond + seconds - LONG
        elif 0.0 < beyond <= PATIENCE:
            self._beyond[lane] = max(0.0, beyond - FORGIVEN)


def quick(lane: Lane, limit: float) -> Lane | None:
    """The lane of those buckets that run within `limit` seconds; None without any.

    Only times that warm-up has measured count.
    """
    seconds = {n: lane.seconds[n] for n in lane.buckets.sizes if n in lane.seconds}
    sizes = [n for n, taken in seconds.items() if taken <= limit]
    if not sizes:
        return None
    return Lane(
        title=lane.title,
        rows=lane.rows,
        programs={n: lane.programs[n] for n in sizes},
        shared=lane.shared,
        flexible=lane.flexible,
        inner=lane.inner,
        seconds={n: seconds[n] for n in sizes},
        metrics=lane.metrics,
    )
