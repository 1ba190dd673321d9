"""Reductions: the cheap forms, the initial value that is no identity, bodies of any kind."""

from collections.abc import Callable
from typing import Any

import jax
import lifting
import ml_dtypes
import numpy as np
import pytest
from jax import lax

Array = np.ndarray[Any, Any]

NAMES = {
    "f16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "f32": np.float32,
    "f64": np.float64,
    "i1": np.bool_,
    "i8": np.int8,
    "i32": np.int32,
    "i64": np.int64,
    "ui8": np.uint8,
    "ui64": np.uint64,
    "complex<f32>": np.complex64,
}
FLOATS = ("f16", "bf16", "f32", "f64")
INTEGERS = ("i8", "i32", "i64", "ui8", "ui64")

KINDS = {
    "add": (*FLOATS, *INTEGERS, "i1", "complex<f32>"),
    "multiply": (*FLOATS, *INTEGERS, "i1", "complex<f32>"),
    "maximum": (*FLOATS, *INTEGERS, "i1"),
    "minimum": (*FLOATS, *INTEGERS, "i1"),
    "and": (*INTEGERS, "i1"),
    "or": (*INTEGERS, "i1"),
    "xor": (*INTEGERS, "i1"),
}


def operand(kind: str) -> Array:
    random = np.random.default_rng(0)
    dtype = np.dtype(NAMES[kind])
    if kind == "i1":
        return random.integers(0, 2, (3, 4, 5)) > 0
    low = 0 if kind.startswith("ui") else -3
    found = random.integers(low, 4, (3, 4, 5)).astype(np.float64)
    return (found * (1 + 0.5j) if kind.startswith("c") else found).astype(dtype)


def reducing(op: str, kind: str, init: str, dimensions: str = "0, 2") -> str:
    s = f"tensor<{kind}>"
    return lifting.main(
        f"%i = stablehlo.constant dense<{init}> : {s}\n"
        f"%r = stablehlo.reduce(%a init: %i) applies stablehlo.{op} across dimensions = "
        f"[{dimensions}] : (tensor<3x4x5x{kind}>, {s}) -> tensor<4x{kind}>\n"
        f"return %r : tensor<4x{kind}>",
        f"(%a: tensor<3x4x5x{kind}>) -> tensor<4x{kind}>",
    )


def literals(kind: str) -> tuple[str, str]:
    """Two initial values, the second one larger."""
    if kind == "i1":
        return "false", "true"
    if kind.startswith("complex"):
        return "(0.0, 0.0)", "(2.0, 1.0)"
    return ("0", "2") if kind in INTEGERS else ("0.0", "2.0")


@pytest.mark.parametrize(("op", "kind"), [(op, k) for op, kinds in KINDS.items() for k in kinds])
def test_a_simple_body_reduces_as_xla_does_from_any_initial_value(op: str, kind: str) -> None:
    x = operand(kind)
    rtol = 0.0 if kind in (*INTEGERS, "i1") else 1e-2 if kind in ("f16", "bf16") else 1e-6
    for init in literals(kind):
        text = reducing(op, kind, init)
        lifting.assert_equal(lifting.lifted(text, x), lifting.by_xla(text, x), rtol=rtol)
        assert " reduce[" not in lifting.jaxpr_of(text, 1)


@pytest.mark.parametrize(
    ("op", "kind", "init"),
    [
        ("add", "f32", "0.0"),
        ("add", "f32", "-0.0"),
        ("add", "i1", "false"),
        ("multiply", "i32", "1"),
        ("maximum", "f32", "0xFF800000"),
        ("maximum", "ui8", "0"),
        ("maximum", "i8", "-128"),
        ("minimum", "bf16", "0x7F80"),
        ("minimum", "i64", "9223372036854775807"),
        ("minimum", "i1", "true"),
        ("and", "ui8", "255"),
        ("and", "i32", "-1"),
        ("or", "ui64", "0"),
    ],
)
def test_from_an_identity_the_reduction_is_one_equation(op: str, kind: str, init: str) -> None:
    text = reducing(op, kind, init)
    x = operand(kind)
    lifting.assert_equal(lifting.lifted(text, x), lifting.by_xla(text, x), rtol=1e-2)
    assert lifting.jaxpr_of(text, 1).count(" = ") == 1


