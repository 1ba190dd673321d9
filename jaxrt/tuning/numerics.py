"""How far a lowering is from the exact convolution, at sampled outputs, computed in float64."""

from typing import Any

import numpy as np

from jaxrt.passes.convolution import Convolution, dilated

Array = np.ndarray[Any, Any]

SAMPLES = 64
"""Output positions compared, with all their channels."""

ALLOWED = {"float32": 1e-5, "float64": 1e-13}
"""Largest error a candidate may have, relative to the largest output."""


def positions(conv: Convolution, count: int = SAMPLES, seed: int = 0) -> Array:
    """[count, 1 + rank]: batch index and output position, the corners among them."""
    sizes = (conv.batch, *conv.out_spatial)
    found = np.random.default_rng(seed).integers(0, sizes, (count, len(sizes)))
    found[0], found[-1] = 0, np.asarray(sizes) - 1
    return found


def exact(conv: Convolution, x: Array, kernel: Array, at: Array) -> Array:
    """[len(at), out_features] in float64, by the definition of the convolution."""
    inside = np.ones((len(at), *conv.window), bool)
    index: list[Array] = [at[:, 0].reshape(-1, *(1,) * conv.rank)]
    for dim in range(conv.rank):
        taps = np.arange(conv.window[dim]) * conv.rhs_dilation[dim]
        seen = at[:, dim + 1, None] * conv.strides[dim] + taps - conv.padding[dim][0]
        d = conv.lhs_dilation[dim]
        real = (seen >= 0) & (seen < dilated(conv.spatial[dim], d)) & (seen % d == 0)
        shape = [len(at), *(1,) * conv.rank]
        shape[dim + 1] = conv.window[dim]
        inside &= real.reshape(shape)
        index.append(np.where(real, seen // d, 0).reshape(shape))
    patches = x[tuple(index)].astype(np.float64) * inside[..., None]
    groups = patches.reshape(len(at), -1, conv.groups, conv.features // conv.groups)
    matrices = kernel.astype(np.float64).reshape(
        groups.shape[1], conv.features // conv.groups, conv.groups, -1
    )
    sums: Array = np.einsum("stgc,tcgo->sgo", groups, matrices)
    return sums.reshape(len(at), -1)


def error(conv: Convolution, y: Array, x: Array, kernel: Array) -> float:
    """Largest error of `y`, the convolution and a relu, at the sampled positions.

    Relative to the largest exact value before the relu.
    """
    at = positions(conv)
    want = exact(conv, x, kernel, at)
    got = y[tuple(at.T)].astype(np.float64)
    return float(np.abs(got - np.maximum(want, 0)).max() / (np.abs(want).max() or 1.0))


def close(got: Array, want: Array) -> bool:
    """Whether two runs of one program agree: floats to ALLOWED, all else exactly."""
    if want.dtype.name not in ALLOWED:
        return np.array_equal(got, want)
    bound = ALLOWED[want.dtype.name] * float(np.abs(want).max(initial=0))
    return np.allclose(got, want, rtol=0, atol=bound, equal_nan=True)
