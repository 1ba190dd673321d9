"""One signature of a SavedModel → programs: lowered, lifted, judged by rows, optimized, split."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from jaxrt.converters.lift import evaluator
from jaxrt.converters.planning import Plan, Planned
from jaxrt.converters.records import Kind, ModelRecord, Refused
from jaxrt.converters.seams import Lowerer
from jaxrt.errors import ConversionError
from jaxrt.passes import prepare, rows, simplify, specialize
from jaxrt.passes.jaxprs import RANDOM
from jaxrt.program import Program, Shapes
from jaxrt.tuning.optimizer import Optimized, Resized

Array = np.ndarray[Any, Any]
Note = Callable[[str], None]


class Optimize(Protocol):
    """`jaxrt.tuning.optimizer.Optimizer`."""

    def __call__(
        self,
        program: Program,
        smaller: Sequence[Optimized],
        shared: frozenset[str],
        resized: Resized | None = None,
    ) -> Optimized: ...


def unchanged(
    program: Program,
    smaller: Sequence[Optimized],
    shared: frozenset[str],
    resized: Resized | None = None,
) -> Optimized:
    """No passes."""
    return Optimized(program=program, source=program, split=prepare.split(program))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Converted:
    """One program of a signature, ready to compile."""

    planned: Planned
    values: Mapping[str, bool]
    """Inputs that it is made for one value of; the same names in all programs of a signature."""
    split: prepare.Split
    rows: rows.RowsVerdict
    random: bool
    optimized: Optimized
    """What the passes did; `split` is of its program."""
    ops_lifted: int
    """Equations of the jaxpr as it was lifted; `split.apply` has what is left of them."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ConvertedSignature:
    """All programs of a signature, or why it has none."""

    programs: tuple[Converted, ...] = ()
    refused: str | None = None
    constants: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    """Large constants of the graph, which are weights now."""
    notes: tuple[str, ...] = ()

    @property
    def shapes(self) -> int:
        """How many planned shapes have programs."""
        return sum(program.values == self.programs[0].values for program in self.programs)


@dataclasses.dataclass(frozen=True, slots=True)
class _Lifted:
    program: Program
    constants: Mapping[str, Array]
    ops_lifted: int


@dataclasses.dataclass(frozen=True, slots=True)
class _Variant:
    """The lifted programs of shapes that differ in the batch size alone."""

    planned: Sequence[Planned]
    lifted: Mapping[int | None, _Lifted]
    """By batch size, the witness among them if TensorFlow takes it."""


def convert(
    lowerer: Lowerer,
    model: ModelRecord,
    signature: str,
    plan: Plan,
    *,
    step: Note = lambda text: None,
    optimize: Optimize = unchanged,
    values: Mapping[str, bool] | None = None,
    sliced: bool = False,
) -> ConvertedSignature:
    """Lifts every planned shape of one signature, and a witness batch size beside each.

    A shape that TensorFlow refuses, or that has an op no rule knows, is left out with a note when
    another one is accepted; a signature that is refused at every shape has `refused` set.
    `values`: the scalar inputs that all programs fix; None: every value of those that it pays for.
    `sliced`: programs may be cut into executions at once.
    """
    constants: dict[str, Array] = {}
    notes = list(plan.notes)
    refusals: list[str] = []
    variants: list[_Variant] = []
    for planned_shapes in _by_inner_shape(plan.programs):
        lifted: dict[int | None, _Lifted] = {}
        for planned in [*planned_shapes, *_witness(planned_shapes)]:
            step(f"lift {signature} {spell(planned.shapes)}")
            found = _lift(lowerer, model, signature, planned.shapes)
            if isinstance(found, Refused):
                refusals.append(found.reason)
                if planned in planned_shapes:  # nobody asked for the witness
                    notes.append(f"{spell(planned.shapes)} left out: {found.reason}")
            else:
                lifted[planned.batch] = found
                constants.update(found.constants)
        variants.append(_Variant([p for p in planned_shapes if p.batch in lifted], lifted))
    if sum(len(v.planned) for v in variants) < len(plan.programs) and plan.otherwise is not None:
        other = convert(
            lowerer,
            model,
            signature,
            plan.otherwise,
            step=step,
            optimize=optimize,
            values=values,
            sliced=sliced,
        )
        if other.shapes > sum(len(v.planned) for v in variants):
            return other
    programs = [v.program for variant in variants for v in variant.lifted.values()]
    choices = specialize.choices(programs) if values is None else (values,)

    def lift(planned: Planned) -> _Lifted | None:
        step(f"lift {signature} {spell(planned.shapes)}")
        found = _lift(lowerer, model, signature, planned.shapes)
        if isinstance(found, Refused):
            return None
        constants.update(found.constants)
        return found

    further = lift if sliced else None
    finished = [
        p for v in variants for chosen in choices for p in _finished(v, chosen, optimize, further)
    ]
    if not finished and refusals:
        return ConvertedSignature(refused=refusals[0])
    return ConvertedSignature(programs=tuple(finished), constants=constants, notes=tuple(notes))


