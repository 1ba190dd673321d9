"""Calibration data of a model: the user's requests or made-up ones, and TensorFlow's answers."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxrt.compression import calibration
from jaxrt.compression.calibration import Request, Source
from jaxrt.converters import check
from jaxrt.converters.conversion import Converted, ConvertedSignature
from jaxrt.converters.division import Divided
from jaxrt.converters.emit import Job
from jaxrt.converters.records import Refused
from jaxrt.errors import ConversionError, ModelError, UsageError

Array = np.ndarray[Any, Any]

SEEDS = 3
"""Of made-up inputs, where a signature has no rows to make many of."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """Inputs of one signature and TensorFlow's answers in float32."""

    inputs: Mapping[str, Array]
    answers: Mapping[str, Array]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """What answers are compared on."""

    said: str
    """Where it comes from, for people."""
    samples: Mapping[str, Sequence[Sample]]
    """By signature; of one that could not be tried, none."""
    made_up: tuple[str, ...]
    """Signatures whose inputs nobody brought."""
    notes: tuple[str, ...]
    """What was left out, and why."""


def gather(job: Job, found: Divided, source: Source | None) -> Data:
    """Data for every signature that has a part on the device.

    Raises UsageError for a file that does not fit the model, ModelError.
    """
    signatures = list(dict.fromkeys(part.signature for part in found.parts.values()))
    given, notes = _given(job, source)
    if source is not None and source.strict and not any(key in signatures for key in given):
        raise UsageError(
            f"{source.said}: it has no request of a signature that is compiled; want one of "
            f"{', '.join(signatures)}"
        )
    samples: dict[str, list[Sample]] = {}
    made_up = []
    for key in signatures:
        job.steps.step(f"calibrate {key}")
        if key in given:
            samples[key] = _answered(job, key, given[key], notes)
        if not samples.get(key):
            samples[key] = list(_made_up(job, found, key, notes))
            made_up.append(key)
    return Data(
        said=source.said if source is not None and given else "made-up inputs",
        samples=samples,
        made_up=tuple(made_up),
        notes=tuple(notes),
    )


def _given(job: Job, source: Source | None) -> tuple[dict[str, list[Request]], list[str]]:
    found: dict[str, list[Request]] = {}
    notes: list[str] = []
    if source is None:
        return found, notes
    specs = job.model.signatures
    for request in source.read(specs):
        try:
            fit = calibration.fitting(request, specs)
        except UsageError as error:
            if source.strict:
                raise
            notes.append(f"left out: {error}")
        else:
            found.setdefault(fit.signature, []).append(fit)
    return found, notes


def _answered(job: Job, key: str, requests: Sequence[Request], notes: list[str]) -> list[Sample]:
    found = []
    for inputs in calibration.merged(requests, job.model.signatures[key]):
        try:
            answers = job.tensorflow.run(job.model, key, inputs)
        except ModelError as error:
            notes.append(f"left out: TensorFlow does not run a request of {key!r}: {error}")
        else:
            found.append(Sample(inputs=inputs, answers=answers))
    return found


def _made_up(job: Job, found: Divided, key: str, notes: list[str]) -> Iterator[Sample]:
    converted = found.converted.get(key)
    parts = [c for part, c in found.converted.items() if found.parts[part].signature == key]
    reason = check.incomparable(job.model.ops.get(key, ()))
    if reason and not any(map(_still, parts)):
        draws = all(program.random for part in parts for program in part.programs)
        left = "its layers stay float" if draws else "what compression does is not known"
        notes.append(f"signature {key!r}: {left}: {reason}")
        return
    if converted is not None and converted.programs:
        yielded = False
        for sample in _of_spec(job, key, converted, notes):
            yielded = True
            yield sample
        if yielded:
            return
    rows = _planned_rows(found, key)
    for seed in range(min(SEEDS, max(1, calibration.MADE_UP // rows))):
        try:
            answer = job.tensorflow.sample(job.model, key, rows, seed)
        except ModelError as error:
            notes.append(f"signature {key!r}: TensorFlow does not run it: {error}")
            return
        if isinstance(answer, Refused):
            notes.append(f"signature {key!r}: {answer.reason}")
            return
        yield Sample(inputs=answer.inputs, answers=answer.answers)


def _still(converted: ConvertedSignature) -> list[Converted]:
    """Programs for one value of an input that draw nothing: those for inference."""
    return [program for program in converted.programs if program.values and not program.random]


def _planned_rows(found: Divided, key: str) -> int:
    """The most that every part of the signature has a program for."""
    most = [
        max((p.planned.batch or 1 for p in found.converted[part].programs), default=1)
        for part, of in found.parts.items()
        if of.signature == key and part in found.converted
    ]
    return min(most, default=calibration.MADE_UP)


def _of_spec(
    job: Job, key: str, converted: ConvertedSignature, notes: list[str]
) -> Iterator[Sample]:
    """At the first planned shape; ids are of the tables that they look up."""
    spec = job.model.signatures[key]
    program = (_still(converted) or converted.programs)[0]
    planned = program.planned
    many = planned.batch is not None and program.rows.independent
    shapes = (planned.rebatch(calibration.MADE_UP) if many else planned).shapes
    ids = calibration.vocabularies(program.optimized.source)
    fixed = {a: np.asarray(v) for a, v in program.values.items()}
    for seed in range(1 if many else SEEDS):
        try:
            inputs = calibration.made_up(spec, shapes, ids, seed) | fixed
            yield Sample(inputs=inputs, answers=job.tensorflow.run(job.model, key, inputs))
        except (ConversionError, ModelError, ValueError) as error:
            notes.append(f"signature {key!r}: made-up inputs are refused: {error}")
            return
