"""Ops that pick elements by place, and put them there."""

import math
from typing import Any

import numpy as np

from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.ops_math import shape_text
from jaxrt.converters.host.ops_shape import axis_of, numpy_dtype, zero
from jaxrt.converters.host.rules import Array, op
from jaxrt.errors import InvalidArgument


@op(
    "StridedSlice",
    begin_mask=0,
    end_mask=0,
    ellipsis_mask=0,
    new_axis_mask=0,
    shrink_axis_mask=0,
)
def strided_slice(node: Node, x: Array, begin: Array, end: Array, strides: Array) -> Any:
    begins, ends, steps = begin.tolist(), end.tolist(), strides.tolist()
    masks = {name: value for name, value in node.attrs.items() if name.endswith("_mask")}

    def masked(name: str, i: int) -> bool:
        return bool(masks[f"{name}_mask"] >> i & 1)

    count = len(begins)
    ellipsis = next((i for i in range(count) if masked("ellipsis", i)), None)
    taken = sum(not masked("new_axis", i) for i in range(count) if i != ellipsis)
    index: list[Any] = []
    dim = 0
    for i in range(count):
        if i == ellipsis:
            index.append(Ellipsis)
            # Dimensions after it count from the end: those that new axes do not take.
            dim = x.ndim - (taken - dim)
        elif masked("new_axis", i):
            index.append(None)
        elif dim >= x.ndim:
            raise InvalidArgument(
                f"Index out of range using input dim {dim}; input has only {x.ndim} dims"
            )
        else:
            if steps[i] == 0:
                raise InvalidArgument(f"strides[{i}] must be non-zero")
            if masked("shrink_axis", i):
                if steps[i] < 0:
                    raise InvalidArgument("only stride 1 allowed on non-range indexing.")
                index.append(_place(begins[i], x.shape[dim], i))
            else:
                first = None if masked("begin", i) else begins[i]
                last = None if masked("end", i) else ends[i]
                index.append(slice(first, last, steps[i]))
            dim += 1
    return x[tuple(index)]


def _place(at: int, size: int, i: int) -> int:
    if not -size <= at < size:
        shown = at if at >= 0 else at + size
        raise InvalidArgument(f"slice index {shown} of dimension {i} out of bounds.")
    return at


@op("Slice")
def slice_(node: Node, x: Array, begin: Array, size: Array) -> Array:
    index = []
    for i, (at, n) in enumerate(zip(begin.tolist(), size.tolist(), strict=True)):
        length = x.shape[i] - at if n == -1 else n
        if not 0 <= at <= x.shape[i]:
            raise InvalidArgument(f"Expected begin[{i}] in [0, {x.shape[i]}], but got {at}")
        if not 0 <= length <= x.shape[i] - at:
            raise InvalidArgument(f"Expected size[{i}] in [0, {x.shape[i] - at}], but got {length}")
        index.append(slice(at, at + length))
    return x[tuple(index)]


def check_range(indices: Array, size: int, name: str = "indices") -> None:
    """Raises InvalidArgument as GatherV2 does for the first index out of [0, size)."""
    bad = (indices < 0) | (indices >= size)
    if bad.any():
        at = np.argwhere(bad)[0].tolist()
        place = f"[{','.join(map(str, at))}]" if at else ""
        raise InvalidArgument(f"{name}{place} = {int(indices[tuple(at)])} is not in [0, {size})")


@op("GatherV2", batch_dims=0)
def gather_v2(node: Node, params: Array, indices: Array, axis: Array) -> Any:
    at = int(axis) + (params.ndim if axis < 0 else 0)
    if not 0 <= at < params.ndim:
        least = at + 1 if axis >= 0 else -int(axis)
        raise InvalidArgument(f"Shape must be at least rank {least} but is rank {params.ndim}")
    batch = node.attrs["batch_dims"]
    batch += indices.ndim if batch < 0 else 0
    _check_batch(params, indices, at, batch)
    check_range(indices, params.shape[at])
    if not batch:
        return np.take(params, indices, at)
    count = math.prod(params.shape[:batch])
    flat = params.reshape(count, *params.shape[batch:])
    places = indices.reshape(count, *indices.shape[batch:])
    rows = [np.take(flat[i], places[i], at - batch) for i in range(count)]
    inner = (
        *params.shape[batch:at],
        *indices.shape[batch:],
        *params.shape[at + 1 :],
    )
    if not rows:
        return np.empty((*params.shape[:batch], *inner), params.dtype)
    return np.stack(rows).reshape(*params.shape[:batch], *inner)


