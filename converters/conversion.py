"""One signature of a SavedModel → programs: lowered, lifted, judged by rows, optimized, split."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from jaxrt.converters.lift import evaluator
from jaxrt.converters.planning import Plan, Planned
from jaxrt.converters.records import Kind, ModelRecord, Refused
from jaxrt.converters.seams import Lowerer
from jaxrt.errors import ConversionError
from jaxrt.passes import prepare, rows, simplify
from jaxrt.passes.jaxprs import RANDOM
from jaxrt.program import Program, Shapes
from jaxrt.tuning.optimizer import Optimized

Array = np.ndarray[Any, Any]
Note = Callable[[str], None]


class Optimize(Protocol):
    """`jaxrt.tuning.optimizer.Optimizer`."""

    def __call__(
        self, program: Program, smaller: Sequence[Optimized], shared: frozenset[str]
    ) -> Optimized: ...


def unchanged(program: Program, smaller: Sequence[Optimized], shared: frozenset[str]) -> Optimized:
    """No passes."""
    return Optimized(program=program, split=prepare.split(program))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Converted:
    """One program of a signature, ready to compile."""

    planned: Planned
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


@dataclasses.dataclass(frozen=True, slots=True)
class _Lifted:
    program: Program
    constants: Mapping[str, Array]
    ops_lifted: int


def convert(
    lowerer: Lowerer,
    model: ModelRecord,
    signature: str,
    plan: Plan,
    *,
    step: Note = lambda text: None,
    optimize: Optimize = unchanged,
) -> ConvertedSignature:
    """Lifts every planned shape of one signature, and a witness batch size beside each.

    A shape that TensorFlow refuses, or that has an op no rule knows, is left out with a note when
    another one is accepted; a signature that is refused at every shape has `refused` set.
    """
    programs: list[Converted] = []
    constants: dict[str, Array] = {}
    notes = list(plan.notes)
    refusals: list[str] = []
    for variant in _by_inner_shape(plan.programs):
        lifted: dict[int | None, _Lifted] = {}
        for planned in [*variant, *_witness(variant)]:
            step(f"lift {signature} {spell(planned.shapes)}")
            found = _lift(lowerer, model, signature, planned.shapes)
            if isinstance(found, Refused):
                refusals.append(found.reason)
                if planned in variant:  # nobody asked for the witness
                    notes.append(f"{spell(planned.shapes)} left out: {found.reason}")
            else:
                lifted[planned.batch] = found
                constants.update(found.constants)
        planned_sizes = [p for p in variant if p.batch in lifted]
        if len(lifted) > len(planned_sizes) or variant[0].batch is None:
            verdict = judge({b: f.program for b, f in lifted.items()}, variant[0].shared)
        else:
            verdict = rows.RowsVerdict(
                independent=False, reason="TensorFlow refuses it at another batch size"
            )
        programs += _finished(planned_sizes, lifted, verdict, optimize)
    if len(programs) < len(plan.programs) and plan.otherwise is not None:
        other = convert(lowerer, model, signature, plan.otherwise, step=step, optimize=optimize)
        if len(other.programs) > len(programs):
            return other
    if not programs and refusals:
        return ConvertedSignature(refused=refusals[0])
    return ConvertedSignature(programs=tuple(programs), constants=constants, notes=tuple(notes))


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


def _finished(
    sizes: Sequence[Planned],
    lifted: Mapping[int | None, _Lifted],
    verdict: rows.RowsVerdict,
    optimize: Optimize,
) -> Iterator[Converted]:
    smaller: dict[int, Optimized] = {}
    for planned in sorted(sizes, key=lambda p: p.batch or 0):
        found = lifted[planned.batch]
        done = optimize(found.program, list(smaller.values()), planned.shared)
        if verdict.independent and planned.batch and not is_random(found.program):
            smaller[planned.batch] = done
        yield _finish(planned, found, verdict, done)


def _finish(
    planned: Planned, lifted: _Lifted, verdict: rows.RowsVerdict, optimized: Optimized
) -> Converted:
    return Converted(
        planned=planned,
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


def spell(shapes: Shapes) -> str:
    """`ids[8,128] mask[8,128]`."""
    return " ".join(f"{alias}[{','.join(map(str, s))}]" for alias, s in shapes.items())
