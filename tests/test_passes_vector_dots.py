"""Weights that one row is multiplied with are transposed once; other products stay."""

from typing import Any

import numpy as np
import pytest
from convolutions import program, run
from jax import lax

from jaxrt.passes import prepare, vector_dots

RANDOM = np.random.default_rng(0)


def product(*shape: int, k: int = 1024, n: int = 300) -> tuple[Any, Any, Any]:
    """x [*shape, k] times weights [k, n]: the program, the weights, x."""
    kernel = RANDOM.normal(size=(k, n)).astype(np.float32) / 32
    x = RANDOM.normal(size=(*shape, k)).astype(np.float32)
    axis = len(shape)
    found = program(
        lambda w, x: lax.dot_general(x, w, (((axis,), (0,)), ((), ()))), {"w": kernel}, x
    )
    return found, kernel, x


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_one_row_takes_transposed_weights_prepared_once(shape: tuple[int, ...]) -> None:
    found, kernel, x = product(*shape)
    faster, count = vector_dots.transpose(found)
    assert count == 1
    split = prepare.split(faster)
    assert [a.shape for a in split.apply.weight_avals] == [(300, 1024)]
    assert list(prepare.primitives(split.apply.jaxpr)) == ["dot_general"]
    prepared = prepare.run_prepare(split, {"w": kernel})
    got = run(split.apply, *prepared.values(), x)
    want = x.astype(np.float64) @ kernel.astype(np.float64)
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-6 * np.abs(want).max())


def test_what_is_not_finite_stays_so() -> None:
    found, kernel, x = product(1)
    kernel[3, :4] = [np.nan, np.inf, -np.inf, 1]
    kernel[4, 3] = np.inf
    x[0, 3:5] = [1, 0]
    faster, _ = vector_dots.transpose(found)
    np.testing.assert_array_equal(
        run(faster, kernel, x)[0, :4], np.array([np.nan, np.inf, -np.inf, np.nan], np.float32)
    )


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [((2,), {}), ((1,), {"k": 1023}), ((1,), {"n": 255}), ((1,), {"n": 20_000})],
)
def test_more_rows_short_ones_small_and_huge_weights_stay(
    shape: tuple[int, ...], sizes: dict[str, int]
) -> None:
    found, _, _ = product(*shape, **sizes)
    assert vector_dots.transpose(found) == (found, 0)


def test_a_matrix_that_is_computed_stays() -> None:
    x = np.ones((1, 1024), np.float32)
    found = program(lambda w, x: x @ (w * x[0, 0]), {"w": np.ones((1024, 1024), np.float32)}, x)
    assert vector_dots.transpose(found) == (found, 0)