def test_nan_wins_a_maximum() -> None:
    x = operand("f32")
    x[1, 2, 3] = np.nan
    for init in ("0xFF800000", "1.0"):
        text = reducing("maximum", "f32", init)
        lifting.assert_equal(lifting.lifted(text, x), lifting.by_xla(text, x))


def test_an_empty_reduction_is_its_initial_value() -> None:
    text = lifting.main(
        "%i = stablehlo.constant dense<3.0> : tensor<f32>\n"
        "%r = stablehlo.reduce(%a init: %i) applies stablehlo.maximum across dimensions = [0] : "
        "(tensor<0x2xf32>, tensor<f32>) -> tensor<2xf32>\n return %r : tensor<2xf32>",
        "(%a: tensor<0x2xf32>) -> tensor<2xf32>",
    )
    found = lifting.lifted(text, np.zeros((0, 2), np.float32))
    lifting.assert_equal(found, [np.full(2, 3, np.float32)])


def test_an_initial_value_may_be_data() -> None:
    text = lifting.main(
        "%r = stablehlo.reduce(%a init: %i) applies stablehlo.add across dimensions = [0] : "
        "(tensor<4xf32>, tensor<f32>) -> tensor<f32>\n return %r : tensor<f32>",
        "(%a: tensor<4xf32>, %i: tensor<f32>) -> tensor<f32>",
    )
    x = np.arange(4, dtype=np.float32)
    lifting.assert_equal(lifting.lifted(text, x, np.float32(10)), [np.float32(16)])


def test_a_body_may_call_a_function_that_adds() -> None:
    s = "tensor<f32>"
    text = f"""module {{
      func.func private @sum(%a: {s}, %b: {s}) -> {s} {{
        %r = stablehlo.add %a, %b : {s}
        return %r : {s}
      }}
      func.func @main(%x: tensor<4xf32>) -> {s} {{
        %i = stablehlo.constant dense<0.0> : {s}
        %r = "stablehlo.reduce"(%x, %i) ({{
        ^bb0(%a: {s}, %b: {s}):
          %c = func.call @sum(%b, %a) : ({s}, {s}) -> {s}
          stablehlo.return %c : {s}
        }}) {{dimensions = array<i64: 0>}} : (tensor<4xf32>, {s}) -> {s}
        return %r : {s}
      }}
    }}"""
    x = np.arange(4, dtype=np.float32)
    lifting.assert_equal(lifting.lifted(text, x), [np.float32(6)])
    assert "reduce_sum" in lifting.jaxpr_of(text, 1)


def general(body: str, kind: str = "f32", init: str = "0.0", wide: str = "") -> str:
    """A reduction of [3, 4] over its last dimension, its body in `wide`."""
    wide = wide or kind
    s, out = f"tensor<{wide}>", f"tensor<3x{wide}>"
    return lifting.main(
        f"%i = stablehlo.constant dense<{init}> : {s}\n"
        f'%r = "stablehlo.reduce"(%a, %i) ({{\n^bb0(%x: {s}, %y: {s}):\n{body}\n'
        f"stablehlo.return %z : {s}\n}}) {{dimensions = array<i64: 1>}} : "
        f"(tensor<3x4x{kind}>, {s}) -> {out}\n return %r : {out}",
        f"(%a: tensor<3x4x{kind}>) -> {out}",
    )


