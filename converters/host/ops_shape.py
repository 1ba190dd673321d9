"""Ops on shapes: what they are, and the same elements in another arrangement."""

import math
from typing import Any

import numpy as np

from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.ops_math import shape_text
from jaxrt.converters.host.rules import Array, op
from jaxrt.converters.host.text import summary
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
    unknown = [i for i, n in enumerate(wanted) if n == -1]
    if len(unknown) > 1:
        raise InvalidArgument(
            f"Only one input size may be -1, not both {unknown[0]} and {unknown[1]}"
        )
    for i, n in enumerate(wanted):
        if n < -1:
            raise InvalidArgument(f"Size {i} must be non-negative, not {n}")
    if unknown:
        wanted[unknown[0]] = _missing(x, [n for n in wanted if n != -1])
    if math.prod(wanted) != x.size:
        raise InvalidArgument(
            f"Input to reshape is a tensor with {x.size} values, but the requested shape has "
            f"{math.prod(wanted)}"
        )
    return x.reshape(wanted)


def _missing(x: Array, known: list[int]) -> int:
    """The size that is not given. Where one of them is 0, zeros on both sides are left out."""
    sizes = [n for n in x.shape if n] if 0 in known else list(x.shape)
    product = math.prod(n for n in known if n)
    if x.size and math.prod(sizes) % product:
        raise InvalidArgument(
            f"Input to reshape is a tensor with {x.size} values, but the requested shape "
            f"requires a multiple of {product}"
        )
    return int(math.prod(sizes) // product)


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


def _split_axis(x: Array, axis: Array) -> int:
    if not -x.ndim <= axis < x.ndim:
        raise InvalidArgument(
            f"-input rank(-{x.ndim}) <= split_dim < input rank ({x.ndim}), but got {int(axis)}"
        )
    return int(axis) % x.ndim


@op("Split")
def split(node: Node, axis: Array, x: Array) -> tuple[Array, ...]:
    at, count = _split_axis(x, axis), node.attrs["num_split"]
    if x.shape[at] % count:
        raise InvalidArgument(
            "Number of ways to split should evenly divide the split dimension, but got split_dim "
            f"{at} (size = {x.shape[at]}) and num_split {count}"
        )
    return tuple(np.split(x, count, at))


@op("SplitV")
def split_v(node: Node, x: Array, sizes: Array, axis: Array) -> tuple[Array, ...]:
    at, wanted = _split_axis(x, axis), sizes.tolist()
    if wanted.count(-1) > 1:
        raise InvalidArgument("There can only be one -1 in the input.")
    if -1 in wanted:
        given = sum(wanted) + 1
        if given <= x.shape[at]:
            wanted[wanted.index(-1)] = x.shape[at] - given
        else:
            wanted.remove(-1)
    if sum(wanted) != x.shape[at] or min(wanted) < 0:
        raise InvalidArgument(
            "Determined shape must either match input shape along split_dim exactly if fully "
            "specified, or be less than the size of the input along split_dim if not fully "
            f"specified.  Got: {sum(wanted)}"
        )
    return tuple(np.split(x, np.cumsum(wanted)[:-1], at))


@op("Tile")
def tile(node: Node, x: Array, multiples: Array) -> Array:
    if len(multiples) != x.ndim:
        raise InvalidArgument(
            f"Expected multiples argument to be a vector of length {x.ndim} but got length "
            f"{len(multiples)}"
        )
    for i, n in enumerate(multiples.tolist()):
        if n < 0:
            raise InvalidArgument(f"Expected multiples[{i}] >= 0, but got {n}")
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
            f"Requires start {sense} limit when delta {'>' if step > 0 else '<'} 0: "
            f"{summary(start, 1)}/{summary(limit, 1)}"
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
    order = permutation.tolist()
    if len(order) != x.ndim:
        raise InvalidArgument(
            f"transpose expects a vector of size {x.ndim}. But input(1) is a vector of size "
            f"{len(order)}"
        )
    for axis in order:
        if not -x.ndim <= axis < x.ndim:
            raise InvalidArgument(f"{axis} is out of range [0 .. {x.ndim})")
    for axis in range(x.ndim):
        if axis not in order and axis - x.ndim not in order:
            shown = ",".join(map(str, order))
            raise InvalidArgument(f"{axis} is missing from {{{shown}}}.")
    return np.transpose(x, order)


@op("InvertPermutation")
def invert_permutation(node: Node, x: Array) -> Array:
    seen: set[int] = set()
    for value in x.tolist():
        if not 0 <= value < len(x):
            raise InvalidArgument(f"{value} is not between 0 and {len(x)}")
        if value in seen:
            raise InvalidArgument(f"{value} is duplicated in the input.")
        seen.add(value)
    found = np.empty_like(x)
    found[x] = np.arange(len(x), dtype=x.dtype)
    return found


@op("BroadcastTo")
def broadcast_to(node: Node, x: Array, sizes: Array) -> Array:
    if x.ndim > sizes.size:
        raise InvalidArgument(
            f"Rank of input ({x.ndim}) must be no greater than rank of output shape ({sizes.size})."
        )
    try:
        return np.broadcast_to(x, sizes.tolist())
    except ValueError:
        wanted = "[" + ",".join(map(str, sizes.tolist())) + "]"
        raise InvalidArgument(f"Incompatible shapes: {shape_text(x)} vs. {wanted}") from None


@op("BroadcastArgs")
def broadcast_args(node: Node, x: Array, y: Array) -> Array:
    try:
        found = np.broadcast_shapes(tuple(x.tolist()), tuple(y.tolist()))
    except ValueError:
        first, second = (",".join(map(str, sizes.tolist())) for sizes in (x, y))
        raise InvalidArgument(f"Incompatible shapes: [{first}] vs. [{second}]") from None
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
    places: set[int] = set()
    for i, axis in enumerate(axes.tolist()):
        if not -x.ndim <= axis < x.ndim:
            raise InvalidArgument(f"'axis'[{i}] = {axis} is out of valid range [0, {x.ndim - 1}")
        if axis % x.ndim in places:
            raise InvalidArgument(f"axis {axis % x.ndim} specified more than once.")
        places.add(axis % x.ndim)
    return np.flip(x, tuple(places)) if places else x


@op("Reverse")
def reverse(node: Node, x: Array, flags: Array) -> Array:
    return np.flip(x, tuple(np.flatnonzero(flags).tolist()))
