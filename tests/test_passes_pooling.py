"""Windows as slices give what XLA's windows give."""

from typing import Any

import jax
import numpy as np
import pytest
from jax import lax
from jax.extend.core import jaxpr_as_fun

from jaxrt.passes import pooling
from jaxrt.program import Program

RANDOM = np.random.default_rng(0)
KINDS = {
    "max": (lax.max, -np.inf),
    "min": (lax.min, np.inf),
    "sum": (lax.add, 0.0),
}


def pooled(x: Any, kind: str, *window: Any, **more: Any) -> Program:
    combine, start = KINDS[kind]

    def function(x: Any) -> Any:
        return lax.reduce_window(x, np.asarray(start, x.dtype), combine, *window, **more)

    with jax.enable_x64(True):
        jaxpr = jax.make_jaxpr(function)(x)
    return Program(
        signature="f", jaxpr=jaxpr, weight_names=(), input_names=("x",), output_names=("y",)
    )


def run(program: Program, x: Any) -> Any:
    with jax.enable_x64(True):
        return np.asarray(jax.jit(jaxpr_as_fun(program.jaxpr))(x)[0])


CASES: dict[str, tuple[Any, ...]] = {
    "2x2": ((2, 6, 8, 3), ((1, 2, 2, 1), (1, 2, 2, 1), "VALID")),
    "3x3 stride 2, padded": (
        (2, 7, 8, 3),
        ((1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (0, 1), (1, 1), (0, 0))),
    ),
    "dilated, gaps": (
        (1, 12, 11, 2),
        ((1, 2, 3, 1), (1, 5, 1, 1), "VALID"),
        {"window_dilation": (1, 3, 2, 1)},
    ),
    "large": ((2, 16, 20, 3), ((1, 6, 5, 1), (1, 5, 4, 1), "SAME")),
    "large, dilated": (
        (1, 19, 12, 2),
        ((1, 7, 6, 1), (1, 2, 1, 1), "VALID"),
        {"window_dilation": (1, 2, 1, 1)},
    ),
    "1-D": ((2, 9, 4), ((1, 4, 1), (1, 3, 1), "SAME")),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_windows_as_slices_give_the_same(name: str, kind: str, dtype: str) -> None:
    shape, window, *rest = CASES[name]
    x = RANDOM.normal(size=shape).astype(dtype)
    x.flat[::7] = -np.inf if kind == "max" else 0.0
    found = pooled(x, kind, *window, **(rest[0] if rest else {}))
    sliced, count = pooling.slice_windows(found)
    assert count == 1
    assert not [e for e in sliced.jaxpr.jaxpr.eqns if "window" in e.primitive.name]
    np.testing.assert_allclose(run(sliced, x), run(found, x), rtol=2e-6, atol=4e-6)


def test_nan_spreads_in_both() -> None:
    x = np.ones((1, 4, 4, 2), np.float32)
    x[0, 1, 2, 0] = np.nan
    found = pooled(x, "max", (1, 3, 3, 1), (1, 1, 1, 1), "SAME")
    got = run(pooling.slice_windows(found)[0], x)
    np.testing.assert_array_equal(got, run(found, x))
    assert np.isnan(got).sum() == 9


@pytest.mark.parametrize(
    ("shape", "dtype", "window"),
    [
        ((1, 70, 3), "float32", ((1, 65, 1), (1, 65, 1), "VALID")),
        ((1, 4, 4, 2), "int32", ((1, 2, 2, 1), (1, 2, 2, 1), "VALID")),
        ((1, 2, 8, 8), "float32", ((1, 1, 2, 2), (1, 1, 2, 2), "VALID")),
        ((4, 8), "float32", ((1, 2), (1, 2), "VALID")),
    ],
)
def test_other_windows_are_left_to_xla(shape: Any, dtype: str, window: Any) -> None:
    x = np.zeros(shape, dtype)
    combine = lax.max if dtype == "float32" else lax.add
    with jax.enable_x64(True):
        jaxpr = jax.make_jaxpr(
            lambda x: lax.reduce_window(
                x, np.asarray(-np.inf if dtype == "float32" else 0, dtype), combine, *window
            )
        )(x)
    found = Program(
        signature="f", jaxpr=jaxpr, weight_names=(), input_names=("x",), output_names=("y",)
    )
    assert pooling.slice_windows(found) == (found, 0)
