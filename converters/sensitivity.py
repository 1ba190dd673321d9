"""What compression does to answers: weights put through their few bits and back, in the float
program, which is compiled once.

Activations that are rounded too show in the real program alone (`jaxrt.converters.compressing`).
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxrt.compression import quantize
from jaxrt.compression.errors import OutputError, Tally, errors
from jaxrt.compression.layers import Layer
from jaxrt.compression.quantize import Form
from jaxrt.compression.schemes import Scheme
from jaxrt.converters.bases import Base
from jaxrt.converters.runner import Answers, Batch, Runner

Array = np.ndarray[Any, Any]
Chosen = Mapping[str, Scheme]
"""Layer → scheme; those not named stay float."""
Forms = Callable[[str, Scheme], Form]
"""How a layer is held in a scheme."""

LIMIT = 90.0
"""Seconds that trying layers one by one may take, where one batch of rows does."""

TOO_LONG = 4 * LIMIT
"""Seconds from which layers are rated by their weights alone."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One device part with the inputs it gets from the calibration data."""

    base: Base
    runner: Runner
    weights: Mapping[str, Any]
    """On the device of `runner`."""
    batches: Sequence[Batch]
    wanted: Sequence[Answers]
    """Of each batch, by the float program."""
    seconds: float
    """A batch takes."""


class Trials:
    """Errors of layers and of whole choices, on the rows that there is time for."""

    def __init__(self, parts: Sequence[Part], tries: int, forms: Forms) -> None:
        """`tries`: how often each part is going to be run."""
        self._parts = parts
        self._forms = forms
        self._fakes: dict[tuple[str, Scheme], Any] = {}
        seconds = tries * sum(part.seconds for part in parts)
        self.estimated = seconds > TOO_LONG
        """Whether layers are rated by their weights alone."""
        self.share = 1.0 if not seconds else min(1.0, LIMIT / seconds)
        """How much more than a batch of each part fits, below 1: not even that."""
        self._batches = max(1, int(LIMIT / seconds)) if seconds else 1

    @property
    def rows(self) -> int:
        """That layers are tried on."""
        return sum(
            batch.rows or part.runner.forms[batch.form].planned.batch or 1
            for part in self._parts
            for batch in part.batches[: self._batches]
        )

    def errors(self, chosen: Chosen, *, every: bool = False) -> tuple[OutputError, ...]:
        """Of all outputs of all parts that have one of the layers; `every`: on all rows."""
        found: list[OutputError] = []
        for part in self._parts:
            mine = [f.layer for name, f in part.base.layers.items() if name in chosen]
            if not mine or not part.batches:
                continue
            weights = dict(part.weights)
            for layer in mine:
                weights[layer.weights[0]] = self._fake(part, layer, chosen[layer.name])
            count = len(part.batches) if every else self._batches
            pairs = zip(part.batches[:count], part.wanted[:count], strict=True)
            found += errors((part.runner.run(weights, batch), want) for batch, want in pairs)
        return tuple(found)

    def of_layer(self, layer: Layer, scheme: Scheme) -> OutputError:
        """The worst output when this layer alone is compressed."""
        found = () if self.estimated else self.errors({layer.name: scheme})
        if found:
            return max(found, key=lambda error: error.rms)
        return self._of_weights(layer, scheme)

    def _of_weights(self, layer: Layer, scheme: Scheme) -> OutputError:
        part = next(p for p in self._parts if layer.name in p.base.layers)
        tally = Tally("its weights")
        array = part.base.arrays[layer.weights[0]]
        got = quantize.fake(array, self._forms(layer.name, scheme))
        tally.add(got.reshape(-1), array.reshape(-1))
        return tally.error()

    def _fake(self, part: Part, layer: Layer, scheme: Scheme) -> Any:
        key = (layer.weights[0], scheme)
        if key not in self._fakes:
            form = self._forms(layer.name, scheme)
            array = quantize.fake(part.base.arrays[layer.weights[0]], form)
            self._fakes[key] = part.runner.place({"": array})[""]
        return self._fakes[key]


def part(
    base: Base,
    runner: Runner,
    inputs: Sequence[Answers],
    clock: Callable[[], float] = time.perf_counter,
) -> Part:
    """`inputs`: what the part gets for each sample; those that no program takes were left out."""
    weights = runner.place(base.arrays)
    batches = [batch for given in inputs for batch in runner.batches(given)]
    wanted = [runner.run(weights, batch) for batch in batches]
    seconds = 0.0
    if batches:
        started = clock()
        runner.run(weights, batches[0])
        seconds = clock() - started
    return Part(
        base=base,
        runner=runner,
        weights=weights,
        batches=batches,
        wanted=wanted,
        seconds=seconds,
    )
