"""Propagation through products, convolutions and look-ups: where weights meet activations."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from jaxrt.mesh import MODEL, Spec
from jaxrt.tpu.layout import fitting, reshard, whole
from jaxrt.tpu.propagation import Free, Layout, Rule, Unit, Walk


def _dot(state: Walk, eqn: Any) -> list[Layout]:
    (lhs_contract, rhs_contract), (lhs_batch, rhs_batch) = eqn.params["dimension_numbers"]
    contract, batch = (
        (tuple(lhs_contract), tuple(rhs_contract)),
        (tuple(lhs_batch), tuple(rhs_batch)),
    )
    left, right = eqn.invars
    layouts = [state.read(left), state.read(right)]
    free = [n for n in (0, 1) if isinstance(layouts[n], Free)]
    if free and not batch[0]:
        # Two weights: the second stays whole, as a constant would.
        weight = free[-1]
        if len(free) == 2:
            state.settle(eqn.invars[0], whole(len(left.aval.shape)))
        return _weighted(state, eqn, weight, contract)
    specs = _matched(state, eqn, contract, batch)
    return _product(state, eqn, specs, contract, batch)


def _weighted(
    state: Walk, eqn: Any, weight: int, contract: tuple[tuple[int, ...], tuple[int, ...]]
) -> list[Layout]:
    """A product with a weight: split by rows where its other operand is, else by columns."""
    atoms = list(eqn.invars)
    other = 1 - weight
    given = state.spec(atoms[other])
    wanted: list[str | None] = [None] * len(atoms[weight].aval.shape)
    whole_weight = _kept_whole(state, atoms[weight])
    rows = [given[d] for d in contract[other]]
    if whole_weight and any(rows):
        lost = set(contract[other])
        given = state.settle(
            atoms[other], tuple(None if d in lost else axis for d, axis in enumerate(given))
        )
        rows = []
    for here, axis in zip(contract[weight], rows, strict=False):
        wanted[here] = axis
    if not any(rows) and not whole_weight and state.policy.columns and MODEL not in given:
        column = _column(state, atoms[weight], contract[weight])
        if column is not None:
            wanted[column] = MODEL
    found = state.settle(atoms[weight], tuple(wanted))
    for here, there in zip(contract[weight], contract[other], strict=True):
        if given[there] is not None and found[here] != given[there]:
            # The weight is used elsewhere in another layout, or does not divide.
            given = state.settle(
                atoms[other], tuple(None if d == there else a for d, a in enumerate(given))
            )
            found = state.settle(
                atoms[weight], tuple(None if d == here else a for d, a in enumerate(found))
            )
    specs = [given, found] if weight == 1 else [found, given]
    return _product(state, eqn, specs, contract, ((), ()), hold=True)


def _kept_whole(state: Walk, atom: Any) -> bool:
    found = state.read(atom)
    return isinstance(found, Free) and found.largest in state.policy.kept_whole


def _column(state: Walk, atom: Any, contract: Sequence[int]) -> int | None:
    """The dimension to split by columns: the first that divides; heads come before their sizes."""
    shape = atom.aval.shape
    sides = [d for d in range(len(shape)) if d not in contract]
    size = state.sizes[MODEL]
    return next((d for d in sides if shape[d] % size == 0 and shape[d] >= size), None)


def _matched(state: Walk, eqn: Any, contract: Any, batch: Any) -> list[Spec]:
    """Two activations: batch dimensions split alike, contractions on both sides or on none."""
    specs = [list(state.spec(atom)) for atom in eqn.invars]
    for pairs in (batch, contract):
        for left, right in zip(*pairs, strict=True):
            axis = specs[0][left] or specs[1][right]
            for n, dim in ((0, left), (1, right)):
                others = [a for d, a in enumerate(specs[n]) if d != dim]
                if axis in others:
                    axis = None
            specs[0][left] = specs[1][right] = axis
    free = [
        [d for d in range(len(specs[n])) if d not in contract[n] and d not in batch[n]]
        for n in (0, 1)
    ]
    taken = {specs[0][d] for d in free[0]} - {None}
    for d in free[1]:
        if specs[1][d] in taken or specs[1][d] in {specs[0][b] for b in batch[0]}:
            specs[1][d] = None
    return [state.settle(atom, tuple(s)) for atom, s in zip(eqn.invars, specs, strict=True)]


def _product(
    state: Walk,
    eqn: Any,
    specs: Sequence[Spec],
    contract: Any,
    batch: Any,
    hold: bool = False,
) -> list[Layout]:
    left, right = (atom.aval for atom in eqn.invars)
    out_aval = eqn.outvars[0].aval
    sides = [
        [d for d in range(len(specs[n])) if d not in contract[n] and d not in batch[n]]
        for n in (0, 1)
    ]
    summed = [specs[0][d] or specs[1][c] for d, c in zip(*contract, strict=True)]
    spec = (
        *(specs[0][d] for d in batch[0]),
        *(specs[0][d] for d in sides[0]),
        *(specs[1][d] for d in sides[1]),
    )
    out = fitting(out_aval.shape, spec, state.sizes)
    item = out_aval.dtype.itemsize
    state.sums[eqn.outvars[0]] = state.reduce_over(summed, out_aval.shape, out, item)
    if hold or any(summed):
        state.hold(0, out)
    length = math.prod(left.shape[d] for d in contract[0])
    cut = {a for a in (*out, *summed) if a is not None}
    pieces = math.prod(state.sizes[axis] for axis in cut)
    state.cost(
        2.0 * math.prod(out_aval.shape) * length / pieces,
        state.read_bytes(eqn.invars[0], specs[0])
        + state.read_bytes(eqn.invars[1], specs[1])
        + state.local_bytes(out_aval, out),
        _unit(eqn),
    )
    return [out]


def _convolution(state: Walk, eqn: Any) -> list[Layout]:
    """As products: features are columns and rows, and so are the groups of a depthwise one."""
    numbers = eqn.params["dimension_numbers"]
    groups = eqn.params["feature_group_count"]
    lhs, rhs = eqn.invars
    batch, features = numbers.lhs_spec[:2]
    outs, ins = numbers.rhs_spec[:2]
    given = state.spec(lhs)
    given = state.settle(
        lhs, tuple(axis if d in (batch, features) else None for d, axis in enumerate(given))
    )
    wanted: list[str | None] = [None] * len(rhs.aval.shape)
    splittable = isinstance(state.read(rhs), Free) and not _kept_whole(state, rhs)
    row = given[features] if splittable else None
    if groups > 1:
        if row is not None and groups % state.sizes[row] == 0:
            wanted[outs] = row  # each device has whole groups
            row = None
        else:
            given = state.settle(lhs, tuple(a if d == batch else None for d, a in enumerate(given)))
    elif row is not None:
        wanted[ins] = row
    elif splittable and state.policy.columns and MODEL not in given:
        wanted[outs] = MODEL
    if not splittable and given[features] is not None:
        given = state.settle(lhs, tuple(a if d == batch else None for d, a in enumerate(given)))
    kernel = state.settle(rhs, tuple(wanted))
    if given[features] is not None and kernel[ins] is None and kernel[outs] is None:
        given = state.settle(lhs, tuple(a if d == batch else None for d, a in enumerate(given)))
    return _convolved(state, eqn, given, kernel, groups)


def _convolved(state: Walk, eqn: Any, given: Spec, kernel: Spec, groups: int) -> list[Layout]:
    numbers = eqn.params["dimension_numbers"]
    lhs, rhs = (atom.aval for atom in eqn.invars)
    out_aval = eqn.outvars[0].aval
    spec: list[str | None] = [None] * len(out_aval.shape)
    spec[numbers.out_spec[0]] = given[numbers.lhs_spec[0]]
    spec[numbers.out_spec[1]] = kernel[numbers.rhs_spec[0]]
    out = fitting(out_aval.shape, tuple(spec), state.sizes)
    summed = kernel[numbers.rhs_spec[1]] if groups == 1 else None
    state.reduce_over([summed], out_aval.shape, out, out_aval.dtype.itemsize)
    state.hold(0, out)
    taps = math.prod(rhs.shape) / rhs.shape[numbers.rhs_spec[0]]
    cut = {a for a in (*out, summed) if a is not None}
    pieces = math.prod(state.sizes[axis] for axis in cut)
    state.cost(
        2.0 * math.prod(out_aval.shape) * taps / pieces,
        state.local_bytes(lhs, given)
        + state.read_bytes(eqn.invars[1], kernel)
        + state.local_bytes(out_aval, out),
        _unit(eqn),
    )
    return [out]


def _unit(eqn: Any) -> Unit:
    """By the dtypes of a product's operands, and the precision it asks for."""
    sizes = [atom.aval.dtype.itemsize for atom in eqn.invars]
    if max(sizes) == 1:
        floats = any(jnp.issubdtype(atom.aval.dtype, jnp.floating) for atom in eqn.invars)
        return Unit.FP8 if floats else Unit.INT8
    if max(sizes) == 2:
        return Unit.BF16
    precision = eqn.params.get("precision")
    found = precision if isinstance(precision, tuple) else (precision,)
    exact = max(sizes) > 4 or lax.Precision.HIGHEST in found
    return Unit.EXACT if exact else Unit.DEFAULT


