"""Proves that row i of every output depends on row i of the inputs alone.

A forward walk over the jaxpr gives each value a layout (`layout.Value`); a table has one transfer
rule per primitive and what it does not know is refused. Only a proven signature may share a batch
between strangers, be padded to a bucket, or be cut into pieces.
"""

import dataclasses
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence

from jaxrt.passes import layout
from jaxrt.passes.layout import Value
from jaxrt.passes.rows_rules import analyse
from jaxrt.passes.rows_same import same_function
from jaxrt.program import Program


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RowsVerdict:
    """Whether rows are independent, and one sentence why not."""

    independent: bool
    reason: str


def prove(program: Program, batch: int, shared: frozenset[str] = frozenset()) -> RowsVerdict:
    """Whether row i of every output depends on row i of the inputs alone, at this batch size.

    Inputs named in `shared` have no rows: one value for a whole batch. Another batch size may
    still compute another function: `verdict` compares several.
    """
    for name, aval in zip(program.input_names, program.input_avals, strict=True):
        if name not in shared and aval.shape[:1] != (batch,):
            return _dependent(
                f"input {name!r} has shape {list(aval.shape)}, want rows on axis 0 of {batch}"
            )
    _, values = analyse(program, batch, shared)
    for name, value, aval in zip(
        program.output_names, values, program.jaxpr.out_avals, strict=True
    ):
        if fault := _fault(value, aval.shape, batch):
            return _dependent(f"output {name!r}: {fault}")
    return RowsVerdict(independent=True, reason="each row of the outputs is a function of its own")


def _fault(value: Value, shape: Sequence[int], batch: int) -> str | None:
    if value.mixed:
        return value.mixed
    if not shape or shape[0] != batch:
        return f"has shape {list(shape)}, want rows on axis 0 of {batch}"
    axis = value.axes[0]
    if axis == (layout.Factor(batch, layout.Tag.ROWS),):
        return None
    if value.rows_axis is not None:
        return f"carries the rows on axis {value.rows_axis} as {_spell(value)}, want axis 0"
    if all(f.tag is layout.Tag.SAME for f in axis):
        return None
    return "depends on no input and changes along axis 0"


def _spell(value: Value) -> str:
    return "[" + ", ".join("·".join(f"{f.tag.value} {f.size}" for f in a) for a in value.axes) + "]"


def _dependent(reason: str) -> RowsVerdict:
    return RowsVerdict(independent=False, reason=reason)


def verdict(
    programs_by_batch: Mapping[int, Program], shared: frozenset[str] = frozenset()
) -> RowsVerdict:
    """Rows are independent when each program keeps them apart and all are one function.

    `programs_by_batch` holds one signature at two batch sizes or more, alike but for the batch.
    Inputs named in `shared` have no rows and keep their shape. Sizes that share no factor tell
    the most; batch 1 alone keeps rows apart trivially.
    """
    sizes = sorted(programs_by_batch)
    if len(sizes) < 2:
        return _dependent(f"lifted at batch sizes {sizes} only, want two or more to compare")
    for size in (n for n in sizes if n > 1):
        found = prove(programs_by_batch[size], size, shared)
        if not found.independent:
            return RowsVerdict(independent=False, reason=f"batch {size}: {found.reason}")
    if sizes[0] == 1 and (fault := _alone(programs_by_batch[1], shared)):
        return _dependent(f"batch 1: {fault}")
    for size in sizes[:-1]:
        if reason := same_function(programs_by_batch[size], programs_by_batch[sizes[-1]], shared):
            return _dependent(reason)
    return RowsVerdict(independent=True, reason=f"proven at batch sizes {sizes}")


def witness(sizes: Collection[int]) -> int:
    """A batch size to lift beside `sizes`, never to serve, so that two of them are neighbours.

    Neighbours differ modulo every number, so no `switch(batch % n)` is one function at both: 5 and
    8 would agree on `batch % 3`. Sizes from 3 up are preferred: fewer dimensions equal them.
    """
    beside = [s + step for s in sorted(sizes) for step in (-1, 1)]
    if not any(s in sizes for s in beside):
        return next((n for n in beside if n > 2), 2)
    candidates: Iterator[int] = itertools.count(5, 2)
    return next(n for n in candidates if n not in sizes)


def _alone(program: Program, shared: frozenset[str]) -> str | None:
    """A batch of one has nothing to mix; its results must still be rows."""
    avals = [*program.input_avals, *program.jaxpr.out_avals]
    names = [*program.input_names, *program.output_names]
    for name, aval in zip(names, avals, strict=True):
        if name not in shared and aval.shape[:1] != (1,):
            return f"{name!r} has shape {list(aval.shape)}, want one row on axis 0"
    return None
