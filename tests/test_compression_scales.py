"""Scales and steps: how far weights move, which stay what they are, and numbers that are none."""

import dataclasses
import functools
from typing import Any

import hypothesis
import hypothesis.extra.numpy as arrays
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import qwix
from hypothesis import strategies as some

from jaxrt.compression import quantize
from jaxrt.compression.quantize import Form, fake
from jaxrt.compression.schemes import Scheme

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
FEW = [Scheme.INT8, Scheme.INT4, Scheme.FP8]
GAUSS = RNG.standard_normal((768, 96)).astype(np.float32)
HEAVY = RNG.standard_t(3, (768, 96)).astype(np.float32)
"""As trained weights are at worst: a few are tens of times the rest."""


def _form(scheme: Scheme, *, is_table: bool = False) -> Form:
    return Form(scheme=scheme, axes=(1,) if is_table else (0,), is_table=is_table)


def _error(got: Array, want: Array) -> float:
    """Relative, RMS."""
    return float(np.sqrt(np.mean((got - want) ** 2) / np.mean(want**2)))


def _largest_by_seven(weights: Array) -> Array:
    """The plain rule for int4, in groups of 64."""
    groups = weights.reshape(-1, 64, weights.shape[1])
    scale = np.abs(groups).max(1, keepdims=True) / 7
    scale = scale.astype(ml_dtypes.bfloat16).astype(np.float32)
    found: Array = np.clip(np.rint(groups / scale), -7, 7) * scale
    return found.reshape(weights.shape)


@pytest.mark.parametrize(("weights", "share"), [(GAUSS, 0.845), (HEAVY, 0.87)])
def test_a_search_takes_a_seventh_off_the_error_of_int4(weights: Array, share: float) -> None:
    got = fake(weights, _form(Scheme.INT4))
    assert _error(got, weights) < share * _error(_largest_by_seven(weights), weights)


@pytest.mark.parametrize("weights", [GAUSS, HEAVY])
def test_no_group_is_further_off_than_by_the_plain_rule(weights: Array) -> None:
    def errors(got: Array) -> Array:
        return np.asarray(((got - weights) ** 2).reshape(-1, 64, weights.shape[1]).sum(1))

    plain = errors(_largest_by_seven(weights))
    assert (errors(fake(weights, _form(Scheme.INT4))) <= plain * 1.0001).all()


@pytest.mark.parametrize(("scheme", "most"), [(Scheme.INT8, 1.2), (Scheme.INT4, 1.3)])
def test_errors_of_kernels_cancel_over_places_and_over_all(scheme: Scheme, most: float) -> None:
    kernel = GAUSS.reshape(4, 4, 48, 96)
    plain = Form(scheme=scheme, axes=(0, 1, 2))
    cancelled = dataclasses.replace(plain, taps=(0, 1))
    missed, less = (fake(kernel, form) - kernel for form in (plain, cancelled))
    size = np.abs(missed).mean()
    assert np.abs(less).mean() < most * size
    assert np.abs(less.sum((0, 1))).mean() < 0.6 * np.abs(missed.sum((0, 1))).mean()
    assert np.abs(less.sum((0, 1, 2))).mean() < 0.4 * np.abs(missed.sum((0, 1, 2))).mean()


def test_kernels_of_any_order_are_rounded_alike() -> None:
    kernel = HEAVY.reshape(4, 4, 48, 96)
    here = Form(scheme=Scheme.INT8, axes=(0, 1, 2), taps=(0, 1))
    there = Form(scheme=Scheme.INT8, axes=(1, 2, 3), taps=(2, 3))
    turned = np.transpose(kernel, (3, 2, 0, 1))
    np.testing.assert_array_equal(
        fake(np.ascontiguousarray(turned), there), np.transpose(fake(kernel, here), (3, 2, 0, 1))
    )


@functools.cache
def _jitted(form: Form) -> Any:
    return jax.jit(lambda w: quantize.decode(quantize.encode(w, form), form, w.shape))


