"""Signatures as they were built, beside TensorFlow on the same inputs: for the report."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxrt import compiler, loader, placed
from jaxrt import target as targets
from jaxrt.compression import calibration
from jaxrt.converters import check
from jaxrt.converters.calibrating import Sample
from jaxrt.converters.emit import Compiled, Job
from jaxrt.converters.host import native
from jaxrt.converters.margins import Margins
from jaxrt.converters.records import Refused
from jaxrt.errors import JaxrtError, ModelError
from jaxrt.manifest import HostEntry, ProgramEntry, SignatureEntry, StageEntry
from jaxrt.mesh import MeshRecord, Spec
from jaxrt.passes import widened
from jaxrt.passes.precision import Precision
from jaxrt.running import Running
from jaxrt.specs import SignatureSpec, stage_key

Array = np.ndarray[Any, Any]
Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]

ROWS = 3
"""Where no program on the device says how many."""

_DRAWS = "it draws random numbers; no two runs are equal bit for bit"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """What there is of a model before its artifact is whole."""

    job: Job
    compiled: Mapping[str, Compiled]
    """By signature or `stage_key`."""
    arrays: Mapping[str, Array]
    """The weights, by their stored names."""
    precision: Precision = Precision.F32
    """Of the programs."""
    mesh: MeshRecord | None = None
    layouts: Mapping[str, Spec] = dataclasses.field(default_factory=dict)
    """Of the weights that are split over the mesh, by their stored names."""
    margins: Margins | None = None
    """Where weights are in few bits."""
    samples: Mapping[str, Sequence[Sample]] = dataclasses.field(default_factory=dict)
    """Calibration data by signature, where weights are in few bits."""

    def allowed(self, key: str, outputs: Iterable[str]) -> check.Allowed:
        """Of the outputs of a signature."""
        allowed = check.Allowed.at(self.precision)
        return allowed.compressed(self.margins.of(key, outputs)) if self.margins else allowed

    def program(self, key: str) -> Running:
        """The sample of a signature's or a stage's programs, with weights of its own.

        Where the target's devices are elsewhere, the same program compiled for the CPU here.
        """
        found = self.compiled[key]
        target, mesh, layouts = self.job.target, self.mesh, self.layouts
        executable, entry = found.executable, found.sample
        if target.absent:
            target, mesh, layouts = targets.attached("cpu"), None, {}
            executable = compiler.build(widened.apply(found.program), target).loaded
            entry = dataclasses.replace(entry, input_layouts={}, output_layouts={})
        place = placed.places(target, mesh, 1, self.job.model.path)[0]
        weights = placed.Weights(target, place, layouts)
        weights.place({name: self.arrays[name] for name in entry.weights})
        return loader.program(executable, entry, weights, target)


class _Skipped(Exception):
    """Why nothing can be compared."""


def signature(built: Built, key: str, entry: SignatureEntry) -> dict[str, Any]:
    """JSON: the error of every output on inputs that TensorFlow takes, or why there is none.

    Of weights in few bits what is allowed was recorded on calibration data, so those are the
    inputs where a program takes their shapes; errors on random ones are kept for `jaxrt verify`.
    """
    job = built.job
    job.steps.step(f"check {key} against TensorFlow")
    compare = _staged if entry.stages else _whole
    try:
        if reason := check.incomparable(_ops(built, key, entry)):
            raise _Skipped(reason)
        given, errors = compare(built, key, entry, None)
        other = _calibrated(built, key, entry, compare)
    except _Skipped as skipped:
        return {"skipped": str(skipped)}
    shown, judged = other or (given, errors)
    found = {
        "precision": built.precision.value,
        "on": "cpu" if job.target.absent else job.target.platform,
        "inputs": "calibration data" if other else "random inputs",
        "input_shapes": {name: list(array.shape) for name, array in shown.items()},
        "outputs": [error.to_json() for error in judged],
    }
    if built.margins is not None:
        recorded = [(error.output, dataclasses.asdict(error.recorded)) for error in errors]
        found["random"] = [{"output": name, **each} for name, each in recorded]
    return found


def _calibrated(
    built: Built, key: str, entry: SignatureEntry, compare: "_Compare"
) -> tuple[Mapping[str, Array], list[check.OutputError]] | None:
    """On the rows of calibration data that a program takes; None where it takes none."""
    for sample in built.samples.get(key, ()):
        with contextlib.suppress(_Skipped):
            return compare(built, key, entry, sample.inputs)
    return None


def _ops(built: Built, key: str, entry: SignatureEntry) -> Collection[str]:
    """TensorFlow's that may draw. Programs for one value of an input say so of themselves: those
    for inference have none of the training's."""
    keys = [key, *(stage_key(key, number) for number in range(len(entry.stages)))]
    if not any(built.compiled[k].sample.values for k in keys if k in built.compiled):
        return built.job.model.ops.get(key, ())
    return [op for stage in entry.stages if stage.host for op in stage.host.ops]


_Compare = Callable[
    [Built, str, SignatureEntry, Mapping[str, Array] | None],
    tuple[Mapping[str, Array], list[check.OutputError]],
]


def _cut(inputs: Mapping[str, Array], spec: SignatureSpec, rows: int | None) -> dict[str, Array]:
    """As many rows as a program takes, some of them twice where there are fewer."""
    return {
        name: array[np.arange(rows) % len(array)]
        if rows is not None and calibration.is_rowful(spec.inputs[name]) and len(array)
        else array
        for name, array in inputs.items()
    }