def _finished(
    variant: _Variant,
    values: Mapping[str, bool],
    optimize: Optimize,
    lift: Callable[[Planned], _Lifted | None] | None,
) -> Iterator[Converted]:
    """The programs of one variant for one choice of values, judged together."""
    lifted = {
        batch: dataclasses.replace(found, program=specialize.specialize(found.program, values))
        for batch, found in variant.lifted.items()
    }
    if len(lifted) > len(variant.planned) or None in lifted:
        shared = variant.planned[0].shared if variant.planned else frozenset()
        verdict = judge({b: f.program for b, f in lifted.items()}, shared)
    else:
        verdict = rows.RowsVerdict(
            independent=False, reason="TensorFlow refuses it at another batch size"
        )
    smaller: dict[int, Optimized] = {}
    for planned in sorted(variant.planned, key=lambda p: p.batch or 0):
        found = lifted[planned.batch]
        alone = not (verdict.independent and planned.batch) or is_random(found.program)
        resized = None if alone or lift is None else _Resizing(planned, values, lifted, lift)
        done = optimize(found.program, list(smaller.values()), planned.shared, resized)
        if not alone and planned.batch:
            smaller[planned.batch] = done
        yield _finish(planned, values, found, verdict, done)


@dataclasses.dataclass(frozen=True, slots=True)
class _Resizing:
    """A Resized: the function of one program for other numbers of rows."""

    planned: Planned
    values: Mapping[str, bool]
    lifted: dict[int | None, _Lifted]
    """Those there are; more are added."""
    lift: Callable[[Planned], _Lifted | None]

    def __call__(self, rows: int) -> Program | None:
        if rows not in self.lifted:
            found = self.lift(self.planned.rebatch(rows))
            if found is None:
                return None
            program = specialize.specialize(found.program, self.values)
            whole = self.lifted[self.planned.batch].program
            pair = {self.planned.batch: whole, rows: program}
            if not judge(pair, self.planned.shared).independent:
                return None
            self.lifted[rows] = dataclasses.replace(found, program=program)
        return self.lifted[rows].program


def judge(
    programs: Mapping[int | None, Program], shared: frozenset[str] = frozenset()
) -> rows.RowsVerdict:
    """Are the rows independent? `programs` are one signature at several batch sizes.

    The key None is the program of a signature without a batch dimension. `shared` inputs have no
    rows: all rows of a batch see the same value.
    """
    sized = {batch: program for batch, program in programs.items() if batch is not None}
    if not sized:
        return rows.RowsVerdict(independent=False, reason="the signature has no batch dimension")
    return rows.verdict(sized, shared)


def is_random(program: Program) -> bool:
    """Whether two runs on the same inputs may differ."""
    return any(name in RANDOM for name in prepare.primitives(program.jaxpr))


def _lift(
    lowerer: Lowerer, model: ModelRecord, signature: str, shapes: Shapes
) -> _Lifted | Refused:
    lowered = lowerer.lower(model, signature, shapes)
    if isinstance(lowered, Refused):
        return lowered
    try:
        lifted = evaluator.lift(
            lowered.stablehlo,
            signature=signature,
            inputs=[p.name for p in lowered.inputs],
            weights=[p.name for p in lowered.weights],
            outputs=[o.name for o in lowered.outputs],
        )
    except ConversionError as error:
        return Refused(signature=signature, kind=Kind.LIFT, reason=str(error))
    ops = len(lifted.program.jaxpr.jaxpr.eqns)
    return _Lifted(simplify.simplify(lifted.program), lifted.constants, ops)


def _finish(
    planned: Planned,
    values: Mapping[str, bool],
    lifted: _Lifted,
    verdict: rows.RowsVerdict,
    optimized: Optimized,
) -> Converted:
    return Converted(
        planned=planned,
        values=values,
        split=optimized.split,
        rows=verdict,
        random=is_random(lifted.program),
        optimized=optimized,
        ops_lifted=lifted.ops_lifted,
    )


def _by_inner_shape(programs: Sequence[Planned]) -> list[list[Planned]]:
    """Programs that differ in the batch size alone, together."""
    groups: dict[tuple[tuple[str, tuple[int, ...]], ...], list[Planned]] = {}
    for planned in programs:
        unbatched = planned if planned.batch is None else planned.rebatch(0)
        groups.setdefault(tuple(unbatched.shapes.items()), []).append(planned)
    return list(groups.values())


def _witness(variant: Sequence[Planned]) -> list[Planned]:
    """One more batch size, so that a function of the batch size itself shows.

    TensorFlow's bridge folds shapes into constants: a graph that switches on `shape(x)[0] % 3`
    lowers to a different function at each size, and each of them may have independent rows.
    """
    sizes = {p.batch for p in variant if p.batch is not None}
    return [variant[0].rebatch(rows.witness(sizes))] if sizes else []


def spell(shapes: Shapes, values: Mapping[str, bool] = MappingProxyType({})) -> str:
    """`ids[8,128] mask[8,128]`, and `training=false` for an input that is fixed."""
    return " ".join(
        f"{alias}={str(values[alias]).lower()}"
        if alias in values
        else f"{alias}[{','.join(map(str, s))}]"
        for alias, s in shapes.items()
    )
