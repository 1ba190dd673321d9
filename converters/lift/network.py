"""Sorts by an arbitrary comparator, which may only be asked which of two comes first."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import Array, lax

from jaxrt.converters.lift import module
from jaxrt.converters.lift.evaluator import Scope

Before = Callable[[Sequence[Array], Sequence[Array]], Array]


def sort(
    scope: Scope, comparator: module.Block, operands: Sequence[Array], dimension: int
) -> list[Array]:
    """Batcher's bitonic sort: log²n / 2 steps, each over all elements at once.

    Right for every strict weak order, and stable: elements that compare equal are ordered by
    where they came from. For a comparator that is no order, some permutation.
    """
    shape = operands[0].shape
    size = shape[dimension]
    if operands[0].size == 0 or size == 1:
        return list(operands)
    width = 1 << (size - 1).bit_length()
    rows = [_rows(operand, dimension, width) for operand in operands]
    origin = lax.broadcasted_iota(np.int64, rows[0].shape, 1)
    state = [origin, *rows]

    def before(a: Sequence[Array], b: Sequence[Array]) -> Array:
        return _before(_vectorized(scope, comparator), size, a, b)

    for block in (2**k for k in range(1, width.bit_length())):
        for stride in (block >> k for k in range(1, block.bit_length())):
            state = _exchange(state, block, stride, before)
    return [_back(r, shape, dimension) for r in state[1:]]


def _rows(operand: Array, dimension: int, width: int) -> Array:
    """The dimension last, the others as rows, padded: [rows, width]."""
    order = [*(d for d in range(operand.ndim) if d != dimension), dimension]
    size = operand.shape[dimension]
    rows = lax.reshape(lax.transpose(operand, order), (operand.size // size, size))
    padding = lax.full((), 0, operand.dtype)
    return lax.pad(rows, padding, [(0, 0, 0), (0, width - size, 0)])


def _back(rows: Array, shape: tuple[int, ...], dimension: int) -> Array:
    order = [*(d for d in range(len(shape)) if d != dimension), dimension]
    kept = lax.slice_in_dim(rows, 0, shape[dimension], axis=1)
    inverse = [int(d) for d in np.argsort(order)]
    return lax.transpose(lax.reshape(kept, [shape[d] for d in order]), inverse)


def _exchange(state: Sequence[Array], block: int, stride: int, before: Before) -> list[Array]:
    """One step: elements `stride` apart change places; every other block runs downwards."""
    rows, width = state[0].shape
    groups = width // (2 * stride)
    pairs = [lax.reshape(s, (rows, groups, 2, stride)) for s in state]
    first = [lax.index_in_dim(p, 0, axis=2, keepdims=False) for p in pairs]
    second = [lax.index_in_dim(p, 1, axis=2, keepdims=False) for p in pairs]
    downwards = (np.arange(groups) * 2 * stride & block) != 0
    down = lax.broadcast_in_dim(downwards, first[0].shape, (1,))
    swap = lax.ne(before(second, first), down)
    out = []
    for a, b in zip(first, second, strict=True):
        new = [lax.select(swap, b, a), lax.select(swap, a, b)]
        joined = lax.concatenate([lax.expand_dims(x, (2,)) for x in new], 2)
        out.append(lax.reshape(joined, (rows, width)))
    return out


def _before(compare: Before, size: int, a: Sequence[Array], b: Sequence[Array]) -> Array:
    """Whether a comes first: padding last, then the comparator, then the origin."""
    (origin_a, *values_a), (origin_b, *values_b) = a, b
    limit = lax.full(origin_a.shape, size, origin_a.dtype)
    less, more = compare(values_a, values_b), compare(values_b, values_a)
    earlier = lax.lt(origin_a, origin_b)
    ordered = lax.bitwise_or(less, lax.bitwise_and(lax.bitwise_not(more), earlier))
    padding = lax.bitwise_or(lax.ge(origin_a, limit), lax.ge(origin_b, limit))
    # Padding comes from past the end, so where there is any the origin decides.
    return lax.select(padding, earlier, ordered)


def _vectorized(scope: Scope, comparator: module.Block) -> Before:
    def compare(a: Sequence[Array], b: Sequence[Array]) -> Array:
        shape = a[0].shape
        flat: list[Any] = []
        for left, right in zip(a, b, strict=True):
            flat += [lax.reshape(left, (left.size,)), lax.reshape(right, (right.size,))]
        (result,) = jax.vmap(lambda *scalars: scope.run(comparator, scalars))(*flat)
        found: Array = lax.reshape(result, shape)
        return found

    return compare
