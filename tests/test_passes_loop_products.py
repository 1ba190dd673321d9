"""Products taken out of loops give what the loops gave."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from jax import lax
from jax.extend.core import jaxpr_as_fun

from jaxrt.passes import loop_products
from jaxrt.program import Program

STEPS, ROWS, FEATURES = 6, 3, 4
RANDOM = np.random.default_rng(0)
W = RANDOM.normal(size=(FEATURES, 5)).astype(np.float32)
U = RANDOM.normal(size=(5, 5)).astype(np.float32)
X = RANDOM.normal(size=(STEPS, ROWS, FEATURES)).astype(np.float32)

Index = Callable[[Any, Any], Any]


def by_counter(i: Any, h: Any) -> Any:
    return i


def by_state(i: Any, h: Any) -> Any:
    return lax.convert_element_type(lax.abs(h[0, 0]) * np.float32(5), np.int32)


def recurrent(
    start: int = 0, bound: int = STEPS, index: Index = by_counter, step: int = 1
) -> Program:
    """h = tanh(x_t W + h U) while the counter is below `bound`."""

    def function(w: Any, u: Any, x: Any) -> Any:
        def body(carry: Any) -> Any:
            i, h = carry
            zero = np.int32(0)
            cut = lax.dynamic_slice_p.bind(
                x, index(i, h), zero, zero, slice_sizes=(1, ROWS, FEATURES)
            )
            seen = lax.reshape(cut, (ROWS, FEATURES))
            return lax.add(i, np.int32(step)), lax.tanh(seen @ w + h @ u)

        def goes_on(carry: Any) -> Any:
            return lax.lt(carry[0], np.int32(bound))

        zeros = np.zeros((ROWS, 5), np.float32)
        return lax.while_loop(goes_on, body, (np.int32(start), zeros))[1]

    with jax.enable_x64(True):
        jaxpr = jax.make_jaxpr(function)(W, U, X)
    return Program(
        signature="f",
        jaxpr=jaxpr,
        weight_names=("w", "u"),
        input_names=("x",),
        output_names=("h",),
    )


def run(program: Program) -> Any:
    with jax.enable_x64(True):
        return np.asarray(jax.jit(jaxpr_as_fun(program.jaxpr))(W, U, X)[0])


def products(jaxpr: Any) -> int:
    return sum(eqn.primitive.name == "dot_general" for eqn in jaxpr.eqns)


@pytest.mark.parametrize(("start", "bound"), [(0, 6), (2, 4), (6, 6), (-3, 9)])
def test_products_of_all_steps_give_the_same_also_out_of_range(start: int, bound: int) -> None:
    found = recurrent(start, bound)
    hoisted, count = loop_products.hoist(found)
    assert count == 1
    assert products(hoisted.jaxpr.jaxpr) == 1
    np.testing.assert_allclose(run(hoisted), run(found), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "found",
    [
        recurrent(index=by_state),
        recurrent(step=2),
        recurrent(bound=2),
    ],
    ids=["chosen by the state", "every other step", "a third of the steps"],
)
def test_steps_that_may_never_come_are_not_computed(found: Program) -> None:
    assert loop_products.hoist(found) == (found, 0)


def test_a_loop_that_ends_by_its_state_is_left_alone() -> None:
    def function(w: Any, u: Any, x: Any) -> Any:
        return lax.while_loop(
            lambda h: lax.lt(h[0, 0], np.float32(np.inf)),
            lambda h: lax.exp(h @ u) + x[0] @ w,
            np.ones((ROWS, 5), np.float32),
        )

    with jax.enable_x64(True):
        jaxpr = jax.make_jaxpr(function)(W, np.abs(U), X)
    found = dataclasses.replace(recurrent(), jaxpr=jaxpr)
    assert loop_products.hoist(found) == (found, 0)


def test_a_product_too_large_stays_in_its_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    found = recurrent()
    monkeypatch.setattr(loop_products, "LARGEST", STEPS * ROWS * 5 * 4 - 1)
    assert loop_products.hoist(found) == (found, 0)
