"""Gather, scatter and slices whose start is data."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxrt.converters.lift import expression, module
from jaxrt.converters.lift.evaluator import Scope, rule
from jaxrt.converters.lift.module import Operation

CLIP = lax.GatherScatterMode.CLIP
DROP = lax.GatherScatterMode.FILL_OR_DROP


def _vector_last(indices: Array, axis: int) -> Array:
    """Index vectors along `axis` (their rank: indices are scalars) → along the last axis."""
    if axis == indices.ndim:
        return lax.expand_dims(indices, (axis,))
    return lax.transpose(indices, [*(d for d in range(indices.ndim) if d != axis), axis])


def _without(dims: Sequence[int], axis: int) -> tuple[int, ...]:
    """Numbers of dimensions after dimension `axis` has been moved to the end."""
    return tuple(d - (d > axis) for d in dims)


def _gather(op: Operation, operand: Array, indices: Array, sizes: Sequence[int]) -> Array:
    dims = op.attrs["dimension_numbers"]
    axis = dims["index_vector_dim"]
    return lax.gather(
        operand,
        _vector_last(indices, axis),
        lax.GatherDimensionNumbers(
            offset_dims=dims["offset_dims"],
            collapsed_slice_dims=dims["collapsed_slice_dims"],
            start_index_map=dims["start_index_map"],
            operand_batching_dims=dims["operand_batching_dims"],
            start_indices_batching_dims=_without(dims["start_indices_batching_dims"], axis),
        ),
        slice_sizes=tuple(sizes),
        indices_are_sorted=op.attrs.get("indices_are_sorted", False),
        # XLA clamps the start of every slice into the operand; CLIP is the same thing by name.
        mode=CLIP,
    )


@rule("stablehlo.gather", "dimension_numbers", "slice_sizes", "indices_are_sorted")
def gather(op: Operation, operand: Array, indices: Array) -> Array:
    return _gather(op, operand, indices, op.attrs["slice_sizes"])


@rule("stablehlo.dynamic_gather", "dimension_numbers", "indices_are_sorted")
def dynamic_gather(op: Operation, operand: Array, indices: Array, _sizes: Array) -> Array:
    """The sizes are operands; the static type of the result already tells them."""
    dims = op.attrs["dimension_numbers"]
    ones = {*dims["collapsed_slice_dims"], *dims["operand_batching_dims"]}
    offsets = iter(op.aval.shape[d] for d in dims["offset_dims"])
    sizes = [1 if d in ones else next(offsets) for d in range(operand.ndim)]
    return _gather(op, operand, indices, sizes)


@rule("stablehlo.torch_index_select", "dim", "batch_dims")
def torch_index_select(op: Operation, operand: Array, index: Array) -> Array:
    """operand [batch, before, n, after], index [batch, picked] → [batch, before, picked, after]."""
    dim, batch = op.attrs["dim"], op.attrs["batch_dims"]
    picked = index.ndim - batch
    ones = {*range(batch), dim}
    return lax.gather(
        operand,
        lax.expand_dims(index, (index.ndim,)),
        lax.GatherDimensionNumbers(
            offset_dims=(*range(batch, dim), *range(dim + picked, operand.ndim - 1 + picked)),
            collapsed_slice_dims=(dim,),
            start_index_map=(dim,),
            operand_batching_dims=tuple(range(batch)),
            start_indices_batching_dims=tuple(range(batch)),
        ),
        slice_sizes=tuple(1 if d in ones else n for d, n in enumerate(operand.shape)),
        mode=CLIP,
    )


def _starts(operand: Array, sizes: Sequence[int], starts: Sequence[Array]) -> list[Array]:
    """Start indices of one dtype, clamped so that the slice lies in the operand."""
    if len({s.dtype for s in starts}) <= 1:
        return list(starts)  # XLA clamps by itself
    limits = [n - size for n, size in zip(operand.shape, sizes, strict=True)]
    out = []
    for start, limit in zip(starts, limits, strict=True):
        high = min(limit, np.iinfo(np.dtype(start.dtype)).max)
        bounds = [lax.full((), bound, start.dtype) for bound in (0, high)]
        out.append(lax.convert_element_type(lax.clamp(bounds[0], start, bounds[1]), jnp.int64))
    return out


@rule("stablehlo.dynamic_slice", "slice_sizes")
def dynamic_slice(op: Operation, operand: Array, *starts: Array) -> Array:
    sizes = op.attrs["slice_sizes"]
    # Negative starts are clamped to 0 in StableHLO; by default JAX counts them from the end.
    return lax.dynamic_slice(
        operand, _starts(operand, sizes, starts), sizes, allow_negative_indices=False
    )


@rule("stablehlo.dynamic_update_slice")
def dynamic_update_slice(_op: Operation, operand: Array, update: Array, *starts: Array) -> Array:
    return lax.dynamic_update_slice(
        operand, update, _starts(operand, update.shape, starts), allow_negative_indices=False
    )


_COMBINERS = {
    "stablehlo.add": lax.scatter_add,
    "stablehlo.multiply": lax.scatter_mul,
    "stablehlo.minimum": lax.scatter_min,
    "stablehlo.maximum": lax.scatter_max,
}
_BOOLEAN_COMBINERS = {
    # Sum and product of i1 are `or` and `and`; so are its maximum and minimum.
    "stablehlo.add": lax.scatter_max,
    "stablehlo.or": lax.scatter_max,
    "stablehlo.maximum": lax.scatter_max,
    "stablehlo.multiply": lax.scatter_min,
    "stablehlo.and": lax.scatter_min,
    "stablehlo.minimum": lax.scatter_min,
}


@rule(
    "stablehlo.scatter",
    "scatter_dimension_numbers",
    "indices_are_sorted",
    "unique_indices",
    scope=True,
)
def scatter(op: Operation, scope: Scope, *values: Array) -> list[Array]:
    """Several inputs share the indices; where none needs another's value, each goes alone."""
    count = len(values) // 2
    inputs, indices, updates = values[:count], values[count], values[count + 1 :]
    (body,) = op.regions
    results = expression.of(body, scope.functions)
    if results is None or not all(
        expression.arguments(e) <= {k, count + k} for k, e in enumerate(results)
    ):
        return _scatter_in_order(op, scope, inputs, indices, updates)
    out = []
    for k, (operand, update) in enumerate(zip(inputs, updates, strict=True)):
        result = _scatter_alone(op, results[k], (k, count + k), operand, indices, update)
        if result is None:
            return _scatter_in_order(op, scope, inputs, indices, updates)
        out.append(result)
    return out