def _check_batch(params: Array, indices: Array, axis: int, batch: int) -> None:
    if batch > axis:
        raise InvalidArgument(f"batch_dims ({batch}) must be less than or equal to axis ({axis}).")
    for i in range(batch):
        if params.shape[i] != indices.shape[i]:
            raise InvalidArgument(
                f"params.shape[{i}]: {params.shape[i]} should be equal to indices.shape[{i}]: "
                f"{indices.shape[i]}"
            )


@op("Gather", validate_indices=True)
def gather(node: Node, params: Array, indices: Array) -> Any:
    check_range(indices, params.shape[0])
    return np.take(params, indices, 0)


@op("GatherNd", bad_indices_policy=b"")
def gather_nd(node: Node, params: Array, indices: Array) -> Any:
    depth = indices.shape[-1]
    if depth > params.ndim:
        raise InvalidArgument(
            "index innermost dimension length must be <= params rank; saw: "
            f"{depth} vs. {params.ndim}"
        )
    if indices.size and not params.size:
        raise InvalidArgument(
            "Requested more than 0 entries, but params is empty.  Params shape: "
            + shape_text(params)
        )
    bad = _outside(params, indices)
    if bad is not None:
        if node.attrs["bad_indices_policy"] != b"IGNORE":
            text = _bad_nd(params, indices, bad, "param shape")
            raise InvalidArgument(f"{text}, node name: {node.name}")
        return _gather_some(params, indices)
    if not depth:
        return np.broadcast_to(params, (*indices.shape[:-1], *params.shape))
    return params[tuple(indices[..., i] for i in range(depth))]


def _gather_some(params: Array, indices: Array) -> Array:
    depth = indices.shape[-1]
    inside: Array = (indices >= 0) & (indices < np.asarray(params.shape[:depth]))
    good: Array = np.all(inside, axis=-1)
    safe = np.where(good[..., None], indices, 0)
    found: Array = params[tuple(safe[..., i] for i in range(depth))].copy()
    found[~good] = zero(params.dtype)
    return found


def _outside(params: Array, indices: Array) -> Array | None:
    """Where the first index lies that is out of range."""
    limits = np.asarray(params.shape[: indices.shape[-1]], np.int64)
    bad = ((indices < 0) | (indices >= limits)).any(-1)
    return np.argwhere(bad)[0] if bad.any() else None


def _bad_nd(params: Array, indices: Array, at: Array, what: str) -> str:
    place = f"[{','.join(map(str, at.tolist()))}]" if at.size else ""
    values = ", ".join(map(str, indices[tuple(at)].tolist()))
    return f"indices{place} = [{values}] does not index into {what} {shape_text(params)}"


@op("ScatterNd", bad_indices_policy=b"")
def scatter_nd(node: Node, indices: Array, updates: Array, sizes: Array) -> Array:
    found = np.full(sizes.tolist(), zero(updates.dtype), updates.dtype)
    return _scatter(found, indices, updates, np.add, node)


def _scatter(found: Array, indices: Array, updates: Array, how: Any, node: Node) -> Array:
    """Into `found`, a fresh array; of duplicates the last one stays, or all are combined."""
    depth = indices.shape[-1]
    if found.shape[depth:] != updates.shape[indices.ndim - 1 :]:
        raise InvalidArgument(_unlike(node, found, updates, depth, indices.ndim - 1))
    if indices.size and not found.size:
        raise InvalidArgument(
            "Indices and updates specified for empty output.  indices shape: " + shape_text(indices)
        )
    bad = _outside(found, indices)
    if bad is not None:
        if node.attrs["bad_indices_policy"] != b"IGNORE":
            raise InvalidArgument(_bad_nd(found, indices, bad, "shape"))
        limits = np.asarray(found.shape[: indices.shape[-1]])
        good = ((indices >= 0) & (indices < limits)).all(-1)
        indices, updates = indices[good], updates[good]
    index = tuple(indices[..., i] for i in range(indices.shape[-1]))
    if how is None:
        found[index] = updates
    else:
        how.at(found, index, updates)
    return found


def _unlike(node: Node, found: Array, updates: Array, depth: int, outer: int) -> str:
    if node.op != "ScatterNd":
        inner = found.ndim - depth
        return (
            f"The inner {inner} dimensions of output.shape={shape_text(found)} must match the"
            f" inner {updates.ndim - outer} dimensions of updates.shape={shape_text(updates)}"
        )
    return (
        f"Dimensions [{depth},{found.ndim}) of input[shape={shape_text(found)}] must match"
        f" dimensions [{outer},{updates.ndim}) of updates[shape={shape_text(updates)}]"
    )


