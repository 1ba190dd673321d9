"""The device parts of a model as compression finds them, and as it leaves them."""

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from jaxrt.compression import rewrite
from jaxrt.compression.layers import Found, find
from jaxrt.compression.schemes import Rule
from jaxrt.converters import emit
from jaxrt.converters.conversion import Converted, ConvertedSignature
from jaxrt.converters.division import Divided
from jaxrt.converters.runner import Form, Runner
from jaxrt.passes import prepare
from jaxrt.passes.rewrite import inline
from jaxrt.program import Program
from jaxrt.tuning.optimizer import Optimized

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """One part before its products are lowered: batch norms folded, all weights arguments."""

    key: str
    signature: str
    converted: ConvertedSignature
    programs: tuple[Program, ...]
    """In the order of `converted.programs`."""
    arrays: Mapping[str, Array]
    """The weights of all programs."""
    layers: Mapping[str, Found]
    """Of all programs, by name; each is one of the arrays."""
    takers: Mapping[str, tuple[Found, ...]]
    """The same layers as each program that has them takes them."""

    @property
    def random(self) -> bool:
        """Whether no answer of it can be compared."""
        return all(program.random for program in self.converted.programs)


def bases(job: emit.Job, found: Divided) -> list[Base]:
    """Those of all parts that have programs."""
    return [
        _base(job, key, found.parts[key].signature, converted)
        for key, converted in found.converted.items()
        if converted.programs
    ]


def _base(job: emit.Job, key: str, signature: str, converted: ConvertedSignature) -> Base:
    programs = []
    arrays: dict[str, Array] = {}
    known: dict[str, list[Found]] = {}
    for program in converted.programs:
        split = prepare.split(program.optimized.exact or program.optimized.source)
        if any(name not in arrays for name in split.apply.weight_names):
            source = emit.source_weights(job.tensorflow, job.model, split, converted.constants)
            arrays |= prepare.run_prepare(split, source)
        programs.append(split.apply)
        for layer in find(dataclasses.replace(split.apply, jaxpr=inline(split.apply.jaxpr))):
            weights = layer.layer.weights
            if len(weights) == 1 and arrays[weights[0]].shape == layer.layer.shape:
                known.setdefault(layer.layer.name, []).append(layer)
    return Base(
        key=key,
        signature=signature,
        converted=converted,
        programs=tuple(programs),
        arrays=arrays,
        layers={name: found[0] for name, found in known.items()},
        takers={name: tuple(found) for name, found in known.items()},
    )


def compressed(job: emit.Job, base: Base, rules: Sequence[Rule]) -> ConvertedSignature:
    """The part with its layers held as `rules` say, optimized again."""
    return rewritten(job, base, lambda program: rewrite.apply(program, rules, job.target)[0])


def rewritten(job: emit.Job, base: Base, write: Callable[[Program], Program]) -> ConvertedSignature:
    """The part with what `write` makes of its programs, optimized again."""
    smaller: dict[str, list[Optimized]] = {}
    programs = []
    for before, program in zip(base.converted.programs, base.programs, strict=True):
        group = smaller.setdefault(_group(before), [])
        done = job.optimize(write(program), group, before.planned.shared)
        if before.rows.independent and before.planned.batch and not before.random:
            group.append(done)
        programs.append(
            dataclasses.replace(before, split=done.split, optimized=_with_gains(before, done))
        )
    return dataclasses.replace(
        base.converted,
        programs=tuple(programs),
        constants={**base.converted.constants, **base.arrays},
    )


def _group(program: Converted) -> str:
    """Programs that differ in their rows alone."""
    planned = program.planned
    inner = planned if planned.batch is None else planned.rebatch(0)
    return f"{dict(inner.shapes)} {dict(program.values)}"


def _with_gains(before: Converted, done: Optimized) -> Optimized:
    """What folded weights was done before, and is not found again."""
    kept = [g for g in before.optimized.gains if g.startswith(("resize:", "batch norm:"))]
    return dataclasses.replace(done, gains=(*kept, *done.gains))


def runner(converted: ConvertedSignature) -> Runner:
    """Of the part as `compressed` gives it: its weights are those of the base."""
    return Runner(
        [
            Form(
                program=program.optimized.program,
                planned=program.planned,
                values=program.values,
                independent=program.rows.independent,
            )
            for program in converted.programs
        ]
    )


def plain_runner(base: Base, write: Callable[[Program], Program]) -> Runner:
    """Of what `write` makes of the part's programs, as they are: passes take long over programs
    with many branches, and answers are the same."""
    return Runner(
        [
            Form(
                program=write(program),
                planned=found.planned,
                values=found.values,
                independent=found.rows.independent,
            )
            for found, program in zip(base.converted.programs, base.programs, strict=True)
        ]
    )


def said(layer: str) -> str:
    """A layer's name for people: `dense/kernel` of `dense/kernel~0123456789abcdef`."""
    return re.sub(r"~[0-9a-f]{16}", "", layer)


def because(forced: Collection[str]) -> str:
    """That rules want these layers so, where there are any."""
    names = [said(name) for name in sorted(forced)]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"; rules want {', '.join(names[:3])}{more} so" if names else ""
