"""The step of a build that compresses: data, layers, search, and the real program beside
TensorFlow."""

import dataclasses
import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence

from jaxrt.compression import quantize, search, switches
from jaxrt.compression.errors import OutputError
from jaxrt.compression.forms import form_of
from jaxrt.compression.goals import Wanted
from jaxrt.compression.layers import Layer
from jaxrt.compression.quantize import Form
from jaxrt.compression.schemes import Scheme, supported
from jaxrt.compression.search import Option
from jaxrt.converters import bases, layer_times, reached, worth
from jaxrt.converters.bases import Base
from jaxrt.converters.calibrating import Data
from jaxrt.converters.conversion import ConvertedSignature
from jaxrt.converters.counted import announce
from jaxrt.converters.division import Divided
from jaxrt.converters.emit import Job
from jaxrt.converters.layer_times import LayerTimes
from jaxrt.converters.reached import Errors
from jaxrt.converters.runner import Answers, Runner
from jaxrt.converters.sensitivity import Chosen, Pair, Trials
from jaxrt.converters.walking import Walk
from jaxrt.errors import UsageError

TRIALS = 10
"""How often a choice of layers is tried in the float program."""

CHECKS = 4
"""How often the real program is compiled and run beside TensorFlow to come close to the budget."""

NEAR = 0.8
"""Share of the budget that the real program is to use; a check more takes longer than it brings."""

POINTS = 4
"""Choices between none and all that are tried for the picture of size against error."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LayerChoice:
    """One layer: what became of it, and what it does alone."""

    layer: Layer
    scheme: Scheme
    nbytes: int
    """As it is stored."""
    error: OutputError | None
    """Of the worst output with this layer alone compressed; None: not tried."""
    why: str
    """Why it stays float; else empty."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One choice that was tried."""

    nbytes: int
    """Of all weights."""
    error: float
    agreement: float | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Compression:
    """What was done, for the report."""

    wanted: Wanted
    data: Data
    rows: int
    """That layers were tried on."""
    estimated: bool
    layers: tuple[LayerChoice, ...]
    points: tuple[Point, ...]
    before: int
    """Bytes of all weights."""
    outputs: Errors
    """By the compressed program."""
    forced: frozenset[str]
    """Layers that a rule wants so, whatever the budget and however slow."""
    notes: tuple[str, ...]

    @property
    def chosen(self) -> dict[str, Scheme]:
        return {c.layer.name: c.scheme for c in self.layers if c.scheme is not Scheme.FLOAT}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Compressed:
    """A model with layers in fewer bits, and the way to one with fewer of them."""

    found: Divided
    compression: Compression
    without: Callable[[Collection[str], str], "Compressed"] = dataclasses.field(compare=False)
    """The same with these layers float too, those of rules apart; `why` is for the report."""


def compress(
    job: Job, found: Divided, wanted: Wanted, data: Data, times: LayerTimes | None = None
) -> Compressed:
    """The model with its layers held in fewer bits, within the budget; and what was done.

    `times`: where the target can be asked what pays; None: rules know. Raises UsageError for
    schemes that the target has no use for.
    """
    return _Compressing(job, found, wanted, data, times).done()


