"""CHLO ops, as JAX emits them, as XLA's translator writes them, and their broadcasting forms."""

from typing import Any

import jax
import jax.numpy as jnp
import lifting
import ml_dtypes
import numpy as np
import pytest
from jax import lax

Array = np.ndarray[Any, Any]

FLOATS = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]
UNARY = {
    "acos": lax.acos,
    "acosh": lax.acosh,
    "asin": lax.asin,
    "asinh": lax.asinh,
    "atan": lax.atan,
    "atanh": lax.atanh,
    "bessel_i1e": lax.bessel_i1e,
    "cosh": lax.cosh,
    "digamma": lax.digamma,
    "erf": lax.erf,
    "erf_inv": lax.erf_inv,
    "erfc": lax.erfc,
    "lgamma": lax.lgamma,
    "sinh": lax.sinh,
    "square": lax.square,
    "tan": lax.tan,
}
# The rest of them only occurs as a custom call.
MHLO = ("acos", "acosh", "asin", "asinh", "atanh", "cosh", "erf", "sinh", "tan")
KINDS = {np.float16: "f16", ml_dtypes.bfloat16: "bf16", np.float32: "f32", np.float64: "f64"}


def operand(dtype: Any) -> Array:
    special = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan]
    return np.concatenate([special, np.linspace(-3, 3, 13)]).astype(dtype)


def module(dialect: str, op: str, kind: str, *, result: str = "", operands: int = 1) -> str:
    t, out = f"tensor<20x{kind}>", f"tensor<20x{result or kind}>"
    names = [f"%a{i}" for i in range(operands)]
    given = ", ".join(f"{n}: {t}" for n in names)
    types = ", ".join([t] * operands)
    body = f'%r = "{dialect}.{op}"({", ".join(names)}) : ({types}) -> {out}\n return %r : {out}'
    return lifting.main(body, f"({given}) -> {out}")


@pytest.mark.parametrize("dtype", FLOATS)
def test_unary_functions_are_laxs_in_both_dialects(dtype: Any) -> None:
    x = operand(dtype)
    for name, function in UNARY.items():
        wanted = lifting.by_xla(lifting.stablehlo_of(function, x), x)
        for dialect in ("chlo", "mhlo") if name in MHLO else ("chlo",):
            found = lifting.lifted(module(dialect, name, KINDS[dtype]), x)
            lifting.assert_equal(found, wanted)


@pytest.mark.parametrize(("name", "function"), [("exp2", np.exp2), ("log2", np.log2)])
def test_powers_and_logarithms_of_two_come_as_custom_calls(name: str, function: Any) -> None:
    x, t = np.array([0.5, 1, 3, 8], np.float32), "tensor<4xf32>"
    text = lifting.main(
        f"%r = stablehlo.custom_call @mhlo.{name}(%a) : ({t}) -> {t}\n return %r : {t}",
        f"(%a: {t}) -> {t}",
    )
    lifting.assert_equal(lifting.lifted(text, x), [function(x)], rtol=1e-6)


@pytest.mark.parametrize(
    "function",
    [
        *(lax.acos, lax.asin, lax.atan, lax.asinh, lax.acosh, lax.atanh, lax.cosh, lax.sinh),
        *(lax.conj, lax.square, lax.tan),
    ],
)
def test_complex_functions_come_back(function: Any) -> None:
    random = np.random.default_rng(0)
    for dtype in (np.complex64, np.complex128):
        x = (random.normal(size=9) + 1j * random.normal(size=9)).astype(dtype)
        text = lifting.stablehlo_of(function, x)
        lifting.assert_equal(lifting.lifted(text, x), lifting.by_xla(text, x), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("function", [lax.zeta, lax.polygamma, lax.nextafter, lax.atan2, lax.pow])
def test_binary_functions_come_back(function: Any, dtype: Any) -> None:
    x = np.array([0.5, 1, 2, 3.5, 5, 0, -1.5], dtype)
    y = np.array([2, 3.5, 0.25, 1, 7, -1, 2.5], dtype)
    text = lifting.stablehlo_of(function, x, y)
    lifting.assert_equal(lifting.lifted(text, x, y), lifting.by_xla(text, x, y))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("is_inf", np.isinf), ("is_pos_inf", np.isposinf), ("is_neg_inf", np.isneginf)],
)
@pytest.mark.parametrize("dtype", FLOATS)
def test_infinities_are_told_by_their_sign(name: str, wanted: Any, dtype: Any) -> None:
    x = operand(dtype)
    found = lifting.lifted(module("chlo", name, KINDS[dtype], result="i1"), x)
    lifting.assert_equal(found, [wanted(x.astype(np.float64))])


