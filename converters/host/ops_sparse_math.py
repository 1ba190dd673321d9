"""Arithmetic on sparse tensors: indices [n, rank] int64, values [n], dense shape [rank] int64."""

from typing import Any

import numpy as np

from jaxrt.converters.host.example import shape_text
from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.ops_math import truncate_divide
from jaxrt.converters.host.rules import op, whole
from jaxrt.converters.host.text import summary
from jaxrt.errors import InvalidArgument

Array = np.ndarray[Any, Any]


@op("SparseReduceSum", exact=whole, keep_dims=False)
def sparse_reduce_sum(
    node: Node, indices: Array, values: Array, shape: Array, axes: Array
) -> Array:
    """Dense; zero where there is no element. Kernel: sparse_reduce_op.cc."""
    return _dense(node, *_reduced(node, np.add, indices, values, shape, axes))


@op("SparseReduceMax", keep_dims=False)
def sparse_reduce_max(
    node: Node, indices: Array, values: Array, shape: Array, axes: Array
) -> Array:
    return _dense(node, *_reduced(node, np.maximum, indices, values, shape, axes))


@op("SparseReduceSumSparse", exact=whole, keep_dims=False)
def sparse_reduce_sum_sparse(
    node: Node, indices: Array, values: Array, shape: Array, axes: Array
) -> tuple[Array, Array, Array]:
    return _reduced(node, np.add, indices, values, shape, axes)


@op("SparseReduceMaxSparse", keep_dims=False)
def sparse_reduce_max_sparse(
    node: Node, indices: Array, values: Array, shape: Array, axes: Array
) -> tuple[Array, Array, Array]:
    return _reduced(node, np.maximum, indices, values, shape, axes)


def _reduced(
    node: Node, how: Any, indices: Array, values: Array, shape: Array, axes: Array
) -> tuple[Array, Array, Array]:
    """The groups that are there, in row-major order of what is kept."""
    rank = len(shape)
    for axis in axes.ravel().tolist():
        if not -rank <= axis < rank:
            raise InvalidArgument(
                f"Invalid reduction dimension {axis}, for input with {rank} dimensions."
            )
    gone = {axis % rank for axis in axes.ravel().tolist()}
    kept = [axis for axis in range(rank) if axis not in gone]
    order = np.lexsort(indices[:, [*kept, *sorted(gone)]].T[::-1])
    places, ordered = indices[order][:, kept], values[order]
    new = np.ones(len(places), bool)
    new[1:] = (places[1:] != places[:-1]).any(axis=1)
    starts = np.flatnonzero(new)
    found = how.reduceat(ordered, starts, dtype=values.dtype) if len(starts) else ordered
    out = np.zeros((len(starts), rank if node.attrs["keep_dims"] else len(kept)), np.int64)
    sizes = np.ones(rank, np.int64)
    sizes[kept] = shape[kept]
    if node.attrs["keep_dims"]:
        out[:, kept] = places[starts]
        return out, found, sizes
    out[:] = places[starts]
    return out, found, shape[kept]


def _dense(node: Node, indices: Array, values: Array, shape: Array) -> Array:
    out = np.zeros(shape.tolist(), values.dtype)
    if indices.shape[1]:
        out[tuple(indices.T)] = values
    elif len(values):
        out[()] = values[0]
    return out


@op("SparseAdd")
def sparse_add(node: Node, *inputs: Array) -> tuple[Array, Array, Array]:
    """Both must be in row-major order. A sum below the threshold is left out."""
    places, values, shape, other_places, other_values, other_shape, least = inputs
    if places.shape[1] != other_places.shape[1]:
        raise InvalidArgument(
            "Input indices must have the same dimension, got"
            f" {places.shape[1]} and {other_places.shape[1]}"
        )
    if shape.shape != other_shape.shape:
        raise InvalidArgument(
            f"Operands do not have the same ranks; got shapes: {summary(shape, 10)}"
            f" and {summary(other_shape, 10)}"
        )
    for at in np.flatnonzero(shape != other_shape)[:1]:
        raise InvalidArgument(
            f"Operands' shapes do not match: got {shape[at]} and {other_shape[at]}"
            f" for dimension {at}"
        )
    ours, theirs = list(map(tuple, places.tolist())), list(map(tuple, other_places.tolist()))
    picked: list[tuple[Any, Any]] = []
    i = j = 0
    while i < len(ours) and j < len(theirs):
        if ours[i] < theirs[j]:
            picked.append((ours[i], values[i]))
            i += 1
        elif ours[i] > theirs[j]:
            picked.append((theirs[j], other_values[j]))
            j += 1
        else:
            total = values[i] + other_values[j]
            if least <= np.abs(total):
                picked.append((ours[i], total))
            i, j = i + 1, j + 1
    picked += [(place, values[i + n]) for n, place in enumerate(ours[i:])]
    picked += [(place, other_values[j + n]) for n, place in enumerate(theirs[j:])]
    where = np.array([place for place, _ in picked], np.int64).reshape(-1, len(shape))
    return where, np.array([value for _, value in picked], values.dtype), shape


