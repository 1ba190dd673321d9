"""The step of a build that takes channels: all dead ones, and weak ones within the budget."""

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxrt.compression.errors import OutputError, errors
from jaxrt.compression.goals import Wanted
from jaxrt.converters import bases, reached
from jaxrt.converters.bases import Base
from jaxrt.converters.calibrating import Data
from jaxrt.converters.division import Divided
from jaxrt.converters.emit import Job
from jaxrt.converters.sensitivity import Part
from jaxrt.converters.walking import Walk
from jaxrt.passes import prune
from jaxrt.passes.prune import Kept

Array = np.ndarray[Any, Any]

STEPS = 4
"""Shares that are tried: all that was asked for, three quarters of it, a half, a quarter."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Channels:
    """The channels of one weight: one of its dimensions."""

    weight: str
    dimension: int
    before: int
    after: int
    dead: int
    """Of those taken, the ones that changed nothing."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """What was taken, for the report."""

    channels: tuple[Channels, ...]
    share: float
    """Of weak channels, that the budget let go; of those asked for."""
    error: OutputError | None
    """Of the worst output on the calibration data, against the float program; None: no weak
    channel was taken."""
    before: int
    """Bytes of all weights, each counted once."""
    after: int
    notes: tuple[str, ...]


def prune_model(job: Job, found: Divided, wanted: Wanted, data: Data) -> tuple[Divided, Pruned]:
    """The model without its dead channels, and without weak ones within `wanted.limit`."""
    job.steps.step("look for channels that can be taken")
    notes: list[str] = []
    known = [base for base in bases.bases(job, found) if not base.random]
    dead = {base.key: _agreed(base, prune.dead(base.programs[0], base.arrays)) for base in known}
    kept: Mapping[str, Kept] = dead
    share, error = 0.0, None
    if wanted.prune:
        kept, share, error = _Weak(job, found, wanted, data, known, dead, notes).largest()
    converted = {
        base.key: bases.rewritten(job, base, functools.partial(prune.apply, kept=kept[base.key]))
        for base in known
        if kept[base.key]
    }
    arrays = {name: array for base in known for name, array in base.arrays.items()}
    stays = {name: dims for base in known for name, dims in kept[base.key].items()}
    lost = {name: dims for base in known for name, dims in dead[base.key].items()}
    return dataclasses.replace(found, converted={**found.converted, **converted}), Pruned(
        channels=tuple(_channels(arrays, lost, stays)),
        share=share,
        error=error,
        before=sum(array.nbytes for array in arrays.values()),
        after=sum(_bytes(array, stays.get(name, {})) for name, array in arrays.items()),
        notes=tuple(notes),
    )


def _agreed(base: Base, kept: Kept) -> Kept:
    """Without what another program of the part holds on to."""
    for program in base.programs[1:]:
        free = {(n, d) for group in prune.groups(program) for n, d in group.weights.items()}
        if not all((name, dim) in free for name, dims in kept.items() for dim in dims):
            return {}
    return kept


class _Weak:
    """Shares of weak channels, tried on the float program with zeros in their place."""

    def __init__(
        self,
        job: Job,
        found: Divided,
        wanted: Wanted,
        data: Data,
        known: Sequence[Base],
        dead: Mapping[str, Kept],
        notes: list[str],
    ) -> None:
        self._job, self._wanted, self._known, self._dead = job, wanted, known, dead
        notes += data.notes
        runners = [(b, bases.runner(bases.rewritten(job, b, lambda p: p))) for b in known]
        self._parts, _ = reached.parts(runners, Walk(job, found), data.samples, notes)

    def largest(self) -> tuple[Mapping[str, Kept], float, OutputError | None]:
        """What stays, the share that went, and what that did."""
        for step in range(STEPS, 0, -1):
            share = self._wanted.prune * step / STEPS
            self._job.steps.step(f"try without {share:.0%} of the channels")
            kept = {base.key: self._kept(base, share) for base in self._known}
            found = self._errors(kept)
            if found and self._wanted.limit.holds(found):
                return kept, share, max(found, key=lambda error: error.rms)
        return self._dead, 0.0, None

    def _kept(self, base: Base, share: float) -> Kept:
        dead = self._dead[base.key]
        arrays = prune.masked(base.arrays, dead)
        weak = _agreed(base, prune.weakest(base.programs[0], arrays, share))
        return {
            name: {
                dim: np.intersect1d(indices, dead.get(name, {}).get(dim, indices))
                for dim, indices in dims.items()
            }
            for name, dims in {**dead, **weak}.items()
        }

    def _errors(self, kept: Mapping[str, Kept]) -> list[OutputError]:
        """On all rows of the calibration data."""
        return [error for part in self._parts for error in _of_part(part, kept[part.base.key])]


def _of_part(part: Part, kept: Kept) -> Sequence[OutputError]:
    arrays = prune.masked(part.base.arrays, kept)
    weights = {**part.weights, **part.runner.place({name: arrays[name] for name in kept})}
    pairs = zip(part.batches, part.wanted, strict=True)
    return errors((part.runner.run(weights, batch), want) for batch, want in pairs)


def _bytes(array: Array, kept: Mapping[int, Array]) -> int:
    """Of what stays."""
    sizes = (len(kept[d]) if d in kept else size for d, size in enumerate(array.shape))
    return math.prod(sizes) * array.itemsize


def _channels(arrays: Mapping[str, Array], dead: Kept, kept: Kept) -> Iterator[Channels]:
    for name, dims in kept.items():
        for dim, indices in dims.items():
            size = arrays[name].shape[dim]
            yield Channels(
                weight=name,
                dimension=dim,
                before=size,
                after=len(indices),
                dead=size - len(dead.get(name, {}).get(dim, range(size))),
            )
