"""A signature that is cut into stages: each stage batches by itself, on its own threads.

While the device runs one batch, host threads prepare the next: stages of different requests
overlap because each stage is a queue of its own.
"""

import time
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence

from jaxrt.program import Rows, Shapes
from jaxrt.serving.engine.lane import Lane, alone
from jaxrt.serving.engine.metrics import Metrics
from jaxrt.serving.engine.scheduler import QUICK_SECONDS, Scheduler
from jaxrt.serving.engine.servable import HostProgram, HostTensors, Loaded, StagePrograms
from jaxrt.serving.engine.shapes import common_rows

HOST_ROWS = 256
"""Rows that one run of a host segment takes at most: host work gains little from more."""

SHARED_SECONDS = QUICK_SECONDS
"""What a run of a host segment may take, by its last runs: the other threads, and the device, would
wait for longer ones. An image takes a third of it, a word some thousandth.

Where a whole request takes no more, it is run on the event loop: a thread would cost as much again,
and what holds the interpreter's lock, as JPEG decoding does, gains nothing by one.
"""

Run = Callable[[HostTensors, float | None], Awaitable[HostTensors]]
"""Inputs by name, deadline → outputs by name."""


class Pipeline:
    """Runs the stages of one signature in order, each on what came before it."""

    def __init__(self, stages: Sequence[tuple[StagePrograms, Run]], outputs: Sequence[str]) -> None:
        self._stages = tuple(stages)
        self._outputs = tuple(outputs)

    async def run(self, inputs: HostTensors, deadline: float | None) -> HostTensors:
        """The signature's outputs; raises what a stage raises."""
        values = dict(inputs)
        for stage, run in self._stages:
            values |= await run({name: values[name] for name in stage.spec.inputs}, deadline)
        return {name: values[name] for name in self._outputs}


class HostStage:
    """Runs one host segment on the host's scheduler."""

    def __init__(
        self,
        where: str,
        stage: StagePrograms,
        scheduler: Scheduler,
        *,
        bounded: bool = True,
        metrics: Metrics | None = None,
    ) -> None:
        """`bounded`: whether the scheduler's queue limits it; `metrics` as of a Lane."""
        if stage.host is None:
            raise ValueError(f"{where}: a host stage wants a host program")
        self._title = where
        self._spec = stage.spec
        self._program = _AsLoaded(stage.host)
        self._rows = stage.rows
        self._scheduler = scheduler
        self._bounded = bounded
        self._metrics = metrics
        self._lanes: dict[bool, Lane] = {}

    async def run(self, inputs: HostTensors, deadline: float | None) -> HostTensors:
        """Together with other requests where the rows are independent, alone where not."""
        shapes = {name: x.shape for name, x in inputs.items()}
        shared = self._spec.shared(shapes)
        rows = common_rows([s for name, s in shapes.items() if name not in shared])
        if self._rows is Rows.DEPENDENT or not rows:
            lane = alone(self._title, self._program, metrics=self._metrics)
            return await self._scheduler.submit(
                lane, inputs, deadline=deadline, bounded=self._bounded
            )
        inner = tuple((n, s if n in shared else s[1:]) for n, s in sorted(shapes.items()))
        lane = self._lane(inner, shared, rows)
        return await self._scheduler.submit(
            lane, inputs, rows=rows, deadline=deadline, bounded=self._bounded
        )

    def _lane(self, inner: Hashable, shared: frozenset[str], rows: int) -> Lane:
        """The one made last, as long as it fits: what is known of a lane is kept by the lane.

        Only those of requests that one run takes say how long it takes, as quick ones do.
        """
        most = self._program.rows_at_once
        seconds = most * self._program.quickest_row
        quick = rows <= most and 0 < seconds <= SHARED_SECONDS
        lane = self._lanes.get(quick)
        if lane is None or lane.inner != inner or lane.buckets.largest != most:
            lane = self._lanes[quick] = Lane(
                title=self._title,
                rows=Rows.INDEPENDENT,
                programs={most: self._program},
                shared=shared,
                flexible=True,
                inner=inner,
                seconds={most: seconds} if quick else {},
                metrics=self._metrics,
            )
        return lane


class _AsLoaded:
    """A host program where a compiled one is expected; its lanes ask for no shapes."""

    def __init__(self, program: HostProgram) -> None:
        self._program = program
        self._row_seconds = 0.0
        self.quickest_row = 0.0
        """Seconds on the clock, of one of the last runs; 0 until one was measured. TensorFlow's
        threads work while its caller waits."""
        self._warm = False

    @property
    def rows_at_once(self) -> int:
        """A power of two, so that it seldom changes: lanes that differ in it share no batch."""
        fitting = SHARED_SECONDS / self._row_seconds if self._row_seconds else HOST_ROWS
        return 1 << (int(min(max(fitting, 1), HOST_ROWS)).bit_length() - 1)

    @property
    def input_shapes(self) -> Shapes:
        return {}

    @property
    def output_shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {}

    def run(self, inputs: HostTensors) -> HostTensors:
        clock, started = time.perf_counter(), time.thread_time()
        outputs = self._program.run(inputs)
        rows = max((len(x) for x in inputs.values() if x.ndim), default=1) or 1
        # What a busy machine took from it says nothing of the rows.
        taken, clock = (time.thread_time() - started) / rows, (time.perf_counter() - clock) / rows
        if self._warm:  # a first run does what no other one does
            self._row_seconds += (taken - self._row_seconds) * (_WEIGHT if self._row_seconds else 1)
            least = min(clock, self.quickest_row * (1 + _WEIGHT) or clock)
            self.quickest_row = max(taken, least)
        self._warm = True
        return outputs


_WEIGHT = 0.1
"""Of the last run in the mean of all."""

_: type[Loaded] = _AsLoaded
