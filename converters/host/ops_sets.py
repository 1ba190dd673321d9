"""Sets: the last dimension of dense or sparse tensors. Kernel: tensorflow/core/kernels/
set_kernels.cc."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxrt.converters.host.example import shape_text
from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.ops_shape import numpy_dtype
from jaxrt.converters.host.rules import Array, op, string_array
from jaxrt.errors import InvalidArgument

Group = tuple[int, ...]
Sets = dict[Group, set[Any]]

_OPERATIONS: dict[bytes, Callable[[set[Any], set[Any]], set[Any]]] = {
    b"a-b": lambda a, b: a - b,
    b"b-a": lambda a, b: b - a,
    b"intersection": lambda a, b: a & b,
    b"union": lambda a, b: a | b,
}


@op("DenseToDenseSetOperation", validate_indices=True)
def dense_to_dense(node: Node, first: Array, second: Array) -> tuple[Array, Array, Array]:
    """Indices, values and shape of a sparse tensor: sorted sets, one a group."""
    return _combined(node, _of_dense(first), _of_dense(second), _groups(first, second), first)


@op("DenseToSparseSetOperation", validate_indices=True)
def dense_to_sparse(
    node: Node, first: Array, indices: Array, values: Array, shape: Array
) -> tuple[Array, Array, Array]:
    groups = _same(first.shape[:-1], tuple(shape[:-1].tolist()))
    return _combined(node, _of_dense(first), _of_sparse(indices, values), groups, first)


@op("SparseToSparseSetOperation", validate_indices=True)
def sparse_to_sparse(node: Node, *inputs: Array) -> tuple[Array, Array, Array]:
    indices, values, shape, other_indices, other_values, other_shape = inputs
    groups = _same(tuple(shape[:-1].tolist()), tuple(other_shape[:-1].tolist()))
    first, second = _of_sparse(indices, values), _of_sparse(other_indices, other_values)
    return _combined(node, first, second, groups, values)


@op("SetSize", validate_indices=True)
def set_size(node: Node, indices: Array, values: Array, shape: Array) -> Array:
    """How many different values each group has: int32."""
    out = np.zeros(shape[:-1].tolist(), np.int32)
    for group, held in _of_sparse(indices, values).items():
        out[group] = len(held)
    return out


@op("ListDiff", out_idx="int32")
def list_diff(node: Node, x: Array, y: Array) -> tuple[Array, Array]:
    """What of x [n] is not in y [m], in its order, and its places."""
    for name, given in (("x", x), ("y", y)):
        if given.ndim != 1:
            raise InvalidArgument(f"{name} should be a 1D vector.")
    others = set(y.tolist())
    kept = np.flatnonzero([value not in others for value in x.tolist()])
    return x[kept], kept.astype(numpy_dtype(node.attrs["out_idx"]))


def _groups(first: Array, second: Array) -> Group:
    return _same(first.shape[:-1], second.shape[:-1])


def _same(first: Group, second: Group) -> Group:
    if first != second:
        raise InvalidArgument(f"Mismatched shapes {shape_text(first)} vs {shape_text(second)}")
    return first


def _of_dense(array: Array) -> Sets:
    return {group: set(array[group].tolist()) for group in np.ndindex(*array.shape[:-1])}


def _of_sparse(indices: Array, values: Array) -> Sets:
    found: Sets = {}
    for group, value in zip(indices[:, :-1].tolist(), values.tolist(), strict=True):
        found.setdefault(tuple(group), set()).add(value)
    return found


def _combined(
    node: Node, first: Sets, second: Sets, groups: Group, like: Array
) -> tuple[Array, Array, Array]:
    combine = _OPERATIONS[node.attrs["set_operation"].lower()]
    indices: list[Group] = []
    values: list[Any] = []
    longest = 0
    for group in sorted({*first, *second}):
        held = sorted(combine(first.get(group, set()), second.get(group, set())))
        indices += [(*group, at) for at in range(len(held))]
        values += held
        longest = max(longest, len(held))
    where = np.array(indices, np.int64).reshape(-1, len(groups) + 1)
    shape = np.array([*groups, longest], np.int64)
    if like.dtype == np.object_:
        return where, string_array(values, (len(values),)), shape
    return where, np.array(values, like.dtype), shape
