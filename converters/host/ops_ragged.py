"""Ragged tensors: row splits [rows + 1], one list a ragged dimension, and flat values."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrt.converters.host.example import shape_text
from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.rules import op
from jaxrt.errors import InvalidArgument
from jaxrt.specs import DTYPES

Array = np.ndarray[Any, Any]


@op("RaggedTensorToTensor")
def ragged_tensor_to_tensor(
    node: Node, shape: Array, values: Array, default: Array, *partitions: Array
) -> Array:
    """Rows cut or filled to one length. Kernel: tensorflow/core/kernels/
    ragged_tensor_to_tensor_op.cc."""
    kinds = [kind.decode() for kind in node.attrs["row_partition_types"]]
    _check_default(default, values)
    rows = _first_size(kinds, partitions)
    if kinds[0] == "FIRST_DIM_SIZE":
        kinds, partitions = kinds[1:], partitions[1:]
    sizes = _sizes(shape, values, rows, kinds, partitions)
    rank = len(kinds)
    out = np.empty(sizes, values.dtype)
    out[...] = default
    # The place of each row in the output, as a flat number; -1 where it is cut off.
    steps = [int(np.prod(sizes[at + 1 : rank + 1], dtype=np.int64)) for at in range(rank + 1)]
    place = np.arange(rows) * steps[0]
    place[sizes[0] :] = -1
    if not out.size:
        return out
    for kind, partition, step, size in zip(
        kinds, partitions, steps[1:], sizes[1 : rank + 1], strict=True
    ):
        parent, column = _rows(kind, partition, len(place))
        place = np.where((place[parent] < 0) | (column >= size), -1, place[parent] + column * step)
    if len(place) > len(values):
        raise InvalidArgument(
            f"Invalid row_splits: {len(place)} values wanted, {len(values)} given"
        )
    kept = np.flatnonzero(place >= 0)
    out.reshape(-1, *values.shape[1:])[place[kept]] = values[kept]
    return out


@op("RaggedTensorToSparse", Tsplits="int64")
def ragged_tensor_to_sparse(node: Node, *inputs: Array) -> tuple[Array, Array, Array]:
    """Splits, one a ragged dimension, and values → indices, values, dense shape."""
    splits, values = inputs[:-1], inputs[-1]
    _check_splits(splits, len(values))
    rows = np.arange(len(splits[0]) - 1)[:, None]
    longest = []
    for one in splits:
        longest.append(_longest("ROW_SPLITS", one))
        parent, column = _rows("ROW_SPLITS", one, len(rows))
        rows = np.concatenate([rows[parent], column[:, None]], axis=1)
    size = int(np.prod(values.shape[1:], dtype=np.int64))
    inner = np.indices(values.shape[1:]).reshape(values.ndim - 1, size).T
    indices = np.concatenate(
        [np.repeat(rows, len(inner), axis=0), np.tile(inner, (len(rows), 1))], axis=1
    )
    shape = [len(splits[0]) - 1, *longest, *values.shape[1:]]
    return indices.astype(np.int64), values.reshape(-1), np.array(shape, np.int64)


@op("RaggedGather", Tsplits="int64")
def ragged_gather(node: Node, *inputs: Array) -> tuple[Array, ...]:
    """Splits, values and indices → splits and values of the rows that are picked."""
    *splits, values, indices = inputs
    rows = len(splits[0]) - 1
    picked = indices.ravel().astype(np.int64)
    for at in np.flatnonzero((picked < 0) | (picked >= rows))[:1]:
        name = f"indices{[int(i) for i in np.unravel_index(at, indices.shape)]}".replace(" ", "")
        raise InvalidArgument(f"{name} = {picked[at]} is not in [0, {rows})")
    _check_gather_splits(splits, len(values))
    found = []
    for size, count in zip(
        indices.shape[1:], itertools.accumulate(indices.shape, lambda a, b: a * b), strict=False
    ):
        found.append((np.arange(count + 1) * size).astype(splits[0].dtype))
    for one in splits:
        lengths = np.diff(one)[picked]
        edges = np.concatenate([[0], np.cumsum(lengths)])
        found.append(edges.astype(one.dtype))
        picked = np.repeat(one[picked] - edges[:-1], lengths) + np.arange(edges[-1])
    return (*found, values[picked])


@op("RaggedRange", Tsplits="int64")
def ragged_range(node: Node, starts: Array, limits: Array, deltas: Array) -> tuple[Array, Array]:
    """One range a row; a scalar counts for all rows. Floats are added up, not multiplied."""
    given = (starts, limits, deltas)
    sizes = {len(one) for one in given if one.ndim}
    if len(sizes) > 1:
        raise InvalidArgument("starts, limits, and deltas must have the same shape")
    rows = sizes.pop() if sizes else 1
    first, end, step = (np.broadcast_to(one, (rows,)) for one in given)
    if not step.all():
        raise InvalidArgument("Requires delta != 0")
    lengths = np.where(((step > 0) & (first > end)) | ((step < 0) & (first < end)), 0, 1)
    if starts.dtype.kind == "f":
        lengths *= np.ceil(np.abs((end - first) / step)).astype(np.int64)
    else:
        wide, far = np.abs(step.astype(np.int64)), np.abs(end.astype(np.int64) - first)
        lengths *= (far + wide - 1) // wide
    flat = np.concatenate([np.empty(0, starts.dtype), *map(_range, first, step, lengths)])
    edges = np.concatenate([[0], np.cumsum(lengths)])
    return edges.astype(DTYPES[node.attrs["Tsplits"]].numpy), flat


def _range(first: Any, step: Any, length: int) -> Array:
    terms = np.full(length, step)
    terms[:1] = first
    return np.cumsum(terms, dtype=terms.dtype)


def _check_default(default: Array, values: Array) -> None:
    where = (
        f"default_value.shape={shape_text(default.shape)} and"
        f" rt_input.flat_values.shape={shape_text(values.shape)} are incompatible: default_value."
    )
    if default.ndim >= max(values.ndim, 1):
        raise InvalidArgument(
            f"{where}rank = {default.ndim}  must be less than rt_input.flat_values.rank"
            f" = {values.ndim}"
        )
    for at in range(-1, -1 - default.ndim, -1):
        ours, theirs = default.shape[at], values.shape[at]
        if ours not in (1, theirs):
            raise InvalidArgument(
                f"{where}shape[{at}] = {ours} but rt_input.flat_values.shape[{at}] = {theirs}"
            )


def _first_size(kinds: Sequence[str], partitions: Sequence[Array]) -> int:
    if not partitions[0].size:
        raise InvalidArgument(
            "Invalid first partition input. Tensor requires at least one element."
        )
    match kinds[0]:
        case "FIRST_DIM_SIZE":
            return int(partitions[0])
        case "ROW_SPLITS":
            return len(partitions[0]) - 1
        case "VALUE_ROWIDS":
            raise InvalidArgument("Cannot handle VALUE_ROWIDS in first dimension.")
    raise InvalidArgument(f"Cannot handle type {kinds[0]}")


def _sizes(
    shape: Array, values: Array, rows: int, kinds: Sequence[str], partitions: Sequence[Array]
) -> list[int]:
    """Of the output. -1 in `shape`: as long as the longest row."""
    rank = len(kinds)
    sizes = [-1] * (rank + values.ndim) if shape.ndim == 0 else [int(size) for size in shape]
    where = f"rt_input.shape and shape={shape_text(sizes)} are incompatible: rt_input."
    if len(sizes) != rank + values.ndim:
        raise InvalidArgument(f"{where}rank = {rank + values.ndim} but shape.rank = {len(sizes)}")
    for at, size in enumerate(values.shape[1:], rank + 1):
        if sizes[at] not in (-1, size):
            raise InvalidArgument(f"{where}shape[{at}] = {size} but shape[{at}] = {sizes[at]}")
        sizes[at] = size
    sizes[0] = rows if sizes[0] < 0 else sizes[0]
    for at, (kind, partition) in enumerate(zip(kinds, partitions, strict=True), 1):
        if sizes[at] < 0:
            sizes[at] = _longest(kind, partition)
    return sizes


def _longest(kind: str, partition: Array) -> int:
    if kind == "ROW_SPLITS":
        return int(np.diff(partition).max(initial=0))
    if kind == "VALUE_ROWIDS":
        return int(_runs(partition).max(initial=-1)) + 1
    raise InvalidArgument(f"Cannot handle partition type {kind}")


def _rows(kind: str, partition: Array, parents: int) -> tuple[Array, Array]:
    """For each value: the row it belongs to, and its place in that row."""
    if kind == "VALUE_ROWIDS":
        for at in np.flatnonzero(partition >= parents)[:1]:
            name = "next_value_rowid" if at else "current_value_rowid"
            raise InvalidArgument(f"Got {name}={partition[at]} which is not less than {parents}")
        return partition, _runs(partition)
    if kind != "ROW_SPLITS":
        raise InvalidArgument(f"Unsupported partition type:{kind}")
    if len(partition) - 1 > parents:
        raise InvalidArgument(
            f"Row partition size is greater than output size: {len(partition) - 1} > {parents}"
        )
    lengths = np.clip(np.diff(partition), 0, None)
    if len(partition) and lengths.sum() != partition[-1]:
        raise InvalidArgument("Invalid row split size.")
    starts = np.cumsum(lengths) - lengths
    return (
        np.repeat(np.arange(len(lengths)), lengths),
        np.arange(lengths.sum()) - np.repeat(starts, lengths),
    )


def _runs(ids: Array) -> Array:
    """4 4 4 7 4 → 0 1 2 0 0."""
    at = np.arange(len(ids))
    new = np.concatenate([[True], ids[1:] != ids[:-1]])[: len(ids)]
    return np.asarray(at - np.maximum.accumulate(np.where(new, at, 0)))


def _check_splits(splits: Sequence[Array], count: int) -> None:
    for at, one in enumerate(splits):
        if not len(one):
            raise InvalidArgument("ragged splits may not be empty.")
        if one[0] != 0:
            raise InvalidArgument("First value of ragged splits must be 0.")
        for place in np.flatnonzero(np.diff(one) < 0)[:1]:
            raise InvalidArgument(
                f"Ragged splits should be non decreasing, but we got {one[place]} followed by"
                f" {one[place + 1]}"
            )
        below = len(splits[at + 1]) - 1 if at + 1 < len(splits) else count
        if one[-1] != below:
            raise InvalidArgument(
                "Final value of ragged splits must match the length the corresponding ragged"
                " values."
            )


def _check_gather_splits(splits: Sequence[Array], count: int) -> None:
    for at, one in enumerate(splits):
        if (np.diff(one) < 0).any():
            raise InvalidArgument("Ragged splits must be sorted")
        below = len(splits[at + 1]) - 1 if at + 1 < len(splits) else count
        if one[-1] > below:
            raise InvalidArgument("Ragged splits must not point past values")
