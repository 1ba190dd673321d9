"""What reaches the device parts of a model when its signatures are asked with calibration data."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxrt.compression.errors import OutputError, errors
from jaxrt.compression.switches import SWITCHES
from jaxrt.converters.bases import Base
from jaxrt.converters.calibrating import Sample
from jaxrt.converters.runner import Answers, Batch, Runner, joined
from jaxrt.converters.sensitivity import Part
from jaxrt.converters.walking import Run, Walk
from jaxrt.errors import ConversionError, JaxrtError

Errors = Mapping[str, tuple[OutputError, ...]]
"""Signature → its outputs beside TensorFlow's."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Reached:
    """What the float program does with the data."""

    parts: Sequence[Part]
    samples: Mapping[str, Sequence[Sample]]
    """Those that could be answered."""
    own: Errors


def reach(
    runners: Sequence[tuple[Base, Runner]],
    walk: Walk,
    samples: Mapping[str, Sequence[Sample]],
    notes: list[str],
    ran: Callable[[str], None] = lambda said: None,
) -> Reached:
    """Every part with its inputs, and what comes of all samples; `ran` is told before each."""
    asked = {base.key: _Asked(base, runner) for base, runner in runners}

    def device(key: str, given: Answers) -> Answers:
        if key not in asked:
            raise ConversionError(f"{key!r} draws random numbers or has no program")
        return asked[key].answer(given)

    own, left = beside(walk, samples, device, notes, ran)
    return Reached(parts=[found.part() for found in asked.values()], samples=left, own=own)


def beside(
    walk: Walk,
    samples: Mapping[str, Sequence[Sample]],
    device: Run,
    notes: list[str],
    ran: Callable[[str], None] = lambda said: None,
) -> tuple[dict[str, tuple[OutputError, ...]], dict[str, list[Sample]]]:
    """Errors of the answers that `device` leads to, beside TensorFlow's; and the samples that could
    be answered: of the others a note says why not."""
    found, left = {}, {}
    for key, asked in samples.items():
        pairs = []
        for sample in asked:
            ran(key)
            try:
                pairs.append((walk.answers(key, sample.inputs, device), sample))
            except JaxrtError as error:
                notes.append(f"left out: a request of {key!r}: {error}")
        left[key] = [sample for _, sample in pairs]
        if pairs:
            found[key] = errors((got, sample.answers) for got, sample in pairs)
    return found, left


class _Asked:
    """One part, with all that it was asked."""

    def __init__(self, base: Base, runner: Runner) -> None:
        self._base, self._runner = base, runner
        self._weights = dict(runner.place(base.arrays))
        if runner.switches:
            self._weights[SWITCHES] = np.zeros(runner.switches, bool)
        self._inputs: list[Answers] = []
        self._answered: list[tuple[Batch, Answers]] = []
        self._timed: list[float] = []
        self._seen: set[int] = set()

    def answer(self, given: Answers) -> Answers:
        batches = self._runner.batches(given)
        answers = [self._run(batch) for batch in batches]
        self._inputs.append(given)
        self._answered += zip(batches, answers, strict=True)
        return joined(answers)

    def _run(self, batch: Batch) -> Any:
        started = time.perf_counter()
        answers = self._runner.run(self._weights, batch)
        if batch.form in self._seen:  # compiled before
            self._timed.append(time.perf_counter() - started)
        self._seen.add(batch.form)
        return answers

    def part(self) -> Part:
        if self._answered and not self._timed:
            self._run(self._answered[0][0])
        mean = sum(self._timed) / max(1, len(self._timed))
        return Part(
            base=self._base,
            runner=self._runner,
            weights=self._weights,
            inputs=self._inputs,
            batches=[batch for batch, _ in self._answered],
            wanted=[answers for _, answers in self._answered],
            seconds=mean * len(self._answered),
        )
