"""Numbers by chance: new ones in each run, as TensorFlow draws them where no seed is given.

A seed is TensorFlow's own generator, whose state goes from run to run: such ops are left to it.
"""

import time
from typing import Any

import numpy as np

from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.ops_shape import numpy_dtype
from jaxrt.converters.host.rules import Array, op
from jaxrt.errors import InvalidArgument


def _covers(node: Node) -> bool:
    return not node.attrs.get("seed", 0) and not node.attrs.get("seed2", 0)


@op("Timestamp", pure=False)
def timestamp(node: Node) -> Array:
    """Seconds since 1970: float64 []."""
    return np.asarray(time.time(), np.float64)


@op("RandomUniform", pure=False, covers=_covers, seed=0, seed2=0)
def random_uniform(node: Node, sizes: Array) -> Array:
    """In [0, 1), on the grid of the dtype's fraction."""
    dtype = numpy_dtype(node.attrs["dtype"])
    bits = {2: 10, 4: 23, 8: 52}[dtype.itemsize] if dtype.name != "bfloat16" else 7
    whole = np.random.default_rng().integers(0, 1 << bits, _sizes(sizes))
    return np.asarray(np.asarray(whole / (1 << bits)).astype(dtype))


@op("RandomUniformInt", pure=False, covers=_covers, seed=0, seed2=0)
def random_uniform_int(node: Node, sizes: Array, low: Array, high: Array) -> Array:
    """In [low, high)."""
    shape = _sizes(sizes)
    if low.ndim or high.ndim:
        name, given = ("minval", low) if low.ndim else ("maxval", high)
        text = "[" + ",".join(map(str, given.shape)) + "]"
        raise InvalidArgument(f"{name} must be 0-D, got shape {text}")
    if not np.prod(shape, dtype=np.int64):
        return np.empty(shape, low.dtype)
    if low >= high:
        raise InvalidArgument(f"Need minval < maxval, got {low} >= {high}")
    found = np.random.default_rng().integers(int(low), int(high), shape, low.dtype)
    return np.asarray(found, low.dtype)


@op("RandomStandardNormal", pure=False, covers=_covers, seed=0, seed2=0)
def random_standard_normal(node: Node, sizes: Array) -> Array:
    found: Any = np.random.default_rng().standard_normal(_sizes(sizes))
    return np.asarray(found).astype(numpy_dtype(node.attrs["dtype"]))


@op("RandomShuffle", pure=False, covers=_covers, seed=0, seed2=0)
def random_shuffle(node: Node, x: Array) -> Array:
    """Rows in another order."""
    if not x.ndim:
        return x
    return np.asarray(x[np.random.default_rng().permutation(len(x))])


def _sizes(sizes: Array) -> tuple[int, ...]:
    if (sizes < 0).any():
        raise InvalidArgument(f"Dimension {int(sizes.min())} must be >= 0")
    return tuple(sizes.tolist())
