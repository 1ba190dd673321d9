"""The step of a build that compresses: data, layers, search, and the real program beside
TensorFlow."""

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence

from jaxrt.compression import pays, quantize, search
from jaxrt.compression.errors import OutputError, errors
from jaxrt.compression.forms import form_of
from jaxrt.compression.goals import Goal, Wanted
from jaxrt.compression.layers import Layer
from jaxrt.compression.quantize import Form
from jaxrt.compression.schemes import Scheme, supported
from jaxrt.compression.search import Option
from jaxrt.converters import bases, reached, sensitivity
from jaxrt.converters.bases import Base
from jaxrt.converters.calibrating import Data
from jaxrt.converters.conversion import ConvertedSignature
from jaxrt.converters.division import Divided
from jaxrt.converters.emit import Job
from jaxrt.converters.runner import Answers, Runner
from jaxrt.converters.sensitivity import Chosen, Trials
from jaxrt.converters.walking import Walk
from jaxrt.errors import UsageError

RETRIES = 5
"""How often the real program may be over the budget before all stays float."""

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
    outputs: Mapping[str, tuple[OutputError, ...]]
    """Signature → its outputs by the compressed program beside TensorFlow's."""
    notes: tuple[str, ...]

    @property
    def chosen(self) -> dict[str, Scheme]:
        return {c.layer.name: c.scheme for c in self.layers if c.scheme is not Scheme.FLOAT}

    @property
    def worst(self) -> float:
        """Relative RMS error of the worst output."""
        found = [e.rms for outputs in self.outputs.values() for e in outputs]
        return max(found, default=0.0)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Compressed:
    """A model with layers in fewer bits, and the way to one with fewer of them."""

    found: Divided
    compression: Compression
    without: Callable[[Collection[str], str], "Compressed"] = dataclasses.field(compare=False)
    """The same with these layers float too; `why` is what the report says of them."""


def compress(job: Job, found: Divided, wanted: Wanted, data: Data) -> Compressed:
    """The model with its layers held in fewer bits, within the budget; and what was done.

    Raises UsageError for schemes that the target has no use for.
    """
    return _Compressing(job, found, wanted, data).done()


