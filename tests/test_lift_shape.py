"""Ops that move elements, and the forms of them whose amounts are data."""

from typing import Any

import jax.numpy as jnp
import lifting
import ml_dtypes
import numpy as np
import pytest
from jax import lax

from jaxrt.errors import ConversionError

Array = np.ndarray[Any, Any]

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def check(function: Any, *arguments: Any) -> None:
    """What JAX lowers, lifts back to the same function."""
    text = lifting.stablehlo_of(function, *arguments)
    lifting.assert_equal(lifting.lifted(text, *arguments), lifting.by_xla(text, *arguments))


DTYPES = [
    *(np.float16, np.float32, np.float64, np.complex64, np.complex128, np.bool_),
    *(np.int8, np.int64, np.uint16, np.uint64, ml_dtypes.bfloat16, ml_dtypes.int4),
    ml_dtypes.float8_e4m3fn,
]


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
def test_every_dtype_moves(dtype: Any) -> None:
    def function(x: Any) -> Any:
        y = lax.transpose(lax.reshape(x, (3, 4)), (1, 0))
        y = lax.concatenate([lax.rev(y, (0,)), lax.slice(y, (1, 0), (3, 3), (1, 1))], 0)
        y = lax.pad(y, np.zeros((), dtype), [(1, -1, 0), (0, 2, 1)])
        return lax.broadcast_in_dim(y, (2, *y.shape), (1, 2))

    check(function, np.arange(12).astype(np.float32).astype(dtype))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: lax.transpose(x, (2, 0, 1)),
        lambda x: lax.reshape(x, (4, 6)),
        lambda x: lax.reshape(x, (1, 24, 1)),
        lambda x: lax.broadcast_in_dim(x, (5, 2, 3, 4), (1, 2, 3)),
        lambda x: lax.broadcast_in_dim(x[:, :1], (2, 7, 4), (0, 1, 2)),
        lambda x: lax.slice(x, (0, 1, 0), (2, 3, 4), (1, 2, 3)),
        lambda x: lax.slice(x, (0, 1, 2), (2, 1, 4)),
        lambda x: lax.rev(x, (0, 2)),
        lambda x: lax.concatenate([x, x[:, :1], x[:, :0]], 1),
        lambda x: lax.pad(x, np.float32(7), [(1, 2, 3), (0, 0, 0), (2, 0, 1)]),
        lambda x: lax.pad(x, np.float32(7), [(-1, 0, 0), (-1, -1, 0), (3, -2, 2)]),
        lambda x: lax.pad(x[:0], np.float32(7), [(1, 1, 4), (0, 0, 0), (0, 0, 0)]),
        lambda x: x.at[0].set(1)[..., None],
        lambda x: jnp.tile(x, (2, 1, 3)),
        lambda x: lax.optimization_barrier((x, x + x))[1],
    ],
)
def test_the_attributes_of_a_move_are_kept(function: Any) -> None:
    check(function, X)


@pytest.mark.parametrize(
    "dtype",
    [np.int32, np.uint8, np.int64, np.float32, ml_dtypes.bfloat16, np.complex64, ml_dtypes.int4],
    ids=lambda d: np.dtype(d).name,
)
@pytest.mark.parametrize("dimension", [0, 1])
def test_iota_counts_in_its_own_dtype(dtype: Any, dimension: int) -> None:
    check(lambda: lax.broadcasted_iota(dtype, (3, 5), dimension))


def test_the_legacy_broadcast_puts_new_dimensions_in_front() -> None:
    text = lifting.main(
        "%r = stablehlo.broadcast %a, sizes = [2, 1] : (tensor<3xf32>) -> tensor<2x1x3xf32>\n"
        "return %r : tensor<2x1x3xf32>",
        "(%a: tensor<3xf32>) -> tensor<2x1x3xf32>",
    )
    x = np.arange(3, dtype=np.float32)
    lifting.assert_equal(lifting.lifted(text, x), [np.broadcast_to(x, (2, 1, 3))])


def one(line: str, given: str, result: str) -> str:
    return lifting.main(f"%r = {line}\n return %r : {result}", f"({given}) -> {result}")


