"""Ops on shapes: what they are, and the same elements in another arrangement."""

import math
from typing import Any

import numpy as np

from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.ops_math import shape_text
from jaxrt.converters.host.rules import Array, op
from jaxrt.errors import InvalidArgument
from jaxrt.specs import DTYPES


def numpy_dtype(name: str) -> np.dtype[Any]:
    """A key of DTYPES → what carries it."""
    found = DTYPES[name].numpy
    assert found is not None
    return found


def zero(dtype: np.dtype[Any]) -> Any:
    return b"" if dtype == np.object_ else np.zeros((), dtype)


def axis_of(value: int, rank: int, what: str = "dim") -> int:
    """A negative axis counted from the end. Raises InvalidArgument out of range."""
    if not -rank <= value < rank:
        raise InvalidArgument(f"Expected dimension in the range [{-rank}, {rank}), but got {value}")
    return value % rank if rank else 0


@op("Shape", out_type="int32")
def shape(node: Node, x: Array) -> Array:
    return np.asarray(x.shape, numpy_dtype(node.attrs["out_type"]))


@op("ShapeN", out_type="int32")
def shape_n(node: Node, *inputs: Array) -> tuple[Array, ...]:
    return tuple(np.asarray(x.shape, numpy_dtype(node.attrs["out_type"])) for x in inputs)


@op("Size", out_type="int32")
def size(node: Node, x: Array) -> Array:
    return np.asarray(x.size, numpy_dtype(node.attrs["out_type"]))


@op("Rank")
def rank(node: Node, x: Array) -> Array:
    return np.asarray(x.ndim, np.int32)


@op("Reshape")
def reshape(node: Node, x: Array, sizes: Array) -> Array:
    wanted = sizes.tolist()
    if wanted.count(-1) > 1:
        raise InvalidArgument("Only one input size may be -1, not both")
    known = math.prod(n for n in wanted if n != -1)
    if -1 in wanted:
        if not known:
            raise InvalidArgument(
                "reshape cannot infer the missing input size for an empty tensor unless all "
                "specified input sizes are non-zero"
            )
        if x.size % known:
            raise InvalidArgument(
                f"Input to reshape is a tensor with {x.size} values, but the requested shape "
                f"requires a multiple of {known}"
            )
        wanted[wanted.index(-1)] = x.size // known
    elif known != x.size:
        raise InvalidArgument(
            f"Input to reshape is a tensor with {x.size} values, but the requested shape has "
            f"{known}"
        )
    return x.reshape(wanted)


@op("ExpandDims")
def expand_dims(node: Node, x: Array, axis: Array) -> Array:
    at = int(axis.item())
    if not -x.ndim - 1 <= at <= x.ndim:
        raise InvalidArgument(
            f"Tried to expand dim index {at} for tensor with {x.ndim} dimensions."
        )
    return np.expand_dims(x, at)


@op("Squeeze", squeeze_dims=())
def squeeze(node: Node, x: Array) -> Array:
    axes = node.attrs["squeeze_dims"] or ()
    found = {axis_of(a, x.ndim) for a in axes} or {i for i, n in enumerate(x.shape) if n == 1}
    for at in found:
        if x.shape[at] != 1:
            raise InvalidArgument(
                f"Can not squeeze dim[{at}], expected a dimension of 1, got {x.shape[at]}"
            )
    return x.reshape([n for i, n in enumerate(x.shape) if i not in found])


@op("Pack", axis=0)
def pack(node: Node, *inputs: Array) -> Array:
    first = inputs[0]
    for i, value in enumerate(inputs):
        if value.shape != first.shape:
            raise InvalidArgument(
                f"Shapes of all inputs must match: values[0].shape = {shape_text(first)} != "
                f"values[{i}].shape = {shape_text(value)}"
            )
    return np.stack(inputs, axis_of(node.attrs["axis"], first.ndim + 1))


@op("Unpack", axis=0)
def unpack(node: Node, x: Array) -> tuple[Any, ...]:
    at = axis_of(node.attrs["axis"], x.ndim)
    if x.shape[at] != node.attrs["num"]:
        raise InvalidArgument(
            f"Input shape axis {at} must equal {node.attrs['num']}, got shape {shape_text(x)}"
        )
    return tuple(np.moveaxis(x, at, 0))


def _concatenate(inputs: tuple[Array, ...], axis: int) -> Array:
    rank = inputs[0].ndim
    if not -rank <= axis < rank:
        raise InvalidArgument(
            "ConcatOp : Expected concatenating dimensions in the range "
            f"[{-rank}, {rank}), but got {axis}"
        )
    at, first = axis % rank, inputs[0]
    for i, value in enumerate(inputs):
        if value.ndim != rank:
            raise InvalidArgument(
                "ConcatOp : Ranks of all input tensors should match: "
                f"shape[0] = {shape_text(first)} vs. shape[{i}] = {shape_text(value)}"
            )
        for d in range(rank):
            if d != at and value.shape[d] != first.shape[d]:
                raise InvalidArgument(
                    f"ConcatOp : Dimension {d} in both shapes must be equal: "
                    f"shape[0] = {shape_text(first)} vs. shape[{i}] = {shape_text(value)}"
                )
    return np.concatenate(inputs, at)


@op("ConcatV2")
def concat_v2(node: Node, *inputs: Array) -> Array:
    return _concatenate(inputs[:-1], int(inputs[-1]))


@op("Concat")
def concat(node: Node, axis: Array, *inputs: Array) -> Array:
    return _concatenate(inputs, int(axis))


