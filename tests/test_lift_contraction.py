"""Dots and convolutions with every attribute they have."""

import dataclasses
from typing import Any

import lifting
import ml_dtypes
import numpy as np
import pytest
from jax import lax

Array = np.ndarray[Any, Any]


def normal(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Array:
    random = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "b":
        return random.integers(0, 2, shape) > 0
    if np.dtype(dtype).kind in "iu":
        return random.integers(0, 5, shape).astype(dtype)
    if np.dtype(dtype).kind == "c":
        return (random.normal(size=shape) + 1j * random.normal(size=shape)).astype(dtype)
    return random.normal(size=shape).astype(dtype)


def check(function: Any, *arguments: Any, rtol: float = 1e-5) -> None:
    text = lifting.stablehlo_of(function, *arguments)
    found, wanted = lifting.lifted(text, *arguments), lifting.by_xla(text, *arguments)
    lifting.assert_equal(found, wanted, rtol=rtol)


@pytest.mark.parametrize(
    ("left", "right", "numbers"),
    [
        ((3, 4), (4, 5), (((1,), (0,)), ((), ()))),
        ((4, 3), (5, 4), (((0,), (1,)), ((), ()))),
        ((2, 3, 4), (2, 4, 5), (((2,), (1,)), ((0,), (0,)))),
        ((3, 2, 4, 6), (4, 5, 2, 6), (((2,), (0,)), ((1, 3), (2, 3)))),
        ((2, 3, 4), (4, 3, 2), (((1, 2), (1, 0)), ((), ()))),
        ((2, 3), (4,), (((), ()), ((), ()))),
        ((5,), (5,), (((0,), (0,)), ((), ()))),
        ((5, 2), (2, 5), (((), ()), ((0, 1), (1, 0)))),
        ((3, 0), (0, 2), (((1,), (0,)), ((), ()))),
    ],
)
def test_dots_keep_their_dimensions(left: Any, right: Any, numbers: Any) -> None:
    check(lambda x, y: lax.dot_general(x, y, numbers), normal(*left), normal(*right, seed=1))


@pytest.mark.parametrize(
    ("left", "right", "result"),
    [
        (np.float64, np.float64, np.float64),
        (np.float16, np.float16, np.float16),
        (np.float16, np.float16, np.float32),
        (ml_dtypes.bfloat16, ml_dtypes.bfloat16, np.float32),
        (ml_dtypes.bfloat16, ml_dtypes.bfloat16, ml_dtypes.bfloat16),
        (np.int8, np.int8, np.int32),
        (np.uint8, np.int8, np.int32),
        (np.int32, np.int32, np.int32),
        (np.int64, np.int64, np.int64),
        (np.complex64, np.complex64, np.complex64),
        (np.bool_, np.bool_, np.bool_),
        (ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, np.float32),
    ],
)
def test_dots_accumulate_in_the_dtype_of_their_result(left: Any, right: Any, result: Any) -> None:
    x, y = normal(3, 7, dtype=left), normal(7, 4, dtype=right, seed=1)
    numbers = (((1,), (0,)), ((), ()))
    check(
        lambda a, b: lax.dot_general(a, b, numbers, preferred_element_type=result),
        *(x, y),
        rtol=2e-2 if np.dtype(result).itemsize == 2 else 1e-5,
    )


def dot(attributes: str, left: str = "3x4", right: str = "4x5", out: str = "3x5") -> str:
    a, b, r = (f"tensor<{shape}xf32>" for shape in (left, right, out))
    return lifting.main(
        f'%r = "stablehlo.{attributes} : ({a}, {b}) -> {r}\n return %r : {r}',
        f"(%a: {a}, %b: {b}) -> {r}",
    )


NUMBERS = (
    "dot_dimension_numbers = #stablehlo.dot<lhs_contracting_dimensions = [1], "
    "rhs_contracting_dimensions = [0]>"
)


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (("HIGHEST", "HIGHEST"), "(Precision.HIGHEST, Precision.HIGHEST)"),
        (("HIGH", "DEFAULT"), "(Precision.HIGH, Precision.DEFAULT)"),
        (("DEFAULT", "DEFAULT"), None),
        ((), None),
    ],
)
def test_precision_is_kept_for_each_operand(names: tuple[str, ...], shown: str | None) -> None:
    config = ", ".join(f"#stablehlo<precision {name}>" for name in names)
    text = dot(f'dot_general"(%a, %b) {{{NUMBERS}, precision_config = [{config}]}}')
    jaxpr = lifting.jaxpr_of(text, 2)
    assert ("precision=" in jaxpr) == (shown is not None)
    assert shown is None or f"precision={shown}" in jaxpr
    x, y = normal(3, 4), normal(4, 5, seed=1)
    lifting.assert_equal(lifting.lifted(text, x, y), [x @ y], rtol=1e-5)


