"""Top-k of long rows in two steps: the blocks with the largest maxima, then the best in those.

XLA:CPU sorts row by row, on one thread, at 1.5 ns an element; a maximum by block is vectorized
and threaded, and leaves k blocks of a row. The answer is the same to the bit, ties included: all of
the k best lie in the k blocks that come first by (maximum, position), for each block before
another holds an element that comes before all of the other's.
"""

import dataclasses
import math
from typing import Any

import numpy as np
from jax import lax

from jaxrt.passes.rewrite import Site, rewrite
from jaxrt.program import Program

MIN_LENGTH = 2048
"""Elements in a row: below, one step is as fast."""

MIN_GAIN = 4
"""A row must be this many times what is left of it to sort."""

BLOCK = 32
"""Elements whose maximum is taken. Blocks of 64 to 256 took up to twice as long."""


def split(program: Program) -> tuple[Program, int]:
    """The program with its long top-ks in two steps, and how many there were."""
    count = 0

    def rule(site: Site, x: Any) -> Any:
        nonlocal count
        k, length = site.params["k"], x.shape[-1]
        last = site.params.get("axis", -1) in (-1, x.ndim - 1)
        if not is_long(length, k) or not last or x.dtype != np.float32 or 0 in x.shape:
            return None
        count += 1
        rows = lax.reshape(x, (math.prod(x.shape[:-1]), length))
        values, indices = _two_steps(rows, k)
        shape = (*x.shape[:-1], k)
        dtype = site.avals[1].dtype
        return lax.reshape(values, shape), lax.reshape(
            lax.convert_element_type(indices, dtype), shape
        )

    closed = rewrite(program.jaxpr, {"top_k": rule})
    return (dataclasses.replace(program, jaxpr=closed), count) if count else (program, 0)


def is_long(length: int, k: int) -> bool:
    """Whether two steps beat one: what they leave to sort is a fraction of the row."""
    left = length // BLOCK + (k + 1) * BLOCK
    return length >= MIN_LENGTH and k > 0 and left * MIN_GAIN <= length


def _two_steps(x: Any, k: int) -> tuple[Any, Any]:
    """[rows, length] → the k largest [rows, k] and their int32 positions, first of equals first."""
    rows, length = x.shape
    whole = length // BLOCK * BLOCK
    blocks = lax.reshape(lax.slice(x, (0, 0), (rows, whole)), (rows, whole // BLOCK, BLOCK))
    maxima = lax.reduce_max(blocks, (2,))
    worth, best = lax.top_k(maxima, k)

    def two(x: Any, best: Any) -> tuple[Any, Any]:
        return _second(x, best, k)

    def one(x: Any, best: Any) -> tuple[Any, Any]:
        values, places = lax.top_k(x, k)
        return values, lax.convert_element_type(places, np.int32)

    return tuple(lax.cond(_is_certain(x, worth), two, one, x, best))


def _is_certain(x: Any, worth: Any) -> Any:
    """Whether maxima tell blocks apart as top-k tells elements apart; `worth` [rows, k]: the best.

    Top-k orders -NaN < -inf < -0 < 0 < inf < NaN. A maximum does not know the sign of a zero, and
    XLA:CPU's takes denormals for zeros: that matters only where the least of `worth` is one. It
    passes over NaN, which a sum does not.
    """
    least = lax.abs(lax.index_in_dim(worth, -1, axis=1, keepdims=False))
    normal = lax.ge(least, lax.full_like(least, np.finfo(np.float32).tiny))
    total = lax.reduce_sum(x, (1,))
    return lax.reduce_and(lax.bitwise_and(normal, lax.eq(total, total)), (0,))


def _second(x: Any, best: Any, k: int) -> tuple[Any, Any]:
    """The k largest of the blocks `best` [rows, k], and of what is left over at the end."""
    rows, length = x.shape
    whole = length // BLOCK * BLOCK
    # In the order of positions, so that equal elements come to the second step in it.
    first = lax.mul(
        lax.sort(lax.convert_element_type(best, np.int32)), lax.full_like(best, BLOCK, np.int32)
    )
    within = lax.broadcasted_iota(np.int32, (rows, k, BLOCK), 2)
    places = lax.add(lax.broadcast_in_dim(first, (rows, k, BLOCK), (0, 1)), within)
    places = lax.reshape(places, (rows, k * BLOCK))
    if whole < length:
        tail = lax.broadcasted_iota(np.int32, (rows, length - whole), 1)
        tail = lax.add(tail, lax.full_like(tail, whole))
        places = lax.concatenate([places, tail], 1)
    values, at = lax.top_k(_take(x, places), k)
    return values, _take(places, lax.convert_element_type(at, np.int32))


def _take(x: Any, indices: Any) -> Any:
    """x [rows, n] at int32 indices [rows, m], all of them within."""
    rows, m = indices.shape
    numbers = lax.GatherDimensionNumbers(
        offset_dims=(), collapsed_slice_dims=(0, 1), start_index_map=(0, 1)
    )
    row = lax.broadcasted_iota(np.int32, (rows, m, 1), 0)
    at = lax.concatenate([row, lax.reshape(indices, (rows, m, 1))], 2)
    return lax.gather(x, at, numbers, (1, 1), mode=lax.GatherScatterMode.CLIP)
