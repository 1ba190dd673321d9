"""Scales: what one step of the few bits stands for.

int8 and fp8 take the largest value of each channel for the largest step: a scale found by search
takes 1 to 4 % off the RMS error of trained weights in int8, 2 to 13 % in fp8, and would not give
back weights that are whole multiples of a step. In int4 a search takes 16 %.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

F32 = np.dtype(np.float32)
BF16 = np.dtype(jnp.bfloat16)
I32 = np.dtype(np.int32)

LEAST = float(np.finfo(np.float32).tiny)
"""Steps below are none: devices take such numbers for zero, and nothing is divided by zero."""

INT4 = (-8.0, 7.0)
"""The integers that four bits hold."""

RATIOS = tuple(np.linspace(0.6, 1.0, 6).tolist())
"""Of the peak of a group, which the lowest integer stands for; twice as many win 0.3 % more."""


def absolute(values: Any, axes: Sequence[int], largest: float) -> Any:
    """f32, of size 1 along `axes`: the largest magnitude is `largest` steps. NaN where one is.

    Magnitudes are compared as integers, of the same order, NaN last: XLA:CPU's maximum of floats
    passes over NaN (`xla_cpu_enable_fast_min_max`), and a broken row would get a sound scale.
    """
    bits = lax.bitcast_convert_type(lax.abs(values), I32)
    most = lax.bitcast_convert_type(jnp.max(bits, axis=tuple(axes), keepdims=True), F32)
    return _usable(lax.div(most, lax.full_like(most, largest)))


def fitted(values: Any, axis: int) -> Any:
    """For int4: bf16, of either sign, of size 1 along `axis`, with the least squared error found.

    The lowest integer is one more than the highest, so the element of the largest magnitude is
    negative in steps, as in llama.cpp's Q4_0; then it may be cut off by a ratio, and the scale is
    fitted to the integers found. Weights of at most seven steps either way stay what they are.
    """
    high = jnp.max(values, axis=axis, keepdims=True)
    low = jnp.min(values, axis=axis, keepdims=True)
    peak = lax.select(lax.ge(high, lax.neg(low)), high, low)
    whole = lax.div(peak, lax.full_like(peak, INT4[0]))
    first = _rounded(absolute(values, (axis,), INT4[1]))

    def step(best: Any, ratio: Any) -> tuple[Any, None]:
        scale = _rounded(lax.mul(whole, lax.full_like(whole, ratio)))
        best = _better(best, values, scale, axis)
        steps = quotients(values, scale, INT4)
        most = jnp.maximum(_sum(steps, steps, axis), lax.full_like(scale, 1))
        return _better(best, values, _rounded(_sum(values, steps, axis) / most), axis), None

    start = (_error(values, first, axis), first)
    (_, scale), _ = lax.scan(step, start, np.asarray(RATIOS, F32))
    return lax.convert_element_type(scale, BF16)


def stored(scale: Any) -> Any:
    """As bfloat16; never zero."""
    return lax.convert_element_type(_rounded(scale), BF16)


def spread(scale: Any, shape: Sequence[int]) -> Any:
    """As f32 of the shape of what it scales, of the same rank."""
    wide = lax.convert_element_type(scale, F32)
    return lax.broadcast_in_dim(wide, tuple(shape), tuple(range(len(shape))))


def quotients(values: Any, scale: Any, within: tuple[float, float]) -> Any:
    """Whole steps as f32, ties to even."""
    low, high = (lax.full_like(values, bound) for bound in within)
    ratio = lax.clamp(low, lax.div(values, spread(scale, values.shape)), high)
    return lax.round(ratio, lax.RoundingMethod.TO_NEAREST_EVEN)


def _rounded(scale: Any) -> Any:
    """f32 with the digits of bfloat16: unlike a conversion, XLA never takes this away."""
    return _usable(lax.reduce_precision(scale, 8, 7))


def _usable(scale: Any) -> Any:
    is_none = lax.lt(lax.abs(scale), lax.full_like(scale, LEAST))
    return lax.select(is_none, lax.full_like(scale, 1), scale)


def _sum(left: Any, right: Any, axis: int) -> Any:
    return jnp.sum(lax.mul(left, right), axis=axis, keepdims=True)


def _error(values: Any, scale: Any, axis: int) -> Any:
    steps = quotients(values, scale, INT4)
    missed = lax.sub(values, lax.mul(steps, spread(scale, values.shape)))
    return _sum(missed, missed, axis)


def _better(best: Any, values: Any, scale: Any, axis: int) -> Any:
    error = _error(values, scale, axis)
    is_less = lax.lt(error, best[0])
    return lax.select(is_less, error, best[0]), lax.select(is_less, scale, best[1])
