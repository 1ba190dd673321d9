"""Look-ups in several tables of equal width: one, in a table of all of them.

A gather is a kernel of its own on CPUs, and a small one takes as long as a call of a kernel.
"""

import collections
import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import Literal

from jaxrt.passes.jaxprs import ClosedJaxpr, bind, variables
from jaxrt.passes.prepare import HELD, PINNED
from jaxrt.passes.rewrite import evaluate, inline, prune, traced_like
from jaxrt.program import Program

FEWEST = 4
"""Look-ups that are worth it."""

LIMIT = 64 << 20
"""Bytes of all tables joined: a signature that looks up fewer of them keeps its own."""

LIMIT_HELD = 16 * LIMIT
"""Of tables in few bits, whose rows take a second kernel each: to be widened."""


def join(program: Program) -> tuple[Program, int]:
    """The program with such tables joined, and how many there were; a table is joined once."""
    closed = inline(program.jaxpr)
    groups = _groups(closed, len(program.weight_names))
    if not groups:
        return program, 0
    for group in groups:
        closed = _joined(closed, group)
    tables = sum(len(group) for group in groups)
    return dataclasses.replace(program, jaxpr=closed), tables


def _groups(closed: ClosedJaxpr, weights: int) -> list[list[int]]:
    """Numbers of equations: look-ups in tables of one kind, none by what another one found."""
    jaxpr = closed.jaxpr
    held = {e.outvars[0] for e in jaxpr.eqns if _is_held(e)}
    known = held.union(jaxpr.invars[:weights])
    uses = collections.Counter(v for eqn in jaxpr.eqns for v in variables(eqn.invars))
    kinds: dict[Any, list[int]] = {}
    for number, eqn in enumerate(jaxpr.eqns):
        if eqn.primitive.name == "gather" and _is_lookup(eqn):
            table, index = eqn.invars
            if table in known and uses[table] == 1 and table not in jaxpr.outvars:
                kind = (_kind(table.aval, index.aval), table in held)
                kinds.setdefault(kind, []).append(number)
    # Groups are joined one after the other, which moves equations: the first one alone is safe.
    for (_, is_held), group in kinds.items():
        size = sum(_bytes(jaxpr.eqns[n].invars[0].aval) for n in group)
        limit = LIMIT_HELD if is_held else LIMIT
        if len(group) >= FEWEST and size <= limit and not _is_chained(jaxpr, group):
            return [group]
    return []


def _is_held(eqn: Any) -> bool:
    return bool(eqn.primitive.name == "name" and eqn.params["name"] == HELD)


def _is_lookup(eqn: Any) -> bool:
    """Whole rows of [rows, width] by an index [..., 1] that is clamped."""
    table, index = eqn.invars
    if isinstance(table, Literal) or isinstance(index, Literal) or len(table.aval.shape) != 2:
        return False
    numbers = eqn.params["dimension_numbers"]
    shape = index.aval.shape
    return (
        eqn.params["mode"] == lax.GatherScatterMode.CLIP
        and index.aval.dtype in (np.int32, np.int64)
        and len(shape) > 1
        and shape[-1] == 1
        and tuple(eqn.params["slice_sizes"]) == (1, table.aval.shape[1])
        and tuple(numbers.offset_dims) == (len(shape) - 1,)
        and tuple(numbers.collapsed_slice_dims) == (0,)
        and tuple(numbers.start_index_map) == (0,)
        and not numbers.operand_batching_dims
        and 0 not in (*shape, *table.aval.shape)
    )


def _kind(table: Any, index: Any) -> Any:
    """What must be equal to look up together."""
    return table.shape[1], table.dtype, index.shape, index.dtype


def _bytes(aval: Any) -> int:
    return int(math.prod(aval.shape) * aval.dtype.itemsize)


def _before(jaxpr: Any, wanted: Iterable[Any]) -> set[int]:
    """Numbers of the equations that `wanted` rest on."""
    needed = set(wanted)
    found = set()
    for number in reversed(range(len(jaxpr.eqns))):
        eqn = jaxpr.eqns[number]
        if any(v in needed for v in eqn.outvars):
            found.add(number)
            needed.update(variables(eqn.invars))
    return found