@op("TensorScatterUpdate", bad_indices_policy=b"")
def tensor_scatter_update(node: Node, x: Array, indices: Array, updates: Array) -> Array:
    return _scatter(x.copy(), indices, updates, None, node)


@op("TensorScatterAdd", bad_indices_policy=b"")
def tensor_scatter_add(node: Node, x: Array, indices: Array, updates: Array) -> Array:
    return _scatter(x.copy(), indices, updates, np.add, node)


@op("TensorScatterSub", bad_indices_policy=b"")
def tensor_scatter_sub(node: Node, x: Array, indices: Array, updates: Array) -> Array:
    return _scatter(x.copy(), indices, updates, np.subtract, node)


@op("TensorScatterMax", bad_indices_policy=b"")
def tensor_scatter_max(node: Node, x: Array, indices: Array, updates: Array) -> Array:
    return _scatter(x.copy(), indices, updates, np.maximum, node)


@op("TensorScatterMin", bad_indices_policy=b"")
def tensor_scatter_min(node: Node, x: Array, indices: Array, updates: Array) -> Array:
    return _scatter(x.copy(), indices, updates, np.minimum, node)


@op("Where")
def where(node: Node, condition: Array) -> Array:
    return np.argwhere(condition).astype(np.int64, copy=False)


@op("OneHot", axis=-1)
def one_hot(node: Node, indices: Array, depth: Array, on: Array, off: Array) -> Array:
    count, axis = int(depth), node.attrs["axis"]
    if count < 0:
        raise InvalidArgument(f"depth must be non-negative, got: {count}")
    hits = np.expand_dims(indices, -1) == np.arange(count)
    return np.moveaxis(np.where(hits, on, off), -1, axis)


@op("DynamicStitch", "ParallelDynamicStitch")
def dynamic_stitch(node: Node, *inputs: Array) -> Array:
    half = len(inputs) // 2
    indices, data = inputs[:half], inputs[half:]
    count = max((int(i.max(initial=-1)) for i in indices), default=-1) + 1
    inner = data[0].shape[indices[0].ndim :]
    found = np.full((count, *inner), zero(data[0].dtype), data[0].dtype)
    for i, (where_, values) in enumerate(zip(indices, data, strict=True)):
        if values.shape[where_.ndim :] != inner:
            raise InvalidArgument(
                f"Need data[0].shape[{indices[0].ndim}:] = data[{i}].shape[{where_.ndim}:], got"
                f" data[0].shape = {shape_text(data[0])}, data[{i}].shape = {shape_text(values)},"
                f" indices[0].shape = {shape_text(indices[0])},"
                f" indices[{i}].shape = {shape_text(where_)}"
            )
        if (where_ < 0).any():
            raise InvalidArgument(f"indices[{i}] is out of range")
        found[where_] = values
    return found


@op("DynamicPartition")
def dynamic_partition(node: Node, data: Array, partitions: Array) -> tuple[Array, ...]:
    count = node.attrs["num_partitions"]
    if data.shape[: partitions.ndim] != partitions.shape:
        raise InvalidArgument(
            "data.shape must start with partitions.shape, got data.shape ="
            f" {shape_text(data)}, partitions.shape = {shape_text(partitions)}"
        )
    check_range(partitions, count, "partitions")
    return tuple(data[partitions == i] for i in range(count))


@op("ReverseSequence", batch_dim=0)
def reverse_sequence(node: Node, x: Array, lengths: Array) -> Array:
    batch, axis = node.attrs["batch_dim"], node.attrs["seq_dim"]
    found = np.moveaxis(x, (batch, axis), (0, 1)).copy()
    if len(lengths) != len(found):
        raise InvalidArgument(
            f"Length of seq_lengths != input.dims({batch}), ({len(lengths)} vs. {len(found)})"
        )
    for row, length in enumerate(lengths.tolist()):
        if length < 0:
            raise InvalidArgument(f"seq_lens({row}) < 0")
        if length > x.shape[axis]:
            raise InvalidArgument(f"seq_lens({row}) > input.dims({axis})")
        found[row, :length] = found[row, :length][::-1].copy()
    return np.moveaxis(found, (0, 1), (batch, axis))


@op("ConcatOffset", shape_type="int32")
def concat_offset(node: Node, axis: Array, *shapes: Array) -> tuple[Array, ...]:
    at = axis_of(int(axis), len(shapes[0]))
    found, offset = [], 0
    for sizes in shapes:
        here = np.zeros(len(sizes), numpy_dtype(node.attrs["shape_type"]))
        here[at] = offset
        offset += int(sizes[at])
        found.append(here)
    return tuple(found)