def algorithm(types: str, products: int, imprecise: bool = False) -> str:
    left, right, accumulation = types.split()
    return dot(
        f'dot_general"(%a, %b) {{{NUMBERS}, algorithm = #stablehlo.dot_algorithm<'
        f"lhs_precision_type = {left}, rhs_precision_type = {right}, "
        f"accumulation_type = {accumulation}, lhs_component_count = 1, rhs_component_count = 1, "
        f"num_primitive_operations = {products}, "
        f"allow_imprecise_accumulation = {str(imprecise).lower()}>}}"
    )


@pytest.mark.parametrize(
    ("types", "products", "shown"),
    [
        ("tf32 tf32 f32", 1, "TF32_TF32_F32"),
        ("tf32 tf32 f32", 3, "TF32_TF32_F32_X3"),
        ("bf16 bf16 f32", 6, "BF16_BF16_F32_X6"),
        ("f32 f32 f32", 1, "F32_F32_F32"),
        ("f8E5M2 f8E4M3FN f32", 1, "DotAlgorithm(lhs_precision_type"),
    ],
)
def test_a_dots_algorithm_keeps_its_name(types: str, products: int, shown: str) -> None:
    assert f"precision={shown}" in lifting.jaxpr_of(algorithm(types, products), 2)


def test_a_dot_with_an_algorithm_runs() -> None:
    x, y = normal(3, 4), normal(4, 5, seed=1)
    found = lifting.lifted(algorithm("f32 f32 f32", 1), x, y)
    lifting.assert_equal(found, [x @ y], rtol=1e-5)


@pytest.mark.parametrize(
    ("left", "right", "out"),
    [("3x4", "4x5", "3x5"), ("4", "4x5", "5"), ("3x4", "4", "3"), ("4", "4", "")],
)
def test_the_legacy_dot_contracts_last_with_first(left: str, right: str, out: str) -> None:
    def shape(text: str) -> tuple[int, ...]:
        return tuple(int(n) for n in text.split("x"))

    text = dot('dot"(%a, %b)', left, right, out).replace("tensor<xf32>", "tensor<f32>")
    x, y = normal(*shape(left)), normal(*shape(right), seed=1)
    lifting.assert_equal(lifting.lifted(text, x, y), [np.asarray(x @ y)], rtol=1e-5)


def test_einsums_follow_their_config() -> None:
    x, y = normal(2, 3, 4), normal(2, 4, 5, seed=1)
    text = dot('einsum"(%a, %b) {einsum_config = "bij,bjk->bki"}', "2x3x4", "2x4x5", "2x5x3")
    found = lifting.lifted(text, x, y)
    lifting.assert_equal(found, [np.einsum("bij,bjk->bki", x, y)], rtol=1e-5)
    t, r = "tensor<2x3x4xf32>", "tensor<4x2xf32>"
    text = lifting.main(
        f'%r = "stablehlo.unary_einsum"(%a) {{einsum_config = "bij->jb"}} : ({t}) -> {r}\n'
        f"return %r : {r}",
        f"(%a: {t}) -> {r}",
    )
    lifting.assert_equal(lifting.lifted(text, x), [np.einsum("bij->jb", x)], rtol=1e-5)


@dataclasses.dataclass(frozen=True)
class Conv:
    """A convolution by its shapes and the keywords of lax.conv_general_dilated."""

    input: tuple[int, ...]
    kernel: tuple[int, ...]
    layout: tuple[str, str, str] = ("NHWC", "HWIO", "NHWC")
    options: tuple[tuple[str, Any], ...] = ()

    def __call__(self, x: Any, w: Any) -> Any:
        strides = (1,) * (len(self.input) - 2)
        options: dict[str, Any] = {"window_strides": strides, "padding": "VALID"}
        options |= dict(self.options)
        return lax.conv_general_dilated(x, w, dimension_numbers=self.layout, **options)


CONVS = [
    Conv((2, 7, 6, 3), (3, 2, 3, 4)),
    Conv((2, 3, 7, 6), (4, 3, 3, 2), ("NCHW", "OIHW", "NCHW")),
    Conv((7, 6, 2, 3), (3, 4, 3, 2), ("HWNC", "IOHW", "CWNH")),
    Conv((2, 9, 3), (4, 3, 5), ("NWC", "WIO", "NWC"), (("window_strides", (2,)),)),
    Conv((1, 4, 5, 6, 2), (2, 3, 2, 2, 3), ("NDHWC", "DHWIO", "NDHWC")),
    Conv((2, 3), (3, 4), ("NC", "IO", "NC")),
    Conv((2, 7, 6, 3), (3, 2, 3, 4), options=(("padding", "SAME"), ("window_strides", (2, 3)))),
    Conv((2, 7, 6, 3), (3, 2, 3, 4), options=(("padding", ((2, 0), (-1, 3))),)),
    Conv(
        (2, 7, 6, 3), (3, 2, 3, 4), options=(("lhs_dilation", (2, 3)), ("padding", ((0, 0),) * 2))
    ),
    Conv((2, 9, 8, 3), (3, 2, 3, 4), options=(("rhs_dilation", (2, 3)),)),
    Conv(
        (2, 5, 5, 3),
        (3, 3, 3, 4),
        options=(("lhs_dilation", (2, 2)), ("padding", ((2, 2), (1, 2)))),
    ),
    Conv((2, 7, 6, 6), (3, 2, 1, 6), options=(("feature_group_count", 6),)),
    Conv((2, 7, 6, 6), (3, 2, 1, 12), options=(("feature_group_count", 6),)),
    Conv((2, 7, 6, 6), (3, 2, 3, 4), options=(("feature_group_count", 2),)),
    Conv((6, 7, 6, 3), (3, 2, 3, 4), options=(("batch_group_count", 2),)),
    Conv((2, 7, 6, 3), (3, 2, 3, 4), options=(("precision", lax.Precision.HIGHEST),)),
]