class _Compressing:
    def __init__(
        self, job: Job, found: Divided, wanted: Wanted, data: Data, times: LayerTimes | None
    ) -> None:
        self._job, self._found, self._wanted, self._data = job, found, wanted, data
        self._times = times
        self._walk = Walk(job, found)
        self._notes = list(data.notes)
        self._bases = [base for base in bases.bases(job, found) if not base.random]
        self._places = {name: f for base in self._bases for name, f in base.layers.items()}
        self._layers = {name: found.layer for name, found in self._places.items()}
        self._why: dict[str, str] = {}
        self._points: list[Point] = []
        self._over: dict[int, float] = {}
        arrays = {name: array.nbytes for base in self._bases for name, array in base.arrays.items()}
        self._before = sum(arrays.values())
        self._saved = functools.cache(self._bytes_saved)

    def done(self) -> Compressed:
        allowed = {name: self._schemes(layer) for name, layer in self._layers.items()}
        pairs = [(name, scheme) for name, schemes in allowed.items() for scheme in schemes]
        rounding = [pair for pair in pairs if pair[1] in worth.ROUNDING]
        runners = [(base, self._switched(base, rounding)) for base in self._bases]
        self._reached = reached.reach(
            runners,
            self._walk,
            self._data.samples,
            self._notes,
            self._said("run the float program on"),
        )
        for key, found in self._reached.own.items():
            self._notes += [
                f"--min-agreement says nothing of output {output!r} of {key!r}: a number a row "
                "names no class; --max-error limits it"
                for output in self._wanted.limit.unlimited(found)
            ]
        self._trials = Trials(self._reached.parts, pairs, self._form, rounding)
        alone = self._alone()
        options = [self._option(pair, error) for pair, error in alone.items()]
        fixed = {o.layer: o.scheme for o in options if self._wanted.is_forced(o.layer)}
        order = search.steps([o for o in options if o.layer not in fixed])
        return self._made(order, self._within(order, fixed), fixed, alone)

    def _made(
        self,
        order: Sequence[Option[Scheme]],
        start: int,
        fixed: Chosen,
        alone: Mapping[Pair, OutputError],
    ) -> Compressed:
        """`start`: how many steps are to be taken first."""
        notes = list(self._notes)
        count, (chosen, converted, outputs) = self._checked(order, start, fixed)

        def without(layers: Collection[str], why: str) -> Compressed:
            self._why |= dict.fromkeys(layers, why)
            self._notes = notes
            left = [option for option in order[:count] if option.layer not in layers]
            return self._made(left, len(left), fixed, alone)

        for name in self._layers.keys() - chosen:
            self._why.setdefault(name, f"the budget: {self._wanted.limit}")
        return Compressed(
            found=dataclasses.replace(
                self._found, converted={**self._found.converted, **converted}
            ),
            compression=Compression(
                wanted=self._wanted,
                data=self._data,
                rows=self._trials.rows,
                estimated=self._trials.estimated,
                layers=tuple(self._choice(layer, chosen, alone) for layer in self._layers.values()),
                points=tuple(self._points),
                before=self._before,
                outputs=outputs,
                forced=frozenset(fixed),
                notes=tuple(self._notes),
            ),
            without=without,
        )

    def _step(self, said: str) -> None:
        """One that was not announced."""
        announce(self._job.steps, 1)
        self._job.steps.step(said)

    def _said(self, what: str) -> Callable[[str], None]:
        return lambda signature: self._step(f"{what} the data of {signature}")

    def _schemes(self, layer: Layer) -> list[Scheme]:
        """What the layer may become; `_why` says why nothing."""
        found = []
        for scheme in self._wanted.schemes(layer.name, self._job.target):
            if (why := supported(scheme, self._job.target)) is not None:
                raise UsageError(f"--compress {scheme.value}: {why}")
            if self._saved(layer, scheme) <= 0:
                self._why[layer.name] = "its scales take what its weights would save"
            elif (why := self._slower(layer, scheme)) is not None:
                self._why[layer.name] = why
            else:
                found.append(scheme)
        if not found:
            self._why.setdefault(layer.name, "it was not asked for")
        return found

    def _slower(self, layer: Layer, scheme: Scheme) -> str | None:
        """Where it would be slower, and that matters."""
        if self._wanted.slower_is_fine or self._wanted.is_forced(layer.name):
            return None
        if self._times is not None:
            self._step(f"time {scheme.value} on {bases.said(layer.name)}")
        found = [f for base in self._bases for f in base.takers.get(layer.name, ())]
        rule = self._wanted.exactly(layer.name, scheme)
        return layer_times.slower(found, rule, self._job.target, self._before, self._times)

    def _form(self, layer: str, scheme: Scheme) -> Form:
        return form_of(self._places[layer], self._wanted.exactly(layer, scheme))

    def _bytes_saved(self, layer: Layer, scheme: Scheme) -> int:
        return layer.nbytes - quantize.nbytes(layer.shape, self._form(layer.name, scheme))

    def _switched(self, base: Base, pairs: Sequence[Pair]) -> Runner:
        """The part with a switch for each of `pairs`."""
        forms = [(name, self._form(name, scheme)) for name, scheme in pairs]
        target = self._job.target
        return bases.plain_runner(base, lambda p: switches.write(p, forms, target))

    def _compressed(self, base: Base, chosen: Chosen) -> ConvertedSignature:
        rules = [self._wanted.exactly(*item) for item in chosen.items() if item[0] in base.layers]
        return bases.compressed(self._job, base, rules)

    def _alone(self) -> dict[Pair, OutputError]:
        """Every layer alone in every scheme."""
        found: dict[Pair, OutputError] = {}
        announce(self._job.steps, len(self._trials.groups))
        for group in self._trials.groups:
            name, scheme = group[0]
            others = f" and {len(group) - 1} like it" if len(group) > 1 else ""
            self._job.steps.step(f"try {scheme.value} on {bases.said(name)}{others}")
            found |= self._trials.of_group(group)
        return found

    def _option(self, pair: Pair, error: OutputError) -> Option[Scheme]:
        name, scheme = pair
        gain = worth.gain(
            [f for base in self._bases for f in base.takers.get(name, ())],
            self._saved(self._layers[name], scheme),
            self._wanted.exactly(name, scheme),
            self._wanted,
            self._job.target,
            self._times,
            self._before,
        )
        return Option(layer=name, scheme=scheme, gain=gain, error=error.rms)

    def _within(self, order: Sequence[Option[Scheme]], fixed: Chosen) -> int:
        """How many steps the budget allows, as the float program with switches tells."""
        limit = self._wanted.limit
        # Of few rows one is a large share.
        few = dataclasses.replace(limit, spare_rows=max(1, limit.spare_rows))
        why: dict[int, str] = {}

        def used(count: int) -> float:
            chosen = {**fixed, **search.chosen(order[:count])}
            self._step(f"try {len(chosen)} layers together")
            found = self._trials.errors(chosen)
            self._remember(chosen, found)
            share = few.used(found)
            if (broken := few.broken(found)) is not None:
                self._over[count] = share
                why[count] = broken
            return share

        if not order:
            return 0
        if limit.is_given:
            count = search.closest(order, used, tries=TRIALS)
            if why:
                more = min(why)
                self._notes.append(f"more was tried: with {more - count} steps more {why[more]}")
            return count
        for point in range(1, POINTS + 1):
            used(math.ceil(len(order) * point / POINTS))
        return len(order)

    def _remember(self, chosen: Chosen, found: Sequence[OutputError]) -> None:
        agreements = [e.agreement for e in found if e.agreement is not None]
        saved = sum(self._saved(self._layers[name], scheme) for name, scheme in chosen.items())
        point = Point(
            nbytes=self._before - saved,
            error=max((e.rms for e in found), default=0.0),
            agreement=min(agreements, default=None),
        )
        if point not in self._points:
            self._points.append(point)

    def _checked(
        self, order: Sequence[Option[Scheme]], start: int, fixed: Chosen
    ) -> tuple[int, "_Real"]:
        """How many steps the real program beside TensorFlow allows, and that program."""
        limit = self._wanted.limit
        made: dict[int, _Real] = {}

        def used(count: int) -> float:
            made[count] = self._real({**fixed, **search.chosen(order[:count])})
            return max(
                (limit.used(e, own.get(key)) for key, e in made[count][2].items()), default=0
            )

        own = {key: {e.output: e for e in found} for key, found in self._reached.own.items()}
        # Trials tell what is over the budget, unless stages come after the parts that they run.
        over = self._over if self._found.parts.keys() == own.keys() else {}
        bad = min(((n, share) for n, share in over.items() if n <= len(order)), default=None)
        count = search.closest(order, used, tries=CHECKS, start=start, bad=bad, enough=NEAR)
        if count not in made:
            used(count)
        for tried in sorted(made, reverse=True):
            if tried > count:
                self._notes.append(
                    f"taken back: {tried - count} of {tried} steps, all together: "
                    f"{self._broken(made[tried][2])} ({limit})"
                )
        if (broken := self._broken(made[count][2])) is not None:
            self._notes.append(
                f"over the budget as it is: {broken} ({limit}){bases.because(fixed)}"
            )
        return count, made[count]

    def _real(self, chosen: Chosen) -> "_Real":
        """The real program of a choice, and what it does to the answers."""
        if not chosen:
            return {}, {}, self._reached.own
        converted = {
            base.key: self._compressed(base, chosen)
            for base in self._bases
            if any(name in chosen for name in base.layers)
        }
        plain = {part.base.key: part for part in self._reached.parts}
        known = {base.key: base for base in self._bases}
        runners = {key: bases.runner(found) for key, found in converted.items()}
        placed = {key: runner.place(known[key].arrays) for key, runner in runners.items()}

        def device(key: str, inputs: Answers) -> Answers:
            if key in runners:
                return runners[key].answer(placed[key], inputs)
            return plain[key].runner.answer(plain[key].weights, inputs)

        said = self._said("compare with TensorFlow on")
        outputs, _ = reached.beside(self._walk, self._reached.samples, device, self._notes, said)
        return dict(chosen), converted, outputs

    def _broken(self, outputs: Errors) -> str | None:
        """The first output that breaks the budget, and how far."""
        for key, found in outputs.items():
            if (broken := self._wanted.limit.broken(found)) is not None:
                return f"signature {key!r}: {broken}" if len(outputs) > 1 else broken
        return None

    def _choice(
        self,
        layer: Layer,
        chosen: Chosen,
        alone: Mapping[tuple[str, Scheme], OutputError],
    ) -> LayerChoice:
        scheme = chosen.get(layer.name, Scheme.FLOAT)
        tried = [error for (name, _), error in alone.items() if name == layer.name]
        is_float = scheme is Scheme.FLOAT
        return LayerChoice(
            layer=layer,
            scheme=scheme,
            nbytes=layer.nbytes - (0 if is_float else self._saved(layer, scheme)),
            error=alone.get((layer.name, scheme), tried[-1] if tried else None),
            why=self._why.get(layer.name, "") if is_float else "",
        )


_Real = tuple[dict[str, Scheme], dict[str, ConvertedSignature], Errors]
"""A choice of layers, the parts that it changes, and its errors."""
