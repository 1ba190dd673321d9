"""Transposed convolutions as sub-pixel phases: one dense convolution per output phase.

Output o of a convolution whose x is dilated by d sees only the taps k with o + k = low (mod d):
all outputs of one phase o mod d share them, and none of the inserted zeros is multiplied.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from jax import lax

from jaxrt.passes.convolution import Convolution

Lowering = Callable[[Convolution, Any, Any], Any]


@dataclasses.dataclass(frozen=True, slots=True)
class _Line:
    """One phase along one dimension: the taps k0, k0 + d, …, the padding, the outputs."""

    first: int
    taps: int
    padding: tuple[int, int]
    outputs: int


def fits(conv: Convolution) -> bool:
    return conv.is_transposed and set((*conv.strides, *conv.rhs_dilation)) == {1}


def by_phase(lowering: Lowering, conv: Convolution, x: Any, kernel: Any) -> Any:
    """Every phase by `lowering`, then laid between each other."""
    dims = range(conv.rank)
    lines = [[_line(conv, dim, phase) for phase in range(conv.lhs_dilation[dim])] for dim in dims]
    shape = tuple(max(line.outputs for line in found) for found in lines)
    phases = [_phase(lowering, conv, x, kernel, found) for found in itertools.product(*lines)]
    zero = np.zeros((), x.dtype)
    full = [
        lax.pad(p, zero, [(0, s - n, 0) for s, n in zip(_whole(conv, shape), p.shape, strict=True)])
        for p in phases
    ]
    return _interleaved(conv, full, shape)


def is_tiled(conv: Convolution) -> bool:
    """Whether each output element sees one element of x: windows lie side by side."""
    return fits(conv) and conv.window == conv.lhs_dilation and conv.groups == 1


def tiled(conv: Convolution, x: Any, kernel: Any) -> Any:
    """One dot gives every element of x its window of outputs; `is_tiled` must hold.

    Of output o, with u = o - low + d - 1, x's element is u // d and the tap d - 1 - u % d.
    """
    dims = tuple(range(conv.rank))
    flipped = lax.transpose(lax.rev(kernel, dims), (conv.rank, *dims, conv.rank + 1))
    flat = x.reshape(-1, conv.features)
    windows = lax.dot_general(flat, flipped.reshape(conv.features, -1), (((1,), (0,)), ((), ())))
    windows = windows.reshape(*x.shape[:-1], *conv.window, conv.out_features)
    pairs = [axis for dim in dims for axis in (1 + dim, 1 + conv.rank + dim)]
    laid = lax.transpose(windows, (0, *pairs, 2 * conv.rank + 1))
    sizes = [n * d for n, d in zip(conv.spatial, conv.lhs_dilation, strict=True)]
    laid = laid.reshape(conv.batch, *sizes, conv.out_features)
    config = [
        (low - d + 1, out - n - (low - d + 1), 0)
        for (low, _), d, n, out in zip(
            conv.padding, conv.lhs_dilation, sizes, conv.out_spatial, strict=True
        )
    ]
    if not any(any(c) for c in config):
        return laid
    return lax.pad(laid, np.zeros((), x.dtype), [(0, 0, 0), *config, (0, 0, 0)])


def _whole(conv: Convolution, shape: tuple[int, ...]) -> tuple[int, ...]:
    return (conv.batch, *shape, conv.out_features)


def _line(conv: Convolution, dim: int, phase: int) -> _Line:
    d, low = conv.lhs_dilation[dim], conv.padding[dim][0]
    first = (low - phase) % d
    taps = len(range(first, conv.window[dim], d))
    outputs = len(range(phase, conv.out_spatial[dim], d))
    start = (phase + first - low) // d
    return _Line(
        first=first,
        taps=taps,
        padding=(-start, outputs - 1 + taps - 1 + start - (conv.spatial[dim] - 1)),
        outputs=outputs,
    )


def _phase(
    lowering: Lowering, conv: Convolution, x: Any, kernel: Any, lines: tuple[_Line, ...]
) -> Any:
    shape = _whole(conv, tuple(line.outputs for line in lines))
    if not all(line.taps and line.outputs for line in lines):
        return lax.full(shape, 0, x.dtype)
    part = dataclasses.replace(
        conv,
        window=tuple(line.taps for line in lines),
        padding=tuple(line.padding for line in lines),
        lhs_dilation=(1,) * conv.rank,
    )
    starts = (*(line.first for line in lines), 0, 0)
    own = lax.slice(kernel, starts, kernel.shape, (*conv.lhs_dilation, 1, 1))
    return lowering(part, x, own)


def _interleaved(conv: Convolution, phases: list[Any], shape: tuple[int, ...]) -> Any:
    """Phases in row-major order, [batch, *shape, out] each → [batch, *out_spatial, out]."""
    for dim in reversed(range(conv.rank)):
        d = conv.lhs_dilation[dim]
        axis = 1 + dim
        merged = []
        for i in range(0, len(phases), d):
            group = [lax.expand_dims(p, (axis + 1,)) for p in phases[i : i + d]]
            joined = group[0] if d == 1 else lax.concatenate(group, axis + 1)
            sizes = joined.shape
            merged.append(joined.reshape(*sizes[:axis], sizes[axis] * d, *sizes[axis + 2 :]))
        phases = merged
    return lax.slice(phases[0], (0,) * len(conv.out_shape), conv.out_shape)
