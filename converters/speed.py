"""What compression does to the time of a call, measured on the device that is attached here."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxrt import compiler, slices
from jaxrt.compression import calibration
from jaxrt.converters import emit
from jaxrt.converters.conversion import Converted, ConvertedSignature, spell
from jaxrt.passes import prepare
from jaxrt.placed import Weights
from jaxrt.running import LoadedProgram, Running

Array = np.ndarray[Any, Any]

SECONDS = 1.0
"""That one pair of programs is timed for, about."""

FEWEST, MOST = 5, 200
"""Rounds."""

SLOWER = 1.05
"""How much slower a compressed program may seem: timings differ by some per cent."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """One program before and after, called in turns; medians."""

    part: str
    shapes: str
    rows: int
    before: float
    """Seconds a call."""
    after: float

    @property
    def slower(self) -> bool:
        return self.after > SLOWER * self.before

    def to_json(self) -> dict[str, Any]:
        return {
            "part": self.part,
            "shapes": self.shapes,
            "latency_before": self.before,
            "latency_after": self.after,
            "throughput_before": self.rows / self.before,
            "throughput_after": self.rows / self.after,
            "times_as_fast": self.before / self.after,
        }


def measure(
    job: emit.Job,
    before: Mapping[str, ConvertedSignature],
    after: Mapping[str, ConvertedSignature],
    compiled: Mapping[str, emit.Compiled],
    arrays: Mapping[str, Array],
    clock: Callable[[], float] = time.perf_counter,
) -> list[Speed]:
    """The smallest and the largest batch of every part that compression changed.

    `arrays`: the weights of `compiled`, by their stored names.
    """
    found = []
    for key, new in after.items():
        if new is before[key] or key not in compiled:
            continue
        for index in _ends(new.programs):
            job.steps.step(f"time {key} {spell(new.programs[index].planned.shapes)}")
            old = _float(job, before[key], index)
            entry = compiled[key].entries[index]
            file = job.writer.file(entry.executable.file) if entry.executable else None
            if file is None:
                continue
            mine = _loaded(
                job,
                compiler.load_executable(file.read_bytes(), job.target),
                new.programs[index],
                [arrays[name] for name in entry.weights],
            )
            inputs = _inputs(new.programs[index])
            times = _in_turns([old, mine], inputs, clock)
            found.append(
                Speed(
                    part=key,
                    shapes=spell(new.programs[index].planned.shapes),
                    rows=new.programs[index].planned.batch or 1,
                    before=times[0],
                    after=times[1],
                )
            )
    return found


def _ends(programs: Sequence[Converted]) -> list[int]:
    """The programs of the fewest and of the most rows, of those that draw nothing."""
    still = [index for index, program in enumerate(programs) if not program.random]
    order = sorted(still, key=lambda i: programs[i].planned.batch or 0)
    return list(dict.fromkeys([*order[:1], *order[-1:]]))


def _float(job: emit.Job, converted: ConvertedSignature, index: int) -> Running:
    program = converted.programs[index]
    source = emit.source_weights(job.tensorflow, job.model, program.split, converted.constants)
    prepared = prepare.run_prepare(program.split, source)
    apply = program.split.apply
    weights = [prepared[name] for name in apply.weight_names]
    return _loaded(job, emit.build(program, job.target).loaded, program, weights)


def _loaded(
    job: emit.Job, executable: Any, program: Converted, weights: Sequence[Array]
) -> Running:
    """Of the whole batch, though one of the two that are timed may run in slices."""
    apply, times = program.split.apply, program.optimized.slices
    placed = Weights(job.target)
    names = [str(number) for number in range(len(weights))]
    placed.place(dict(zip(names, weights, strict=True)))
    inputs = dict(zip(apply.input_names, apply.input_avals, strict=True))
    outputs = dict(zip(apply.output_names, apply.output_avals, strict=True))
    one = LoadedProgram(
        executable,
        weights=placed.bind(names),
        inputs=inputs,
        outputs=outputs,
        target=job.target,
    )
    if times == 1:
        return one
    whole = (slices.whole(inputs, times), slices.whole(outputs, times))
    return slices.Sliced(one, times, inputs=whole[0], outputs=whole[1])


def _inputs(program: Converted) -> dict[str, Array]:
    """Ids all over their tables: a table that is in the cache tells nothing."""
    apply = program.split.apply
    made = calibration.made_up_for(apply, calibration.vocabularies(program.optimized.source))
    if (times := program.optimized.slices) > 1:
        made = {name: np.concatenate([array] * times) for name, array in made.items()}
    return made | {name: np.asarray(value) for name, value in program.values.items()}


def _in_turns(
    programs: Sequence[Running], inputs: Mapping[str, Array], clock: Callable[[], float]
) -> list[float]:
    """Median seconds of each."""

    def once(program: Running) -> float:
        started = clock()
        program.run(inputs)
        return clock() - started

    for program in programs:
        once(program)
    first = max(1e-6, sum(once(program) for program in programs))
    rounds = min(MOST, max(FEWEST, int(SECONDS / first)))
    times = [[once(program) for program in programs] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*times, strict=True)]
