"""Convolutions from strided slices of x, one per tap of the window: products, dots, im2col."""

import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from jax import lax

from jaxrt.passes.convolution import Convolution, dilated


def padded(conv: Convolution, x: Any) -> Any:
    """x with its zeros around and between, as the window sees it."""
    config = [(lo, hi, d - 1) for (lo, hi), d in zip(conv.padding, conv.lhs_dilation, strict=True)]
    if not any(any(c) for c in config):
        return x
    return lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), *config, (0, 0, 0)])


def taps(conv: Convolution, x: Any) -> Iterator[tuple[tuple[int, ...], Any]]:
    """(tap, [batch, *out_spatial, features] that it sees), `x` padded already."""
    for tap in itertools.product(*(range(k) for k in conv.window)):
        start = [t * r for t, r in zip(tap, conv.rhs_dilation, strict=True)]
        limit = [
            a + dilated(n, s) for a, n, s in zip(start, conv.out_spatial, conv.strides, strict=True)
        ]
        yield (
            tap,
            lax.slice(
                x,
                (0, *start, 0),
                (conv.batch, *limit, conv.features),
                (1, *conv.strides, 1),
            ),
        )


def total(values: Iterator[Any]) -> Any:
    """The sum, from the first to the last."""
    result = next(values)
    for value in values:
        result = lax.add(result, value)
    return result


def depthwise(conv: Convolution, x: Any, kernel: Any) -> Any:
    """Each tap's slice times its row of the kernel, added up: one loop that XLA fuses whole.

    A kernel with several outputs a channel repeats each channel beside itself.
    """
    several = conv.out_features // conv.features
    shape = (*conv.out_shape[:-1], conv.features, several)

    def product(tap: tuple[int, ...], seen: Any) -> Any:
        row = lax.index_in_dim(kernel.reshape(-1, conv.out_features), _flat(conv, tap), 0, False)
        if several == 1:
            last = (len(conv.out_shape) - 1,)
            return lax.mul(seen, lax.broadcast_in_dim(row, conv.out_shape, last))
        seen = lax.broadcast_in_dim(seen, shape, tuple(range(len(shape) - 1)))
        row = row.reshape(conv.features, several)
        rows = lax.broadcast_in_dim(row, shape, (len(shape) - 2, len(shape) - 1))
        return lax.mul(seen, rows)

    return total(product(*t) for t in taps(conv, padded(conv, x))).reshape(conv.out_shape)


def multiplied(conv: Convolution, x: Any, kernel: Any) -> Any:
    """Each channel of each tap times its row of the kernel, added up: one loop that XLA fuses."""
    rows = kernel.reshape(-1, conv.out_features)
    rank = len(conv.out_shape)

    def product(index: int, seen: Any) -> Any:
        row = lax.index_in_dim(rows, index, 0, False)
        wide = lax.broadcast_in_dim(seen, conv.out_shape, tuple(range(rank)))
        return lax.mul(wide, lax.broadcast_in_dim(row, conv.out_shape, (rank - 1,)))

    return total(
        product(_flat(conv, tap) * conv.features + channel, one)
        for tap, seen in taps(conv, padded(conv, x))
        for channel in range(conv.features)
        for one in [lax.slice_in_dim(seen, channel, channel + 1, axis=rank - 1)]
    )


def _flat(conv: Convolution, tap: tuple[int, ...]) -> int:
    index = 0
    for size, at in zip(conv.window, tap, strict=True):
        index = index * size + at
    return index


def dot(rows: Any, kernel: Any) -> Any:
    """[..., k] and [k, n] → [..., n], as one product of matrices."""
    flat = rows.reshape(-1, rows.shape[-1])
    out = lax.dot_general(flat, kernel, (((1,), (0,)), ((), ())))
    return out.reshape(*rows.shape[:-1], kernel.shape[-1])


def shifted(conv: Convolution, x: Any, kernel: Any) -> Any:
    """A dot per tap, added up: nothing is copied but the slices."""
    matrices = kernel.reshape(-1, conv.features, conv.out_features)

    def product(tap: tuple[int, ...], seen: Any) -> Any:
        return dot(seen, lax.index_in_dim(matrices, _flat(conv, tap), 0, False))

    return total(product(*t) for t in taps(conv, padded(conv, x)))


def im2col(conv: Convolution, x: Any, kernel: Any) -> Any:
    """All taps beside each other, [pixels, taps * features], times the kernel: one large dot.

    A window of one element copies nothing: it is the 1x1 convolution as a dot.
    """
    seen = [s for _, s in taps(conv, padded(conv, x))]
    columns = seen[0] if len(seen) == 1 else lax.concatenate(seen, len(conv.out_shape) - 1)
    return dot(columns, kernel.reshape(-1, conv.out_features))


def line_columns(conv: Convolution, x: Any, kernel: Any) -> Any:
    """im2col along the last spatial dimension, a dot per tap of the others: smaller columns.

    [batch, *padded, out_width, taps of a line * features] is built once and sliced per line.
    """
    x = padded(conv, x)
    outer = x.shape[1:-2]
    lines = dataclasses.replace(
        conv,
        spatial=(*outer, x.shape[-2]),
        window=(*(1 for _ in outer), conv.window[-1]),
        strides=(*(1 for _ in outer), conv.strides[-1]),
        padding=((0, 0),) * conv.rank,
        lhs_dilation=(1,) * conv.rank,
    )
    columns = lax.concatenate([s for _, s in taps(lines, x)], x.ndim - 1)
    upright = dataclasses.replace(
        conv,
        spatial=columns.shape[1:-1],
        features=columns.shape[-1],
        window=(*conv.window[:-1], 1),
        strides=(*conv.strides[:-1], 1),
        padding=lines.padding,
        lhs_dilation=lines.lhs_dilation,
    )
    return shifted(upright, columns, kernel)


def grouped(conv: Convolution, x: Any, kernel: Any) -> Any:
    """im2col with the groups as the batch of one dot: [groups, pixels, k] x [groups, k, n]."""
    per_group = conv.features // conv.groups
    seen = [
        s.reshape(-1, conv.groups, per_group).transpose(1, 0, 2)
        for _, s in taps(conv, padded(conv, x))
    ]
    columns = lax.concatenate(seen, 2)
    matrices = kernel.reshape(math.prod(conv.window) * per_group, conv.groups, -1)
    out = lax.dot_general(columns, matrices, (((2,), (0,)), ((0,), (1,))))
    return out.transpose(1, 0, 2).reshape(conv.out_shape)