def _asked(run: Run, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
    try:
        return run(inputs)
    except ModelError as error:
        raise _Skipped(f"TensorFlow does not run it: {error}") from error


def _whole(
    built: Built, key: str, entry: SignatureEntry, given: Mapping[str, Array] | None
) -> tuple[Mapping[str, Array], list[check.OutputError]]:
    """Of a signature that is one device program."""
    job, sample = built.job, built.compiled[key].sample
    if sample.random:
        raise _Skipped(_DRAWS)
    run = functools.partial(job.tensorflow.run, job.model, key)
    inputs: Mapping[str, Array]
    if given is not None:
        inputs = _cut(given, entry.spec, _rowful(entry.spec, sample))
        _fits(sample, inputs)
        want = _asked(run, inputs)
    else:
        try:
            inputs, want = check.sample_and_run(
                entry.spec, sample.input_shapes, 0, run, fixed=sample.values
            )
        except ModelError as error:  # its process may also die of them
            raise _Skipped(f"TensorFlow does not run it on random inputs: {error}") from error
    return inputs, check.compare(built.program(key).run(inputs), want, built.allowed(key, want))


def _rowful(spec: SignatureSpec, sample: ProgramEntry) -> int | None:
    """The rows that a program takes; None where none of its inputs has rows."""
    shapes = [
        s for name, s in sample.input_shapes.items() if calibration.is_rowful(spec.inputs[name])
    ]
    return shapes[0][0] if shapes else None


def _fits(sample: ProgramEntry, inputs: Mapping[str, Array]) -> None:
    shapes = {name: array.shape for name, array in inputs.items() if name in sample.input_shapes}
    values = {name: bool(inputs[name]) for name in sample.values}
    if shapes != dict(sample.input_shapes) or values != dict(sample.values):
        raise _Skipped(f"no program takes {shapes}")


def _staged(
    built: Built, key: str, entry: SignatureEntry, given: Mapping[str, Array] | None
) -> tuple[Mapping[str, Array], list[check.OutputError]]:
    """Of a signature that is cut, or that TensorFlow runs whole: one stage after another."""
    job = built.job
    runs = [_run(built, key, number, stage) for number, stage in enumerate(entry.stages)]
    samples = [
        built.compiled[stage_key(key, number)].sample
        for number, stage in enumerate(entry.stages)
        if stage.host is None
    ]
    if any(sample.random for sample in samples):
        raise _Skipped(_DRAWS)
    rows = _rows(entry.stages, samples)
    inputs, answers = _sampled(built, key, rows) if given is None else (given, None)
    if answers is None:
        inputs = _cut(inputs, entry.spec, rows)
        answers = _asked(functools.partial(job.tensorflow.run, job.model, key), inputs)
    values = dict(inputs)
    try:
        for stage, run in zip(entry.stages, runs, strict=True):
            values |= run({name: values[name] for name in stage.spec.inputs})
    except JaxrtError as error:
        said = f"its stages fail where TensorFlow does not: {error}"
        return inputs, check.failed(answers, said)
    return inputs, check.compare(values, answers, built.allowed(key, answers))


def _sampled(
    built: Built, key: str, rows: int
) -> tuple[Mapping[str, Array], Mapping[str, Array] | None]:
    """Random inputs of a signature in stages, and TensorFlow's answers."""
    try:
        found = built.job.tensorflow.sample(built.job.model, key, rows, 0)
    except ModelError as error:
        raise _Skipped(f"TensorFlow does not run it: {error}") from error
    if isinstance(found, Refused):
        raise _Skipped(found.reason)
    return found.inputs, found.answers


def _run(built: Built, key: str, number: int, stage: StageEntry) -> Run:
    """What runs a stage."""
    job = built.job
    if stage.host is not None:
        return host(job, stage.host)
    if not stage.programs:
        raise _Skipped(f"stage {number} has no program: nobody planned its sizes")
    program = built.program(stage_key(key, number))
    values = built.compiled[stage_key(key, number)].sample.values

    def run(given: Mapping[str, Array]) -> Mapping[str, Array]:
        if any(bool(given[name]) != value for name, value in values.items()):
            raise _Skipped(f"stage {number} draws random numbers for the values that were tried")
        shapes = {name: array.shape for name, array in given.items()}
        if shapes != program.input_shapes:
            raise _Skipped(f"stage {number} has no program for {shapes}")
        return program.run(given)

    return run


def host(job: Job, entry: HostEntry) -> Run:
    """TensorFlow itself only runs in its own process here, by what a server runs it with."""
    file: Callable[[str], Path] = job.writer.file
    if entry.executor == "native":
        return native.opened(entry, file).run
    return functools.partial(job.tensorflow.run_host, job.model, entry, file=file)


def _rows(stages: tuple[StageEntry, ...], samples: list[ProgramEntry]) -> int:
    """The rows that every sample has."""
    found = {
        program.input_shapes[name][0]
        for program, stage in zip(samples, [s for s in stages if s.host is None], strict=True)
        for name, tensor in stage.spec.inputs.items()
        if name in program.input_shapes and tensor.shape and tensor.shape[0] is None
    }
    return max(found, default=ROWS)
