"""Pooling over windows: the maximum of strided slices, which XLA:CPU vectorizes.

Its own windows are loops within each element: maxima of 3x3 with stride 2 took nine times as long.
Large windows are pooled one dimension after the other: sums of 16x16 took five times as long.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jax import lax

from jaxrt.passes.rewrite import Rule, Site, rewrite
from jaxrt.program import Program

MOST_TAPS = 25
"""Of a window: each is a slice to compile."""

MOST_LINES = 64
"""Of a larger window, over the dimensions that are pooled one after the other."""

DTYPES = ("float32", "float64")

Combine = Callable[[Any, Any], Any]


def slice_windows(program: Program) -> tuple[Program, int]:
    """The program with its windows as slices, and how many there were."""
    count = 0

    def by(combine: Combine, start: float) -> Rule:
        def rule(site: Site, x: Any) -> Any:
            nonlocal count
            window = _Window.of(site)
            if not _fits(site, window, x):
                return None
            count += 1
            for part in window.parts():
                x = part.pooled(x, combine, start)
            return x

        return rule

    rules = {
        "reduce_window_max": by(lax.max, -math.inf),
        "reduce_window_min": by(lax.min, math.inf),
        "reduce_window_sum": by(lax.add, 0.0),
    }
    closed = rewrite(program.jaxpr, rules)
    return (dataclasses.replace(program, jaxpr=closed), count) if count else (program, 0)


@dataclasses.dataclass(frozen=True, slots=True)
class _Window:
    """One entry a dimension."""

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, site: Site) -> "_Window":
        names = ("window_dimensions", "window_strides", "window_dilation", "padding")
        return cls(*(tuple(site.params[name]) for name in names))

    @property
    def lines(self) -> int:
        return sum(size for size in self.sizes if size > 1)

    def parts(self) -> list["_Window"]:
        """Windows to pool by one after the other."""
        if math.prod(self.sizes) <= MOST_TAPS:
            return [self]
        return [self._along(d) for d in range(len(self.sizes)) if not self.skips(d)]

    def skips(self, d: int) -> bool:
        """Whether a dimension stays as it is."""
        return (self.sizes[d], self.strides[d], *self.padding[d]) == (1, 1, 0, 0)

    def _along(self, d: int) -> "_Window":
        def only(values: tuple[Any, ...], rest: Any) -> tuple[Any, ...]:
            return tuple(v if i == d else rest for i, v in enumerate(values))

        return _Window(
            only(self.sizes, 1),
            only(self.strides, 1),
            only(self.dilation, 1),
            only(self.padding, (0, 0)),
        )

    def pooled(self, x: Any, combine: Combine, start: float) -> Any:
        """All elements at one place in their windows are one slice; combined in row-major order."""
        if any(any(pair) for pair in self.padding):
            config = [(lo, hi, 0) for lo, hi in self.padding]
            x = lax.pad(x, np.asarray(start, x.dtype), config)
        reach = [(n - 1) * d + 1 for n, d in zip(self.sizes, self.dilation, strict=True)]
        last = [(n - r) // s * s for n, r, s in zip(x.shape, reach, self.strides, strict=True)]
        result = None
        for tap in itertools.product(*(range(n) for n in self.sizes)):
            first = [t * d for t, d in zip(tap, self.dilation, strict=True)]
            limit = [a + end + 1 for a, end in zip(first, last, strict=True)]
            part = lax.slice(x, first, limit, self.strides)
            result = part if result is None else combine(result, part)
        return result


def _fits(site: Site, window: _Window, x: Any) -> bool:
    """Whether windows overlap or skip nothing of the last dimension, which stays as it is."""
    return (
        x.dtype.name in DTYPES
        and x.ndim >= 3
        and math.prod(window.sizes) > 1
        and (math.prod(window.sizes) <= MOST_TAPS or window.lines <= MOST_LINES)
        and window.skips(-1)
        and set(site.params["base_dilation"]) == {1}
        and 0 not in (*x.shape, *site.avals[0].shape)
    )
