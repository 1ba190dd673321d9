"""Gather, scatter and dynamic slices mean after the lift what they meant before."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import lifting
import numpy as np
import pytest
from jax import lax


def data(*shape: int, kind: Any = np.float32) -> np.ndarray[Any, Any]:
    values = np.random.default_rng(7).integers(-9, 10, shape)
    if kind is np.bool_:
        return values > 0
    if np.dtype(kind).kind == "u":
        values = abs(values)
    out = values.astype(kind)
    return out + out[::-1] * kind(1j) if np.dtype(kind).kind == "c" else out


def lowered(function: Callable[..., Any], *arguments: Any) -> str:
    return jax.jit(function, keep_unused=True).lower(*arguments).as_text()


def check(function: Callable[..., Any], *arguments: Any) -> None:
    """The lifted module of a JAX function answers as the function does, bit by bit."""
    with jax.enable_x64(True):
        text = lowered(function, *arguments)
        wanted = jax.tree.leaves(jax.jit(function)(*arguments))
    for found, want in zip(lifting.lifted(text, *arguments), wanted, strict=True):
        np.testing.assert_array_equal(found, np.asarray(want))


INDICES = np.array([[0, 3], [-1, 2], [9, 1], [2, -7]], np.int32)

GATHERS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "rows": (lambda x, i: x[i[:, 0]], (data(5, 6), INDICES)),
    "rows, clipped": (
        lambda x, i: jnp.take(x, i, axis=0, mode="clip"),
        (data(5, 6), INDICES),
    ),
    "columns, filled": (
        lambda x, i: jnp.take(x, i, axis=1, mode="fill", fill_value=7.0),
        (data(5, 6), INDICES),
    ),
    "points": (lambda x, i: x[i[:, 0], i[:, 1]], (data(5, 6), INDICES)),
    "along an axis": (
        lambda x, i: jnp.take_along_axis(x, i, axis=1, mode="clip"),
        (data(4, 6), INDICES),
    ),
    "batched by vmap": (
        jax.vmap(lambda x, i: x[i]),
        (data(4, 6), INDICES),
    ),
    "batched by vmap, axes crossed": (
        jax.vmap(lambda x, i: lax.dynamic_slice(x, i, (2, 3)), in_axes=(1, 0), out_axes=2),
        (data(5, 4, 6), INDICES),
    ),
    "twice batched": (
        jax.vmap(jax.vmap(lambda x, i: x[i]), in_axes=(1, 0)),
        (data(3, 4, 6), np.arange(24, dtype=np.int64).reshape(4, 3, 2) % 7 - 1),
    ),
    "bool": (lambda x, i: x[i], (data(5, kind=np.bool_), INDICES)),
    "complex": (lambda x, i: x[i], (data(5, kind=np.complex64), INDICES)),
    "bytes by bytes": (
        lambda x, i: jnp.take(x, i, mode="clip"),
        (data(300, kind=np.uint8), np.array([255, 3, 200], np.uint8)),
    ),
    "nothing": (lambda x, i: x[i], (data(5, 3), np.zeros((0,), np.int32))),
}


@pytest.mark.parametrize("name", GATHERS)
def test_a_gather_picks_what_jax_picks(name: str) -> None:
    function, arguments = GATHERS[name]
    check(function, *arguments)


UPDATES = data(4, 6)

SCATTERS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    **{
        f"{method} of {np.dtype(kind)}": (
            lambda x, i, u, method=method: getattr(x.at[i[:, 0]], method)(u, mode="drop"),
            (data(5, 6, kind=kind), INDICES, data(4, 6, kind=kind)),
        )
        for method in ("set", "add", "mul", "min", "max", "subtract")
        for kind in (np.float32, np.int64, np.uint8, np.float16)
    },
    **{
        f"{method} of complex64": (
            lambda x, i, u, method=method: getattr(x.at[i[:, 0]], method)(u),
            (data(5, 6, kind=np.complex64), INDICES, data(4, 6, kind=np.complex64)),
        )
        for method in ("set", "add", "mul")
    },
    **{
        f"{method} of bool": (
            lambda x, i, u, method=method: getattr(x.at[i[:, 0]], method)(u),
            (data(5, 6, kind=np.bool_), INDICES, data(4, 6, kind=np.bool_)),
        )
        for method in ("set", "min", "max")
    },
    "points": (
        lambda x, i, u: x.at[i[:, 0], i[:, 1]].add(u, mode="drop"),
        (data(5, 6), INDICES, data(4)),
    ),
    "clipped": (
        lambda x, i, u: x.at[i[:, 0], i[:, 1]].add(u, mode="clip"),
        (data(5, 6), INDICES, data(4)),
    ),
    "sorted and unique": (
        lambda x, u: x.at[np.array([0, 2, 4])].add(u, indices_are_sorted=True, unique_indices=True),
        (data(5, 6), data(3, 6)),
    ),
    "batched by vmap": (
        jax.vmap(lambda x, i, u: x.at[i].add(u, mode="drop")),
        (data(4, 6), INDICES, data(4, 2)),
    ),
    "batched by vmap, axes crossed": (
        jax.vmap(lambda x, i, u: x.at[i].max(u), in_axes=(1, 0, 1)),
        (data(6, 4), INDICES, data(2, 4)),
    ),
    "by a function of the old value": (
        lambda x, i: x.at[i[:, 0]].apply(jnp.square, mode="drop", unique_indices=True),
        (data(10, 6), INDICES),
    ),
    "histogram": (
        lambda i: jnp.zeros((4,), jnp.int32).at[i].add(np.int32(1)),
        (np.array([0, 1, 1, 3, 9, 1], np.int32),),
    ),
}


@pytest.mark.parametrize("name", SCATTERS)
def test_a_scatter_writes_what_jax_writes(name: str) -> None:
    function, arguments = SCATTERS[name]
    check(function, *arguments)


@pytest.mark.parametrize("start", [-8, -1, 0, 2, 4, 99])
@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint8, np.int16])
def test_a_dynamic_slice_is_clamped_at_both_ends(start: int, kind: Any) -> None:
    if start < 0 and np.dtype(kind).kind == "u":
        start = 250
    name = {"i": "i", "u": "ui"}[np.dtype(kind).kind] + str(8 * np.dtype(kind).itemsize)
    text = f"""func.func @main(%x: tensor<5x4xf32>, %u: tensor<3x2xf32>, %i: tensor<{name}>)
        -> (tensor<3x2xf32>, tensor<5x4xf32>) {{
      %c = stablehlo.constant dense<1> : tensor<{name}>
      %0 = stablehlo.dynamic_slice %x, %i, %c, sizes = [3, 2]
        : (tensor<5x4xf32>, tensor<{name}>, tensor<{name}>) -> tensor<3x2xf32>
      %1 = stablehlo.dynamic_update_slice %x, %u, %i, %c
        : (tensor<5x4xf32>, tensor<3x2xf32>, tensor<{name}>, tensor<{name}>) -> tensor<5x4xf32>
      return %0, %1 : tensor<3x2xf32>, tensor<5x4xf32>
    }}"""
    arguments = (data(5, 4), data(3, 2), np.array(start, kind))
    for found, want in zip(
        lifting.lifted(text, *arguments), lifting.by_xla(text, *arguments), strict=True
    ):
        np.testing.assert_array_equal(found, want)


GATHER = """func.func @main(%x: tensor<{x}xf32>, %i: tensor<{i}xi32>) -> tensor<{out}xf32> {{
  %0 = "stablehlo.gather"(%x, %i) <{{
    dimension_numbers = #stablehlo.gather<{dims}>, slice_sizes = array<i64: {sizes}>
  }}> : (tensor<{x}xf32>, tensor<{i}xi32>) -> tensor<{out}xf32>
  return %0 : tensor<{out}xf32>
}}"""


@pytest.mark.parametrize(
    ("x", "i", "out", "dims", "sizes"),
    [
        # index_vector_dim == rank: the indices are scalars
        (
            "5x6",
            "3x2",
            "3x2x6",
            "offset_dims = [2], collapsed_slice_dims = [0], start_index_map = [0], "
            "index_vector_dim = 2",
            "1, 6",
        ),
        # index vectors along the first dimension, axes crossed in the map
        (
            "5x6",
            "2x3",
            "3x2x4",
            "offset_dims = [1, 2], start_index_map = [1, 0], index_vector_dim = 0",
            "2, 4",
        ),
        # index vectors in the middle, the offset first in the result
        (
            "5x6",
            "3x2x4",
            "2x3x4",
            "offset_dims = [0], collapsed_slice_dims = [1], start_index_map = [0, 1], "
            "index_vector_dim = 1",
            "2, 1",
        ),
        # batching dimensions crossed, index vectors before them
        (
            "4x3x6",
            "1x3x4",
            "3x4x2",
            "offset_dims = [2], operand_batching_dims = [0, 1], "
            "start_indices_batching_dims = [2, 1], start_index_map = [2], index_vector_dim = 0",
            "1, 1, 2",
        ),
    ],
)
def test_gather_dimension_numbers_that_jax_never_writes(
    x: str, i: str, out: str, dims: str, sizes: str
) -> None:
    text = GATHER.format(x=x, i=i, out=out, dims=dims, sizes=sizes)
    shape = [int(n) for n in i.split("x")]
    indices = np.random.default_rng(1).integers(-3, 8, shape).astype(np.int32)
    operand = data(*(int(n) for n in x.split("x")))
    np.testing.assert_array_equal(
        lifting.lifted(text, operand, indices), lifting.by_xla(text, operand, indices)
    )


def test_dynamic_gather_takes_its_sizes_from_its_type() -> None:
    text = """func.func @main(%x: tensor<5x6xf32>, %i: tensor<3xi32>) -> tensor<3x6xf32> {
      %sizes = stablehlo.constant dense<[1, 6]> : tensor<2xi32>
      %0 = "stablehlo.dynamic_gather"(%x, %i, %sizes) <{
        dimension_numbers = #stablehlo.gather<offset_dims = [1], collapsed_slice_dims = [0],
          start_index_map = [0], index_vector_dim = 1>
      }> : (tensor<5x6xf32>, tensor<3xi32>, tensor<2xi32>) -> tensor<3x6xf32>
      return %0 : tensor<3x6xf32>
    }"""
    x = data(5, 6)
    (found,) = lifting.lifted(text, x, np.array([4, 0, 9], np.int32))
    np.testing.assert_array_equal(found, x[[4, 0, 4]])


@pytest.mark.parametrize(
    ("x", "i", "dim", "batch"), [("5x6", "3", 0, 0), ("4x5x6", "4x2x3", 2, 1), ("4x5x6", "2", 1, 0)]
)
def test_torch_index_select(x: str, i: str, dim: int, batch: int) -> None:
    sizes, picks = x.split("x"), i.split("x")
    out = "x".join([*sizes[:dim], *picks[batch:], *sizes[dim + 1 :]])
    text = f"""func.func @main(%x: tensor<{x}xf32>, %i: tensor<{i}xi32>) -> tensor<{out}xf32> {{
      %0 = "stablehlo.torch_index_select"(%x, %i) <{{dim = {dim} : i64, batch_dims = {batch} : i64
      }}> : (tensor<{x}xf32>, tensor<{i}xi32>) -> tensor<{out}xf32>
      return %0 : tensor<{out}xf32>
    }}"""
    operand = data(*map(int, sizes))
    index = np.random.default_rng(3).integers(0, 5, [*map(int, picks)]).astype(np.int32)
    np.testing.assert_array_equal(
        lifting.lifted(text, operand, index), lifting.by_xla(text, operand, index)
    )


SCATTER = """func.func @main(%x: tensor<{x}x{t}>, %i: tensor<{i}xi32>, %u: tensor<{u}x{t}>)
    -> tensor<{x}x{t}> {{
  %0 = "stablehlo.scatter"(%x, %i, %u) <{{
    scatter_dimension_numbers = #stablehlo.scatter<{dims}>
  }}> ({{
    ^bb0(%a: tensor<{t}>, %b: tensor<{t}>):
      {body}
      stablehlo.return %r : tensor<{t}>
  }}) : (tensor<{x}x{t}>, tensor<{i}xi32>, tensor<{u}x{t}>) -> tensor<{x}x{t}>
  return %0 : tensor<{x}x{t}>
}}"""
ROWS = "update_window_dims = [1], inserted_window_dims = [0], "
ROWS += "scatter_dims_to_operand_dims = [0], index_vector_dim = 1"

BODIES = {
    "subtract": ("i32", "%r = stablehlo.subtract %a, %b : tensor<i32>"),
    "subtract the other way": ("i32", "%r = stablehlo.subtract %b, %a : tensor<i32>"),
    "sum, turned round": ("f32", "%r = stablehlo.add %b, %a : tensor<f32>"),
    "xor": ("i32", "%r = stablehlo.xor %a, %b : tensor<i32>"),
    "and of bits": ("i32", "%r = stablehlo.and %a, %b : tensor<i32>"),
    "and": ("i1", "%r = stablehlo.and %a, %b : tensor<i1>"),
    "or": ("i1", "%r = stablehlo.or %a, %b : tensor<i1>"),
    "sum of i1": ("i1", "%r = stablehlo.add %a, %b : tensor<i1>"),
    "product of i1": ("i1", "%r = stablehlo.multiply %a, %b : tensor<i1>"),
    "xor of i1": ("i1", "%r = stablehlo.xor %a, %b : tensor<i1>"),
    "old value kept": (
        "i32",
        "%c = stablehlo.constant dense<0> : tensor<i32>\n%r = stablehlo.convert %a : tensor<i32>",
    ),
    "a formula": (
        "f32",
        "%m = stablehlo.multiply %a, %b : tensor<f32>\n"
        "%r = stablehlo.subtract %m, %b : tensor<f32>",
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_any_combiner_is_applied_to_the_updates_in_their_order(name: str) -> None:
    kind, body = BODIES[name]
    text = SCATTER.format(x="5x3", i="4", u="4x3", t=kind, dims=ROWS, body=body)
    dtype = {"i32": np.int32, "f32": np.float32, "i1": np.bool_}[kind]
    arguments = (data(5, 3, kind=dtype), np.array([1, 4, 1, 7], np.int32), data(4, 3, kind=dtype))
    np.testing.assert_array_equal(
        lifting.lifted(text, *arguments), lifting.by_xla(text, *arguments)
    )


XOR = "%r = stablehlo.xor %a, %b : tensor<i32>"
ADD = "%r = stablehlo.add %a, %b : tensor<i32>"


@pytest.mark.parametrize("body", [ADD, XOR])
@pytest.mark.parametrize(
    ("x", "i", "u", "dims"),
    [
        # windows that stick out are skipped wholly
        (
            "5x6",
            "3x2",
            "3x2x4",
            "update_window_dims = [1, 2], scatter_dims_to_operand_dims = [0, 1], "
            "index_vector_dim = 1",
        ),
        # index vectors first, axes crossed, window first in the updates
        (
            "5x6",
            "2x3",
            "2x3",
            "update_window_dims = [0], inserted_window_dims = [1], "
            "scatter_dims_to_operand_dims = [1, 0], index_vector_dim = 0",
        ),
        # batching dimensions crossed
        (
            "4x3x6",
            "3x4x2x1",
            "3x4x2",
            "inserted_window_dims = [2], input_batching_dims = [0, 1], "
            "scatter_indices_batching_dims = [1, 0], scatter_dims_to_operand_dims = [2], "
            "index_vector_dim = 3",
        ),
        # scalars for indices
        (
            "5x6",
            "2x2",
            "2x2x6",
            "update_window_dims = [2], inserted_window_dims = [0], "
            "scatter_dims_to_operand_dims = [0], index_vector_dim = 2",
        ),
    ],
)
def test_scatter_dimension_numbers_that_jax_never_writes(
    body: str, x: str, i: str, u: str, dims: str
) -> None:
    text = SCATTER.format(x=x, i=i, u=u, t="i32", dims=dims, body=body)
    indices = np.random.default_rng(5).integers(-1, 5, [int(n) for n in i.split("x")])
    operand, update = (data(*(int(n) for n in s.split("x")), kind=np.int32) for s in (x, u))
    arguments = (operand, indices.astype(np.int32), update)
    np.testing.assert_array_equal(
        lifting.lifted(text, *arguments), lifting.by_xla(text, *arguments)
    )


VARIADIC = """func.func @main(%x: tensor<5xf32>, %y: tensor<5xi32>, %i: tensor<6x1xi32>,
    %u: tensor<6xf32>, %v: tensor<6xi32>) -> (tensor<5xf32>, tensor<5xi32>) {{
  %0:2 = "stablehlo.scatter"(%x, %y, %i, %u, %v) <{{
    scatter_dimension_numbers = #stablehlo.scatter<inserted_window_dims = [0],
      scatter_dims_to_operand_dims = [0], index_vector_dim = 1>
  }}> ({{
    ^bb0(%a: tensor<f32>, %b: tensor<i32>, %c: tensor<f32>, %d: tensor<i32>):
      {body}
      stablehlo.return %r, %s : tensor<f32>, tensor<i32>
  }}) : (tensor<5xf32>, tensor<5xi32>, tensor<6x1xi32>, tensor<6xf32>, tensor<6xi32>)
    -> (tensor<5xf32>, tensor<5xi32>)
  return %0#0, %0#1 : tensor<5xf32>, tensor<5xi32>
}}"""


@pytest.mark.parametrize(
    "body",
    [
        "%r = stablehlo.maximum %a, %c : tensor<f32>\n%s = stablehlo.add %b, %d : tensor<i32>",
        # the largest value with its place
        """%g = stablehlo.compare GE, %a, %c : (tensor<f32>, tensor<f32>) -> tensor<i1>
        %r = stablehlo.select %g, %a, %c : tensor<i1>, tensor<f32>
        %s = stablehlo.select %g, %b, %d : tensor<i1>, tensor<i32>""",
    ],
)
def test_a_scatter_of_several_inputs(body: str) -> None:
    text = VARIADIC.format(body=body)
    indices = np.array([[1], [4], [1], [7], [1], [-1]], np.int32)
    arguments = (data(5), data(5, kind=np.int32), indices, data(6), data(6, kind=np.int32))
    for found, want in zip(
        lifting.lifted(text, *arguments), lifting.by_xla(text, *arguments), strict=True
    ):
        np.testing.assert_array_equal(found, want)
