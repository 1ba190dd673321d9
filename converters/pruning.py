"""The step of a build that takes channels: all dead ones, and weak ones within the budget."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxrt.compression.errors import OutputError
from jaxrt.compression.goals import Wanted
from jaxrt.compression.layers import Other, others
from jaxrt.converters import bases, joint
from jaxrt.converters.bases import Base
from jaxrt.converters.calibrating import Data
from jaxrt.converters.division import Divided
from jaxrt.converters.emit import Job
from jaxrt.converters.joint import Goes, Joint
from jaxrt.converters.weakest import Choice, Weakest
from jaxrt.passes import prune
from jaxrt.program import Program

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Channels:
    """Channels that the same weights have in common."""

    weights: tuple[tuple[str, int], ...]
    """(weight, dimension)"""
    before: int
    after: int
    dead: int
    """Of those taken, the ones that changed nothing."""
    filled: str
    """What stands for the others: nothing, `mean` or `mixture`."""
    error: OutputError | None
    """Of the worst output when only these go, as many as were tried first; None: not tried."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """What was taken, for the report."""

    channels: tuple[Channels, ...]
    share: float
    """Of all channels that may go, those that went though they are not dead."""
    error: OutputError | None
    """Of the worst output on the calibration data, against the float program; None: no weak
    channel was taken."""
    before: int
    """Bytes of all weights, each counted once."""
    after: int
    flops_before: float
    """Of products and convolutions, one call of the first program of each part."""
    flops_after: float
    notes: tuple[str, ...]
    others: tuple[Other, ...]
    """Large weights that are no layers of compression."""


def prune_model(job: Job, found: Divided, wanted: Wanted, data: Data) -> tuple[Divided, Pruned]:
    """The model without its dead channels, and without weak ones within `wanted.limit`."""
    job.steps.step("look for channels that can be taken")
    notes: list[str] = []
    model = joint.joint([base for base in bases.bases(job, found) if not base.random])
    dead = model.dead()
    choice = Choice(goes=dead)
    if wanted.prune:
        choice = Weakest(job, found, wanted, data, model, dead, notes).chosen()
    converted = {
        base.key: bases.rewritten(job, base, _Write(base, choice))
        for base in model.bases
        if joint.kept_of(choice.goes, list(base.arrays))
    }
    arrays = {name: array for base in model.bases for name, array in base.arrays.items()}
    stays = joint.kept_of(choice.goes, list(arrays))
    channels = tuple(_channels(model, dead, choice))
    notes += _nothing(model, wanted, channels)
    return dataclasses.replace(found, converted={**found.converted, **converted}), Pruned(
        channels=channels,
        share=_share(model, dead, choice.goes),
        error=choice.error,
        before=sum(array.nbytes for array in arrays.values()),
        after=sum(_bytes(array, stays.get(name, {})) for name, array in arrays.items()),
        flops_before=_flops(model, {}),
        flops_after=_flops(model, choice.goes),
        notes=tuple(dict.fromkeys(notes)),
        others=tuple(_others(model)),
    )


def _others(model: Joint) -> Iterator[Other]:
    layers = {name for base in model.bases for name in base.layers}
    seen = set()
    for base in model.bases:
        for other in others(base.programs[0]):
            if other.weight not in layers and other.weight not in seen:
                seen.add(other.weight)
                yield other


@dataclasses.dataclass(frozen=True, slots=True)
class _Write:
    """Program of a base → the same without the channels that go."""

    base: Base
    choice: Choice

    def __call__(self, program: Program) -> Program:
        kept = joint.kept_of(self.choice.goes, program.weight_names)
        constant = prune.constants(program, self.base.arrays, kept)
        return prune.apply(program, kept, {**constant, **self.choice.fills.get(self.base.key, {})})


def _flops(model: Joint, goes: Goes) -> float:
    found = [model.first(base) for base in model.bases]
    return sum(prune.flops(one, joint.channels_of(one, goes)) for one in found)


def _share(model: Joint, dead: Goes, goes: Goes) -> float:
    some = every = 0
    for base in model.bases:
        found = model.first(base)
        every += int(found.open.sum())
        gone, lost = (joint.channels_of(found, g) for g in (goes, dead))
        some += int((gone & ~lost).sum())
    return some / every if every else 0.0


def _bytes(array: Array, kept: Mapping[int, Array]) -> int:
    """Of what stays."""
    sizes = (len(kept[d]) if d in kept else size for d, size in enumerate(array.shape))
    return math.prod(sizes) * array.itemsize


def _channels(model: Joint, dead: Goes, choice: Choice) -> Iterator[Channels]:
    seen = set()
    for base in model.bases:
        found = model.first(base)
        gone, lost = (joint.channels_of(found, g) for g in (choice.goes, dead))
        for group in prune.groups_of(found, ended=False):
            key = tuple((name, dim) for name, dims in group.weights.items() for dim in dims)
            if not gone[group.channels].any() or key in seen:
                continue
            seen.add(key)
            tried = choice.tried.get(key)
            yield Channels(
                weights=key,
                before=group.size,
                after=int((~gone[group.channels]).sum()),
                dead=int(lost[group.channels].sum()),
                filled=tried.filled if tried else "",
                error=tried.error if tried else None,
            )


def _nothing(model: Joint, wanted: Wanted, taken: tuple[Channels, ...]) -> Iterator[str]:
    """Why no channel went, to those who asked for it."""
    if taken or not wanted.prune:
        return
    if not any(found.open.any() for found in map(model.first, model.bases)):
        yield (
            "nothing pruned: no channel is made and used by weights alone; all reach an input, an "
            "output, or an operation that mixes them"
        )


def dims_said(weights: tuple[tuple[str, int], ...]) -> str:
    """`conv/kernel:3, norm/gamma:0`, for people."""
    return ", ".join(f"{bases.said(name)}:{dim}" for name, dim in weights)