def _whole(low: int, high: int) -> some.SearchStrategy[Array]:
    """[64, 3]: one column has both bounds in it."""
    steps = arrays.arrays(np.int8, (64, 3), elements=some.integers(low, high))
    return steps.map(lambda s: np.concatenate([[[low] * 3, [high] * 3], s[2:]]))


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(
    scheme=some.sampled_from([Scheme.INT8, Scheme.INT4]),
    data=some.data(),
    scales=some.lists(some.integers(128, 255), min_size=3, max_size=3),
    power=some.integers(-60, 60),
)
def test_weights_of_whole_steps_stay_what_they_are(
    scheme: Scheme, data: Any, scales: list[int], power: int
) -> None:
    bounds = [(-127, 127)] if scheme is Scheme.INT8 else [(-7, 7), (-8, 7), (-7, 8)]
    steps = data.draw(_whole(*data.draw(some.sampled_from(bounds))))
    weights = (steps * np.asarray(scales) * 2.0**power).astype(np.float32)
    found = np.asarray(_jitted(_form(scheme))(weights))
    np.testing.assert_allclose(found, weights, rtol=1e-6 if scheme is Scheme.INT8 else 0, atol=0)


@pytest.mark.parametrize("is_table", [False, True])
@pytest.mark.parametrize("scheme", FEW)
def test_zeros_denormals_and_huge_numbers_keep_their_place(scheme: Scheme, is_table: bool) -> None:
    weights = np.ones((64, 64), np.float32)
    ends = [0.0, -0.0, 1e-45, 1e-38, 1e-30, 1e30, 3.4e38, -3.4e38]
    for place, end in enumerate(ends):
        weights[(place,) if is_table else (slice(None), place)] = end
    found = fake(weights, _form(scheme, is_table=is_table))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, weights, rtol=0.005, atol=1e-35)
    np.testing.assert_array_equal(found[weights == 0], 0)


@pytest.mark.parametrize("scheme", FEW)
@pytest.mark.parametrize("none", [np.nan, np.inf])
def test_a_channel_that_is_no_number_is_none_and_others_stay(scheme: Scheme, none: float) -> None:
    weights = GAUSS.copy()
    weights[5, 7] = none
    found = fake(weights, _form(scheme))
    whole = fake(GAUSS, _form(scheme))
    others = np.arange(96) != 7
    np.testing.assert_array_equal(found[:, others], whole[:, others])
    assert not np.isfinite(found[5, 7])


@pytest.mark.parametrize(
    ("shape", "group"), [((1, 5), 64), ((31, 1), 8), ((127, 2), 64), ((3, 3, 3, 7, 5), 16)]
)
def test_groups_of_int4_take_any_shape(shape: tuple[int, ...], group: int) -> None:
    weights = RNG.standard_normal(shape).astype(np.float32)
    form = Form(scheme=Scheme.INT4, axes=tuple(range(len(shape) - 1)), group=group)
    assert _error(fake(weights, form), weights) < 0.16


@pytest.mark.parametrize("scheme", FEW)
def test_qwix_reads_what_is_stored_as_we_do(scheme: Scheme) -> None:
    form = _form(scheme)
    values, scale = jax.jit(lambda w: quantize.encode(w, form))(GAUSS)
    if scheme is Scheme.INT4:
        steps = np.concatenate([np.asarray(half) for half in quantize.unpack(values)], axis=1)
        values, scale = jnp.asarray(steps.reshape(GAUSS.shape), jnp.int4), scale[:, 0]
    held = qwix.QArray(values, scale.astype(jnp.float32))
    np.testing.assert_array_equal(jax.jit(qwix.dequantize)(held), fake(GAUSS, form))


@pytest.mark.parametrize("weights", [GAUSS, HEAVY])
@pytest.mark.parametrize(
    ("scheme", "dtype", "share"),
    [
        (Scheme.INT8, jnp.int8, 1.01),
        (Scheme.INT4, jnp.int4, 0.9),
        (Scheme.FP8, jnp.float8_e4m3fn, 1.0001),
    ],
)
def test_weights_move_no_further_than_by_qwix(
    weights: Array, scheme: Scheme, dtype: Any, share: float
) -> None:
    tiles = {0: 64} if scheme is Scheme.INT4 else {}
    kind = jnp.bfloat16 if scheme is Scheme.INT4 else jnp.float32

    def read(w: Any) -> Any:
        held = qwix.quantize(w, dtype, channelwise_axes=(1,), tiled_axes=tiles, scale_dtype=kind)
        return qwix.dequantize(held)

    far = _error(np.asarray(jax.jit(read)(weights), np.float32), weights)
    assert _error(fake(weights, _form(scheme)), weights) <= share * far