def test_a_dynamic_reshape_goes_by_its_result_type() -> None:
    text = one(
        "stablehlo.dynamic_reshape %a, %s : (tensor<6xf32>, tensor<2xi32>) -> tensor<2x3xf32>",
        "%a: tensor<6xf32>, %s: tensor<2xi32>",
        "tensor<2x3xf32>",
    )
    x = np.arange(6, dtype=np.float32)
    found = lifting.lifted(text, x, np.array([2, 3], np.int32))
    lifting.assert_equal(found, [x.reshape(2, 3)])


def test_a_dynamic_broadcast_goes_by_its_result_type() -> None:
    text = one(
        '"stablehlo.dynamic_broadcast_in_dim"(%a, %s) {broadcast_dimensions = array<i64: 1, 0>, '
        "known_expanding_dimensions = array<i64: 1>, known_nonexpanding_dimensions = array<i64: 0>}"
        " : (tensor<3x1xf32>, tensor<2xi64>) -> tensor<2x3xf32>",
        "%a: tensor<3x1xf32>, %s: tensor<2xi64>",
        "tensor<2x3xf32>",
    )
    x = np.arange(3, dtype=np.float32)
    found = lifting.lifted(text, x[:, None], np.array([2, 3], np.int64))
    lifting.assert_equal(found, [np.broadcast_to(x, (2, 3))])


def test_a_dynamic_iota_goes_by_its_result_type() -> None:
    text = one(
        "stablehlo.dynamic_iota %s, dim = 1 : (tensor<2xi64>) -> tensor<2x3xui8>",
        "%s: tensor<2xi64>",
        "tensor<2x3xui8>",
    )
    found = lifting.lifted(text, np.array([2, 3], np.int64))
    lifting.assert_equal(found, [np.broadcast_to(np.arange(3, dtype=np.uint8), (2, 3))])


@pytest.mark.parametrize(
    ("low", "high", "interior", "shape"),
    [
        ((1, 0), (0, 2), (0, 0), (4, 6)),
        ((0, -1), (-1, 0), (0, 0), (2, 3)),
        ((2, 1), (1, 0), (1, 2), (8, 11)),
        ((-1, 2), (0, -3), (2, 1), (6, 6)),
    ],
)
def test_a_dynamic_pad_is_a_pad_whose_amounts_are_data(
    low: tuple[int, int], high: tuple[int, int], interior: tuple[int, int], shape: tuple[int, int]
) -> None:
    result = f"tensor<{shape[0]}x{shape[1]}xf32>"
    v = "tensor<2xi32>"
    text = one(
        f"stablehlo.dynamic_pad %a, %v, %l, %h, %i : (tensor<3x4xf32>, tensor<f32>, {v}, {v}, {v})"
        f" -> {result}",
        f"%a: tensor<3x4xf32>, %v: tensor<f32>, %l: {v}, %h: {v}, %i: {v}",
        result,
    )
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    amounts = [np.array(v, np.int32) for v in (low, high, interior)]
    wanted = lax.pad(x, np.float32(9), list(zip(low, high, interior, strict=True)))
    lifting.assert_equal(lifting.lifted(text, x, np.float32(9), *amounts), [np.asarray(wanted)])


def test_a_dynamic_pad_of_nothing_is_all_padding() -> None:
    v = "tensor<1xi64>"
    text = one(
        f"stablehlo.dynamic_pad %a, %v, %l, %l, %i : (tensor<0xf32>, tensor<f32>, {v}, {v}, {v})"
        " -> tensor<4xf32>",
        f"%a: tensor<0xf32>, %v: tensor<f32>, %l: {v}, %i: {v}",
        "tensor<4xf32>",
    )
    two = np.array([2], np.int64)
    found = lifting.lifted(text, np.zeros(0, np.float32), np.float32(9), two, two - 2)
    lifting.assert_equal(found, [np.full(4, 9, np.float32)])


