"""Reductions over windows: pools, cumulative ops, bodies of any kind, and their scatter."""

from typing import Any

import jax
import lifting
import ml_dtypes
import numpy as np
import pytest
from jax import lax

Array = np.ndarray[Any, Any]

X = np.random.default_rng(0).integers(-8, 8, (2, 6, 5)).astype(np.float32)


def check(function: Any, *arguments: Any, rtol: float = 1e-6) -> str:
    text = lifting.stablehlo_of(function, *arguments)
    lifting.assert_equal(
        lifting.lifted(text, *arguments), lifting.by_xla(text, *arguments), rtol=rtol
    )
    return lifting.jaxpr_of(text, len(arguments))


WINDOWS: list[dict[str, Any]] = [
    {"window_dimensions": (1, 2, 3)},
    {"window_dimensions": (1, 2, 3), "window_strides": (1, 2, 2)},
    {"window_dimensions": (2, 3, 1), "padding": ((1, 0), (2, 1), (0, 0))},
    {"window_dimensions": (1, 2, 2), "window_dilation": (1, 2, 3)},
    {
        "window_dimensions": (1, 3, 2),
        "base_dilation": (2, 1, 3),
        "padding": ((0, 1), (1, 1), (0, 2)),
    },
    {"window_dimensions": (1, 3, 3), "window_strides": (1, 2, 2), "padding": "SAME"},
]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(
    ("init", "op", "primitive"),
    [
        (-np.inf, lax.max, "reduce_window_max"),
        (np.inf, lax.min, "reduce_window_min"),
        (0, lax.add, "reduce_window_sum"),
        (1, lax.mul, "reduce_window["),
    ],
)
def test_pools_keep_their_window_and_their_cheap_form(
    window: dict[str, Any], init: float, op: Any, primitive: str
) -> None:
    jaxpr = check(lambda x: lax.reduce_window(x, np.float32(init), op, **window), X)
    assert primitive in jaxpr


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, ml_dtypes.bfloat16, np.float64, np.int8])
def test_pools_keep_their_dtype(dtype: Any) -> None:
    x = np.abs(X).astype(dtype)
    window: dict[str, Any] = {"window_dimensions": (1, 2, 2), "window_strides": (1, 2, 2)}
    low = -np.inf if np.dtype(dtype).kind not in "iu" else np.iinfo(dtype).min

    def function(v: Any) -> Any:
        highest = lax.reduce_window(v, np.array(low, dtype), lax.max, **window)
        return highest, lax.reduce_window(v, np.array(0, dtype), lax.add, **window)

    check(function, x, rtol=1e-2 if dtype is ml_dtypes.bfloat16 else 1e-6)


@pytest.mark.parametrize("window", WINDOWS)
def test_an_initial_value_that_is_no_identity_fills_the_padding_too(window: dict[str, Any]) -> None:
    for op, init in ((lax.add, 3), (lax.max, 2), (lax.min, -2), (lax.mul, 2)):
        check(lambda x, op=op, i=init: lax.reduce_window(x, np.float32(i), op, **window), X)
        check(lambda x, i, op=op: lax.reduce_window(x, i, op, **window), X, np.float32(init))


def test_any_body_and_several_inputs() -> None:
    def farthest(a: tuple[Any, Any], b: tuple[Any, Any]) -> tuple[Any, Any]:
        further = lax.ge(lax.abs(a[0]), lax.abs(b[0]))
        return tuple(lax.select(further, x, y) for x, y in zip(a, b, strict=True))  # type: ignore[return-value]

    places = np.arange(X.size, dtype=np.int32).reshape(X.shape)

    def function(x: Any, i: Any) -> Any:
        inits = (np.float32(0), np.int32(-1))
        return lax.reduce_window((x, i), inits, farthest, (1, 2, 2), (1, 2, 1), "VALID")

    check(function, X, places)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("init", "op", "primitive"),
    [
        (0, lax.add, "cumsum"),
        (1, lax.mul, "cumprod"),
        (-np.inf, lax.max, "cummax"),
        (np.inf, lax.min, "cummin"),
    ],
)
def test_windows_of_all_prefixes_are_cumulative_ops(
    init: float, op: Any, primitive: str, reverse: bool, axis: int
) -> None:
    size = X.shape[axis]
    edges = (0, size - 1) if reverse else (size - 1, 0)
    window: dict[str, Any] = {
        "window_dimensions": tuple(size if d == axis else 1 for d in range(3)),
        "padding": tuple(edges if d == axis else (0, 0) for d in range(3)),
    }
    jaxpr = check(lambda x: lax.reduce_window(x, np.float32(init), op, **window), X)
    assert f" {primitive}[axis={axis} reverse={reverse}]" in jaxpr