def _gather(state: Walk, eqn: Any) -> list[Layout]:
    """Look-ups in a table of weights, split by rows or columns; or in activations.

    By rows every device looks up what it has and all add up. By columns each has a piece of every
    row, and the pieces are put together at once: half the bytes, but short pieces.
    """
    operand, indices = eqn.invars
    numbers = eqn.params["dimension_numbers"]
    out_aval = eqn.outvars[0].aval
    index_spec = state.spec(indices)
    passed = _passed(eqn)
    free = state.read(operand)
    wanted = (
        _table(state, operand, numbers, passed)
        if isinstance(free, Free)
        else tuple(axis if d in passed else None for d, axis in enumerate(free))
    )
    found = state.settle(operand, wanted)
    if isinstance(free, Free) and MODEL in found:
        state.tables[free.largest] = "columns" if found.index(MODEL) in passed else "rows"
    spec: list[str | None] = [None] * len(out_aval.shape)
    batch_dims = [d for d in range(len(spec)) if d not in numbers.offset_dims]
    for d, axis in zip(batch_dims, index_spec[:-1], strict=True):
        spec[d] = axis
    item = out_aval.dtype.itemsize
    for d, there in passed.items():
        spec[there] = found[d] if found[d] not in spec else None
    if isinstance(free, Free):
        apart = fitting(out_aval.shape, tuple(spec), state.sizes)
        spec = [None if axis == MODEL else axis for axis in spec]
        state.exchange(reshard(out_aval.shape, item, apart, tuple(spec), state.sizes))
    out = fitting(out_aval.shape, tuple(spec), state.sizes)
    summed = [axis for d, axis in enumerate(found) if axis and d not in passed]
    state.reduce_over(summed, out_aval.shape, out, item)
    state.hold(0, out)
    state.cost(0.0, 2 * state.local_bytes(out_aval, out))
    return [out]


