"""How often numbers come, as sparse tensors. Kernel: tensorflow/core/kernels/count_ops.cc."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrt.converters.host.example import shape_text
from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.rules import Array, op
from jaxrt.errors import InvalidArgument


@op("DenseCountSparseOutput", minlength=-1, maxlength=-1)
def dense_count(node: Node, values: Array, weights: Array) -> tuple[Array, Array, Array]:
    """[n] or [batch, n] → indices, counts, shape."""
    if values.ndim not in (1, 2):
        raise InvalidArgument(
            f"Input must be a 1 or 2-dimensional tensor. Got: {shape_text(values.shape)}"
        )
    _check_values(values)
    _check_weights(weights, values, "data")
    if values.ndim == 2 and not len(values):
        raise InvalidArgument("Invalid input: Shapes dimension cannot be 0.")
    rows = np.arange(len(values)).repeat(values.shape[1]) if values.ndim == 2 else None
    count = len(values) if values.ndim == 2 else 1
    return _counted(node, rows, values.ravel(), weights.ravel(), count)


@op("SparseCountSparseOutput", minlength=-1, maxlength=-1)
def sparse_count(
    node: Node, indices: Array, values: Array, shape: Array, weights: Array
) -> tuple[Array, Array, Array]:
    _check_values(values)
    if not shape.size:
        raise InvalidArgument("The shape argument requires at least one element.")
    _check_indices(indices, shape)
    _check_weights(weights, values, "values")
    single = len(shape) == 1
    count = 1 if single else int(shape[0])
    if count <= 0:
        raise InvalidArgument(f"Cannot allocate {count} batches, is the dense shape too wide?")
    return _counted(node, None if single else indices[:, 0], values, weights, count)


@op("RaggedCountSparseOutput", minlength=-1, maxlength=-1)
def ragged_count(
    node: Node, splits: Array, values: Array, weights: Array
) -> tuple[Array, Array, Array]:
    _check_values(values)
    _check_weights(weights, values, "values")
    if len(splits) < 2:
        raise InvalidArgument("Must provide at least 2 elements for the splits argument")
    if splits[0] != 0:
        raise InvalidArgument(f"Splits must start with 0, not with {splits[0]}")
    if splits[-1] != values.size:
        raise InvalidArgument(
            f"Splits must end with the number of values, got {splits[-1]} instead of {values.size}"
        )
    rows = np.searchsorted(splits, np.arange(values.size), "right") - 1
    return _counted(node, rows, values.ravel(), weights.ravel(), len(splits) - 1)


def _check_values(values: Array) -> None:
    if (values < 0).any():
        raise InvalidArgument("Input values must all be non-negative")


def _check_weights(weights: Array, values: Array, name: str) -> None:
    if weights.size and weights.shape != values.shape:
        raise InvalidArgument(
            f"Weights and {name} must have the same shape. Weight shape: "
            f"{shape_text(weights.shape)}; {name} shape: {shape_text(values.shape)}"
        )


def _check_indices(indices: Array, shape: Array) -> None:
    for at, dim in np.argwhere((indices < 0) | (indices >= shape)).tolist()[:1]:
        sizes = " ".join(map(str, shape.tolist()))
        raise InvalidArgument(
            f"Invalid index value at {at}: dimension {dim} has value {indices[at, dim]} which is"
            f" not in [0, {shape[dim]}) (as given by dense shape Tensor<type: int64 shape:"
            f" {shape_text(shape.shape)} values: {sizes}>"
        )


def _counted(
    node: Node, rows: Array | None, values: Array, weights: Array, count: int
) -> tuple[Array, Array, Array]:
    """Sorted by row and number. Numbers from `maxlength` on do not count."""
    most, least = node.attrs["maxlength"], node.attrs["minlength"]
    kept = values < most if most > 0 else np.ones(len(values), bool)
    held = values[kept].tolist()
    own: Sequence[int] = rows[kept].tolist() if rows is not None else [0] * len(held)
    each = weights[kept] if weights.size else np.ones(len(held), weights.dtype)
    found: dict[tuple[int, int], Any] = {}
    for row, value, weight in zip(own, held, each, strict=True):
        known = None if node.attrs["binary_output"] else found.get((row, value))
        found[row, value] = weight if known is None else known + weight
    keys = sorted(found)
    one = np.ones((), weights.dtype)[()]
    results = [one if node.attrs["binary_output"] else found[key] for key in keys]
    size = most if most > 0 else max(max(held, default=0) + 1, least)
    indices = np.array(keys, np.int64).reshape(-1, 2)
    if rows is None:
        return indices[:, 1:], np.array(results, weights.dtype), np.array([size], np.int64)
    return indices, np.array(results, weights.dtype), np.array([count, size], np.int64)