@pytest.mark.parametrize(
    "body",
    [
        # max(x, y) + 0, x of larger magnitude, the first argument, and a constant.
        "%m = stablehlo.maximum %x, %y : tensor<f32>\n"
        "%o = stablehlo.constant dense<0.0> : tensor<f32>\n"
        "%z = stablehlo.add %m, %o : tensor<f32>",
        "%p = stablehlo.abs %x : tensor<f32>\n%q = stablehlo.abs %y : tensor<f32>\n"
        "%c = stablehlo.compare GE, %p, %q : (tensor<f32>, tensor<f32>) -> tensor<i1>\n"
        "%z = stablehlo.select %c, %x, %y : tensor<i1>, tensor<f32>",
        "%z = stablehlo.add %x, %x : tensor<f32>",
        "%z = stablehlo.constant dense<5.0> : tensor<f32>",
    ],
)
def test_any_other_body_is_evaluated(body: str) -> None:
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    text = general(body)
    lifting.assert_equal(lifting.lifted(text, x), lifting.by_xla(text, x), rtol=1e-6)


def test_the_body_may_be_wider_than_the_input() -> None:
    x = np.full((3, 4), 100, np.int8)
    text = general("%z = stablehlo.add %x, %y : tensor<i32>", "i8", "1", "i32")
    lifting.assert_equal(lifting.lifted(text, x), [np.full(3, 401, np.int32)])


def test_complex_products_reduce() -> None:
    x = operand("complex<f32>")[..., :4][0][:3]
    z = "complex<f32>"
    text = general(f"%z = stablehlo.multiply %x, %y : tensor<{z}>", z, "(1.0, 0.0)")
    lifting.assert_equal(lifting.lifted(text, x), [np.prod(x, axis=1)], rtol=1e-5)


@pytest.mark.parametrize("function", [lax.argmax, lax.argmin])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.int32, np.bool_, np.uint8])
def test_an_argmax_is_a_reduction_of_pairs(function: Callable[..., Any], dtype: Any) -> None:
    x = np.random.default_rng(0).integers(0, 3, (4, 6)).astype(np.float32).astype(dtype)
    if dtype is np.float32:
        x[1, 4] = np.nan
    for index in (np.int32, np.int64):
        text = lifting.stablehlo_of(lambda v, i=index: function(v, 1, i), x)
        lifting.assert_equal(lifting.lifted(text, x), lifting.by_xla(text, x))


def test_several_inputs_reduce_together() -> None:
    def both(a: tuple[Any, Any], b: tuple[Any, Any]) -> tuple[Any, Any]:
        return lax.add(a[0], b[0]), lax.max(a[1], b[1])

    x, y = operand("f32"), operand("i32")

    def function(x: Any, y: Any) -> Any:
        inits = (np.float32(0), np.int32(-9))
        return lax.reduce((x, y), inits, both, (0, 2))

    text = lifting.stablehlo_of(function, x, y)
    lifting.assert_equal(lifting.lifted(text, x, y), [x.sum((0, 2)), y.max((0, 2))])


def test_map_applies_a_scalar_function_everywhere() -> None:
    t, s = "tensor<2x3xf32>", "tensor<f32>"
    text = lifting.main(
        f'%r = "stablehlo.map"(%a, %b) ({{\n^bb0(%x: {s}, %y: {s}):\n'
        f"%c = stablehlo.constant dense<2.0> : {s}\n%p = stablehlo.multiply %x, %c : {s}\n"
        f"%z = stablehlo.subtract %p, %y : {s}\nstablehlo.return %z : {s}\n}}) "
        f"{{dimensions = array<i64: 0, 1>}} : ({t}, {t}) -> {t}\n return %r : {t}",
        f"(%a: {t}, %b: {t}) -> {t}",
    )
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    lifting.assert_equal(lifting.lifted(text, x, x * x), [2 * x - x * x])


