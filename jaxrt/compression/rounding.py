"""Rounding the kernels of convolutions so that their errors cancel where the inputs are alike.

To the nearest step is best for inputs that have nothing to do with each other. Those under a kernel
are pixels next to each other, or come from a ReLU, which is never below zero: errors that add up
over the places of one channel are seen in every answer, and those over all channels in many. So an
element may go to the other step next to it where that brings these sums towards zero.

Found one element after the other, for all output channels at once, twice around. It needs no
calibration data; with them, GPTQ (arXiv:2210.17323) does alike with the covariance that it finds.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxrt.compression.scales import spread

PLACES, ALL = np.float32(1.0), np.float32(0.1)
"""What the squared sum of errors over the places of a channel, and over all terms, counts beside
the squared errors themselves. Chosen among a few from 0.03 to 3 by four trained networks, whose
answers hardly tell them apart (`tests/test_trained_models.py`)."""

FARTHEST = np.float32(0.75)
"""Steps from an element to what it becomes: whole steps stay what they are."""

ROUNDS = 2
"""Twice as many win 2 % on one network and nothing on others."""


def balanced(
    values: Any, scale: Any, within: tuple[float, float], taps: Sequence[int], terms: Sequence[int]
) -> Any:
    """Whole steps as f32[...], of `values` f32[...] and `scale`, of size 1 or that of `values`.

    `taps`: dimensions over the places of the kernel; `terms`: over what else is summed up.
    """
    rest = [d for d in range(values.ndim) if d not in (*taps, *terms)]
    order = (*terms, *taps, *rest)
    shape = [math.prod(values.shape[d] for d in dims) for dims in (terms, taps, rest)]

    def parted(array: Any) -> Any:
        """[terms, taps, rest]."""
        return lax.reshape(lax.transpose(array, order), shape)

    step = parted(spread(scale, values.shape))
    ratio = lax.div(parted(values), step)
    near, other = _neighbours(ratio, within)
    swapped = _swapped((near - ratio) * step, (other - ratio) * step)
    found = lax.reshape(lax.select(swapped, other, near), [values.shape[d] for d in order])
    return lax.transpose(found, [order.index(d) for d in range(values.ndim)])


def _neighbours(ratio: Any, within: tuple[float, float]) -> tuple[Any, Any]:
    """The nearest whole steps, ties to even, and the second nearest where it may be taken."""
    low, high = (lax.full_like(ratio, bound) for bound in within)
    near = lax.clamp(low, lax.round(ratio, lax.RoundingMethod.TO_NEAREST_EVEN), high)
    other = near + jnp.sign(ratio - near)
    is_free = (jnp.abs(other - ratio) <= FARTHEST) & (other >= low) & (other <= high)
    return near, lax.select(is_free, other, near)


def _swapped(near: Any, other: Any) -> Any:
    """Errors [terms, taps, rest] of both ways to round → bool: where the other way is taken."""

    def tap(sums: Any, given: Any) -> Any:
        swap, one, two = given
        error = lax.select(swap, two, one)
        places, total = (found - error for found in sums)

        def cost(error: Any) -> Any:
            at_places, at_all = places + error, total + error
            return error * error + PLACES * at_places * at_places + ALL * at_all * at_all

        swap = cost(two) < cost(one)
        error = lax.select(swap, two, one)
        return (places + error, total + error), swap

    def term(total: Any, given: Any) -> Any:
        swap, one, two = given
        places = jnp.sum(lax.select(swap, two, one), 0)
        (_, total), swap = lax.scan(tap, (places, total), given)
        return total, swap

    def around(swap: Any, _: None) -> Any:
        total = jnp.sum(lax.select(swap, other, near), (0, 1))
        return lax.scan(term, total, (swap, near, other))[1], None

    first = lax.full(near.shape, False)
    return lax.scan(around, first, None, length=ROUNDS)[0]