def test_a_real_number_is_its_own_conjugate() -> None:
    x = operand(np.float32)
    lifting.assert_equal(lifting.lifted(module("chlo", "conj", "f32"), x), [x])


@pytest.mark.parametrize(("kind", "dtype"), [("i32", np.int32), ("ui8", np.uint8)])
def test_mulhi_is_the_high_half_of_the_product(kind: str, dtype: Any) -> None:
    info = np.iinfo(dtype)
    x = np.linspace(info.min, info.max, 20).astype(np.int64).astype(dtype)
    y = x[::-1].copy()
    product = x.astype(np.int64) * y.astype(np.int64)
    found = lifting.lifted(module("chlo", "mulhi", kind, operands=2), x, y)
    lifting.assert_equal(found, [(product >> info.bits).astype(dtype)])


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.int32, np.uint8])
def test_top_k_is_stable_and_counts_in_int32(dtype: Any) -> None:
    x = np.random.default_rng(0).integers(0, 5, (3, 10)).astype(np.float32).astype(dtype)
    text = lifting.stablehlo_of(lambda v: lax.top_k(v, 4), x)
    lifting.assert_equal(lifting.lifted(text, x), lifting.by_xla(text, x))


@pytest.mark.parametrize("largest", [True, False])
def test_mhlo_topk_takes_either_end(largest: bool) -> None:
    x = np.random.default_rng(0).integers(0, 6, (2, 9)).astype(np.int32)
    text = lifting.main(
        f'%v, %i = "mhlo.topk"(%a) {{k = 3 : i64, largest = {str(largest).lower()}}} : '
        "(tensor<2x9xi32>) -> (tensor<2x3xi32>, tensor<2x3xi32>)\n"
        "return %v, %i : tensor<2x3xi32>, tensor<2x3xi32>",
        "(%a: tensor<2x9xi32>) -> (tensor<2x3xi32>, tensor<2x3xi32>)",
    )
    order = np.argsort(-x if largest else x, axis=1, kind="stable")[:, :3].astype(np.int32)
    lifting.assert_equal(lifting.lifted(text, x), [np.take_along_axis(x, order, 1), order])


def broadcast(op: str, kinds: tuple[str, str, str], attributes: str = "") -> str:
    a, b, out = (
        f"tensor<{shape}x{kind}>" for shape, kind in zip(("2x3", "3", "2x3"), kinds, strict=True)
    )
    return lifting.main(
        f'%r = "chlo.broadcast_{op}"(%a, %b) {attributes} : ({a}, {b}) -> {out}\nreturn %r : {out}',
        f"(%a: {a}, %b: {b}) -> {out}",
    )


BINARY: dict[str, tuple[str, Any]] = {
    "add": ("f32", np.add),
    "subtract": ("f32", np.subtract),
    "multiply": ("f32", np.multiply),
    "divide": ("f32", np.divide),
    "maximum": ("f32", np.maximum),
    "minimum": ("f32", np.minimum),
    "power": ("f32", np.power),
    "remainder": ("f32", np.fmod),
    "atan2": ("f32", np.arctan2),
    "next_after": ("f32", np.nextafter),
    "and": ("i32", np.bitwise_and),
    "or": ("i32", np.bitwise_or),
    "xor": ("i32", np.bitwise_xor),
    "shift_left": ("i32", np.left_shift),
    "shift_right_arithmetic": ("i32", np.right_shift),
    "shift_right_logical": ("i32", np.right_shift),
}


