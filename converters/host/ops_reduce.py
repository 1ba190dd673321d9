"""Ops that combine elements: reductions, scans, sorting, counting, segments."""

import itertools
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.ops_math import shape_text
from jaxrt.converters.host.ops_shape import axis_of, numpy_dtype
from jaxrt.converters.host.rules import Array, op, whole
from jaxrt.errors import InvalidArgument


def _axes(x: Array, axes: Array) -> tuple[int, ...]:
    found = axes.ravel().tolist()
    for axis in found:
        if not -x.ndim <= axis < x.ndim:
            raise InvalidArgument(
                f"Invalid reduction dimension ({axis} for input with {x.ndim} dimension(s)"
            )
    places = sorted(axis % x.ndim for axis in found)
    for axis, other in itertools.pairwise(places):
        if axis == other:
            raise InvalidArgument(
                f"Invalid reduction arguments: Axes contains duplicate dimension: {axis}"
            )
    return tuple(places)


def _sum(x: Array, axes: tuple[int, ...], keep: Any) -> Any:
    return np.add.reduce(x, axes, dtype=x.dtype, keepdims=keep)


def _product(x: Array, axes: tuple[int, ...], keep: Any) -> Any:
    return np.multiply.reduce(x, axes, dtype=x.dtype, keepdims=keep)


def _lowest(dtype: np.dtype[Any]) -> Any:
    return np.iinfo(dtype).min if dtype.kind in "iu" else -np.inf


def _highest(dtype: np.dtype[Any]) -> Any:
    return np.iinfo(dtype).max if dtype.kind in "iu" else np.inf


def _max(x: Array, axes: tuple[int, ...], keep: Any) -> Any:
    return np.maximum.reduce(x, axes, keepdims=keep, initial=_lowest(x.dtype))


def _min(x: Array, axes: tuple[int, ...], keep: Any) -> Any:
    return np.minimum.reduce(x, axes, keepdims=keep, initial=_highest(x.dtype))


def _mean(x: Array, axes: tuple[int, ...], keep: Any) -> Any:
    count = np.asarray(np.prod([x.shape[a] for a in axes], dtype=np.int64))
    total = np.add.reduce(x, axes, dtype=x.dtype, keepdims=keep)
    if x.dtype.kind in "iu":
        return np.asarray(np.trunc(total / np.maximum(count, 1))).astype(x.dtype)
    return np.divide(total, count.astype(x.dtype))


def _all(x: Array, axes: tuple[int, ...], keep: Any) -> Any:
    return np.logical_and.reduce(x, axes, keepdims=keep)


def _any(x: Array, axes: tuple[int, ...], keep: Any) -> Any:
    return np.logical_or.reduce(x, axes, keepdims=keep)


def _register(name: str, reduce: Callable[[Array, tuple[int, ...], Any], Any]) -> None:
    @op(name, exact=whole if name in ("Sum", "Prod", "Mean") else True, keep_dims=False)
    def run(node: Node, x: Array, axes: Array) -> Any:
        found = _axes(x, axes)
        if not found:
            return x
        return reduce(x, found, node.attrs["keep_dims"])


for _name, _reduce in {
    "Sum": _sum,
    "Prod": _product,
    "Max": _max,
    "Min": _min,
    "Mean": _mean,
    "All": _all,
    "Any": _any,
}.items():
    _register(_name, _reduce)


def _scan(node: Node, x: Array, axis: Array, how: Any, start: int) -> Array:
    if not -x.ndim <= axis < x.ndim:
        raise InvalidArgument(
            f"ScanOp: Expected scan axis in the range [{-x.ndim}, {x.ndim}), but got {int(axis)}"
        )
    at = int(axis)
    rows = np.moveaxis(x, at, 0)
    rows = rows[::-1] if node.attrs["reverse"] else rows
    found = how.accumulate(rows, 0, dtype=x.dtype) if rows.size else rows.copy()
    if node.attrs["exclusive"] and len(found):
        first = np.full((1, *found.shape[1:]), start, x.dtype)
        found = np.concatenate([first, found[:-1]])
    found = found[::-1] if node.attrs["reverse"] else found
    return np.moveaxis(found, 0, at)


