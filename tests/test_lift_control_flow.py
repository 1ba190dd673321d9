"""Loops, branches and calls run as they did before the lift."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import lifting
import numpy as np
import pytest
from jax import lax

from jaxrt.errors import ConversionError

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)


def collatz(n: Any) -> Any:
    def step(state: tuple[Any, Any]) -> tuple[Any, Any]:
        value, count = state
        half, odd = value // jnp.int32(2), value * jnp.int32(3) + jnp.int32(1)
        return lax.select(value % jnp.int32(2) == 0, half, odd), count + jnp.int32(1)

    return lax.while_loop(lambda state: state[0] != 1, step, (n, jnp.int32(0)))


def nested(x: Any) -> Any:
    """A loop in a branch in a loop, each seeing what is outside."""

    def outer(i: Any, total: Any) -> Any:
        def inner(j: Any, row: Any) -> Any:
            return row + x[j] * total[0]

        return lax.cond(
            i % jnp.int32(2) == 0,
            lambda t: lax.fori_loop(jnp.int32(0), jnp.int32(3), inner, t),
            lambda t: t - x[i],
            total,
        )

    return lax.fori_loop(jnp.int32(0), jnp.int32(4), outer, x[0])


def scanned(x: Any) -> Any:
    def step(carry: Any, row: Any) -> Any:
        return carry * jnp.float32(0.5) + row, (carry, row.sum())

    return lax.scan(step, x[0], x)


def switched(i: Any, x: Any) -> Any:
    return lax.switch(i, [jnp.sin, jnp.cos, lambda y: y * y, jnp.tanh], x)


CASES: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "while": (collatz, (np.int32(27),)),
    "while that never runs": (collatz, (np.int32(1),)),
    "nested": (nested, (X,)),
    "scan": (scanned, (X,)),
    "scan, reversed": (
        lambda x: lax.scan(lambda c, r: (c + r, c), x[0], x, reverse=True),
        (X,),
    ),
    "associative scan": (lambda x: lax.associative_scan(jnp.maximum, x), (X,)),
    "map": (lambda x: lax.map(lambda r: jnp.sort(r)[0], x), (X,)),
    "cond, true": (lambda p, x: lax.cond(p, jnp.sin, jnp.cos, x), (np.bool_(True), X)),
    "cond, false": (lambda p, x: lax.cond(p, jnp.sin, jnp.cos, x), (np.bool_(False), X)),
    **{f"switch {i}": (switched, (np.int32(i), X)) for i in (-3, 0, 1, 3, 9)},
    "functions": (lambda x: jax.jit(jnp.clip)(jnp.where(x > 0, x, -x), 0.2, 0.8), (X,)),
    "checkpoint": (jax.checkpoint(lambda x: jnp.sin(jnp.sin(x))), (X,)),
    "batched while": (jax.vmap(collatz), (np.array([1, 7, 27], np.int32),)),
}


@pytest.mark.parametrize("name", CASES)
def test_control_flow_of_jax(name: str) -> None:
    function, arguments = CASES[name]
    with jax.enable_x64(True):
        text = jax.jit(function).lower(*arguments).as_text()
        wanted = jax.tree.leaves(jax.jit(function)(*arguments))
    for found, want in zip(lifting.lifted(text, *arguments), wanted, strict=True):
        np.testing.assert_allclose(found, np.asarray(want), rtol=1e-6)


@pytest.mark.parametrize("index", [-5, -1, 0, 1, 2, 3, 2**31 - 1])
def test_a_case_out_of_range_takes_the_last_branch(index: int) -> None:
    text = """func.func @main(%i: tensor<i32>, %x: tensor<2xf32>) -> tensor<2xf32> {
      %0 = "stablehlo.case"(%i) ({
        stablehlo.return %x : tensor<2xf32>
      }, {
        %1 = stablehlo.negate %x : tensor<2xf32>
        stablehlo.return %1 : tensor<2xf32>
      }, {
        %1 = stablehlo.add %x, %x : tensor<2xf32>
        stablehlo.return %1 : tensor<2xf32>
      }) : (tensor<i32>) -> tensor<2xf32>
      return %0 : tensor<2xf32>
    }"""
    arguments = (np.int32(index), np.array([1, 2], np.float32))
    np.testing.assert_array_equal(
        lifting.lifted(text, *arguments), lifting.by_xla(text, *arguments)
    )


def test_a_case_of_one_branch() -> None:
    text = """func.func @main(%i: tensor<i32>) -> tensor<i32> {
      %0 = "stablehlo.case"(%i) ({
        %1 = stablehlo.negate %i : tensor<i32>
        stablehlo.return %1 : tensor<i32>
      }) : (tensor<i32>) -> tensor<i32>
      return %0 : tensor<i32>
    }"""
    np.testing.assert_array_equal(lifting.lifted(text, np.int32(7)), [-7])


def test_a_branch_may_have_no_result_or_several() -> None:
    text = """func.func @main(%p: tensor<i1>, %x: tensor<i32>) -> (tensor<i32>, tensor<i32>) {
      "stablehlo.if"(%p) ({
        stablehlo.return
      }, {
        stablehlo.return
      }) : (tensor<i1>) -> ()
      %0:2 = "stablehlo.if"(%p) ({
        %1 = stablehlo.negate %x : tensor<i32>
        stablehlo.return %x, %1 : tensor<i32>, tensor<i32>
      }, {
        %1 = stablehlo.negate %x : tensor<i32>
        stablehlo.return %1, %x : tensor<i32>, tensor<i32>
      }) : (tensor<i1>) -> (tensor<i32>, tensor<i32>)
      return %0#0, %0#1 : tensor<i32>, tensor<i32>
    }"""
    np.testing.assert_array_equal(lifting.lifted(text, np.bool_(False), np.int32(3)), [-3, 3])


def test_a_loop_carries_tokens_beside_values_and_sees_values_outside() -> None:
    text = """func.func @main(%n: tensor<i32>, %step: tensor<i32>) -> tensor<i32> {
      %zero = stablehlo.constant dense<0> : tensor<i32>
      %token = stablehlo.create_token : !stablehlo.token
      %0:2 = stablehlo.while(%i = %zero, %t = %token) : tensor<i32>, !stablehlo.token
      cond {
        %1 = stablehlo.compare LT, %i, %n : (tensor<i32>, tensor<i32>) -> tensor<i1>
        stablehlo.return %1 : tensor<i1>
      } do {
        %1 = stablehlo.add %i, %step : tensor<i32>
        %2 = stablehlo.after_all %t, %token : !stablehlo.token
        stablehlo.return %1, %2 : tensor<i32>, !stablehlo.token
      }
      return %0#0 : tensor<i32>
    }"""
    np.testing.assert_array_equal(lifting.lifted(text, np.int32(10), np.int32(4)), [12])


def test_a_composite_is_its_decomposition() -> None:
    text = """module {
      func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> {
        %0 = stablehlo.composite "some.name" %x {
          composite_attributes = {depth = 3 : i64}, decomposition = @twice, version = 2 : i32
        } : (tensor<2xf32>) -> tensor<2xf32>
        return %0 : tensor<2xf32>
      }
      func.func private @twice(%x: tensor<2xf32>) -> tensor<2xf32> {
        %0 = stablehlo.add %x, %x : tensor<2xf32>
        return %0 : tensor<2xf32>
      }
    }"""
    np.testing.assert_array_equal(lifting.lifted(text, np.array([1, 2], np.float32)), [[2, 4]])


DYNAMIC = {
    "where": "tensor<?x2xi64, #stablehlo.bounds<20, ?>>",
    "unknown": "tensor<?xf32>",
}


@pytest.mark.parametrize("kind", DYNAMIC)
def test_a_shape_that_depends_on_data_is_refused_by_name(kind: str) -> None:
    """What TensorFlow's bridge makes of tf.where(condition), unique and boolean_mask."""
    found = DYNAMIC[kind]
    static = "tensor<20x2xi64>" if kind == "where" else "tensor<20xf32>"
    text = f"""func.func @main(%x: {static}, %n: tensor<i32>) -> {found} {{
      %0 = "stablehlo.set_dimension_size"(%x, %n) <{{dimension = 0 : i64}}>
        : ({static}, tensor<i32>) -> {found}
      return %0 : {found}
    }}"""
    with pytest.raises(ConversionError, match="shapes that depend on data"):
        lifting.lifted(text, np.zeros((20, 2), np.int64), np.int32(3))