def test_a_map_may_ignore_its_operands() -> None:
    t, s = "tensor<2x3xf32>", "tensor<f32>"
    text = lifting.main(
        f'%r = "stablehlo.map"(%a) ({{\n^bb0(%x: {s}):\n'
        f"%c = stablehlo.constant dense<2.0> : {s}\nstablehlo.return %c : {s}\n}}) "
        f"{{dimensions = array<i64: 0, 1>}} : ({t}) -> {t}\n return %r : {t}",
        f"(%a: {t}) -> {t}",
    )
    lifting.assert_equal(
        lifting.lifted(text, np.zeros((2, 3), np.float32)), [np.full((2, 3), 2.0, np.float32)]
    )


def normalized(op: str, operands: int, results: str, axis: int) -> str:
    t, f = "tensor<2x3x4xf32>", f"tensor<{(2, 3, 4)[axis]}xf32>"
    grad = op.endswith("grad")
    types = [t, *[f] * (operands - 2), t if grad else f]
    names = [f"%a{i}" for i in range(operands)]
    given = ", ".join(f"{n}: {k}" for n, k in zip(names, types, strict=True))
    outs = [t if r == "t" else f for r in results]
    out = outs[0] if len(outs) == 1 else f"({', '.join(outs)})"
    returned = ", ".join(f"%r#{i}" for i in range(len(outs))) if len(outs) > 1 else "%r"
    count = f":{len(outs)}" if len(outs) > 1 else ""
    return lifting.main(
        f'%r{count} = "stablehlo.{op}"({", ".join(names)}) {{epsilon = 0.01 : f32, feature_index = '
        f"{axis} : i64}} : ({', '.join(types)}) -> {out}\n return {returned} : {', '.join(outs)}",
        f"({given}) -> {out}",
    )


def features(axis: int, count: int) -> list[Array]:
    random = np.random.default_rng(axis)
    return [random.uniform(0.5, 2, (2, 3, 4)[axis]).astype(np.float32) for _ in range(count)]


def along(vector: Array, axis: int) -> Array:
    return vector.reshape([-1 if d == axis else 1 for d in range(3)])


X = np.random.default_rng(7).normal(size=(2, 3, 4)).astype(np.float32)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_batch_norm_inference_normalizes_by_the_given_moments(axis: int) -> None:
    scale, offset, mean, variance = features(axis, 4)
    text = normalized("batch_norm_inference", 5, "t", axis)
    found = lifting.lifted(text, X, scale, offset, mean, variance)
    wanted = (X - along(mean, axis)) / np.sqrt(along(variance, axis) + np.float32(0.01))
    wanted = wanted * along(scale, axis) + along(offset, axis)
    lifting.assert_equal(found, [wanted], rtol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_batch_norm_training_returns_the_batchs_biased_moments(axis: int) -> None:
    scale, offset = features(axis, 2)
    found = lifting.lifted(normalized("batch_norm_training", 3, "tff", axis), X, scale, offset)
    others = tuple(d for d in range(3) if d != axis)
    mean, variance = X.mean(others), X.var(others)
    wanted = (X - along(mean, axis)) / np.sqrt(along(variance, axis) + np.float32(0.01))
    wanted = wanted * along(scale, axis) + along(offset, axis)
    lifting.assert_equal(found, [wanted, mean, variance], rtol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_batch_norm_grad_is_the_gradient_of_training(axis: int) -> None:
    scale, offset = features(axis, 2)
    grad = np.random.default_rng(9).normal(size=X.shape).astype(np.float32)
    others = tuple(d for d in range(3) if d != axis)

    def training(x: Any, scale: Any, offset: Any) -> Any:
        mean = x.mean(others, keepdims=True)
        variance = x.var(others, keepdims=True)
        unit = (x - mean) / (variance + np.float32(0.01)) ** np.float32(0.5)
        return unit * along(scale, axis) + along(offset, axis)

    _, pullback = jax.vjp(training, X, scale, offset)
    wanted = [np.asarray(g) for g in pullback(grad)]
    text = normalized("batch_norm_grad", 5, "tff", axis)
    found = lifting.lifted(text, X, scale, X.mean(others), X.var(others), grad)
    lifting.assert_equal(found, wanted, rtol=2e-5)
