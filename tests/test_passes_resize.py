"""Resizing by windows becomes rows, then columns; every other gather stays."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from convolutions import program, run
from jax import lax

from jaxrt.passes import prepare, resize

X = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)


def weights_of(starts: Any, at: Any, window: int) -> Any:
    """[outputs, window]: linear interpolation at the places `at`, from pixel `starts` on."""
    pixels = starts[:, None] + jnp.arange(window, dtype=jnp.int32)[None]
    distance = jnp.abs(pixels.astype(jnp.float32) - at[:, None])
    return jnp.maximum(np.float32(0), np.float32(1) - distance)


def places(size: int, outputs: int, window: int) -> tuple[Any, Any]:
    at = jnp.arange(outputs, dtype=jnp.float32) * np.float32((size - 1) / (outputs - 1))
    starts = jnp.clip(jnp.floor(at).astype(jnp.int32), 0, size - window)
    return starts, at


def windowed(x: Any, height: int, width: int, window: int = 3, twist: bool = False) -> Any:
    """As TensorFlow's bridge emits ResizeBilinear with align_corners."""
    tops, rows = places(x.shape[1], height, window)
    lefts, columns = places(x.shape[2], width, window)
    across = jnp.broadcast_to(lefts[None, :, None], (height, width, 1))
    starts = jnp.concatenate(
        [jnp.broadcast_to(tops[:, None, None], (height, width, 1)), across], axis=2
    )
    numbers = lax.GatherDimensionNumbers(
        offset_dims=(0, 1, 2, 3), collapsed_slice_dims=(), start_index_map=(1, 2)
    )
    sizes = (x.shape[0], window, window, x.shape[3])
    seen = lax.gather(x, starts, numbers, sizes, mode=lax.GatherScatterMode.CLIP)
    first, second = weights_of(tops, rows, window), weights_of(lefts, columns, window)
    weights = second[:, :, None, None] * first[None, None]
    if twist:
        weights = weights + jnp.eye(width, height, dtype=jnp.float32)[:, None, :, None]
    y = lax.dot_general(weights, seen, resize.WINDOW)
    return y.transpose(2, 0, 1, 3)


@pytest.mark.parametrize(("height", "width"), [(10, 8), (3, 7), (5, 4)])
def test_windows_become_rows_then_columns(height: int, width: int) -> None:
    found = program(lambda x: windowed(x, height, width), {}, X)
    separated, count = resize.separate(found)
    assert count == 1
    assert "dot_general" not in set(prepare.primitives(separated.jaxpr))
    np.testing.assert_allclose(run(separated, X), run(found, X), rtol=1e-5, atol=1e-6)


def test_weights_that_are_no_outer_product_stay() -> None:
    found = program(lambda x: windowed(x, 6, 6, twist=True), {}, X)
    assert resize.separate(found) == (found, 0)


def test_weights_that_depend_on_the_input_stay() -> None:
    def scaled(x: Any) -> Any:
        return windowed(x * x.sum(), 6, 6) + windowed(x, 6, 6)

    found = program(scaled, {}, X)
    separated, count = resize.separate(found)
    assert count == 2
    np.testing.assert_allclose(run(separated, X), run(found, X), rtol=1e-4, atol=1e-4)

    def dynamic(x: Any) -> Any:
        numbers = lax.GatherDimensionNumbers(
            offset_dims=(0, 1, 2, 3), collapsed_slice_dims=(), start_index_map=(1, 2)
        )
        starts = jnp.zeros((6, 6, 2), jnp.int32)
        seen = lax.gather(x, starts, numbers, (2, 3, 3, 3), mode=lax.GatherScatterMode.CLIP)
        weights = jnp.ones((6, 3, 6, 3), jnp.float32) * x.sum()
        return lax.dot_general(weights, seen, resize.WINDOW)

    found = program(dynamic, {}, X)
    assert resize.separate(found) == (found, 0)


def test_programs_without_windows_are_the_same_objects() -> None:
    found = program(lambda x: jnp.tanh(x), {}, X)
    assert resize.separate(found) == (found, 0)
