"""Channels over all programs of a model: what goes from a weight goes in every program with it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxrt.converters.bases import Base
from jaxrt.passes import prune
from jaxrt.passes.prune import Analysis, Kept

Array = np.ndarray[Any, Any]
Goes = Mapping[tuple[str, int], Array]
"""(weight, dimension) → [size] bool; those not named stay whole."""


@dataclasses.dataclass(frozen=True, slots=True)
class Joint:
    """Every part of a model with the channels of its programs, in their order."""

    bases: tuple[Base, ...]
    found: Mapping[str, Sequence[Analysis]]
    """By the key of the base."""

    def first(self, base: Base) -> Analysis:
        return self.found[base.key][0]

    def every(self) -> list[Analysis]:
        return [found for analyses in self.found.values() for found in analyses]

    def open(self) -> dict[tuple[str, int], Array]:
        """All that may go anywhere."""
        return self.closed([(found, found.open) for found in self.every()])

    def dead(self) -> dict[tuple[str, int], Array]:
        """All that changes nothing, in any program."""
        gone = []
        for base in self.bases:
            mine = None
            for found in self.found[base.key]:
                # Programs of one part differ in their sizes: none is dead where the first has none.
                is_some = mine is None or mine.any()
                mine = prune.dying(found, base.arrays) if is_some else np.zeros_like(found.open)
                gone.append((found, mine))
        return self.closed(gone)

    def closed(self, gone: Sequence[tuple[Analysis, Array]]) -> dict[tuple[str, int], Array]:
        """What goes in all programs that have it; `gone`: [channel] bool of each program."""
        goes: dict[tuple[str, int], Array] = {}
        for found, mine in gone:
            for place, channels in found.dims.items():
                goes[place] = goes.get(place, True) & mine[channels]
        is_settled = False
        while not is_settled:
            is_settled = True
            for found, _ in gone:
                mine = channels_of(found, goes)
                for place, channels in found.dims.items():
                    less = mine[channels]
                    is_settled &= np.array_equal(less, goes[place])
                    goes[place] = less
        return goes


def joint(bases: Sequence[Base]) -> Joint:
    return Joint(tuple(bases), {base.key: list(map(Analysis, base.programs)) for base in bases})


def channels_of(found: Analysis, goes: Goes) -> Array:
    """[channel] bool: those that go from all weights they are of."""
    gone = found.open.copy()
    for place, channels in found.dims.items():
        gone[channels[~goes[place]] if place in goes else channels] = False
    return gone


def kept_of(goes: Goes, names: Sequence[str]) -> Kept:
    """What stays of those of `names` that become smaller."""
    kept: dict[str, dict[int, Array]] = {}
    for (name, dim), mask in goes.items():
        if name in names and mask.any():
            kept.setdefault(name, {})[dim] = np.flatnonzero(~mask)
    return kept


def either(one: Goes, other: Goes) -> dict[tuple[str, int], Array]:
    """What goes in one of the two."""
    found = dict(one)
    for place, mask in other.items():
        found[place] = found[place] | mask if place in found else mask
    return found
