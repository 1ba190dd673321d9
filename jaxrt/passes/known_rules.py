"""What every primitive that is not elementwise leaves known of its operands' channels."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxrt.passes.channel_runs import runs
from jaxrt.passes.known import Known, Value, like, same


def _transpose(eqn: Any, operands: Sequence[Value]) -> Value:
    order = eqn.params["permutation"]
    dims = {new: operands[0].dims[old] for new, old in enumerate(order) if old in operands[0].dims}
    return like(eqn.outvars[0], dims, operands[0].uniform)


def _broadcast(eqn: Any, operands: Sequence[Value]) -> Value:
    (out,), value = eqn.outvars, operands[0]
    dims = {
        new: value.dims[old]
        for old, new in enumerate(eqn.params["broadcast_dimensions"])
        if old in value.dims and value.shape[old] == out.aval.shape[new]
    }
    return like(out, dims, value.uniform)


def _reshape(eqn: Any, operands: Sequence[Value]) -> Value:
    (out,), value = eqn.outvars, operands[0]
    dims: dict[int, Known] = {}
    for ours, theirs in runs(value.shape, out.aval.shape):
        if len(ours) == len(theirs) == 1 and ours[0] in value.dims:
            dims[theirs[0]] = value.dims[ours[0]]
        elif len(theirs) == 1:
            dims |= _merged(value, ours, theirs[0], out.aval.shape[theirs[0]])
        elif len(ours) == 1 and ours[0] in value.dims:
            dims |= _parted(value.dims[ours[0]], theirs, out.aval.shape)
    return like(out, dims, value.uniform)


def _merged(value: Value, ours: Sequence[int], new: int, size: int) -> dict[int, Known]:
    """Along the first of several dimensions of which something is known."""
    for place, dim in enumerate(ours):
        if dim in value.dims:
            inner = int(np.prod([value.shape[d] for d in ours[place + 1 :]], dtype=np.int64))
            return {new: value.dims[dim].taken(np.arange(size) // inner % value.shape[dim])}
    return {}


def _parted(known: Known, theirs: Sequence[int], shape: Sequence[int]) -> dict[int, Known]:
    sizes = [shape[d] for d in theirs]
    mask, values = known.mask.reshape(sizes), known.values.reshape(sizes)
    dims = {}
    for place, dim in enumerate(theirs):
        rows = np.moveaxis(values, place, 0).reshape(sizes[place], -1)
        whole = np.moveaxis(mask, place, 0).reshape(sizes[place], -1).all(axis=1)
        dims[dim] = Known(whole & (rows == rows[:, :1]).all(axis=1), rows[:, 0])
    return dims


def _dropped(eqn: Any, operands: Sequence[Value]) -> Value:
    """Without dimensions of size 1."""
    value, (out,) = operands[0], eqn.outvars
    gone = {d % len(value.shape) for d in eqn.params["dimensions"]}
    left = [d for d in range(len(value.shape)) if d not in gone]
    dims = {new: value.dims[old] for new, old in enumerate(left) if old in value.dims}
    return like(out, dims, value.uniform)


def _grown(eqn: Any, operands: Sequence[Value]) -> Value:
    value, (out,) = operands[0], eqn.outvars
    added = {d % out.aval.ndim for d in eqn.params["dimensions"]}
    places = [d for d in range(out.aval.ndim) if d not in added]
    return like(out, {places[d]: known for d, known in value.dims.items()}, value.uniform)


def _reduced(eqn: Any, operands: Sequence[Value]) -> Value:
    value, (out,), axes = operands[0], eqn.outvars, eqn.params["axes"]
    count = int(np.prod([value.shape[d] for d in axes], dtype=np.int64))
    sums = eqn.primitive.name == "reduce_sum"
    left = [d for d in range(len(value.shape)) if d not in axes]
    dims = {}
    for new, old in enumerate(left):
        if old in value.dims:
            known = value.dims[old]
            values = (known.values * count).astype(value.dtype) if sums else known.values
            dims[new] = Known(known.mask, values)
    return like(out, dims)


def _windows(eqn: Any, operands: Sequence[Value]) -> Value:
    """Of sums: those of zeros, and of all where no window reaches over the edge."""
    params, (out,) = eqn.params, eqn.outvars
    sizes, padding = params["window_dimensions"], params["padding"]
    inside = all(tuple(p) == (0, 0) for p in padding)
    sums = eqn.primitive.name == "reduce_window_sum"
    full = all(max(p) < n for n, p in zip(sizes, padding, strict=True))
    plain = all(n == 1 for n in (*params["base_dilation"], *params["window_dilation"]))
    count = int(np.prod(sizes, dtype=np.int64))
    dims = {}
    for dim, known in operands[0].dims.items():
        if sums:
            scaled = Known(known.mask, (known.values * count).astype(known.values.dtype))
            dims[dim] = scaled if inside and plain else known.where(known.zeros())
        elif full and plain:
            dims[dim] = known
    return like(out, dims)


def _padded(eqn: Any, operands: Sequence[Value]) -> Value:
    value, filler = operands
    dims = (
        {}
        if filler.uniform is None
        else {d: known.where(known.values == filler.uniform) for d, known in value.dims.items()}
    )
    return like(eqn.outvars[0], dims)


def _sliced(eqn: Any, operands: Sequence[Value]) -> Value:
    params, value, (out,) = eqn.params, operands[0], eqn.outvars
    dims = {}
    for dim, known in value.dims.items():
        step = 1 if params["strides"] is None else params["strides"][dim]
        dims[dim] = known.taken(
            slice(params["start_indices"][dim], params["limit_indices"][dim], step)
        )
    return like(out, dims, value.uniform)


def _whole(eqn: Any, operands: Sequence[Value]) -> Value:
    """Slices at places that are not known: along dimensions that they leave whole."""
    value, (out,) = operands[0], eqn.outvars
    dims = {d: k for d, k in value.dims.items() if value.shape[d] == out.aval.shape[d]}
    return like(out, dims, value.uniform)


def _looked_up(eqn: Any, operands: Sequence[Value]) -> Value:
    params, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    gone = {*params.collapsed_slice_dims, *getattr(params, "operand_batching_dims", ())}
    passed = [d for d in range(len(sizes)) if d not in gone]
    table = operands[0]
    dims = {
        new: table.dims[old]
        for old, new in zip(passed, params.offset_dims, strict=True)
        if old in table.dims and sizes[old] == table.shape[old]
    }
    return like(eqn.outvars[0], dims)


def _updated(eqn: Any, operands: Sequence[Value]) -> Value:
    return same(eqn.outvars[0], operands[:2])


def _concatenated(eqn: Any, operands: Sequence[Value]) -> Value:
    (out,), along = eqn.outvars, eqn.params["dimension"]
    found = same(out, operands)
    parts = [value.along(along) for value in operands]
    joined = Known(
        np.concatenate([k.mask for k in parts]), np.concatenate([k.values for k in parts])
    )
    return dataclasses.replace(found, dims={**found.dims, along: joined})


def _dot(eqn: Any, operands: Sequence[Value]) -> Value:
    """Zero where either operand is; along dimensions that both have, that is enough."""
    (left, right), (out,) = operands, eqn.outvars
    (left_sum, right_sum), (left_batch, right_batch) = eqn.params["dimension_numbers"]
    dims, place = {}, 0
    for one, other in zip(left_batch, right_batch, strict=True):
        zeros = left.along(one).zeros() | right.along(other).zeros()
        dims[place] = Known(zeros, np.zeros(len(zeros), out.aval.dtype))
        place += 1
    for value, gone in ((left, (*left_sum, *left_batch)), (right, (*right_sum, *right_batch))):
        for dim in (d for d in range(len(value.shape)) if d not in gone):
            zeros = value.along(dim).zeros()
            dims[place] = Known(zeros, np.zeros(len(zeros), out.aval.dtype))
            place += 1
    return like(out, dims)


def _convolved(eqn: Any, operands: Sequence[Value]) -> Value:
    (left, right), (out,) = operands, eqn.outvars
    numbers, groups = eqn.params["dimension_numbers"], eqn.params["feature_group_count"]
    zeros = right.along(numbers.rhs_spec[0]).zeros()
    if groups > 1 and right.shape[numbers.rhs_spec[1]] == 1:
        given = left.along(numbers.lhs_spec[1]).zeros()
        zeros = zeros | np.repeat(given, len(zeros) // len(given))
    return like(out, {numbers.out_spec[1]: Known(zeros, np.zeros(len(zeros), out.aval.dtype))})


RULES: dict[str, Callable[[Any, Sequence[Value]], Value]] = {
    "transpose": _transpose,
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "squeeze": _dropped,
    "expand_dims": _grown,
    **dict.fromkeys(
        ("reduce_sum", "reduce_max", "reduce_min", "reduce_and", "reduce_or"), _reduced
    ),
    **dict.fromkeys(("reduce_window_max", "reduce_window_min", "reduce_window_sum"), _windows),
    "pad": _padded,
    "slice": _sliced,
    "dynamic_slice": _whole,
    "gather": _looked_up,
    "dynamic_update_slice": _updated,
    "concatenate": _concatenated,
    "dot_general": _dot,
    "conv_general_dilated": _convolved,
}
