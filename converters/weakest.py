"""Weak channels within the budget: groups tried alone, then together, on calibration data."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxrt.compression.errors import OutputError, errors
from jaxrt.compression.goals import Goal, Wanted
from jaxrt.converters import bases, joint, reached
from jaxrt.converters.bases import Base
from jaxrt.converters.calibrating import Data
from jaxrt.converters.counted import announce
from jaxrt.converters.division import Divided
from jaxrt.converters.emit import Job
from jaxrt.converters.joint import Goes, Joint
from jaxrt.converters.sensitivity import Part
from jaxrt.converters.taking import LIKED, liked, limit
from jaxrt.converters.walking import Walk
from jaxrt.passes import prune, weak
from jaxrt.passes.fills import Fill, Fills, Product
from jaxrt.passes.opened import Moments, Observed, Opened, filled, open_products
from jaxrt.passes.prune import Analysis, Group

Array = np.ndarray[Any, Any]
Key = tuple[tuple[str, int], ...]
"""Weights and dimensions that a group is of."""

LEVELS = 4
"""Parts of the share that a group is tried with."""

FURTHER = 6
"""Steps behind the one that broke the budget which are tried as well."""

SECONDS = 60.0
"""That trying groups alone may take."""

FILLED = ("mixture", "mean", "")
"""What may stand for channels that go."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """One group alone, at the most that was asked for."""

    filled: str
    error: OutputError | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What goes, and what stands for it."""

    goes: Goes
    fills: Mapping[str, Fills] = dataclasses.field(default_factory=dict)
    """By the key of the base."""
    error: OutputError | None = None
    tried: Mapping[Key, Tried] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class _Candidate:
    """A group, and its channels in the order in which they go."""

    base: Base
    found: Analysis
    group: Group
    order: Array
    counts: tuple[int, ...]
    """That may go, rising."""

    @property
    def key(self) -> Key:
        dims = self.group.weights.items()
        return tuple((name, dim) for name, places in dims for dim in places)

    def goes(self, level: int) -> dict[tuple[str, int], Array]:
        gone = np.zeros(self.found.channels.count, bool)
        gone[self.order[: self.counts[level]]] = True
        return {place: gone[c] for place, c in self.found.dims.items() if gone[c].any()}


class _Part:
    """A part whose products are open, with what enters them."""

    def __init__(self, part: Part, found: Analysis, opened: Opened, moments: Any) -> None:
        self.part, self.found, self.opened = part, found, opened
        self.moments: Mapping[str, Moments] = moments

    def fills(self, goes: Goes, modes: Mapping[str, str]) -> dict[str, Fill]:
        """`modes`: product → one of FILLED."""
        gone = joint.channels_of(self.found, goes)
        out = {}
        for product in self.products():
            mask = gone[self.found.channels.of(product.data)]
            mode = modes.get(product.name, "")
            if mask.any() and mode and product.name in self.moments:
                make = weak.mixture if mode == "mixture" else weak.mean
                out[product.name] = make(self.moments[product.name], mask)
        return out

    def products(self) -> list[Product]:
        return [p for p in self.found.products if p.name in self.opened.arrays]

    def errors(self, goes: Goes, fills: Fills, batches: int) -> list[OutputError]:
        base, part = self.part.base, self.part
        gone = joint.channels_of(self.found, goes)
        kept = joint.kept_of(goes, list(base.arrays))
        masked = prune.masked({name: base.arrays[name] for name in kept}, kept)
        for product in self.products():
            mask = gone[self.found.channels.of(product.data)]
            if mask.any():
                fill = fills.get(product.name, Fill(np.zeros(len(mask), np.float32)))
                masked |= filled(product, self.opened.arrays[product.name], mask, fill)
        if not masked:
            return []
        weights = {**part.weights, **part.runner.place(masked)}
        pairs = zip(part.batches[:batches], part.wanted[:batches], strict=True)
        return list(errors((part.runner.run(weights, batch), want) for batch, want in pairs))