@op("Cumsum", exact=whole, exclusive=False, reverse=False)
def cumsum(node: Node, x: Array, axis: Array) -> Array:
    return _scan(node, x, axis, np.add, 0)


@op("Cumprod", exact=whole, exclusive=False, reverse=False)
def cumprod(node: Node, x: Array, axis: Array) -> Array:
    return _scan(node, x, axis, np.multiply, 1)


@op("ArgMax", output_type="int64")
def arg_max(node: Node, x: Array, axis: Array) -> Any:
    return _arg(node, x, axis, np.argmax)


@op("ArgMin", output_type="int64")
def arg_min(node: Node, x: Array, axis: Array) -> Any:
    return _arg(node, x, axis, np.argmin)


def _arg(node: Node, x: Array, axis: Array, how: Callable[..., Any]) -> Any:
    at = axis_of(int(axis), x.ndim)
    if not x.shape[at]:
        raise InvalidArgument(f"Reduction axis {at} is empty in shape {shape_text(x)}")
    return np.asarray(how(_comparable(x, how), at)).astype(numpy_dtype(node.attrs["output_type"]))


def _comparable(x: Array, how: Callable[..., Any]) -> Array:
    """Eigen starts from the dtype's extreme finite number: NaN is never better than it."""
    if x.dtype.kind in "iub":
        return x
    least = how is np.argmax
    limits = ml_dtypes.finfo(x.dtype)  # type: ignore[no-untyped-call]
    worst = np.asarray(limits.min if least else limits.max, x.dtype)
    return np.where((x > worst) if least else (x < worst), x, worst)


@op("TopKV2", "TopK", sorted=True, index_type="int32", k=None)
def top_k(node: Node, x: Array, count: Array | None = None) -> tuple[Array, Array]:
    """Of equal elements the one of the lower index comes first."""
    k = int(count) if count is not None else node.attrs["k"]
    if k < 0:
        raise InvalidArgument(f"Need k >= 0, got {k}")
    if not x.ndim or x.shape[-1] < k:
        raise InvalidArgument(f"input must have at least k columns. Had {x.shape[-1]}, needed {k}")
    ascending = np.argsort(x[..., ::-1], axis=-1, kind="stable")
    order = (x.shape[-1] - 1 - ascending)[..., ::-1][..., :k]
    dtype = numpy_dtype(node.attrs["index_type"])
    return np.take_along_axis(x, order, -1), order.astype(dtype)


@op("Bucketize", rowwise=True)
def bucketize(node: Node, x: Array) -> Array:
    """Boundaries are float; an integer is compared as one, a double as a double."""
    boundaries = np.asarray(node.attrs["boundaries"], np.float32)
    if x.dtype != np.float64:
        return np.searchsorted(boundaries, x.astype(np.float32), "right").astype(np.int32)
    return np.searchsorted(boundaries.astype(np.float64), x, "right").astype(np.int32)


@op("UpperBound", out_type="int32")
def upper_bound(node: Node, ordered: Array, values: Array) -> Array:
    return _bound(node, ordered, values, "right")


@op("LowerBound", out_type="int32")
def lower_bound(node: Node, ordered: Array, values: Array) -> Array:
    return _bound(node, ordered, values, "left")


def _bound(node: Node, ordered: Array, values: Array, side: Any) -> Array:
    if len(ordered) != len(values):
        raise InvalidArgument("Leading dim_size of both tensors must match.")
    found = np.empty(values.shape, numpy_dtype(node.attrs["out_type"]))
    for row in range(len(values)):
        found[row] = np.searchsorted(ordered[row], values[row], side)
    return found


@op("Unique", out_idx="int32")
def unique(node: Node, x: Array) -> tuple[Array, Array]:
    values, places, _ = _unique(x, numpy_dtype(node.attrs["out_idx"]))
    return values, places


@op("UniqueWithCounts", out_idx="int32")
def unique_with_counts(node: Node, x: Array) -> tuple[Array, Array, Array]:
    return _unique(x, numpy_dtype(node.attrs["out_idx"]))


