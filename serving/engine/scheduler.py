"""The scheduler of one device: a bounded queue, one thread that runs it, one future a request."""

import asyncio
import logging
import threading
import time
import weakref
from collections.abc import Callable, Sequence

from jaxrt.errors import DeadlineExceeded, Internal, Unavailable
from jaxrt.serving.engine.batching import decide
from jaxrt.serving.engine.lane import Lane
from jaxrt.serving.engine.metrics import Metrics
from jaxrt.serving.engine.queue import Queue
from jaxrt.serving.engine.runner import Answer, Runner, late
from jaxrt.serving.engine.servable import HostTensors
from jaxrt.serving.engine.task import Call, Task, Ticket, cut, group_of
from jaxrt.serving.engine.turn import Turn, quick

_log = logging.getLogger("jaxrt.serving")


QUICK_SECONDS = 0.0005
"""What the event loop may spend on one batch: as long as it spends on reading one larger body."""


class Scheduler:
    """Used from one event loop; programs run on its own thread, first come, first served.

    Those that were measured to be quick run on the event loop: engine/turn.py says why.

    The device's thread chooses the next batch itself the moment it is free, so that a busy event
    loop never leaves the device idle while requests wait.
    """

    def __init__(
        self,
        *,
        name: str = "device",
        threads: int = 1,
        most: int = 1,
        max_enqueued_batches: int = 1000,
        batch_timeout_micros: int = 0,
        quick_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        metrics: Metrics | None = None,
    ) -> None:
        """`threads` batches run at once: one on a device, more where each has a core of its own.

        `most` batches of lanes that were measured to gain by it (`Lane.at_once`).

        `max_enqueued_batches`: largest buckets' worth of rows that may wait over all lanes.

        `batch_timeout_micros` holds a batch that is not full open on an idle device; 0 never.

        `quick_seconds`: buckets that take so long at most run on the event loop, while no batch is
        held open. Only for devices that several threads can use at once.
        """
        if max_enqueued_batches < 1 or batch_timeout_micros < 0 or threads < 1:
            raise ValueError(
                f"max_enqueued_batches {max_enqueued_batches}, batch_timeout_micros "
                f"{batch_timeout_micros}, threads {threads}: want at least 1, 0 and 1"
            )
        self.clock = clock
        self.metrics = metrics or Metrics()
        self._limit = max_enqueued_batches
        self._timeout = batch_timeout_micros * 1e-6
        self._runner = Runner(clock=clock, metrics=self.metrics)
        self._turn = Turn(self._runner, clock)
        self._quick_seconds = 0.0 if batch_timeout_micros else quick_seconds
        self._quick: weakref.WeakKeyDictionary[Lane, Lane | None] = weakref.WeakKeyDictionary()
        self._changed = threading.Condition()  # guards the four below
        self._queue = Queue()
        self._running: dict[int, tuple[Task, ...]] = {}
        self._draining = False
        self._stopping = False
        self._name = name
        self.most = max(threads, most)
        self._usual = 0
        self._threads: list[threading.Thread] = []
        self.widen(threads)

    def widen(self, threads: int) -> None:
        """From now on so many batches at once, or as many as before; from any thread."""
        with self._changed:
            self._usual = max(self._usual, threads)
            self.most = max(self.most, threads)
            named = (f"jaxrt-{self._name}-{i}" for i in range(len(self._threads), self.most))
            new = [threading.Thread(target=self._serve, name=name, daemon=True) for name in named]
            self._threads += new
        for thread in new:
            thread.start()

    async def submit(
        self,
        lane: Lane,
        inputs: HostTensors,
        *,
        rows: int = 1,
        deadline: float | None = None,
        bounded: bool = True,
    ) -> HostTensors:
        """One request → its outputs.

        `rows`: dim 0 of all inputs but the shared ones, at least 1; 1 in a DEPENDENT lane.
        `deadline`: an instant of `clock`. `bounded=False` ignores the queue's limit (warm-up).
        Cancelling drops what has not started. Raises Unavailable when the queue is full or the
        scheduler drains, DeadlineExceeded, Internal, or what the program raised from our tree.
        """
        if rows < 1:
            raise ValueError(f"{lane.title}: {rows} rows submitted, want at least 1")
        loop = asyncio.get_running_loop()
        sizes = lane.buckets.split(rows)
        ticket = Ticket(loop.create_future(), len(sizes))
        now = self.clock()
        if deadline is not None and deadline <= now:
            self._metrics_of(lane).expired.add()
            raise DeadlineExceeded(f"{lane.title}: the deadline passed before the request started")
        fast = self._quick_lane(lane) if self._quick_seconds else None
        if fast and self._turn.welcomes(fast) and sizes[0] <= fast.buckets.largest:
            tasks = cut(
                fast, inputs, rows, arrival=now, deadline=deadline, ticket=ticket, sizes=sizes
            )
            self._admit(self._turn.queue, tasks, bounded)
            self._turn.add(tasks)
            return await self._answer(ticket, tasks, None)
        tasks = cut(lane, inputs, rows, arrival=now, deadline=deadline, ticket=ticket, sizes=sizes)
        with self._changed:
            self._admit(self._queue, tasks, bounded)
            self._queue.add(tasks)
            self._changed.notify()
        return await self._answer(ticket, tasks, self._arm(ticket, tasks[0]))

    def start(
        self, lane: Lane, inputs: HostTensors, rows: int, deadline: float | None, call: Call
    ) -> bool:
        """Begins a request that will run on the event loop; False: `submit` has to be asked.

        Where a queue has to say no, `submit` says it.
        """
        fast = self._quick_lane(lane) if self._quick_seconds else None
        if not fast or not self._turn.welcomes(fast) or not 0 < rows <= fast.buckets.largest:
            return False
        queue = self._turn.queue
        if self._draining or queue.batches >= self._limit:
            return False
        task = Task(
            lane=fast,
            inputs=inputs,
            rows=rows,
            group=group_of(fast, inputs),
            arrival=self.clock(),
            deadline=deadline,
            ticket=call,
            part=0,
        )
        self._turn.add((task,))
        return True

    def _quick_lane(self, lane: Lane) -> Lane | None:
        if len(lane.seconds) < len(lane.programs):
            return None  # not warm yet, or nobody measures it
        try:
            return self._quick[lane]
        except KeyError:
            return self._quick.setdefault(lane, quick(lane, self._quick_seconds))

    def _admit(self, queue: Queue, tasks: Sequence[Task], bounded: bool) -> None:
        if self._draining:
            where = tasks[0].lane.title
            raise Unavailable(f"{where}: the server is shutting down; ask another one")
        # A request larger than the whole queue may have it when it is empty: else it never runs.
        if bounded and queue and queue.batches_with(tasks) > max(self._limit, queue.batches):
            self._metrics_of(tasks[0].lane).rejected.add()
            raise Unavailable(
                "The batch scheduling queue to which this task was submitted is full; currently "
                f"{queue.batches} batches enqueued and max_enqueued_batches is {self._limit}"
            )

    async def _answer(
        self, ticket: Ticket, tasks: Sequence[Task], timer: asyncio.TimerHandle | None
    ) -> HostTensors:
        try:
            return await ticket.future
        except asyncio.CancelledError:
            self._metrics_of(tasks[0].lane).cancelled.add()
            raise
        except DeadlineExceeded:
            self._metrics_of(tasks[0].lane).expired.add()
            raise
        finally:
            if timer is not None:
                timer.cancel()
            # Parts may still wait when the caller left, time ran out or another part failed.
            self._withdraw(ticket, tasks)

    def _metrics_of(self, lane: Lane) -> Metrics:
        return lane.metrics or self.metrics

    def _arm(self, ticket: Ticket, task: Task) -> asyncio.TimerHandle | None:
        """Answers at the deadline although the device is busy with others, or with this."""
        if task.deadline is None:
            return None
        loop = asyncio.get_running_loop()
        return loop.call_later(task.deadline - self.clock(), lambda: ticket.settle(late(task)))

    def _withdraw(self, ticket: Ticket, tasks: Sequence[Task]) -> None:
        complete = ticket.future.done() and not ticket.future.cancelled()
        ticket.dropped = True
        if complete and ticket.future.exception() is None:
            return
        self._turn.queue.remove(tasks)
        with self._changed:
            self._queue.remove(tasks)
            self._changed.notify()

    async def drain(self, grace: float) -> bool:
        """Refuses new requests, finishes the accepted ones, stops the thread.

        After `grace` seconds what is unfinished fails with Unavailable; a batch that is running
        then cannot be stopped and its result is dropped. True: everything was finished.
        """
        with self._changed:
            self._draining = True
            self._changed.notify_all()
        while self._turn.queue:
            await asyncio.sleep(0)
        if await asyncio.to_thread(self._join, grace):
            return True
        with self._changed:
            self._stopping = True
            running = [task for tasks in self._running.values() for task in tasks]
            unfinished = {task.ticket: task for task in (*running, *self._queue)}
            self._queue.remove(list(self._queue))
            self._changed.notify_all()
        for ticket, task in unfinished.items():
            ticket.settle(
                Unavailable(f"{task.lane.title}: the server shut down before the request was done")
            )
        return False

    def _join(self, grace: float) -> bool:
        """Whether all threads ended within `grace` seconds."""
        end = time.monotonic() + grace
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _serve(self) -> None:
        """A device's thread: schedule, execute, answer."""
        while tasks := self._next():
            try:
                answers = self._runner.execute(tasks)
            except BaseException as error:  # the thread outlives whatever a program raises
                _log.critical("%s: the device's thread", tasks[0].lane.title, exc_info=error)
                failure = Internal(f"{tasks[0].lane.title}: the program failed: {error!r}")
                answers = [Answer(task.ticket, failure) for task in tasks]
            with self._changed:
                del self._running[threading.get_ident()]
                self._changed.notify_all()  # a draining thread waits for the queue to be empty
            _post(answers)
            # Hold no request's arrays while waiting for the next one.
            del tasks, answers

    def _width(self, batch: Sequence[Task]) -> int:
        """How many batches may run at once when this one is among those that run."""
        found = self.most
        for tasks in (batch, *self._running.values()):
            lane = tasks[0].lane
            bucket = lane.buckets.fit(sum(task.rows for task in tasks))
            found = min(found, lane.at_once.get(bucket, self._usual))
        return found

    def _next(self) -> tuple[Task, ...]:
        """Blocks until there is a batch to run; empty when the thread is to end."""
        with self._changed:
            while True:
                now = self.clock()
                timeout = 0.0 if self._draining else self._timeout
                decision = decide(self._queue.lines(), now, timeout=timeout)
                self._queue.remove(decision.expired)
                _post([Answer(task.ticket, late(task)) for task in decision.expired])
                if decision.batch and len(self._running) < self._width(decision.batch):
                    self._queue.remove(decision.batch)
                    self._running[threading.get_ident()] = decision.batch
                    return decision.batch
                if self._stopping or (self._draining and not self._queue):
                    return ()
                self._changed.wait(None if decision.wake is None else decision.wake - now)


def _post(answers: Sequence[Answer]) -> None:
    """Hands answers to the event loop that waits for them, in one call."""
    if not answers:
        return
    try:
        answers[0].ticket.future.get_loop().call_soon_threadsafe(_settle, answers)
    except RuntimeError:  # the loop is closed: nobody waits any more
        _log.warning("%d answers came after the event loop was closed", len(answers))


def _settle(answers: Sequence[Answer]) -> None:
    for answer in answers:
        answer.ticket.settle(answer.value)
