"""What measurements on CPUs taught: the lowering of a convolution when nobody times it.

XLA:CPU's own convolution is a product of matrices in Eigen: good for large planes of few channels,
poor for small planes of many. It has no fast path for depthwise, grouped and dilated ones.
"""

import math

from jaxrt.passes.convolution import Convolution
from jaxrt.passes.convolution_table import XLA, candidates

CERTAIN = ("dot", "multiply-add", "shift-multiply-add", "phases, shift-multiply-add")
"""Faster wherever they fit, by factors up to 50: not timed but by `full`."""

SHORTLIST = 4
"""Candidates timed for one convolution by `fast`."""

CACHE = 8 << 20
"""Bytes of the largest value from which a program runs faster in blocks of rows."""

REUSE = 64
"""How often a block of rows has to multiply each weight on average, so that reading all weights for
each block costs little."""

MIN_CHANNELS = 32
"""Of input and output: below, Winograd's transforms cost more than the products it saves."""

LARGE_PLANE = 24
"""Outputs a side from which F(4,3)'s tiles are mostly full."""


def heuristic(conv: Convolution, platform: str) -> str:
    """The lowering by rule. Other platforms than CPUs have tuned convolutions of their own."""
    if platform != "cpu":
        return XLA
    names = [lowering.name for lowering in candidates(conv)]
    for name in (*CERTAIN, "dot by group", "dot of windows", "phases"):
        if name in names:
            return name
    return _windowed(conv, names)


def shortlist(conv: Convolution) -> tuple[str, ...]:
    """The candidates worth timing, the rule's first: one where there is no doubt."""
    first = heuristic(conv, "cpu")
    names = [lowering.name for lowering in candidates(conv)]
    if first in CERTAIN:
        return (first,)
    likely = [name for name in _likely(conv) if name in names and name != first]
    return (first, *likely)[:SHORTLIST]


def _windowed(conv: Convolution, names: list[str]) -> str:
    plane = min(conv.out_spatial)
    if "Winograd F(4,3)" in names and min(conv.features, conv.out_features) >= MIN_CHANNELS:
        if plane >= LARGE_PLANE:
            return "Winograd F(4,3)"
        if math.prod(conv.out_spatial) * conv.batch >= 196:
            return "Winograd F(2,3)"
        return "im2col dot"
    small = math.prod(conv.out_spatial) <= 400
    return "im2col dot" if small and "im2col dot" in names and conv.features >= 128 else XLA


def _dots(conv: Convolution) -> tuple[str, ...]:
    """A product with fewer columns is one of a matrix and vectors, which is slow."""
    return ("line dots", "im2col dot") if conv.out_features >= 4 else ()


def _likely(conv: Convolution) -> tuple[str, ...]:
    if conv.is_transposed:
        return (XLA, "phases", "phases, im2col dot")
    if conv.groups > 1:
        return (XLA,)
    if conv.rank != 2:
        return (XLA, *_dots(conv), "shifted dots")
    if min(conv.out_spatial) >= LARGE_PLANE:
        by_row = ("xla by row", "Winograd F(4,3) by row") if conv.batch > 1 else ()
        return (XLA, *by_row, *_dots(conv), "Winograd F(2,3)")
    return ("im2col dot", XLA, "Winograd F(2,3)", "Winograd F(4,3)", "shifted dots")