@pytest.mark.parametrize("conv", CONVS)
def test_convolutions_keep_every_attribute(conv: Conv) -> None:
    check(conv, normal(*conv.input), normal(*conv.kernel, seed=1))


@pytest.mark.parametrize(
    ("dtype", "result"),
    [
        (np.float64, None),
        (np.float16, None),
        (ml_dtypes.bfloat16, None),
        (ml_dtypes.bfloat16, np.float32),
        (np.int32, None),
        (np.int8, np.int32),
        (np.complex64, None),
    ],
)
def test_convolutions_accumulate_in_the_dtype_of_their_result(dtype: Any, result: Any) -> None:
    options = (("preferred_element_type", result),)
    conv = Conv((2, 7, 6, 3), (3, 2, 3, 4), options=options)
    x, w = normal(*conv.input, dtype=dtype), normal(*conv.kernel, dtype=dtype, seed=1)
    check(conv, x, w, rtol=5e-2 if np.dtype(result or dtype).itemsize == 2 else 1e-5)


def convolution(attributes: str) -> str:
    a, b, r = "tensor<1x5x6x2xf32>", "tensor<3x2x2x3xf32>", "tensor<1x3x5x3xf32>"
    return lifting.main(
        f'%r = "stablehlo.convolution"(%a, %b) {{dimension_numbers = '
        f"#stablehlo.conv<[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]>, feature_group_count = 1 : i64, "
        f"batch_group_count = 1 : i64{attributes}}} : ({a}, {b}) -> {r}\n return %r : {r}",
        f"(%a: {a}, %b: {b}) -> {r}",
    )


@pytest.mark.parametrize(
    "attributes",
    [
        "",
        ", window_reversal = array<i1: true, false>",
        ", window_reversal = array<i1: true, true>, window_strides = array<i64: 1, 1>",
        ", lhs_dilation = array<i64: 1, 1>, rhs_dilation = array<i64: 1, 1>",
    ],
)
def test_absent_attributes_have_their_defaults_and_windows_reverse(attributes: str) -> None:
    text = convolution(attributes)
    x, w = normal(1, 5, 6, 2), normal(3, 2, 2, 3, seed=1)
    lifting.assert_equal(lifting.lifted(text, x, w), lifting.by_xla(text, x, w), rtol=1e-5)


@pytest.mark.parametrize(
    ("padding", "options", "shape"),
    [
        (((1, 1), (0, 2)), "", (5, 7)),
        (((2, 0), (-1, 3)), "window_strides = array<i64: 2, 1>, ", (3, 7)),
        (((1, 2), (2, 1)), "lhs_dilation = array<i64: 2, 3>, ", (10, 18)),
        (((0, 2), (3, 3)), "rhs_dilation = array<i64: 2, 1>, ", (3, 11)),
    ],
)
def test_a_dynamic_convs_padding_is_data(
    padding: tuple[tuple[int, int], ...], options: str, shape: tuple[int, int]
) -> None:
    a, b, p = "tensor<1x5x6x2xf32>", "tensor<3x2x2x3xf32>", "tensor<2x2xi32>"
    r = f"tensor<1x{shape[0]}x{shape[1]}x3xf32>"
    numbers = "#stablehlo.conv<[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]>"

    def text(op: str, more: str, types: str, given: str) -> str:
        return lifting.main(
            f'%r = "stablehlo.{op} {{{options}{more}dimension_numbers = {numbers}, '
            f"feature_group_count = 1 : i64, batch_group_count = 1 : i64}} : ({types}) -> {r}\n"
            f"return %r : {r}",
            f"({given}) -> {r}",
        )

    x, w = normal(1, 5, 6, 2), normal(3, 2, 2, 3, seed=1)
    dynamic = text('dynamic_conv"(%a, %b, %p)', "", f"{a}, {b}, {p}", f"%a: {a}, %b: {b}, %p: {p}")
    rows = ", ".join(f"[{low}, {high}]" for low, high in padding)
    static = text(
        'convolution"(%a, %b)',
        f"padding = dense<[{rows}]> : tensor<2x2xi64>, ",
        f"{a}, {b}",
        f"%a: {a}, %b: {b}",
    )
    found = lifting.lifted(dynamic, x, w, np.array(padding, np.int32))
    lifting.assert_equal(found, lifting.by_xla(static, x, w), rtol=1e-5)
