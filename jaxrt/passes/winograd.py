"""Winograd's minimal filtering for 3x3 windows of stride 1: fewer products, a wider error.

F(m x m, 3 x 3) of Lavin and Gray (arXiv:1509.09308): tiles of (m + 2)^2 inputs give m^2 outputs
with (m + 2)^2 products instead of 9 m^2: 2.25 times fewer for m = 2, 4 times fewer for m = 4. An
Inf or NaN spreads over its tile; never over other rows of the batch.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax import lax

from jaxrt.passes.convolution import Convolution

Matrix = tuple[tuple[float, ...], ...]

INPUT: dict[int, Matrix] = {
    2: ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    4: (
        (4, 0, -5, 0, 1, 0),
        (0, -4, -4, 1, 1, 0),
        (0, 4, -4, -1, 1, 0),
        (0, -2, -1, 2, 1, 0),
        (0, 2, -1, -2, 1, 0),
        (0, 4, 0, -5, 0, 1),
    ),
}
KERNEL: dict[int, Matrix] = {
    2: ((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
    4: (
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    ),
}
OUTPUT: dict[int, Matrix] = {
    2: ((1, 1, 1, 0), (0, 1, -1, -1)),
    4: ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
}
"""Tile size m → the matrices B', G and A' of the paper."""


def fits(conv: Convolution) -> bool:
    return (
        conv.fixed
        and conv.window == (3, 3)
        and conv.strides == conv.lhs_dilation == conv.rhs_dilation == (1, 1)
        and conv.groups == 1
    )


def kernel_of(size: int, kernel: Any) -> Any:
    """[3, 3, features, out] → [(m + 2)^2, features, out]: G kernel G', to be computed once."""
    matrix = np.asarray(KERNEL[size], kernel.dtype)
    exact = lax.Precision.HIGHEST
    first = lax.dot_general(matrix, kernel, (((1,), (0,)), ((), ())), precision=exact)
    both = lax.dot_general(matrix, first, (((1,), (1,)), ((), ())), precision=exact)
    return both.transpose(1, 0, 2, 3).reshape(-1, *kernel.shape[2:])


def apply(size: int, conv: Convolution, x: Any, transformed: Any) -> Any:
    """The convolution of x with what `kernel_of` gave, by tiles of `size` x `size` outputs."""
    edge = size + 2
    tiles = tuple(-(-n // size) for n in conv.out_spatial)
    seen = _tiles(size, conv, x, tiles)
    mixed = _both_ways(INPUT[size], seen)
    stacked = lax.concatenate([v.reshape(1, -1, conv.features) for v in mixed], 0)
    products = lax.dot_general(stacked, transformed, (((2,), (1,)), ((0,), (0,))))
    shape = (conv.batch, *tiles, conv.out_features)
    parts = [lax.index_in_dim(products, i, 0, False).reshape(shape) for i in range(edge * edge)]
    return _joined(size, conv, _both_ways(OUTPUT[size], parts), tiles)


def _tiles(size: int, conv: Convolution, x: Any, tiles: tuple[int, ...]) -> list[Any]:
    """Element (i, j) of every tile, for all i, j in order: each [batch, *tiles, features]."""
    config = [
        (lo, size * count + 2 - n - lo, 0)
        for (lo, _), count, n in zip(conv.padding, tiles, conv.spatial, strict=True)
    ]
    x = lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), *config, (0, 0, 0)])
    return [
        lax.slice(
            x,
            (0, i, j, 0),
            (
                conv.batch,
                i + (tiles[0] - 1) * size + 1,
                j + (tiles[1] - 1) * size + 1,
                conv.features,
            ),
            (1, size, size, 1),
        )
        for i, j in itertools.product(range(size + 2), repeat=2)
    ]


def _both_ways(matrix: Matrix, grid: Sequence[Any]) -> list[Any]:
    """matrix grid matrix' of a square grid of arrays, all row by row."""
    edge = len(matrix[0])
    rows = [[_mix(row, grid[j::edge]) for j in range(edge)] for row in matrix]
    return [_mix(row, values) for values in rows for row in matrix]


def _mix(factors: Sequence[float], values: Sequence[Any]) -> Any:
    """The sum of factors times values, without the products by 0, 1 and -1."""
    result: Any = None
    for factor, value in zip(factors, values, strict=True):
        if factor == 0:
            continue
        term = value if abs(factor) == 1 else lax.mul(value, np.asarray(abs(factor), value.dtype))
        if result is None:
            result = term if factor > 0 else lax.neg(term)
        else:
            result = lax.add(result, term) if factor > 0 else lax.sub(result, term)
    return result


def _joined(size: int, conv: Convolution, parts: Sequence[Any], tiles: tuple[int, ...]) -> Any:
    """Outputs (a, b) of every tile, laid side by side; what exceeds the last row is cut."""
    lines = [
        lax.concatenate([p[:, :, :, None] for p in parts[a * size : (a + 1) * size]], 3)
        for a in range(size)
    ]
    block = lax.concatenate([line[:, :, None] for line in lines], 2)
    whole = block.reshape(conv.batch, tiles[0] * size, tiles[1] * size, conv.out_features)
    return lax.slice(whole, (0, 0, 0, 0), conv.out_shape)