@op("UniqueV2", out_idx="int32")
def unique_v2(node: Node, x: Array, axis: Array) -> tuple[Array, Array]:
    values, places, _ = _unique_along(x, axis, numpy_dtype(node.attrs["out_idx"]))
    return values, places


@op("UniqueWithCountsV2", out_idx="int32")
def unique_with_counts_v2(node: Node, x: Array, axis: Array) -> tuple[Array, Array, Array]:
    return _unique_along(x, axis, numpy_dtype(node.attrs["out_idx"]))


def _unique_along(x: Array, axis: Array, dtype: np.dtype[Any]) -> tuple[Array, Array, Array]:
    if not axis.size or x.ndim == 1:
        return _unique(x, dtype)
    at = axis_of(int(axis.item()), x.ndim)
    rows = np.moveaxis(x, at, 0)
    keys = np.empty(len(rows), object)
    keys[:] = [tuple(row.ravel().tolist()) for row in rows]
    _, places, counts = _unique(keys, dtype)
    first = np.unique(places, return_index=True)[1] if len(places) else np.zeros(0, np.int64)
    return np.moveaxis(rows[first], 0, at), places, counts


def _unique(x: Array, dtype: np.dtype[Any]) -> tuple[Array, Array, Array]:
    """Values in the order they come first, the place of each, how often each comes."""
    if x.ndim != 1:
        raise InvalidArgument("unique expects a 1D vector.")
    if x.dtype.kind in "iu":
        values, first, places, counts = np.unique(
            x, return_index=True, return_inverse=True, return_counts=True
        )
        order = np.argsort(first, kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        return values[order], rank[places].astype(dtype), counts[order].astype(dtype)
    found: dict[Any, int] = {}
    inverse = np.asarray([found.setdefault(v, len(found)) for v in x.tolist()], dtype)
    first = np.unique(inverse, return_index=True)[1] if len(inverse) else np.zeros(0, np.int64)
    return x[first], inverse, np.bincount(inverse, minlength=len(first)).astype(dtype)


@op("Bincount")
def bincount(node: Node, x: Array, size: Array, weights: Array) -> Array:
    if (x < 0).any():
        raise InvalidArgument("Input arr must be non-negative!")
    return _count(x.ravel(), int(size), weights.ravel(), False)


@op("DenseBincount", binary_output=False)
def dense_bincount(node: Node, x: Array, size: Array, weights: Array) -> Array:
    binary, count = node.attrs["binary_output"], int(size)
    for value in x[x < 0].tolist()[:1]:
        raise InvalidArgument(
            "Input arr must be non-negative!"
            if x.ndim <= 1
            else f"Input 'in' must be non-negative! Negative input value found: {value}"
        )
    if x.ndim <= 1:
        return _count(x.ravel(), count, weights.ravel(), binary)
    rows = [
        _count(x[i], count, weights[i] if weights.size else weights.ravel(), binary)
        for i in range(len(x))
    ]
    return np.stack(rows) if rows else np.zeros((0, count), weights.dtype)


@op("RaggedBincount", binary_output=False)
def ragged_bincount(node: Node, splits: Array, x: Array, size: Array, weights: Array) -> Array:
    bounds, count = splits.tolist(), int(size)
    if not bounds or bounds[0] != 0:
        raise InvalidArgument("Splits must start with 0, not with " + str(bounds[:1]))
    found = np.zeros((len(bounds) - 1, count), weights.dtype)
    for row in range(len(bounds) - 1):
        part = slice(bounds[row], bounds[row + 1])
        chosen = weights[part] if weights.size else weights
        found[row] = _count(x[part], count, chosen, node.attrs["binary_output"])
    return found


@op("SparseBincount", binary_output=False)
def sparse_bincount(
    node: Node, indices: Array, x: Array, shape: Array, size: Array, weights: Array
) -> Array:
    binary, count = node.attrs["binary_output"], int(size)
    if len(shape) == 1:
        return _count(x, count, weights, binary)
    found = np.zeros((int(shape[0]), count), weights.dtype)
    for row in np.unique(indices[:, 0]).tolist():
        here = indices[:, 0] == row
        found[row] = _count(x[here], count, weights[here] if weights.size else weights, binary)
    return found


def _count(x: Array, size: int, weights: Array, binary: bool) -> Array:
    """How often each number below `size` comes; larger ones do not count."""
    if size < 0:
        raise InvalidArgument(f"size ({size}) must be non-negative")
    if (x < 0).any():
        raise InvalidArgument("Input must be non-negative")
    small = x < size
    found = np.zeros(size, weights.dtype)
    if binary:
        found[x[small]] = 1
    elif weights.size:
        np.add.at(found, x[small], weights[small])
    else:
        np.add.at(found, x[small], np.ones((), weights.dtype))
    return found


def _segments(x: Array, ids: Array) -> int:
    """The number of segments; the ids must not fall."""
    if len(ids) != len(x):
        raise InvalidArgument("segment_ids should be the same size as dimension 0 of input.")
    if (np.diff(ids) < 0).any():
        raise InvalidArgument("segment ids are not increasing")
    count = int(ids[-1]) + 1 if len(ids) else 0
    if len(ids) and ids[0] < 0:
        raise InvalidArgument(
            f"Segment id {ids[0]} out of range [0, {count}), possibly because 'segment_ids' input"
            " is not sorted."
        )
    return count


def _register_segment(name: str, how: Any, start: Callable[[np.dtype[Any]], Any]) -> None:
    @op(f"Segment{name}", exact=True if name in ("Max", "Min") else whole)
    def run(node: Node, x: Array, ids: Array) -> Array:
        count = _segments(x, ids)
        found = np.full((count, *x.shape[1:]), start(x.dtype), x.dtype)
        how.at(found, ids, x)
        found[np.bincount(ids, minlength=count)[:count] == 0] = 1 if name == "Prod" else 0
        return found

    @op(f"UnsortedSegment{name}", exact=True if name in ("Max", "Min") else whole)
    def run_unsorted(node: Node, x: Array, ids: Array, count: Array) -> Array:
        if x.shape[: ids.ndim] != ids.shape:
            raise InvalidArgument(
                f"data.shape = {shape_text(x)} does not start with segment_ids.shape ="
                f" {shape_text(ids)}"
            )
        if count < 0:
            raise InvalidArgument(f"Input num_segments == {int(count)} must not be negative.")
        inner = x.shape[ids.ndim :]
        flat, data = ids.ravel(), x.reshape(ids.size, *inner)
        if (flat >= int(count)).any():
            at = np.argwhere(ids >= int(count))[0]
            place = f"[{','.join(map(str, at.tolist()))}]"
            raise InvalidArgument(
                f"segment_ids{place} = {int(ids[tuple(at)])} is out of range [0, {int(count)})"
            )
        kept = flat >= 0  # a negative id drops its element
        found = np.full((int(count), *inner), _unsorted_start(name, x.dtype), x.dtype)
        how.at(found, flat[kept], data[kept])
        return found


def _unsorted_start(name: str, dtype: np.dtype[Any]) -> Any:
    match name:
        case "Max":
            return np.iinfo(dtype).min if dtype.kind in "iu" else np.finfo(dtype).min
        case "Min":
            return np.iinfo(dtype).max if dtype.kind in "iu" else np.finfo(dtype).max
    return 1 if name == "Prod" else 0


_register_segment("Sum", np.add, lambda dtype: 0)
_register_segment("Prod", np.multiply, lambda dtype: 1)
_register_segment("Max", np.maximum, _lowest)
_register_segment("Min", np.minimum, _highest)


@op("SegmentMean", exact=whole)
def segment_mean(node: Node, x: Array, ids: Array) -> Array:
    count = _segments(x, ids)
    found = np.zeros((count, *x.shape[1:]), x.dtype)
    np.add.at(found, ids, x)
    sizes = np.maximum(np.bincount(ids, minlength=count), 1)[:count].astype(x.dtype)
    return np.asarray(found / sizes.reshape(-1, *[1] * (x.ndim - 1))).astype(x.dtype)
