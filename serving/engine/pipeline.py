"""A signature that is cut into stages: each stage batches by itself, on its own threads.

While the device runs one batch, host threads prepare the next: stages of different requests
overlap because each stage is a queue of its own.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from jaxrt.program import Rows, Shapes
from jaxrt.serving.engine.lane import Lane, alone
from jaxrt.serving.engine.metrics import Metrics
from jaxrt.serving.engine.scheduler import Scheduler
from jaxrt.serving.engine.servable import HostProgram, HostTensors, Loaded, StagePrograms
from jaxrt.serving.engine.shapes import common_rows

HOST_ROWS = 256
"""Rows that one run of a host segment takes at most: host work gains little from more."""

SHARED_SECONDS = 0.001
"""What a run of a host segment may take, by its last runs: the other threads, and the device, would
wait for longer ones. An image takes a third of it, a word some thousandth."""

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
        lane = Lane(
            title=self._title,
            rows=Rows.INDEPENDENT,
            programs={self._program.rows_at_once: self._program},
            shared=shared,
            flexible=True,
            inner=inner,
            metrics=self._metrics,
        )
        return await self._scheduler.submit(
            lane, inputs, rows=rows, deadline=deadline, bounded=self._bounded
        )


class _AsLoaded:
    """A host program where a compiled one is expected; its lanes ask for no shapes."""

    def __init__(self, program: HostProgram) -> None:
        self._program = program
        self._row_seconds = 0.0
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
        started = time.thread_time()  # what a busy machine took from it says nothing of the rows
        outputs = self._program.run(inputs)
        rows = max((len(x) for x in inputs.values() if x.ndim), default=1)
        taken = (time.thread_time() - started) / max(rows, 1)
        if self._warm:  # a first run does what no other one does
            self._row_seconds += (taken - self._row_seconds) * (_WEIGHT if self._row_seconds else 1)
        self._warm = True
        return outputs


_WEIGHT = 0.1
"""Of the last run in the mean of all."""

_: type[Loaded] = _AsLoaded
