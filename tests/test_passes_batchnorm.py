"""Scales and shifts of channels move into weights; everything else stays as it is."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from convolutions import NHWC, program, run
from jax import lax

from jaxrt.passes import batchnorm, prepare

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(2, 5, 6, 3)).astype(np.float32)
CHANNELS = {
    name: RANDOM.uniform(0.5, 2.0, 4).astype(np.float32)
    for name in ("gamma", "beta", "mean", "variance", "bias")
}
KERNEL = {"kernel": RANDOM.normal(size=(3, 3, 3, 4)).astype(np.float32)}
WEIGHTS = KERNEL | CHANNELS


def by_channel(vector: Any, y: Any) -> Any:
    return vector.reshape((1,) * (y.ndim - 1) + (-1,))


def convolve(x: Any, kernel: Any) -> Any:
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=NHWC)


def norm(y: Any, gamma: Any, beta: Any, mean: Any, variance: Any) -> Any:
    scale = gamma * lax.rsqrt(variance + np.float32(1e-3))
    return (y - by_channel(mean, y)) * by_channel(scale, y) + by_channel(beta, y)


def normed(kernel: Any, gamma: Any, beta: Any, mean: Any, variance: Any, bias: Any, x: Any) -> Any:
    return jnp.tanh(norm(convolve(x, kernel) + bias[None, None, None], gamma, beta, mean, variance))


def operations(function: Callable[..., Any], x: Any = X, **weights: Any) -> tuple[list[str], int]:
    """The primitives that run per request after folding, and how many products took a scale.

    The folded program is also held to the one it came from.
    """
    given = weights or WEIGHTS
    found = program(function, given, x)
    folded, count = batchnorm.fold(found)
    want = run(found, *given.values(), x)
    split = prepare.split(folded)
    prepared = prepare.run_prepare(split, {name: given[name] for name in split.needed})
    np.testing.assert_allclose(run(split.apply, *prepared.values(), x), want, rtol=2e-5, atol=2e-5)
    names = [n for n in prepare.primitives(split.apply.jaxpr) if n not in prepare.VIEWS]
    return names, count


def test_a_convolution_takes_bias_and_batch_norm() -> None:
    assert operations(normed) == (["conv_general_dilated", "add", "tanh"], 1)


def test_a_dot_takes_them_too() -> None:
    def dense(
        kernel: Any, gamma: Any, beta: Any, mean: Any, variance: Any, bias: Any, x: Any
    ) -> Any:
        return norm(x @ kernel + by_channel(bias, x), gamma, beta, mean, variance)

    kernel = RANDOM.normal(size=(3, 4)).astype(np.float32)
    names, count = operations(dense, X[0], **{"kernel": kernel}, **CHANNELS)
    assert (names, count) == (["dot_general", "add"], 1)


def test_division_negation_and_scalars_fold() -> None:
    def scaled(kernel: Any, variance: Any, x: Any) -> Any:
        return (convolve(x, kernel) - np.float32(2)) / variance[None, None, None] * np.float32(3)

    weights = KERNEL | {"variance": CHANNELS["variance"]}
    assert operations(scaled, **weights) == (["conv_general_dilated", "add"], 1)


def test_a_product_that_two_take_is_not_computed_twice() -> None:
    def shared(kernel: Any, gamma: Any, x: Any) -> Any:
        y = convolve(x, kernel)
        return y * by_channel(gamma, y) + jnp.tanh(y)

    names, count = operations(shared, **(KERNEL | {"gamma": CHANNELS["gamma"]}))
    assert names.count("conv_general_dilated") == 1
    assert (names.count("mul"), count) == (1, 0)


def test_a_kernel_with_other_uses_is_not_stored_twice() -> None:
    def tied(kernel: Any, gamma: Any, x: Any) -> Any:
        return convolve(x, kernel) * gamma[None, None, None] + kernel.sum()

    _, count = operations(tied, **(KERNEL | {"gamma": CHANNELS["gamma"]}))
    assert count == 0


def by_pixel(kernel: Any, row: Any, x: Any) -> Any:
    return convolve(x, kernel) * row[None, :, None, None]


def by_input(kernel: Any, row: Any, x: Any) -> Any:
    return convolve(x, kernel) * x.mean(axis=(0, 1, 2)).sum()


@pytest.mark.parametrize("function", [by_pixel, by_input])
def test_what_is_no_channel_of_weights_stays(function: Callable[..., Any]) -> None:
    names, count = operations(function, **(KERNEL | {"row": np.ones(5, np.float32)}))
    assert "mul" in names
    assert count == 0


def test_channels_first_fold_along_their_own_dimension() -> None:
    def first(kernel: Any, gamma: Any, x: Any) -> Any:
        y = lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NCHW")
        )
        return y * gamma[None, :, None, None]

    weights = KERNEL | {"gamma": CHANNELS["gamma"]}
    assert operations(first, **weights) == (["conv_general_dilated"], 1)
