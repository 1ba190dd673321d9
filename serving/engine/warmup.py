"""Warm-up: every planned program runs once before its version becomes AVAILABLE."""

import asyncio
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxrt.program import Shapes
from jaxrt.serving.engine.lane import Lane
from jaxrt.serving.engine.servable import HostTensors, Loaded, Rows
from jaxrt.serving.engine.version import Version
from jaxrt.specs import DTYPES, SignatureSpec, TensorSpec


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Warmed:
    """One line of the start log."""

    signature: str
    shapes: Shapes
    values: Mapping[str, bool]
    """Scalar inputs that the program fixes."""
    seconds: float
    """The first run, in which buffers are allocated and code is paged in."""
    at_once: int = 1
    """Batches of this size that run side by side."""


async def warm(version: Version, *, gently: bool = False) -> list[Warmed]:
    """Runs every planned program on its device's thread; raises what a program raises.

    Each run waits at the end of the queue like a request; `gently`, for when others are being
    served, leaves the device to them for as long as a run took before the next one.

    A short first run is followed by others: the best of them tells the batcher which bucket is
    worth filling (batching.decide) and the scheduler which program is quick. Then several run at
    once, where the scheduler can: what gives clearly more rows a second is what requests get.
    """
    warmed = []
    known: dict[int, tuple[list[float], int]] = {}  # signatures of one function share programs
    for signature, lanes in version.lanes().items():
        spec = version.device_spec(signature)
        for lane in lanes:
            for bucket in lane.buckets.sizes:
                program = lane.programs[bucket]
                if id(program) not in known:
                    known[id(program)] = await _time(version, spec, lane, bucket, gently)
                times, width = known[id(program)]
                warmed.append(
                    Warmed(
                        signature=signature,
                        shapes=dict(program.input_shapes),
                        values=lane.values,
                        seconds=times[0],
                        at_once=width,
                    )
                )
                lane.seconds[bucket] = min(times)
                if width > 1:
                    lane.at_once[bucket] = width
    return warmed


RUNS = 5
"""Runs at most, of a short program: one alone may be slowed by what else the machine does."""

SHORT = 0.05
"""Seconds that runs of one program take together: what a first run costs beside the work (paging in
code, buffers) hides in more."""


LONG = 0.05
"""Seconds of a run from which nothing runs beside it: its own threads do, and others would wait."""

GAIN = 1.1
"""Times the rows a second that batches side by side must give: each of them takes longer."""


def width(alone: float, together: Mapping[int, float]) -> int:
    """How many batches at once give clearly the most rows a second; 1: none do.

    `alone`: seconds of one; `together`: how many → seconds until all of so many have ended.
    """
    rates = {1: GAIN / alone} | {count: count / taken for count, taken in together.items()}
    return max(rates, key=rates.__getitem__)


async def _time(
    version: Version, spec: SignatureSpec, lane: Lane, bucket: int, gently: bool
) -> tuple[list[float], int]:
    program = _Timed(lane.programs[bucket], version.scheduler.clock)
    one = Lane(title=lane.title, rows=lane.rows, programs={bucket: program}, shared=lane.shared)
    inputs = _inputs(spec, program.input_shapes)
    rows = 1 if lane.rows is Rows.DEPENDENT else bucket
    while not program.seconds or (len(program.seconds) < RUNS and sum(program.seconds) < SHORT):
        await version.scheduler.submit(one, inputs, rows=rows, bounded=False)
        if gently:
            await asyncio.sleep(program.seconds[-1])
    alone = list(program.seconds)
    many = [2**i for i in range(1, 10) if 2**i <= version.scheduler.most]
    if gently or not 0 < min(alone) <= LONG:
        return alone, 1
    together = {n: await _together(version, one, inputs, rows, n, min(alone)) for n in many}
    return alone, width(min(alone), together)


async def _together(
    version: Version, one: Lane, inputs: HostTensors, rows: int, count: int, alone: float
) -> float:
    """Seconds until `count` batches that run at once have ended."""
    scheduler = version.scheduler
    one.at_once[one.buckets.largest] = count
    rounds = max(1, min(RUNS, int(SHORT / alone / count)))
    started = scheduler.clock()
    await asyncio.gather(
        *(scheduler.submit(one, inputs, rows=rows, bounded=False) for _ in range(rounds * count))
    )
    return (scheduler.clock() - started) / rounds


class _Timed:
    """A program with a stopwatch, so that waiting behind others is not counted."""

    def __init__(self, program: Loaded, clock: Callable[[], float]) -> None:
        self._program = program
        self._clock = clock
        self.seconds: list[float] = []

    @property
    def input_shapes(self) -> Shapes:
        return self._program.input_shapes

    @property
    def output_shapes(self) -> Shapes:
        return self._program.output_shapes

    def run(self, inputs: HostTensors) -> HostTensors:
        started = self._clock()
        outputs = self._program.run(inputs)
        self.seconds.append(self._clock() - started)
        return outputs


def _inputs(spec: SignatureSpec, shapes: Shapes) -> HostTensors:
    return {alias: _array(spec.inputs[alias], shape) for alias, shape in shapes.items()}


def _array(tensor: TensorSpec, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Ones for floats, which may be divisors; zeros for integers, which may be indices."""
    dtype = DTYPES[tensor.dtype].numpy
    if dtype is None:
        raise ValueError(f"input {tensor.name} of dtype {tensor.dtype}: no array can carry it")
    if tensor.dtype == "string":
        return np.full(shape, b"", dtype)
    return np.zeros(shape, dtype) if dtype.kind in "iub" else np.ones(shape, dtype)