def _is_chained(jaxpr: Any, group: Sequence[int]) -> bool:
    """Whether an index rests on a row that was looked up, or effects would change their order."""
    first = _before(jaxpr, (jaxpr.eqns[n].invars[1] for n in group))
    return bool(first & set(group)) or any(eqn.effects for eqn in jaxpr.eqns)


def _joined(closed: ClosedJaxpr, group: Sequence[int]) -> ClosedJaxpr:
    """All indices first, then one look-up, then the rest."""
    jaxpr = closed.jaxpr
    lookups = [jaxpr.eqns[n] for n in group]
    indices = [eqn.invars[1] for eqn in lookups]
    held: dict[Any, Any] = {e.outvars[0]: e.invars[0] for e in jaxpr.eqns if _is_held(e)}
    tables: list[Any] = [held.get(eqn.invars[0], eqn.invars[0]) for eqn in lookups]
    name = HELD if lookups[0].invars[0] in held else PINNED
    first = _before(jaxpr, [*indices, *(eqn.invars[0] for eqn in lookups)])
    found_rows = {eqn.outvars[0] for eqn in lookups}
    rest = [n for n in range(len(jaxpr.eqns)) if n not in first and n not in set(group)]
    order = [jaxpr.eqns[n] for n in [*sorted(first), *group, *rest]]
    ordered = ClosedJaxpr(jaxpr.replace(eqns=order), closed.consts)
    slots = {id(eqn): i for i, eqn in enumerate(lookups)}

    def function(*arguments: Any) -> list[Any]:
        made: dict[Any, Any] = dict(zip(jaxpr.constvars, closed.consts, strict=True))
        made.update(zip(jaxpr.invars, arguments, strict=True))
        looked_up: list[Any] = []

        def apply(eqn: Any, operands: list[Any]) -> list[Any]:
            if id(eqn) in slots:
                if not looked_up:
                    whole = checkpoint_name(lax.concatenate([made[v] for v in tables], 0), name)
                    sizes = [v.aval.shape[0] for v in tables]
                    at = [made[v] for v in indices]
                    looked_up.extend(_look_up(lookups[0], whole, sizes, at))
                return [looked_up[slots[id(eqn)]]]
            if eqn.primitive is lax.optimization_barrier_p and found_rows.issuperset(eqn.invars):
                return list(operands)  # one stands behind them all
            outs = bind(eqn.primitive, operands, eqn.params)
            made.update(zip(eqn.outvars, outs, strict=True))
            return outs

        return evaluate(ordered, arguments, apply)

    with jax.enable_x64(True):
        return prune(traced_like(closed, function))


def _look_up(eqn: Any, tables: Any, sizes: Sequence[int], indices: Sequence[Any]) -> list[Any]:
    """A row [..., width] of each table, of which `tables` has all rows, `sizes` of each.

    Each index is clamped to its own table first.
    """
    dtype = indices[0].dtype
    starts = np.cumsum([0, *sizes[:-1]])
    last = np.asarray([n - 1 for n in sizes], dtype)
    at = lax.concatenate(indices, indices[0].ndim - 1)
    wide = (at.ndim - 1,)
    at = lax.clamp(np.zeros(at.shape, dtype), at, lax.broadcast_in_dim(last, at.shape, wide))
    at = lax.add(at, lax.broadcast_in_dim(starts.astype(dtype), at.shape, wide))
    numbers = lax.GatherDimensionNumbers(
        offset_dims=(at.ndim,), collapsed_slice_dims=(0,), start_index_map=(0,)
    )
    found = lax.gather(
        tables,
        lax.expand_dims(at, (at.ndim,)),
        numbers,
        eqn.params["slice_sizes"],
        mode=lax.GatherScatterMode.CLIP,
    )
    if tables.dtype.kind == "i":
        found = lax.optimization_barrier(found)  # see jaxrt.compression.words
    axis = at.ndim - 1
    return [lax.index_in_dim(found, i, axis, keepdims=False) for i in range(len(sizes))]