def test_a_real_dynamic_slice_starts_and_steps_where_the_data_say() -> None:
    v = "tensor<2xi32>"
    text = one(
        f"stablehlo.real_dynamic_slice %a, %s, %l, %t : (tensor<5x6xf32>, {v}, {v}, {v})"
        " -> tensor<2x3xf32>",
        f"%a: tensor<5x6xf32>, %s: {v}, %l: {v}, %t: {v}",
        "tensor<2x3xf32>",
    )
    x = np.arange(30, dtype=np.float32).reshape(5, 6)
    vectors = [np.array(v, np.int32) for v in ((1, 0), (5, 6), (3, 2))]
    lifting.assert_equal(lifting.lifted(text, x, *vectors), [x[1:5:3, 0:6:2]])


def test_the_size_of_a_dimension_is_known() -> None:
    text = one(
        "stablehlo.get_dimension_size %a, dim = 1 : (tensor<2x7xf32>) -> tensor<i32>",
        "%a: tensor<2x7xf32>",
        "tensor<i32>",
    )
    found = lifting.lifted(text, np.zeros((2, 7), np.float32))
    lifting.assert_equal(found, [np.array(7, np.int32)])


def resized(size: str) -> str:
    t = "tensor<2x3xf32>"
    return lifting.main(
        f"{size}\n %r = stablehlo.set_dimension_size %a, %s, dim = 1 : ({t}, tensor<i32>) -> {t}\n"
        f"return %r : {t}",
        f"(%a: {t}) -> {t}",
    )


def test_a_dimension_can_be_set_to_the_size_it_has() -> None:
    x = np.ones((2, 3), np.float32)
    text = resized("%s = stablehlo.constant dense<3> : tensor<i32>")
    lifting.assert_equal(lifting.lifted(text, x), [x])
    text = resized(
        "%s = stablehlo.get_dimension_size %a, dim = 1 : (tensor<2x3xf32>) -> tensor<i32>"
    )
    lifting.assert_equal(lifting.lifted(text, x), [x])


@pytest.mark.parametrize(
    ("size", "found"),
    [
        ("%s = stablehlo.constant dense<2> : tensor<i32>", "2"),
        (
            "%c = stablehlo.constant dense<1> : tensor<i32>\n"
            "%s = stablehlo.add %c, %c : tensor<i32>",
            "data",
        ),
    ],
)
def test_any_other_size_is_refused(size: str, found: str) -> None:
    with pytest.raises(ConversionError, match=f"dimension 1 of size 3 set to {found}"):
        lifting.lifted(resized(size), np.ones((2, 3), np.float32))


def test_shapes_that_depend_on_data_are_refused() -> None:
    text = lifting.main("return %a : tensor<?xf32>", "(%a: tensor<?xf32>) -> tensor<?xf32>")
    with pytest.raises(ConversionError, match="shapes that depend on data cannot be compiled"):
        lifting.lifted(text, np.ones(3, np.float32))


def test_tuples_are_made_and_taken_apart() -> None:
    t, u = "tensor<2xf32>", "tensor<i32>"
    text = lifting.main(
        f"%t = stablehlo.tuple %a, %b : tuple<{t}, {u}>\n"
        f"%x = stablehlo.get_tuple_element %t[1] : (tuple<{t}, {u}>) -> {u}\n"
        f"%y = stablehlo.get_tuple_element %t[0] : (tuple<{t}, {u}>) -> {t}\n"
        f"return %x, %y : {u}, {t}",
        f"(%a: {t}, %b: {u}) -> ({u}, {t})",
    )
    a, b = np.ones(2, np.float32), np.array(3, np.int32)
    lifting.assert_equal(lifting.lifted(text, a, b), [b, a])


def test_tokens_carry_nothing() -> None:
    t = "tensor<2xf32>"
    text = lifting.main(
        "%t = stablehlo.create_token : !stablehlo.token\n"
        "%u = stablehlo.after_all %t, %t : !stablehlo.token\n"
        f"%r:2 = stablehlo.optimization_barrier %a, %u : {t}, !stablehlo.token\n"
        f"return %r#0 : {t}",
        f"(%a: {t}) -> {t}",
    )
    x = np.ones(2, np.float32)
    lifting.assert_equal(lifting.lifted(text, x), [x])
