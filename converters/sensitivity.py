"""What compression does to answers: weights put through their few bits and back, activations too
where the scheme rounds them, in one program for all choices (`jaxrt.compression.switches`).
"""

import dataclasses
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxrt.compression import quantize
from jaxrt.compression.errors import OutputError, Tally, errors
from jaxrt.compression.layers import Layer
from jaxrt.compression.quantize import Form
from jaxrt.compression.schemes import Scheme
from jaxrt.compression.switches import SWITCHES
from jaxrt.converters.bases import Base
from jaxrt.converters.runner import Answers, Batch, Runner

Array = np.ndarray[Any, Any]
Chosen = Mapping[str, Scheme]
"""Layer → scheme; those not named stay float."""
Forms = Callable[[str, Scheme], Form]
"""How a layer is held in a scheme."""
Pair = tuple[str, Scheme]

ALONE = 12.0
"""Seconds that trying layers one by one may take; what does not fit is tried in groups."""

TOGETHER = 18.0
"""Seconds that trying whole choices may take, were there `CHOICES` of them."""

CHOICES = 6


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One device part with the inputs it gets from the calibration data."""

    base: Base
    runner: Runner
    weights: Mapping[str, Any]
    """On the device of `runner`."""
    inputs: Sequence[Answers]
    """Of each sample."""
    batches: Sequence[Batch]
    """Of all samples."""
    wanted: Sequence[Answers]
    """Of each batch, by the float program."""
    seconds: float
    """That all batches take."""

    @property
    def rows(self) -> int:
        return sum(batch.rows or batch.size for batch in self.batches)


@dataclasses.dataclass(frozen=True, slots=True)
class _Rows:
    """Batches of a part and what the float program answers."""

    batches: Sequence[Batch]
    wanted: Sequence[Answers]
    seconds: float


class Trials:
    """Errors of layers and of whole choices, on the rows that there is time for."""

    def __init__(
        self,
        parts: Sequence[Part],
        pairs: Sequence[Pair],
        forms: Forms,
        switches: Sequence[Pair] = (),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`pairs` are going to be tried alone; `switches`: those of SWITCHES, in order."""
        self._parts, self._forms, self._switches = parts, forms, tuple(switches)
        self._clock = clock
        self._fakes: dict[tuple[str, Scheme], Any] = {}
        names = {name for name, _ in pairs}
        whole = sum(part.seconds for part in parts)
        self._many = [self._some(part, TOGETHER / CHOICES, whole) for part in parts]
        tries = [sum(n in part.base.layers for n, _ in pairs) for part in parts]
        each = ALONE / max(1, sum(tries))
        self._few = [
            self._some(part, each, part.seconds) if names & part.base.layers.keys() else None
            for part in parts
        ]
        taken = sum(n * few.seconds for n, few in zip(tries, self._few, strict=True) if few)
        # Twice the time is fine: what runs beside this makes times rough.
        is_short = taken <= 2 * ALONE
        self.groups = [[pair] for pair in pairs] if is_short else self._grouped(pairs)
        """What is tried together: layers alone where there is time."""

    @property
    def estimated(self) -> bool:
        """Whether layers were tried together with others like them."""
        return any(len(group) > 1 for group in self.groups)

    @property
    def rows(self) -> int:
        """That layers are tried on."""
        return sum(b.rows or b.size for few in self._few if few for b in few.batches)

    def _some(self, part: Part, seconds: float, whole: float) -> _Rows:
        """As many rows of a part as take its share of `seconds`; `whole` is what all rows take."""
        if seconds >= whole or not part.batches:
            return _Rows(part.batches, part.wanted, part.seconds)
        left = max(1, int(part.rows * seconds / whole))
        batches: list[Batch] = []
        for inputs in part.inputs:
            if left <= 0:
                break
            batches += (more := part.runner.batches(part.runner.head(inputs, left)))
            left -= sum(batch.rows or batch.size for batch in more)
        for batch in batches[:1]:
            part.runner.run(part.weights, batch)  # compiles
        started = self._clock()
        wanted = [part.runner.run(part.weights, batch) for batch in batches]
        return _Rows(batches, wanted, self._clock() - started)

    def _grouped(self, pairs: Sequence[Pair]) -> list[list[Pair]]:
        """Layers that are alike."""
        found: dict[Any, list[Pair]] = {}
        for name, scheme in pairs:
            part = next(i for i, p in enumerate(self._parts) if name in p.base.layers)
            layer = self._parts[part].base.layers[name].layer
            like = (part, scheme, layer.kind, layer.shape, re.sub(r"\d+|~\w{16}", "", name))
            found.setdefault(like, []).append((name, scheme))
        return list(found.values())

    def errors(self, chosen: Chosen) -> tuple[OutputError, ...]:
        """Of all outputs of all parts that have one of the layers, on many rows."""
        return self._errors(chosen, self._many)

    def of_group(self, group: Sequence[Pair]) -> dict[Pair, OutputError]:
        """The worst output when these alone are compressed, as one of them has it by itself: errors
        are independent of each other."""
        found = self._errors(dict(group), self._few)
        if not found:
            return {pair: self._of_weights(*pair) for pair in group}
        worst = max(found, key=lambda error: error.rms)
        if len(group) == 1:
            return {group[0]: worst}
        part = 1 / np.sqrt(len(group))
        like = dataclasses.replace(
            worst, rms=float(worst.rms * part), max_error=float(worst.max_error * part)
        )
        return dict.fromkeys(group, like)

    def _errors(self, chosen: Chosen, rows: Sequence[_Rows | None]) -> tuple[OutputError, ...]:
        found: list[OutputError] = []
        for part, some in zip(self._parts, rows, strict=True):
            mine = [f.layer for name, f in part.base.layers.items() if name in chosen]
            if mine and some is not None and some.batches:
                weights = self._weights(part, mine, chosen)
                pairs = zip(some.batches, some.wanted, strict=True)
                found += errors((part.runner.run(weights, batch), want) for batch, want in pairs)
        return tuple(found)

    def _weights(self, part: Part, layers: Sequence[Layer], chosen: Chosen) -> dict[str, Any]:
        weights = dict(part.weights)
        for layer in layers:
            weights[layer.weights[0]] = self._fake(part, layer, chosen[layer.name])
        switches = [chosen.get(name) is scheme for name, scheme in self._switches]
        weights[SWITCHES] = np.array(switches, bool)
        return weights

    def _of_weights(self, layer: str, scheme: Scheme) -> OutputError:
        """Where there is nothing to compare: how far the weights themselves move."""
        base = next(p.base for p in self._parts if layer in p.base.layers)
        tally = Tally("its weights")
        array = base.arrays[base.layers[layer].layer.weights[0]]
        got = quantize.fake(array, self._forms(layer, scheme))
        tally.add(got.reshape(-1), array.reshape(-1))
        return tally.error()

    def _fake(self, part: Part, layer: Layer, scheme: Scheme) -> Any:
        key = (layer.weights[0], scheme)
        if key not in self._fakes:
            form = self._forms(layer.name, scheme)
            array = quantize.fake(part.base.arrays[layer.weights[0]], form)
            self._fakes[key] = part.runner.place({"": array})[""]
        return self._fakes[key]
