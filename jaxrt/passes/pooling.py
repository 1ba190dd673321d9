"""Pooling over small windows: the maximum of strided slices, which XLA:CPU vectorizes.

Its own windows are loops within each element: maxima of 3x3 with stride 2 took nine times as long.
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

DTYPES = ("float32", "float64")

Combine = Callable[[Any, Any], Any]


def slice_windows(program: Program) -> tuple[Program, int]:
    """The program with its small windows as slices, and how many there were."""
    count = 0

    def by(combine: Combine, start: float) -> Rule:
        def rule(site: Site, x: Any) -> Any:
            nonlocal count
            if not _fits(site, x):
                return None
            count += 1
            return _slices(site, x, combine, start)

        return rule

    rules = {
        "reduce_window_max": by(lax.max, -math.inf),
        "reduce_window_min": by(lax.min, math.inf),
        "reduce_window_sum": by(lax.add, 0.0),
    }
    closed = rewrite(program.jaxpr, rules)
    return (dataclasses.replace(program, jaxpr=closed), count) if count else (program, 0)


def _fits(site: Site, x: Any) -> bool:
    """Whether windows overlap or skip nothing of the last dimension, which stays as it is."""
    params = site.params
    window = params["window_dimensions"]
    return (
        x.dtype.name in DTYPES
        and x.ndim >= 3
        and 1 < math.prod(window) <= MOST_TAPS
        and (window[-1], params["window_strides"][-1], *params["padding"][-1]) == (1, 1, 0, 0)
        and set(params["base_dilation"]) == {1}
        and 0 not in (*x.shape, *site.avals[0].shape)
    )


def _slices(site: Site, x: Any, combine: Combine, start: float) -> Any:
    """All elements at one place in their windows are one slice; combined in row-major order."""
    params = site.params
    strides, dilation = params["window_strides"], params["window_dilation"]
    if any(any(pair) for pair in params["padding"]):
        config = [(lo, hi, 0) for lo, hi in params["padding"]]
        x = lax.pad(x, np.asarray(start, x.dtype), config)
    shape = site.avals[0].shape
    result = None
    for tap in itertools.product(*(range(n) for n in params["window_dimensions"])):
        first = [t * d for t, d in zip(tap, dilation, strict=True)]
        limit = [a + (n - 1) * s + 1 for a, n, s in zip(first, shape, strides, strict=True)]
        part = lax.slice(x, first, limit, strides)
        result = part if result is None else combine(result, part)
    return result