def _scatter_alone(
    op: Operation,
    body: expression.Expression,
    pair: tuple[int, int],
    operand: Array,
    indices: Array,
    update: Array,
) -> Array | None:
    """One input with a combiner that JAX has a primitive for; None where it has not."""
    current, new = (expression.Argument(n) for n in pair)
    if body == current:
        return operand
    if isinstance(body, expression.Argument):
        function: Any = lax.scatter
    elif body.name == "stablehlo.subtract" and body.operands == (current, new):
        function, update = lax.scatter_add, lax.neg(update)
    elif body.operands in ((current, new), (new, current)):
        function = (_BOOLEAN_COMBINERS if operand.dtype == bool else _COMBINERS).get(body.name)
    else:
        function = None
    if function is None:
        return None
    dims = op.attrs["scatter_dimension_numbers"]
    axis = dims["index_vector_dim"]
    result: Array = function(
        operand,
        _vector_last(indices, axis),
        update,
        lax.ScatterDimensionNumbers(
            update_window_dims=dims["update_window_dims"],
            inserted_window_dims=dims["inserted_window_dims"],
            scatter_dims_to_operand_dims=dims["scattered_dims_to_operand_dims"],
            operand_batching_dims=dims["input_batching_dims"],
            scatter_indices_batching_dims=_without(dims["scatter_indices_batching_dims"], axis),
        ),
        indices_are_sorted=op.attrs.get("indices_are_sorted", False),
        unique_indices=op.attrs.get("unique_indices", False),
        mode=DROP,
    )
    return result