@op("SparseSplit")
def sparse_split(
    node: Node, axis: Array, indices: Array, values: Array, shape: Array
) -> tuple[Array, ...]:
    """Indices, values and shapes of the parts; the first parts take what does not divide."""
    count, given = node.attrs["num_split"], int(axis)
    rank = len(shape)
    if not -rank <= given < rank:
        raise InvalidArgument(f"Input split_dim should be between 0 and rank ({rank}), got {given}")
    at = given % rank
    size = int(shape[at])
    if not 1 <= count <= size:
        raise InvalidArgument(
            f"Input num_split should be between 1 and the splitting dimension size ({size}),"
            f" got {count}"
        )
    widths = [size // count + (part < size % count) for part in range(count)]
    starts = np.cumsum([0, *widths])
    found = []
    for part, width in enumerate(widths):
        column = indices[:, at]
        held = (column >= starts[part]) & (column < starts[part + 1])
        moved, sizes = indices[held].copy(), shape.copy()
        moved[:, at] -= starts[part]
        sizes[at] = width
        found.append((moved, values[held], sizes))
    return tuple(one for group in zip(*found, strict=True) for one in group)


@op("SparseTensorDenseAdd")
def sparse_tensor_dense_add(
    node: Node, indices: Array, values: Array, shape: Array, dense: Array
) -> Array:
    if shape.tolist() != list(dense.shape):
        if len(shape) != dense.ndim:
            raise InvalidArgument(
                f"Two operands have different ranks; received: {len(shape)} and {dense.ndim}"
            )
        at = next(i for i, n in enumerate(shape.tolist()) if n != dense.shape[i])
        raise InvalidArgument(
            f"Dimension {at} does not equal (no broadcasting is supported):"
            f" sparse side {shape[at]} vs dense side {dense.shape[at]}"
        )
    out = dense.copy()
    np.add.at(out, tuple(indices.T), values)
    return out


@op("SparseTensorDenseMatMul", exact=whole, adjoint_a=False, adjoint_b=False)
def sparse_tensor_dense_mat_mul(
    node: Node, indices: Array, values: Array, shape: Array, dense: Array
) -> Array:
    """Element by element, in their order."""
    first, second = (1, 0) if node.attrs["adjoint_a"] else (0, 1)
    other = dense.conj().T if node.attrs["adjoint_b"] else dense
    inner = int(shape[second])
    if inner != other.shape[0]:
        raise InvalidArgument(
            "Cannot multiply A and B because inner dimension does not match: "
            f"{inner} vs. {other.shape[0]}.  Did you forget a transpose?  Dimensions of A: "
            f"[{shape[0]}, {shape[1]}).  Dimensions of B: {shape_text(dense.shape)}"
        )
    rows, columns = indices[:, first], indices[:, second]
    for column, size, name in ((columns, inner, second), (rows, int(shape[first]), first)):
        for at in np.flatnonzero((column < 0) | (column >= size))[:1]:
            raise InvalidArgument(
                f"{'k' if name == second else 'm'} ({column[at]}) from index[{at},{name}]"
                f" out of bounds (>={size})"
            )
    out = np.zeros((int(shape[first]), other.shape[1]), values.dtype)
    taken = values.conj() if node.attrs["adjoint_a"] else values
    np.add.at(out, rows, taken[:, None] * other[columns])
    return out


def _register_cwise(name: str, how: Any) -> None:
    @op(f"SparseDenseCwise{name}")
    def run(node: Node, indices: Array, values: Array, shape: Array, dense: Array) -> Array:
        sizes = shape.tolist()
        fits = dense.ndim <= len(sizes) and all(
            n in (1, m) for n, m in zip(dense.shape[::-1], sizes[::-1], strict=False)
        )
        if not fits:
            raise InvalidArgument(
                "SparseDenseBinaryOpShared broadcasts dense to sparse only; got incompatible"
                f" shapes: {shape_text(sizes)} vs. {shape_text(dense.shape)}"
            )
        return np.asarray(how(values, np.broadcast_to(dense, sizes)[tuple(indices.T)]))


_register_cwise("Add", np.add)
_register_cwise("Mul", np.multiply)
_register_cwise("Div", truncate_divide)