@op("Split")
def split(node: Node, axis: Array, x: Array) -> tuple[Array, ...]:
    at, count = axis_of(int(axis), x.ndim), node.attrs["num_split"]
    if x.shape[at] % count:
        raise InvalidArgument(
            "Number of ways to split should evenly divide the split dimension, but got split_dim "
            f"{at} (size = {x.shape[at]}) and num_split {count}"
        )
    return tuple(np.split(x, count, at))


@op("SplitV")
def split_v(node: Node, x: Array, sizes: Array, axis: Array) -> tuple[Array, ...]:
    at, wanted = axis_of(int(axis), x.ndim), sizes.tolist()
    if -1 in wanted:
        wanted[wanted.index(-1)] = x.shape[at] - sum(wanted) - 1
    if sum(wanted) != x.shape[at] or min(wanted) < 0:
        raise InvalidArgument(
            "Determined shape must either match input shape along split_dim exactly if fully "
            "specified, or be less than the size of the input along split_dim if not fully "
            f"specified.  Got: {sum(wanted)}"
        )
    return tuple(np.split(x, np.cumsum(wanted)[:-1], at))


@op("Tile")
def tile(node: Node, x: Array, multiples: Array) -> Array:
    return np.tile(x, multiples.tolist()) if multiples.size else x


@op("Fill")
def fill(node: Node, sizes: Array, value: Array) -> Array:
    if (sizes < 0).any():
        raise InvalidArgument(f"Dimension {int(sizes.min())} must be >= 0")
    return np.full(sizes.tolist(), value, value.dtype)


@op("ZerosLike")
def zeros_like(node: Node, x: Array) -> Array:
    return np.full(x.shape, zero(x.dtype), x.dtype)


@op("OnesLike")
def ones_like(node: Node, x: Array) -> Array:
    return np.ones(x.shape, x.dtype)


@op("Range")
def range_(node: Node, start: Array, limit: Array, delta: Array) -> Array:
    first, end, step = start[()], limit[()], delta[()]
    if step == 0:
        raise InvalidArgument("Requires delta != 0: 0")
    if (step > 0 and first > end) or (step < 0 and first < end):
        sense = "<=" if step > 0 else ">="
        raise InvalidArgument(
            f"Requires start {sense} limit when delta {'>' if step > 0 else '<'} 0: {first}/{end}"
        )
    if start.dtype.kind in "iu":
        return np.arange(int(first), int(end), int(step)).astype(start.dtype)
    # range_op.cc: the size comes from the quotient of doubles, a value from start + i * delta.
    count = math.ceil(abs((float(end) - float(first)) / float(step)))
    return np.asarray(first + np.arange(count).astype(start.dtype) * step)


@op("LinSpace", exact=False)
def lin_space(node: Node, start: Array, stop: Array, count: Array) -> Array:
    n = int(count)
    if n <= 0:
        raise InvalidArgument(f"Requires num > 0: {n}")
    if n == 1:
        return start.reshape(1)
    step = (stop - start) / np.asarray(n - 1, start.dtype)
    found = np.asarray(start + step * np.arange(n).astype(start.dtype), start.dtype)
    found[-1] = stop
    return found


@op("Transpose")
def transpose(node: Node, x: Array, permutation: Array) -> Array:
    return np.transpose(x, permutation.tolist())


@op("InvertPermutation")
def invert_permutation(node: Node, x: Array) -> Array:
    if sorted(x.tolist()) != list(range(len(x))):
        raise InvalidArgument(f"{int(x.max(initial=0))} is not between 0 and {len(x)}")
    found = np.empty_like(x)
    found[x] = np.arange(len(x), dtype=x.dtype)
    return found


@op("BroadcastTo")
def broadcast_to(node: Node, x: Array, sizes: Array) -> Array:
    try:
        return np.broadcast_to(x, sizes.tolist())
    except ValueError:
        wanted = "[" + ",".join(map(str, sizes.tolist())) + "]"
        raise InvalidArgument(f"Incompatible shapes: {shape_text(x)} vs. {wanted}") from None


@op("BroadcastArgs")
def broadcast_args(node: Node, x: Array, y: Array) -> Array:
    found = np.broadcast_shapes(tuple(x.tolist()), tuple(y.tolist()))
    return np.asarray(found, x.dtype)


@op("EnsureShape")
def ensure_shape(node: Node, x: Array) -> Array:
    wanted = node.attrs["shape"]
    if wanted is not None and not (
        len(wanted) == x.ndim
        and all(n is None or n == m for n, m in zip(wanted, x.shape, strict=True))
    ):
        text = "[" + ",".join("?" if n is None else str(n) for n in wanted) + "]"
        raise InvalidArgument(
            f"Shape of tensor {node.inputs[0].removesuffix(':0')} {shape_text(x)} is not "
            f"compatible with expected shape {text}."
        )
    return x


@op("ReverseV2")
def reverse_v2(node: Node, x: Array, axes: Array) -> Array:
    return np.flip(x, tuple(axis_of(a, x.ndim) for a in axes.tolist())) if axes.size else x


@op("Reverse")
def reverse(node: Node, x: Array, flags: Array) -> Array:
    return np.flip(x, tuple(np.flatnonzero(flags).tolist()))


@op("Pad")
def pad(node: Node, x: Array, paddings: Array) -> Array:
    return np.pad(x, paddings.tolist(), constant_values=zero(x.dtype)) if x.ndim else x


@op("PadV2")
def pad_v2(node: Node, x: Array, paddings: Array, value: Array) -> Array:
    return np.pad(x, paddings.tolist(), constant_values=value[()]) if x.ndim else x


@op("MirrorPad")
def mirror_pad(node: Node, x: Array, paddings: Array) -> Array:
    mode: Any = "reflect" if node.attrs["mode"] == b"REFLECT" else "symmetric"
    return np.pad(x, paddings.tolist(), mode=mode) if x.ndim else x