def _passed(eqn: Any) -> dict[int, int]:
    """Dimensions of the operand that are taken whole → theirs in the result."""
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    shape = eqn.invars[0].aval.shape
    gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    kept = [d for d in range(len(shape)) if d not in gone]
    places = zip(kept, sorted(numbers.offset_dims), strict=True)
    return {d: there for d, there in places if sizes[d] == shape[d]}


def _table(state: Walk, operand: Any, numbers: Any, passed: Mapping[int, int]) -> Spec:
    """How the policy splits a table of weights."""
    shape = operand.aval.shape
    policy = state.policy
    nbytes = operand.aval.size * operand.aval.dtype.itemsize
    wanted: list[str | None] = [None] * len(shape)
    if policy.tables is None or nbytes < policy.tables or len(numbers.start_index_map) != 1:
        return tuple(wanted)
    rows = [d for d in numbers.start_index_map if d in numbers.collapsed_slice_dims]
    ways = [rows, list(passed)] if policy.table_rows else [list(passed), rows]
    for d in (*ways[0], *ways[1]):
        if shape[d] % state.sizes[MODEL] == 0:
            wanted[d] = MODEL
            break
    return tuple(wanted)


RULES: Mapping[str, Rule] = {
    "conv_general_dilated": _convolution,
    "dot_general": _dot,
    "gather": _gather,
}
"""Primitive → rule."""