@pytest.mark.parametrize("op", BINARY)
def test_broadcasting_ops_align_the_last_dimensions(op: str) -> None:
    kind, function = BINARY[op]
    dtype = np.dtype(np.float32 if kind == "f32" else np.int32)
    x, y = np.arange(1, 7, dtype=dtype).reshape(2, 3), np.array([3, 1, 2], dtype)
    found = lifting.lifted(broadcast(op, (kind, kind, kind)), x, y)
    lifting.assert_equal(found, [function(x, y)], rtol=1e-6)


@pytest.mark.parametrize("op", ["zeta", "polygamma"])
def test_broadcasting_special_functions_are_laxs(op: str) -> None:
    x, y = np.arange(2, 8, dtype=np.float32).reshape(2, 3), np.array([3, 1, 2], np.float32)
    wanted = np.asarray(getattr(lax, op)(x, np.broadcast_to(y, x.shape)))
    found = lifting.lifted(broadcast(op, ("f32", "f32", "f32")), x, y)
    lifting.assert_equal(found, [wanted], rtol=1e-5)


def test_broadcasting_ops_make_complex_numbers_and_comparisons() -> None:
    x, y = np.arange(6, dtype=np.float32).reshape(2, 3), np.array([3, 1, 2], np.float32)
    text = broadcast("complex", ("f32", "f32", "complex<f32>"))
    lifting.assert_equal(lifting.lifted(text, x, y), [(x + 1j * y).astype(np.complex64)])
    text = broadcast(
        "compare",
        ("f32", "f32", "i1"),
        "{comparison_direction = #chlo<comparison_direction GT>, "
        "compare_type = #chlo<comparison_type TOTALORDER>}",
    )
    lifting.assert_equal(lifting.lifted(text, x, y), [x > y])


def test_broadcast_dimensions_place_the_smaller_operand() -> None:
    a, b, out = "tensor<2xf32>", "tensor<2x3xf32>", "tensor<2x3xf32>"
    text = lifting.main(
        f'%r = "chlo.broadcast_subtract"(%a, %b) {{broadcast_dimensions = array<i64: 0>}} : '
        f"({a}, {b}) -> {out}\n return %r : {out}",
        f"(%a: {a}, %b: {b}) -> {out}",
    )
    x, y = np.array([1, 2], np.float32), np.arange(6, dtype=np.float32).reshape(2, 3)
    lifting.assert_equal(lifting.lifted(text, x, y), [x[:, None] - y])


def test_broadcast_select_broadcasts_all_three() -> None:
    p, t, out = "tensor<2x1xi1>", "tensor<3xf32>", "tensor<2x3xf32>"
    text = lifting.main(
        f'%r = "chlo.broadcast_select"(%p, %a, %b) : ({p}, {t}, tensor<f32>) -> {out}\n'
        f"return %r : {out}",
        f"(%p: {p}, %a: {t}, %b: tensor<f32>) -> {out}",
    )
    which, x = np.array([[True], [False]]), np.arange(3, dtype=np.float32)
    wanted = np.where(which, x, np.float32(9))
    lifting.assert_equal(lifting.lifted(text, which, x, np.float32(9)), [wanted])


def test_constant_like_fills_the_operands_shape() -> None:
    t = "tensor<2x3xbf16>"
    text = lifting.main(
        f'%r = "chlo.constant_like"(%a) {{value = 0x7F80 : bf16}} : ({t}) -> {t}\n return %r : {t}',
        f"(%a: {t}) -> {t}",
    )
    x = np.zeros((2, 3), ml_dtypes.bfloat16)
    lifting.assert_equal(lifting.lifted(text, x), [np.full_like(x, np.inf)])


def test_gelu_of_jax_comes_back() -> None:
    x = operand(np.float32)[7:]
    text = lifting.stablehlo_of(lambda v: jax.nn.gelu(v, approximate=False) + jnp.zeros_like(v), x)
    lifting.assert_equal(lifting.lifted(text, x), lifting.by_xla(text, x), rtol=1e-6)