class Weakest:
    """The search."""

    def __init__(
        self,
        job: Job,
        found: Divided,
        wanted: Wanted,
        data: Data,
        model: Joint,
        dead: Goes,
        notes: list[str],
    ) -> None:
        self._job, self._wanted, self._model, self._dead = job, wanted, model, dead
        self._limit = limit(wanted)
        self._notes = notes
        opened = {
            base.key: open_products(model.first(base), base.arrays)
            if self._is_one_function(base)
            else Opened(model.first(base).program, {})
            for base in model.bases
        }
        asked = []
        for base in model.bases:
            write = _Open(base) if opened[base.key].arrays else _unchanged
            runner = bases.runner(bases.rewritten(job, base, write))
            asked.append((self._opened(base, opened[base.key]), runner))
        parts = reached.reach(asked, Walk(job, found), data.samples, notes).parts
        self._parts = {p.base.key: self._part(p, opened[p.base.key]) for p in parts if p.batches}

    def chosen(self) -> Choice:
        candidates = list(self._candidates())
        if not candidates:
            self._notes.append(self._why())
            return Choice(goes=self._dead)
        tried, steps = self._alone(candidates)
        modes = self._modes(candidates, tried)
        best = [Choice(goes=self._dead, tried=tried)]

        def holds(numbers: Sequence[int]) -> bool:
            self._job.steps.step(f"try without {len(numbers)} of {len(steps)} sets of channels")
            made = self._made([steps[n] for n in numbers], candidates, modes, tried)
            error = self._errors(made)
            is_good = bool(error) and self._limit.holds(error)
            if is_good:
                best.append(dataclasses.replace(made, error=max(error, key=lambda e: e.rms)))
            return is_good

        taken = _largest(len(steps), holds)
        if not taken:
            self._notes.append(
                f"no weak channel is taken: the least breaks the budget of errors ({self._limit})"
            )
        return best[-1]

    @staticmethod
    def _opened(base: Base, opened: Opened) -> Base:
        return dataclasses.replace(base, arrays={**base.arrays, **opened.arrays})

    def _part(self, part: Part, opened: Opened) -> _Part:
        base = next(b for b in self._model.bases if b.key == part.base.key)
        found = self._model.first(base)
        names = [p.name for p in found.products if self._matters(found, p)]
        seen: dict[int, Observed] = {}
        for batch in part.batches:
            if batch.form not in seen:
                seen[batch.form] = Observed(self._model.found[base.key][batch.form], names)
            program = base.programs[batch.form]
            weights = [part.weights[name] for name in program.weight_names]
            seen[batch.form].add(weights, [batch.inputs[n] for n in program.input_names])
        most = max(seen.values(), key=lambda one: one.rows)
        return _Part(dataclasses.replace(part, base=base), found, opened, most.moments())

    @staticmethod
    def _matters(found: Analysis, product: Product) -> bool:
        return bool(found.open[found.channels.of(product.data)].any())

    def _candidates(self) -> Iterator[_Candidate]:
        allowed = self._model.open()
        taken: set[tuple[str, int, int]] = set()
        for base in self._model.bases:
            if base.key not in self._parts:
                continue
            found = self._model.first(base)
            open_ = joint.channels_of(found, allowed) & ~joint.channels_of(found, self._dead)
            for group in prune.groups_of(found):
                channels = group.channels[open_[group.channels]]
                name, dims = next(iter(group.weights.items()))
                places = {
                    (name, dims[0], int(i))
                    for i in np.flatnonzero(np.isin(found.dims[name, dims[0]], channels))
                }
                if taken & places or len(channels) < 2:
                    continue
                taken |= places
                yield from self._candidate(
                    base, found, dataclasses.replace(group, channels=channels), group.size
                )

    def _is_one_function(self, base: Base) -> bool:
        """Whether products have the same names in all programs, so that fills are the same."""
        names = [[p.name for p in found.products] for found in self._model.found[base.key]]
        return all(one == names[0] for one in names)

    def _candidate(
        self, base: Base, found: Analysis, group: Group, size: int
    ) -> Iterator[_Candidate]:
        """`size`: of the group with its dead channels, which go first."""
        part = self._parts[base.key]
        ends = [
            (p, found.channels.of(p.data), part.opened.arrays[p.name])
            for p in part.products()
            if np.isin(found.channels.of(p.data), group.channels).any()
        ]
        if ends and all(p.name in part.moments for p, _, _ in ends):
            order = weak.order(group.channels, ends, part.moments)
        else:
            order = group.channels[np.argsort(prune.norms(found, group, base.arrays))]
        each = max((int(np.isin(of, group.channels).sum()) for _, of, _ in ends), default=1)
        multiple = -(
            -liked(self._job.target.platform, self._wanted.goal, group.size)
            * group.size
            // max(group.size, each)
        )
        counts = set()
        for level in range(1, LEVELS + 1):
            stays = size - int(size * self._wanted.prune * level / LEVELS)
            stays = max(1, -(-stays // multiple) * multiple)
            counts.add(group.size - stays)
        if rising := sorted(n for n in counts if n > 0):
            yield _Candidate(base, found, group, order, tuple(rising))

    def _alone(
        self, candidates: Sequence[_Candidate]
    ) -> tuple[dict[Key, Tried], list[tuple[int, int]]]:
        """What stands best for each group, and (candidate, level) in the order of what they cost
        for what they gain."""
        announce(self._job.steps, len(candidates))
        tries = sum(len(c.counts) + len(FILLED) for c in candidates)
        seconds = sum(p.part.seconds for p in self._parts.values())
        share = SECONDS / (tries * seconds) if seconds else 1.0
        tried: dict[Key, Tried] = {}
        rated = []
        for number, candidate in enumerate(candidates):
            self._job.steps.step(f"try without channels of {bases.said(candidate.key[0][0])}")
            last = len(candidate.counts) - 1
            found = {mode: self._error(candidate, last, mode, share) for mode in FILLED}
            rms = {mode: error.rms if error else 0.0 for mode, error in found.items()}
            mode = min(FILLED, key=rms.__getitem__)
            tried[candidate.key] = Tried(filled=mode, error=found[mode])
            worst, before, rate = 0.0, 0.0, 0.0
            for level in range(last + 1):
                error = found[mode] if level == last else self._error(candidate, level, mode, share)
                square = max(worst, error.rms**2 if error else 0.0)
                gain = self._gain(candidate, level)
                rate = max(rate, (square - worst) / max(1e-9, gain - before))
                rated.append((rate, number, level))
                worst, before = square, gain
        return tried, [(number, level) for _, number, level in sorted(rated)]

    def _gain(self, candidate: _Candidate, level: int) -> float:
        """Bytes, or operations of products."""
        goes = candidate.goes(level)
        if self._wanted.goal is Goal.SIZE:
            return float(
                sum(
                    int(mask.sum()) * candidate.base.arrays[name].nbytes / len(mask)
                    for (name, _), mask in goes.items()
                )
            )
        gone = joint.channels_of(candidate.found, goes)
        found = candidate.found
        return prune.flops(found, np.zeros_like(gone)) - prune.flops(found, gone)

    def _error(
        self, candidate: _Candidate, level: int, mode: str, share: float
    ) -> OutputError | None:
        modes = {candidate.key: Tried(filled=mode, error=None)}
        made = self._made(
            [(0, level)], [candidate], self._modes([candidate], modes), {}, alone=True
        )
        found = self._errors(made, share)
        return max(found, key=lambda e: e.rms) if found else None

    def _modes(
        self, candidates: Sequence[_Candidate], tried: Mapping[Key, Tried]
    ) -> dict[str, dict[str, str]]:
        """Base → product → the most that stands for any of its channels."""
        out: dict[str, dict[str, str]] = {key: {} for key in self._parts}
        for candidate in candidates:
            mode = tried[candidate.key].filled
            goes = candidate.goes(len(candidate.counts) - 1)
            for key, part in self._parts.items():
                gone = joint.channels_of(part.found, goes)
                for product in part.products():
                    if gone[part.found.channels.of(product.data)].any():
                        old = out[key].get(product.name, "")
                        out[key][product.name] = min(old, mode, key=FILLED.index)
        return out

    def _made(
        self,
        steps: Sequence[tuple[int, int]],
        candidates: Sequence[_Candidate],
        modes: Mapping[str, Mapping[str, str]],
        tried: Mapping[Key, Tried],
        *,
        alone: bool = False,
    ) -> Choice:
        """Of the levels of each group the last."""
        goes: Goes = {} if alone else self._dead
        for number, level in dict(steps).items():
            goes = joint.either(goes, candidates[number].goes(level))
        fills = {key: part.fills(goes, modes[key]) for key, part in self._parts.items()}
        return Choice(goes=goes, fills=fills, tried=tried)

    def _errors(self, choice: Choice, share: float = 1.0) -> list[OutputError]:
        """On all rows of the calibration data, or as many as there is time for."""
        out = []
        for key, part in self._parts.items():
            batches = max(1, int(len(part.part.batches) * min(1.0, share)))
            out += part.errors(choice.goes, choice.fills.get(key, {}), batches)
        return out

    def _why(self) -> str:
        if not self._parts:
            return "no weak channel is taken: there is no calibration data to try it on"
        multiple = LIKED.get(self._job.target.platform, 1)
        return (
            f"no weak channel is taken: groups would keep no multiple of {multiple} channels, "
            f"which {self._job.target.platform} likes, or all their channels reach inputs, "
            "outputs or operations that mix them; --optimize size takes any number"
        )


@dataclasses.dataclass(frozen=True, slots=True)
class _Open:
    base: Base

    def __call__(self, program: Any) -> Any:
        return open_products(Analysis(program), self.base.arrays).program


def _largest(count: int, holds: Callable[[Sequence[int]], bool]) -> list[int]:
    """Of steps in their order: the longest beginning found by halving that holds, and which of the
    next few hold beside it. What held last is what is given."""
    good, bad, middle = 0, count + 1, count
    while bad - good > 1:
        good, bad = (middle, bad) if holds(range(middle)) else (good, middle)
        middle = (good + bad) // 2
    taken = list(range(good))
    for number in range(good + 1, min(count, good + 1 + FURTHER)):
        if holds([*taken, number]):
            taken.append(number)
    return taken


def _unchanged(program: Any) -> Any:
    return program