def _scatter_in_order(
    op: Operation,
    scope: Scope,
    inputs: Sequence[Array],
    indices: Array,
    updates: Sequence[Array],
) -> list[Array]:
    """Any combiner: the updates one after another, in row-major order of the indices."""
    dims = op.attrs["scatter_dimension_numbers"]
    shape = inputs[0].shape
    windows = _windows(dims, updates)
    if windows[0].size == 0:
        return list(inputs)
    starts = _window_starts(dims, shape, indices)
    fixed = {*dims["inserted_window_dims"], *dims["input_batching_dims"]}
    sizes_of = iter(windows[0].shape[1:])
    sizes = [1 if d in fixed else next(sizes_of) for d in range(len(shape))]
    limits = jnp.asarray([n - s for n, s in zip(shape, sizes, strict=True)], jnp.int64)
    combine = _elementwise(scope, op.regions[0])

    def step(i: Array, outputs: list[Array]) -> list[Array]:
        start = lax.dynamic_index_in_dim(starts, i, keepdims=False)
        # A window that does not fit wholly is skipped wholly, as XLA does.
        fits = jnp.all((start >= 0) & (start <= limits))
        at = [start[d] for d in range(len(shape))]
        current = [lax.dynamic_slice(out, at, sizes) for out in outputs]
        new = [lax.reshape(lax.dynamic_index_in_dim(w, i, keepdims=False), sizes) for w in windows]
        combined = combine(*current, *new)
        return [
            lax.dynamic_update_slice(out, lax.select(fits, now, old), at)
            for out, now, old in zip(outputs, combined, current, strict=True)
        ]

    count = lax.full((), windows[0].shape[0], jnp.int64)
    return list(lax.fori_loop(lax.full((), 0, jnp.int64), count, step, list(inputs)))


def _windows(dims: dict[str, Any], updates: Sequence[Array]) -> list[Array]:
    """Updates → [scatter indices, *window dimensions]."""
    window = dims["update_window_dims"]
    batch = [d for d in range(updates[0].ndim) if d not in window]
    out = []
    for update in updates:
        moved = lax.transpose(update, [*batch, *window])
        sizes = moved.shape[len(batch) :]
        out.append(lax.reshape(moved, [_product(moved.shape[: len(batch)]), *sizes]))
    return out


def _window_starts(dims: dict[str, Any], shape: tuple[int, ...], indices: Array) -> Array:
    """Where each update window starts in the operand: int64 [scatter indices, rank]."""
    axis = dims["index_vector_dim"]
    vectors = _vector_last(indices, axis)
    batch = vectors.shape[:-1]
    # uint64 beyond int64 is out of bounds either way: it turns negative.
    columns = [lax.full(batch, 0, jnp.int64)] * len(shape)
    for k, d in enumerate(dims["scattered_dims_to_operand_dims"]):
        column = lax.index_in_dim(vectors, k, axis=-1, keepdims=False)
        columns[d] = lax.convert_element_type(column, jnp.int64)
    batching = _without(dims["scatter_indices_batching_dims"], axis)
    for d, source in zip(dims["input_batching_dims"], batching, strict=True):
        columns[d] = lax.broadcasted_iota(jnp.int64, batch, source)
    columns = [lax.reshape(c, (_product(batch), 1)) for c in columns]
    return lax.concatenate(columns, 1)


def _elementwise(scope: Scope, body: module.Block) -> Any:
    """A region over scalars → a function over arrays of one shape."""

    def combine(*arrays: Array) -> list[Array]:
        flat = [lax.reshape(a, (a.size,)) for a in arrays]
        results = jax.vmap(lambda *scalars: scope.run(body, scalars))(*flat)
        return [lax.reshape(r, arrays[0].shape) for r in results]

    return combine


def _product(shape: Sequence[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total
