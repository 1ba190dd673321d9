"""Top-k in two steps is top-k in one, to the bit."""

import functools
from typing import Any

import jax
import numpy as np
import pytest
from jax import lax
from jax.extend.core import jaxpr_as_fun

from jaxrt.passes import jaxprs, topk
from jaxrt.program import Program

RANDOM = np.random.default_rng(0)
SPECIAL = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-45], np.float32)


def best(k: int, x: Any) -> Program:
    """The k largest of each row and their positions."""
    with jax.enable_x64(True):
        jaxpr = jax.make_jaxpr(lambda x: lax.top_k(x, k))(x)
    return Program(
        signature="f",
        jaxpr=jaxpr,
        weight_names=(),
        input_names=("x",),
        output_names=("values", "positions"),
    )


@functools.cache
def compiled(shape: tuple[int, ...], k: int) -> tuple[Any, Any]:
    """Top-k in two steps and in one, of float32."""
    found = best(k, np.zeros(shape, np.float32))
    faster, count = topk.split(found)
    assert count == 1
    with jax.enable_x64(True):
        return jax.jit(jaxpr_as_fun(faster.jaxpr)), jax.jit(jaxpr_as_fun(found.jaxpr))


def check(k: int, x: Any) -> None:
    with jax.enable_x64(True):
        for got, want in zip(*(run(x) for run in compiled(x.shape, k)), strict=True):
            np.testing.assert_array_equal(
                np.asarray(got).view(np.int32), np.asarray(want).view(np.int32)
            )


def drawn(kind: str, *shape: int) -> Any:
    """Elements with many ties, few, or of every kind that floats have."""
    if kind == "ties":
        return RANDOM.integers(-3, 3, shape).astype(np.float32)
    x = RANDOM.normal(size=shape).astype(np.float32)
    if kind == "special":
        x = np.where(RANDOM.random(shape) < 0.01, RANDOM.choice(SPECIAL, shape), x)
    return x


@pytest.mark.parametrize("kind", ["plain", "ties", "special"])
@pytest.mark.parametrize(
    ("shape", "k"), [((4096,), 3), ((2, 5000), 1), ((3, 1, 10_007), 10), ((2, 4099), 7)]
)
def test_values_and_positions_are_the_same_bits(shape: tuple[int, ...], k: int, kind: str) -> None:
    check(k, drawn(kind, *shape))


@pytest.mark.parametrize("special", SPECIAL)
@pytest.mark.parametrize("among", [-1.0, 1e-45, 0.0, 1.0])
def test_one_special_element_comes_where_it_belongs(special: float, among: float) -> None:
    x = np.full((1, 4100), among, np.float32)
    x[0, [700, 4098]] = special
    x[0, 3:5] = 2.0
    check(4, x)


@pytest.mark.parametrize("value", [np.nan, -np.inf, 0.0])
def test_equal_elements_come_in_order(value: float) -> None:
    x = np.full((1, 4100), value, np.float32)
    check(4, x)


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((2, 512), np.float32),
        np.zeros((2, 8192), np.float64),
        np.zeros((0, 8192), np.float32),
        np.zeros((2, 8192), np.int32),
    ],
)
def test_short_rows_and_other_types_stay(x: Any) -> None:
    found = best(4, x)
    assert topk.split(found) == (found, 0)


@pytest.mark.parametrize(
    ("length", "k", "long"),
    [(100_000, 10, True), (2048, 1, True), (2047, 1, False), (2048, 1000, False), (4096, 0, False)],
)
def test_two_steps_are_for_long_rows_and_few_answers(length: int, k: int, long: bool) -> None:
    assert topk.is_long(length, k) == long


def test_steps_sort_short_rows_unless_bits_matter() -> None:
    faster, _ = topk.split(best(10, np.zeros((2, 100_000), np.float32)))
    lengths = {
        place: [
            eqn.invars[0].aval.shape[1]
            for eqn in closed.jaxpr.eqns
            if eqn.primitive.name == "top_k"
        ]
        for place, closed in _bodies(faster).items()
    }
    assert lengths == {"before": [3125], "uncertain": [100_000], "certain": [320]}


def _bodies(of: Program) -> dict[str, Any]:
    (branch,) = (e for e in of.jaxpr.jaxpr.eqns if e.primitive.name == "cond")
    uncertain, certain = jaxprs.nested(branch)
    return {"before": of.jaxpr, "uncertain": uncertain, "certain": certain}
