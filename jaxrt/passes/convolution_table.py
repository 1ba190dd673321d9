"""The candidate lowerings of a convolution: name → what it fits, how it is written."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jax import lax

from jaxrt.passes import convolution_phases, convolution_taps, winograd
from jaxrt.passes.convolution import Convolution, xla

XLA = "xla"
"""The convolution as it is: always a candidate."""

MOST_TAPS = 64
"""Of a window that is written out: XLA compiles thousands of slices for minutes."""

MOST_TAPS_DEPTHWISE = 256
"""Of one that gives a single loop, where XLA's own convolution is hopeless."""

MOST_TERMS = 32
"""Of one output element, where each is a multiplication in one loop: 3x3 of RGB has 27."""

MOST_FEATURES = 4
"""Of x there: a dot has too little to do in rows so short."""

LARGEST_COLUMNS = 256 << 20
"""Bytes of im2col's columns: far beyond any cache, and memory is for models."""

Apply = Callable[[Convolution, Any, Any], Any]


def _same(kernel: Any) -> Any:
    return kernel


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Lowering:
    """One way to write a convolution with canonical operands."""

    name: str
    """As reports show it."""
    fits: Callable[[Convolution], bool]
    apply: Apply
    """(convolution, x, transformed kernel) → y."""
    transform: Callable[[Any], Any] = _same
    """Of the kernel, computed once where it is not the kernel itself."""
    growth: float = 1.0
    """Bytes of the transformed kernel for one of the kernel's."""

    @property
    def transforms(self) -> bool:
        return self.transform is not _same


def _dense(conv: Convolution) -> bool:
    return conv.groups == 1 and not conv.is_transposed


def _is_dot(conv: Convolution) -> bool:
    return _dense(conv) and set(conv.window) == {1}


def _windowed(conv: Convolution) -> bool:
    return _dense(conv) and not _is_dot(conv)


def _depthwise(conv: Convolution) -> bool:
    few = math.prod(conv.window) <= MOST_TAPS_DEPTHWISE
    return few and conv.is_depthwise and not conv.is_transposed


def _shifted(conv: Convolution) -> bool:
    return _windowed(conv) and math.prod(conv.window) <= MOST_TAPS


def _few_terms(conv: Convolution) -> bool:
    return _windowed(conv) and conv.terms <= MOST_TERMS and conv.features <= MOST_FEATURES


def _columns(conv: Convolution, rows: int) -> bool:
    terms = math.prod(conv.window) * conv.features // conv.groups
    size = rows * math.prod(conv.out_spatial) * terms * np.dtype(conv.dtype).itemsize
    return math.prod(conv.window) <= MOST_TAPS and size <= LARGEST_COLUMNS


def _im2col(conv: Convolution) -> bool:
    return _windowed(conv) and _columns(conv, conv.batch)


def _im2col_by_row(conv: Convolution) -> bool:
    return _windowed(conv) and conv.batch > 1 and _columns(conv, 1)


def _lines(conv: Convolution) -> bool:
    several = conv.rank > 1 and conv.window[-1] > 1 and max(conv.window[:-1]) > 1
    few = max(conv.window[-1], math.prod(conv.window[:-1])) <= MOST_TAPS
    columns = conv.batch * math.prod(conv.spatial) * conv.window[-1] * conv.features
    small = columns * np.dtype(conv.dtype).itemsize <= LARGEST_COLUMNS
    return _windowed(conv) and several and few and small


def _grouped(conv: Convolution) -> bool:
    dense = conv.groups > 1 and not conv.is_depthwise and not conv.is_transposed
    return dense and _columns(conv, conv.batch)


def _phases(conv: Convolution) -> bool:
    return convolution_phases.fits(conv) and conv.groups == 1


def _phases_written(conv: Convolution) -> bool:
    return _phases(conv) and math.prod(conv.window) <= MOST_TAPS


def _phases_depthwise(conv: Convolution) -> bool:
    few = math.prod(conv.window) <= MOST_TAPS_DEPTHWISE
    return few and convolution_phases.fits(conv) and conv.is_depthwise


def _by_row(lowering: Apply, conv: Convolution, x: Any, kernel: Any) -> Any:
    """One row of the batch at a time: what lies between stays in the cache."""
    one = dataclasses.replace(conv, batch=1)
    out = lax.map(lambda row: lowering(one, row[None], kernel)[0], x)
    return out.reshape(conv.out_shape)


def _winograd(size: int, *, by_row: bool) -> Lowering:
    apply: Apply = functools.partial(winograd.apply, size)
    return Lowering(
        name=f"Winograd F({size},3){' by row' if by_row else ''}",
        fits=(lambda c: winograd.fits(c) and c.batch > 1) if by_row else winograd.fits,
        apply=functools.partial(_by_row, apply) if by_row else apply,
        transform=functools.partial(winograd.kernel_of, size),
        growth=(size + 2) ** 2 / 9,
    )


_ALL = (
    Lowering(name=XLA, fits=lambda conv: True, apply=xla),
    Lowering(
        name="xla by row",
        fits=lambda conv: conv.batch > 1,
        apply=functools.partial(_by_row, xla),
    ),
    Lowering(name="dot", fits=_is_dot, apply=convolution_taps.im2col),
    Lowering(name="im2col dot", fits=_im2col, apply=convolution_taps.im2col),
    Lowering(
        name="im2col dot by row",
        fits=_im2col_by_row,
        apply=functools.partial(_by_row, convolution_taps.im2col),
    ),
    Lowering(name="line dots", fits=_lines, apply=convolution_taps.line_columns),
    Lowering(name="shifted dots", fits=_shifted, apply=convolution_taps.shifted),
    Lowering(name="shift-multiply-add", fits=_depthwise, apply=convolution_taps.depthwise),
    Lowering(name="multiply-add", fits=_few_terms, apply=convolution_taps.multiplied),
    Lowering(name="dot by group", fits=_grouped, apply=convolution_taps.grouped),
    Lowering(
        name="dot of windows",
        fits=convolution_phases.is_tiled,
        apply=convolution_phases.tiled,
    ),
    Lowering(
        name="phases",
        fits=_phases,
        apply=functools.partial(convolution_phases.by_phase, xla),
    ),
    Lowering(
        name="phases, im2col dot",
        fits=_phases_written,
        apply=functools.partial(convolution_phases.by_phase, convolution_taps.im2col),
    ),
    Lowering(
        name="phases, shift-multiply-add",
        fits=_phases_depthwise,
        apply=functools.partial(convolution_phases.by_phase, convolution_taps.depthwise),
    ),
    *(_winograd(size, by_row=by_row) for size in winograd.INPUT for by_row in (False, True)),
)

LOWERINGS = {lowering.name: lowering for lowering in _ALL}


def candidates(conv: Convolution) -> tuple[Lowering, ...]:
    """Every lowering that computes `conv`, XLA's own first."""
    return tuple(lowering for lowering in _ALL if lowering.fits(conv))
