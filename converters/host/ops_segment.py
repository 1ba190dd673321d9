"""Sums, means and root means of rows that are picked by number, segment by segment.

Additions are in TensorFlow's order (SparseSegmentReductionOpBase of tensorflow/core/kernels/
segment_reduction_ops_impl.h): the first rows, as many as are left over from eights, then eight at
a time, each eight added up before it is added.
"""

import math
from typing import Any

import ml_dtypes
import numpy as np

from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.rules import op
from jaxrt.errors import InvalidArgument

Array = np.ndarray[Any, Any]

_HALVES = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))
_EARLY = 10
"""Shorter segments are divided before their last eight is added: by a product, once."""


@op("SparseSegmentSum", "SparseSegmentSumWithNumSegments")
def sparse_segment_sum(node: Node, data: Array, indices: Array, ids: Array, *count: Array) -> Array:
    return _reduced(data, indices, ids, count, None)


@op("SparseSegmentMean", "SparseSegmentMeanWithNumSegments")
def sparse_segment_mean(
    node: Node, data: Array, indices: Array, ids: Array, *count: Array
) -> Array:
    return _reduced(data, indices, ids, count, float)


@op("SparseSegmentSqrtN", "SparseSegmentSqrtNWithNumSegments")
def sparse_segment_sqrt_n(
    node: Node, data: Array, indices: Array, ids: Array, *count: Array
) -> Array:
    return _reduced(data, indices, ids, count, math.sqrt)


def _reduced(
    data: Array, indices: Array, ids: Array, count: tuple[Array, ...], divisor: Any
) -> Array:
    """[rows, ...], [n], [n] → [segments, ...]; a segment without rows is zeros."""
    rows = _segments(indices, ids, count)
    out = np.zeros((rows, *data.shape[1:]), data.dtype)
    if not len(ids):
        return out
    _check(data, indices, ids, rows)
    starts = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))
    lengths = np.diff(np.append(starts, len(ids)))
    wide = data.astype(np.float32) if data.dtype in _HALVES else data
    for length in np.unique(lengths):
        at = starts[lengths == length]
        picked = wide[indices[at[:, None] + np.arange(length)]]
        out[ids[at]] = _added(picked, int(length), divisor).astype(data.dtype)
    return out


def _added(picked: Array, length: int, divisor: Any) -> Array:
    """[segments, length, ...] → [segments, ...]."""
    if length == 1:
        return np.asarray(picked[:, 0])
    kind = picked.dtype.type
    first = length % 8 + (8 if length % 8 < 2 else 0)
    total = _left_to_right(picked[:, :first])
    if divisor and length < _EARLY:
        total = total * (kind(1) / kind(divisor(length)))
    for start in range(first, length, 8):
        total = total + _left_to_right(picked[:, start : start + 8])
    return total / kind(divisor(length)) if divisor and length >= _EARLY else total


def _left_to_right(rows: Array) -> Array:
    total = rows[:, 0]
    for at in range(1, rows.shape[1]):
        total = total + rows[:, at]
    return np.asarray(total)


def _segments(indices: Array, ids: Array, count: tuple[Array, ...]) -> int:
    if count and count[0] < 0:
        raise InvalidArgument("segment ids must be >= 0")
    if len(ids) != len(indices):
        raise InvalidArgument("segment_ids and indices should have same size.")
    last = int(ids[-1]) + 1 if len(ids) else 0
    if count and int(count[0]) < last:
        raise InvalidArgument("segment ids must be < num_segments")
    rows = int(count[0]) if count else last
    if rows < 0 or (len(ids) and not rows):
        raise InvalidArgument("segment ids must be >= 0")
    return rows


def _check(data: Array, indices: Array, ids: Array, rows: int) -> None:
    """TensorFlow goes segment by segment: its order, its row numbers, its ids."""
    wild = (indices < 0) | (indices >= len(data))
    if ids[0] >= 0 and (ids[1:] >= ids[:-1]).all() and not wild.any():
        return
    starts = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]])).tolist()
    for start, end in zip(starts, [*starts[1:], len(ids)], strict=True):
        if end < len(ids) and ids[end] < ids[start]:
            raise InvalidArgument("segment ids are not increasing")
        if not 0 <= ids[start] < rows:
            raise InvalidArgument(
                f"Segment id {ids[start]} out of range [0, {rows}), possibly because 'segment_ids'"
                " input is not sorted."
            )
        for at in np.flatnonzero(wild[start:end])[:1]:
            raise InvalidArgument(
                f"Bad: indices[{start + at}] == {indices[start + at]} out of range [0, {len(data)})"
            )
