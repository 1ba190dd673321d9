"""Sparse tensors: indices [n, rank] int64, values [n], dense shape [rank] int64."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrt.converters.host.example import shape_text
from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.rules import op
from jaxrt.errors import InvalidArgument

Array = np.ndarray[Any, Any]


@op("SparseToDense", validate_indices=True)
def sparse_to_dense(
    node: Node, indices: Array, shape: Array, values: Array, default: Array
) -> Array:
    """Kernel: tensorflow/core/kernels/sparse_to_dense_op.cc."""
    if indices.ndim > 2:
        raise InvalidArgument(
            "sparse_indices should be a scalar, vector, or matrix, got shape "
            + shape_text(indices.shape)
        )
    count = indices.shape[0] if indices.ndim else 1
    rank = indices.shape[1] if indices.ndim > 1 else 1
    places = indices.reshape(count, rank).astype(np.int64)
    if shape.size != rank:
        raise InvalidArgument(
            f"output_shape has incorrect number of elements: {shape.size} should be: {rank}"
        )
    if values.ndim and values.shape != (count,):
        raise InvalidArgument(
            f"sparse_values has incorrect shape {shape_text(values.shape)},"
            f" should be [] or [{count}]"
        )
    if default.ndim:
        raise InvalidArgument("default_value should be a scalar.")
    _check_sizes(shape)
    sizes = tuple(int(size) for size in shape)
    if node.attrs["validate_indices"]:
        _check_order(places, sizes)
    out = np.full(sizes, default, values.dtype)
    bad = ((places < 0) | (places >= np.array(sizes, np.int64))).any(axis=1)
    if bad.any():
        raise InvalidArgument(f"Indices are not valid (out of bounds).  Shape: {shape_text(sizes)}")
    out[tuple(places.T)] = values
    return out


@op("SparseFillEmptyRows")
def sparse_fill_empty_rows(
    node: Node, indices: Array, values: Array, shape: Array, default: Array
) -> tuple[Array, Array, Array, Array]:
    """Results: indices, values, which rows were empty, where each value went."""
    if len(indices) != len(values):
        raise InvalidArgument(
            f"The length of `values` ({len(values)}) must match the first dimension of `indices`"
            f" ({len(indices)})."
        )
    rows, count = int(shape[0]), len(indices)
    if rows == 0 and count:
        raise InvalidArgument(
            f"Received SparseTensor with dense_shape[0] = 0 but indices.shape[0] = {count}"
        )
    row = indices[:, 0]
    for at in np.flatnonzero((row < 0) | (row >= rows))[:1]:
        raise InvalidArgument(f"indices({at}, 0) is invalid: {row[at]} >= {rows}")
    held = np.bincount(row, minlength=rows)
    empty = held == 0
    # Rows in order, each with one element at least; elements of a row stay in their order.
    order = np.argsort(np.concatenate([row, np.flatnonzero(empty)]), kind="stable")
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    filler = np.zeros((int(empty.sum()), indices.shape[1]), np.int64)
    filler[:, 0] = np.flatnonzero(empty)
    fillings = np.full(len(filler), default, values.dtype)
    return (
        np.concatenate([indices, filler])[order],
        np.concatenate([values, fillings])[order],
        empty,
        places[:count],
    )


@op("SparseReshape")
def sparse_reshape(node: Node, indices: Array, shape: Array, target: Array) -> tuple[Array, Array]:
    """Kernel: tensorflow/core/kernels/reshape_util.cc."""
    sizes = [int(size) for size in target]
    dense = math.prod(int(size) for size in shape)
    unknown = [at for at, size in enumerate(sizes) if size == -1]
    if len(unknown) > 1:
        raise InvalidArgument(
            f"only one output dimension may be -1, not both {unknown[0]} and {unknown[1]}"
        )
    for at, size in enumerate(sizes):
        if size < -1:
            raise InvalidArgument(f"size {at} must be non-negative, not {size}")
    product = math.prod(size for size in sizes if size != -1)
    if unknown:
        sizes[unknown[0]] = _missing_size(dense, product, shape, sizes)
    if math.prod(sizes) != dense:
        raise InvalidArgument(
            f"Input to reshape is a tensor with {dense} dense values, but the requested shape has"
            f" {math.prod(sizes)}. input_shape={shape_text(shape.tolist())}"
            f" output_shape={shape_text(sizes)}"
        )
    out = np.array(sizes, np.int64)
    if sizes == shape.tolist():
        return indices, shape
    if len(indices) and not dense:
        raise InvalidArgument(
            f"Input tensor has {len(indices)} non zero elements but input shape"
            f" ({shape_text(shape.tolist())}) or output shape ({shape_text(sizes)}) is empty"
        )
    if not dense:
        return np.empty((0, len(sizes)), np.int64), out
    flat = indices @ _strides(shape)
    steps = _strides(out)
    found = np.empty((len(indices), len(sizes)), np.int64)
    for at, step in enumerate(steps):
        found[:, at], flat = flat // step, flat % step
    return found, out


@op("SparseReorder")
def sparse_reorder(node: Node, indices: Array, values: Array, shape: Array) -> tuple[Array, Array]:
    """Row-major order; equal indices keep theirs."""
    order = _row_major(indices)
    return indices[order], values[order]


@op("SparseSlice")
def sparse_slice(
    node: Node, indices: Array, values: Array, shape: Array, start: Array, size: Array
) -> tuple[Array, Array, Array]:
    """What lies in a box, moved to its corner."""
    inside = ((indices >= start) & (indices < start + size)).all(axis=1)
    left = np.clip(np.minimum(size, shape - start), 0, None)
    return indices[inside] - start, values[inside], left


@op("SparseConcat")
def sparse_concat(node: Node, *inputs: Array) -> tuple[Array, Array, Array]:
    """Indices, values and shapes of n tensors, one list after the other; in row-major order."""
    count = node.attrs["N"]
    indices, values, shapes = (inputs[at * count : (at + 1) * count] for at in range(3))
    rank = len(shapes[0])
    dim = node.attrs["concat_dim"]
    axis = dim + rank if dim < 0 else dim
    if not 0 <= axis < rank:
        raise InvalidArgument(f"Concat dimension must be in range [{-rank}, {rank}), got {dim}")
    _check_concat(shapes, axis)
    out = shapes[0].copy()
    out[axis] = sum(int(shape[axis]) for shape in shapes)
    moved, offset = [], 0
    for places, shape in zip(indices, shapes, strict=True):
        step = np.zeros(rank, np.int64)
        step[axis] = offset
        moved.append(places + step)
        offset += int(shape[axis])
    joined = np.concatenate(moved)
    order = _row_major(joined)
    return joined[order], np.concatenate(values)[order], out


def _check_concat(shapes: Sequence[Array], axis: int) -> None:
    first = shapes[0]
    for at, shape in enumerate(shapes):
        if len(shape) != len(first):
            raise InvalidArgument(
                f"Ranks of all input tensors must match: expected {len(first)} but got"
                f" {len(shape)} at position {at}"
            )
        for dim in range(len(first)):
            if dim != axis and shape[dim] != first[dim]:
                raise InvalidArgument(
                    f"Input shapes must match: expected {first[dim]} for dimension {dim} but got"
                    f" {shape[dim]} at position {at}"
                )


def _missing_size(dense: int, product: int, shape: Array, sizes: Sequence[int]) -> int:
    if product == 0:
        raise InvalidArgument(
            "reshape cannot infer the missing input size for an empty tensor unless all specified"
            " input sizes are non-zero"
        )
    if dense % product:
        asked = [1 if size == -1 else size for size in sizes]
        raise InvalidArgument(
            f"Input to reshape is a SparseTensor with {dense} dense values, but the requested shape"
            f" requires a multiple of {product}. input_shape={shape_text(shape.tolist())}"
            f" output_shape={shape_text(asked)}"
        )
    return dense // product


def _check_sizes(shape: Array) -> None:
    for size in shape.ravel().tolist():
        if size < 0:
            raise InvalidArgument(f"Dimension {size} must be >= 0")


def _check_order(indices: Array, sizes: Sequence[int]) -> None:
    """Raises where indices repeat, go back, or leave the shape: the first that does is named."""
    steps = np.diff(indices, axis=0)
    first = np.argmax(steps != 0, axis=1) if len(steps) else np.empty(0, np.int64)
    change = np.take_along_axis(steps, first[:, None], axis=1)[:, 0] if len(steps) else first
    beyond: Array = (indices < 0) | (indices >= np.array(sizes, np.int64))
    outside: Array = np.asarray(np.any(beyond, axis=1))
    wrong = outside | np.concatenate([np.zeros(min(1, len(indices)), bool), change <= 0])
    for at in np.flatnonzero(wrong)[:1]:
        place = f"indices[{at}] = [{','.join(map(str, indices[at].tolist()))}]"
        if outside[at]:
            raise InvalidArgument(
                f"{place} is out of bounds: need 0 <= index < [{','.join(map(str, sizes))}]"
            )
        if change[at - 1] == 0:
            raise InvalidArgument(f"{place} is repeated")
        raise InvalidArgument(
            f"{place} is out of order. Many sparse ops require sorted indices.\n"
            "    Use `tf.sparse.reorder` to create a correctly ordered copy.\n\n"
        )


def _row_major(indices: Array) -> Array:
    return np.lexsort(indices.T[::-1]) if indices.shape[1] else np.arange(len(indices))


def _strides(shape: Array) -> Array:
    """[2, 3, 4] → 12 4 1."""
    return np.cumprod(np.concatenate([[1], shape[:0:-1]]))[::-1].astype(np.int64)