class _Compressing:
    def __init__(self, job: Job, found: Divided, wanted: Wanted, data: Data) -> None:
        self._job, self._found, self._wanted, self._data = job, found, wanted, data
        self._walk = Walk(job, found)
        self._notes = list(data.notes)
        self._bases = [base for base in bases.bases(job, found) if not base.random]
        self._places = {name: f for base in self._bases for name, f in base.layers.items()}
        self._layers = {name: found.layer for name, found in self._places.items()}
        self._samples = {key: list(samples) for key, samples in data.samples.items()}
        self._why: dict[str, str] = {}
        self._points: list[Point] = []
        arrays = {name: array.nbytes for base in self._bases for name, array in base.arrays.items()}
        self._before = sum(arrays.values())

    def done(self) -> Compressed:
        allowed = {name: self._schemes(layer) for name, layer in self._layers.items()}
        parts = self._parts()
        count = sum(map(len, allowed.values()))
        self._trials = Trials(parts, count + 2 * POINTS, self._form)
        self._more(count)
        options, alone = self._options(allowed)
        fixed = {o.layer: o.scheme for o in options if self._wanted.is_forced(o.layer)}
        order = search.steps([o for o in options if o.layer not in fixed])
        return self._made(self._within(order, fixed), fixed, alone)

    def _made(
        self,
        taken: Sequence[Option[Scheme]],
        fixed: Chosen,
        alone: Mapping[tuple[str, Scheme], OutputError],
    ) -> Compressed:
        def without(layers: Collection[str], why: str) -> Compressed:
            self._why |= dict.fromkeys(layers, why)
            less = [option for option in taken if option.layer not in layers]
            forced = {name: scheme for name, scheme in fixed.items() if name not in layers}
            return self._made(less, forced, alone)

        chosen, converted, outputs = self._checked(taken, fixed)
        made = dataclasses.replace(self._found, converted={**self._found.converted, **converted})
        said = self._said(chosen, alone, outputs)
        return Compressed(found=made, compression=said, without=without)

    def _said(
        self,
        chosen: Chosen,
        alone: Mapping[tuple[str, Scheme], OutputError],
        outputs: Mapping[str, tuple[OutputError, ...]],
    ) -> Compression:
        return Compression(
            wanted=self._wanted,
            data=self._data,
            rows=self._trials.rows,
            estimated=self._trials.estimated,
            layers=tuple(self._choice(layer, chosen, alone) for layer in self._layers.values()),
            points=tuple(self._points),
            before=self._before,
            outputs=outputs,
            notes=tuple(self._notes),
        )

    def _more(self, steps: int) -> None:
        if (more := getattr(self._job.steps, "more", None)) is not None:
            more(steps)

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
        if slower_is_fine(self._wanted) or self._wanted.is_forced(layer.name):
            return None
        form, target = self._form(layer.name, scheme), self._job.target
        rows = {
            found.layer.rows
            for base in self._bases
            for found in base.takers.get(layer.name, ())
            if not pays.pays(found, form, target, self._before)
        }
        if not rows:
            return None
        said = ", ".join(map(str, sorted(rows)))
        return f"{form.scheme.value} is slower on {target.platform} at {said} rows"

    def _form(self, layer: str, scheme: Scheme) -> Form:
        return form_of(self._places[layer], self._wanted.exactly(layer, scheme))

    def _saved(self, layer: Layer, scheme: Scheme) -> int:
        return layer.nbytes - quantize.nbytes(layer.shape, self._form(layer.name, scheme))

    def _compressed(self, base: Base, chosen: Chosen) -> ConvertedSignature:
        rules = [self._wanted.exactly(*item) for item in chosen.items() if item[0] in base.layers]
        return bases.compressed(self._job, base, rules)

    def _parts(self) -> list[sensitivity.Part]:
        """Every part with what reaches it, as the float program computes it."""
        runners = [(b, self._runner(b, {})) for b in self._bases]
        parts, self._samples = reached.parts(runners, self._walk, self._samples, self._notes)
        return parts

    def _runner(self, base: Base, chosen: Chosen) -> Runner:
        return bases.runner(self._compressed(base, chosen))

    def _options(
        self, allowed: Mapping[str, Sequence[Scheme]]
    ) -> tuple[list[Option[Scheme]], dict[tuple[str, Scheme], OutputError]]:
        """Every layer alone in every scheme."""
        options, alone = [], {}
        for name, schemes in allowed.items():
            layer = self._layers[name]
            for scheme in schemes:
                self._job.steps.step(f"try {scheme.value} on {bases.said(name)}")
                error = self._trials.of_layer(layer, scheme)
                alone[name, scheme] = error
                options.append(
                    Option(
                        layer=name, scheme=scheme, saved=self._saved(layer, scheme), error=error.rms
                    )
                )
        return options, alone

    def _within(self, order: Sequence[Option[Scheme]], fixed: Chosen) -> list[Option[Scheme]]:
        """The steps that the budget allows, as fake weights in the float program tell."""

        def holds(chosen: Mapping[str, Scheme]) -> bool:
            found = self._trials.errors({**fixed, **chosen}, every=not self._trials.estimated)
            self._remember({**fixed, **chosen}, found)
            return self._wanted.limit.holds(found)

        if self._wanted.limit.is_given and not self._trials.estimated:
            return search.largest(order, holds)
        for point in range(1, POINTS + 1):
            if order and not self._trials.estimated:
                holds(search.chosen(order[: math.ceil(len(order) * point / POINTS)]))
        return list(order)

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
        self, taken: Sequence[Option[Scheme]], fixed: Chosen
    ) -> tuple[
        dict[str, Scheme],
        dict[str, ConvertedSignature],
        dict[str, tuple[OutputError, ...]],
    ]:
        """The real program beside TensorFlow; steps are taken back while it breaks the budget."""
        limit = self._wanted.limit
        for left in range(RETRIES, -1, -1):
            steps = list(taken) if left else []
            chosen = {**fixed, **search.chosen(steps)}
            converted = {
                b.key: self._compressed(b, chosen)
                for b in self._bases
                if any(name in chosen for name in b.layers)
            }
            self._job.steps.step("compare the compressed program with TensorFlow")
            outputs = self._beside_tensorflow(chosen, converted)
            broken = limit.broken([e for found in outputs.values() for e in found])
            if broken is None or not steps:
                break
            self._notes.append(f"taken back: {len(steps)} steps together: {broken} ({limit})")
            taken = steps[: len(steps) - math.ceil(len(steps) / 8)]
        if broken is not None and limit.is_given:
            self._notes.append(f"over the budget as it is: {broken} ({limit})")
        for option in {o.layer: o for o in self._left_out(chosen)}.values():
            self._why.setdefault(option.layer, f"the budget: {limit}")
        return chosen, converted, outputs

    def _left_out(self, chosen: Chosen) -> list[Option[Scheme]]:
        return [
            Option(layer=name, scheme=Scheme.FLOAT, saved=0, error=0.0)
            for name in self._layers
            if name not in chosen
        ]

    def _beside_tensorflow(
        self, chosen: Chosen, converted: Mapping[str, ConvertedSignature]
    ) -> dict[str, tuple[OutputError, ...]]:
        known = {b.key: b for b in self._bases}
        runners = {
            key: bases.runner(converted[key]) if key in converted else self._runner(base, {})
            for key, base in known.items()
        }
        placed = {key: runner.place(known[key].arrays) for key, runner in runners.items()}

        def device(key: str, inputs: Answers) -> Answers:
            return runners[key].answer(placed[key], inputs)

        found = {}
        for key, samples in self._samples.items():
            pairs = [
                (reached.answered(self._walk, key, s, device, self._notes), s.answers)
                for s in samples
            ]
            whole = [(got, want) for got, want in pairs if got is not None]
            if whole:
                found[key] = errors(whole)
        return found

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


def slower_is_fine(wanted: Wanted) -> bool:
    """Whether a program may get slower to get smaller."""
    return wanted.goal is Goal.SIZE