@pytest.mark.parametrize(
    "window",
    [
        {"window_dimensions": (1, 6, 1), "padding": ((0, 0), (4, 0), (0, 0))},
        {"window_dimensions": (1, 6, 1), "padding": ((0, 0), (5, 5), (0, 0))},
        {"window_dimensions": (2, 6, 1), "padding": ((0, 0), (5, 0), (0, 0))},
        {
            "window_dimensions": (1, 6, 1),
            "window_strides": (1, 2, 1),
            "padding": ((0, 0), (5, 0), (0, 0)),
        },
        {"window_dimensions": (1, 1, 1)},
    ],
)
def test_windows_that_only_look_cumulative_are_not(window: dict[str, Any]) -> None:
    jaxpr = check(lambda x: lax.reduce_window(x, np.float32(0), lax.add, **window), X)
    assert "cumsum" not in jaxpr


def test_absent_attributes_have_their_defaults() -> None:
    s = "tensor<f32>"
    text = lifting.main(
        f"%i = stablehlo.constant dense<0.0> : {s}\n"
        f'%r = "stablehlo.reduce_window"(%a, %i) ({{\n^bb0(%x: {s}, %y: {s}):\n'
        f"%z = stablehlo.add %x, %y : {s}\nstablehlo.return %z : {s}\n}}) "
        f"{{window_dimensions = array<i64: 2>}} : (tensor<5xf32>, {s}) -> tensor<4xf32>\n"
        "return %r : tensor<4xf32>",
        "(%a: tensor<5xf32>) -> tensor<4xf32>",
    )
    x = np.arange(5, dtype=np.float32)
    lifting.assert_equal(lifting.lifted(text, x), [x[1:] + x[:-1]])


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("op", [lax.max, lax.min])
def test_the_gradient_of_a_pool_scatters(op: Any, padding: str) -> None:
    init = np.float32(-np.inf if op is lax.max else np.inf)
    x = np.random.default_rng(1).permutation(60).astype(np.float32).reshape(2, 6, 5)

    def loss(v: Any) -> Any:
        pooled = lax.reduce_window(v, init, op, (1, 3, 2), (1, 2, 2), padding)
        return (pooled * pooled).sum()

    assert "select_and_scatter" in check(jax.grad(loss), x)


def scattering(select: str, scatter: str, init: str) -> str:
    s, t, u = "tensor<f32>", "tensor<4x6xf32>", "tensor<2x3xf32>"
    window = "{window_dimensions = array<i64: 2, 2>, window_strides = array<i64: 2, 2>}"
    return lifting.main(
        f"%i = stablehlo.constant dense<{init}> : {s}\n"
        f'%r = "stablehlo.select_and_scatter"(%a, %b, %i) ({{\n^bb0(%x: {s}, %y: {s}):\n{select}\n'
        f"stablehlo.return %z : tensor<i1>\n}}, {{\n^bb0(%x: {s}, %y: {s}):\n{scatter}\n"
        f"stablehlo.return %z : {s}\n}}) {window} : ({t}, {u}, {s}) -> {t}\n return %r : {t}",
        f"(%a: {t}, %b: {u}) -> {t}",
    )


@pytest.mark.parametrize(
    ("direction", "scatter", "init"),
    [("GE", "add", "0.0"), ("LT", "add", "0.5"), ("GT", "maximum", "-1.0")],
)
def test_select_and_scatter_takes_any_bodies_and_initial_value(
    direction: str, scatter: str, init: str
) -> None:
    s = "tensor<f32>"
    text = scattering(
        f"%z = stablehlo.compare {direction}, %x, %y : ({s}, {s}) -> tensor<i1>",
        f"%z = stablehlo.{scatter} %x, %y : {s}",
        init,
    )
    x = np.random.default_rng(3).permutation(24).astype(np.float32).reshape(4, 6)
    y = np.arange(6, dtype=np.float32).reshape(2, 3)
    lifting.assert_equal(lifting.lifted(text, x, y), lifting.by_xla(text, x, y))
