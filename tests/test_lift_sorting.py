"""Sorts keep their order through the lift, whatever their comparator says."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import lifting
import ml_dtypes
import numpy as np
import pytest
from jax import lax

from jaxrt.converters.lift import module
from jaxrt.converters.lift.evaluator import lift

SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 1e-40, -1e-40, 1.0, -1.0, 2.0, 2.0]


def floats(*shape: int, kind: Any = np.float32) -> np.ndarray[Any, Any]:
    values = np.random.default_rng(2).choice(np.array(SPECIAL, np.float32), shape)
    return values.astype(kind)


def integers(*shape: int, kind: Any = np.int32) -> np.ndarray[Any, Any]:
    low = 0 if np.dtype(kind).kind in "bu" else -5
    values = np.random.default_rng(3).integers(low, 6, shape)
    return (values > 2) if kind is np.bool_ else values.astype(kind)


def places(*shape: int) -> np.ndarray[Any, Any]:
    return np.arange(np.prod(shape), dtype=np.int32).reshape(shape)


def bits(array: np.ndarray[Any, Any]) -> list[bytes]:
    """Bit patterns: tells -0 from 0 and one NaN from another."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return [flat[i : i + 1].tobytes() for i in range(flat.size)]


SORTS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    **{
        f"one operand of {np.dtype(kind)}": (lambda x: lax.sort(x), (integers(3, 9, kind=kind),))
        for kind in (np.bool_, np.int8, np.uint8, np.int64, np.uint32, np.complex64)
    },
    **{
        f"one operand of {np.dtype(kind)} with NaN": (
            lambda x: lax.sort(x),
            (floats(40, kind=kind),),
        )
        for kind in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)
    },
    "first dimension": (lambda x: lax.sort(x, dimension=0), (integers(9, 3),)),
    "two keys of three": (
        lambda x, y, z: lax.sort((x, y, z), num_keys=2),
        (integers(3, 30), floats(3, 30), places(3, 30)),
    ),
    "three keys": (
        lambda x, y, z: lax.sort((x, y, z), num_keys=3),
        (integers(40, kind=np.bool_), integers(40, kind=np.uint8), floats(40)),
    ),
    "complex key, payload": (
        lambda x, y: lax.sort((x, y), num_keys=1),
        (integers(20, kind=np.complex64) + np.complex64(1j) * integers(20), places(20)),
    ),
    "argsort": (lambda x: jnp.argsort(x, stable=True), (floats(5, 20),)),
    "argsort, descending": (lambda x: jnp.argsort(x, descending=True), (floats(5, 20),)),
    "top k": (lambda x: lax.top_k(x, 3), (integers(4, 9, kind=np.float32),)),
    "largest, approximately": (
        lambda x: lax.approx_max_k(x, 3),
        (integers(4, 9, kind=np.float32),),
    ),
    "smallest, approximately, first dimension": (
        lambda x: lax.approx_min_k(x, 3, reduction_dimension=0),
        (integers(9, 4, kind=np.float32),),
    ),
    "median": (lambda x: jnp.median(x, axis=1), (integers(4, 9, kind=np.float32),)),
    "searchsorted by sort": (
        lambda x, y: jnp.searchsorted(x, y, method="sort"),
        (np.sort(integers(20)), integers(7)),
    ),
}


@pytest.mark.parametrize("name", SORTS)
def test_a_sort_orders_as_jax_orders(name: str) -> None:
    function, arguments = SORTS[name]
    with jax.enable_x64(True):
        text = jax.jit(function).lower(*arguments).as_text()
        wanted = jax.tree.leaves(jax.jit(function)(*arguments))
    for found, want in zip(lifting.lifted(text, *arguments), wanted, strict=True):
        assert bits(found) == bits(np.asarray(want))


PAIR = """func.func @main(%x: tensor<{n}x{t}>, %i: tensor<{n}xi32>)
    -> (tensor<{n}x{t}>, tensor<{n}xi32>) {{
  %0:2 = "stablehlo.sort"(%x, %i) <{{dimension = 0 : i64, is_stable = true}}> ({{
    ^bb0(%a: tensor<{t}>, %b: tensor<{t}>, %c: tensor<i32>, %d: tensor<i32>):
      {body}
      stablehlo.return %r : tensor<i1>
  }}) : (tensor<{n}x{t}>, tensor<{n}xi32>) -> (tensor<{n}x{t}>, tensor<{n}xi32>)
  return %0#0, %0#1 : tensor<{n}x{t}>, tensor<{n}xi32>
}}"""


def compare(direction: str, left: str, right: str, of: str, kind: str = "") -> str:
    kind = f", {kind}" if kind else ""
    return (
        f"stablehlo.compare {direction}, {left}, {right}{kind} : "
        f"(tensor<{of}>, tensor<{of}>) -> tensor<i1>\n"
    )


def magnitude(direction: str) -> str:
    return (
        "%p = stablehlo.abs %a : tensor<i32>\n%q = stablehlo.abs %b : tensor<i32>\n%r = "
        + compare(direction, "%p", "%q", "i32")
    )


BY_KEYS = {
    "total order": ("f32", "%r = " + compare("LT", "%a", "%b", "f32", "TOTALORDER")),
    "total order, descending": ("f32", "%r = " + compare("GT", "%a", "%b", "f32", "TOTALORDER")),
    "total order, turned round": ("f32", "%r = " + compare("GT", "%b", "%a", "f32", "TOTALORDER")),
    "total order of halves": ("f16", "%r = " + compare("GT", "%a", "%b", "f16", "TOTALORDER")),
    "integers, descending": ("i32", "%r = " + compare("GT", "%a", "%b", "i32", "SIGNED")),
    "unsigned, descending": ("ui8", "%r = " + compare("GT", "%a", "%b", "ui8", "UNSIGNED")),
    "i1, descending": ("i1", "%r = " + compare("GT", "%a", "%b", "i1", "UNSIGNED")),
    "by a function": ("i32", magnitude("LT")),
    "by a function, descending": ("i32", magnitude("GT")),
    "by bits of the floats": (
        "f32",
        """%z = stablehlo.constant dense<0> : tensor<i32>
        %m = stablehlo.constant dense<2147483647> : tensor<i32>
        %p = stablehlo.bitcast_convert %a : (tensor<f32>) -> tensor<i32>
        %pn = stablehlo.xor %p, %m : tensor<i32>
        %pl = """
        + compare("LT", "%p", "%z", "i32")
        + """%ps = stablehlo.select %pl, %pn, %p : tensor<i1>, tensor<i32>
        %q = stablehlo.bitcast_convert %b : (tensor<f32>) -> tensor<i32>
        %qn = stablehlo.xor %q, %m : tensor<i32>
        %ql = """
        + compare("LT", "%q", "%z", "i32")
        + "%qs = stablehlo.select %ql, %qn, %q : tensor<i1>, tensor<i32>\n%r = "
        + compare("GT", "%ps", "%qs", "i32"),
    ),
    "second operand decides": ("f32", "%r = " + compare("GT", "%c", "%d", "i32")),
    "first, then second descending, by select": (
        "i32",
        f"%l = {compare('LT', '%a', '%b', 'i32')}%e = {compare('EQ', '%a', '%b', 'i32')}"
        f"%g = {compare('GT', '%c', '%d', 'i32')}"
        "%r = stablehlo.select %e, %g, %l : tensor<i1>, tensor<i1>",
    ),
    "first, then second descending, by select of unequal": (
        "i32",
        f"%l = {compare('LT', '%a', '%b', 'i32')}%e = {compare('NE', '%a', '%b', 'i32')}"
        f"%g = {compare('GT', '%c', '%d', 'i32')}"
        "%r = stablehlo.select %e, %l, %g : tensor<i1>, tensor<i1>",
    ),
    "first descending, then second, by or": (
        "i32",
        f"%l = {compare('GT', '%a', '%b', 'i32')}%e = {compare('EQ', '%b', '%a', 'i32')}"
        f"%g = {compare('LT', '%c', '%d', 'i32')}%f = stablehlo.and %g, %e : tensor<i1>\n"
        "%r = stablehlo.or %f, %l : tensor<i1>",
    ),
}

BY_QUESTIONS = {
    "the sum decides": (
        "i32",
        "%p = stablehlo.add %a, %c : tensor<i32>\n%q = stablehlo.add %b, %d : tensor<i32>\n%r = "
        + compare("LT", "%p", "%q", "i32"),
    ),
    "NaN last, whatever way": (
        "f32",
        f"%n = {compare('NE', '%b', '%b', 'f32', 'FLOAT')}"
        f"%m = {compare('EQ', '%a', '%a', 'f32', 'FLOAT')}"
        f"%l = {compare('GT', '%a', '%b', 'f32', 'FLOAT')}"
        "%o = stablehlo.and %n, %m : tensor<i1>\n%r = stablehlo.or %o, %l : tensor<i1>",
    ),
}


def arguments_for(kind: str, size: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    kinds = {"i32": np.int32, "ui8": np.uint8, "i1": np.bool_, "f16": np.float16}
    values = floats(size, kind=kinds.get(kind, np.float32)) if kind[0] == "f" else None
    if values is None:
        values = integers(size, kind=kinds[kind])
    return values, np.random.default_rng(4).permutation(size).astype(np.int32)


@pytest.mark.parametrize("size", [1, 2, 7, 33])
@pytest.mark.parametrize("name", [*BY_KEYS, *BY_QUESTIONS])
def test_every_comparator_orders_as_xla_orders(name: str, size: int) -> None:
    kind, body = (BY_KEYS | BY_QUESTIONS)[name]
    text = PAIR.format(t=kind, n=size, body=body)
    arguments = arguments_for(kind, size)
    for found, want in zip(
        lifting.lifted(text, *arguments), lifting.by_xla(text, *arguments), strict=True
    ):
        assert bits(found) == bits(want)


@pytest.mark.parametrize("name", BY_KEYS)
def test_a_known_comparator_becomes_one_sort_of_no_more_operands_than_keys_need(name: str) -> None:
    kind, body = BY_KEYS[name]
    text = PAIR.format(t=kind, n=8, body=body)
    found = lift(text, signature="s", inputs=["x", "i"], weights=[], outputs=["y", "j"])
    sorts = [e for e in found.program.jaxpr.jaxpr.eqns if e.primitive.name == "sort"]
    assert len(sorts) == 1
    by_function = "function" in name or "bits" in name
    assert len(sorts[0].invars) == (3 if by_function else 2)


@pytest.mark.parametrize("dimension", [0, 1, -1])
def test_a_general_comparator_sorts_along_any_dimension(dimension: int) -> None:
    kind, body = BY_QUESTIONS["the sum decides"]
    text = PAIR.format(t=kind, n="5x11", body=body)
    text = text.replace("dimension = 0", f"dimension = {dimension}")
    arguments = (integers(5, 11), integers(5, 11)[::-1].copy())
    for found, want in zip(
        lifting.lifted(text, *arguments), lifting.by_xla(text, *arguments), strict=True
    ):
        np.testing.assert_array_equal(found, want)


def test_equal_elements_stay_in_order_even_where_the_module_does_not_ask() -> None:
    text = PAIR.format(t="i32", n=64, body="%r = " + compare("LT", "%a", "%b", "i32"))
    text = text.replace("is_stable = true", "is_stable = false")
    values = np.tile(np.array([1, 0], np.int32), 32)
    _, order = lifting.lifted(text, values, places(64))
    np.testing.assert_array_equal(order, [*range(1, 64, 2), *range(0, 64, 2)])


def test_the_comparator_may_be_a_function_of_the_module() -> None:
    body = "%r = func.call @less(%a, %b) : (tensor<i32>, tensor<i32>) -> tensor<i1>"
    text = (
        PAIR.format(t="i32", n=9, body=body)
        + """
    func.func private @less(%a: tensor<i32>, %b: tensor<i32>) -> tensor<i1> {
      %0 = stablehlo.compare LT, %a, %b : (tensor<i32>, tensor<i32>) -> tensor<i1>
      return %0 : tensor<i1>
    }"""
    )
    assert len(module.read(text).functions) == 2
    found, _ = lifting.lifted(text, integers(9), places(9))
    np.testing.assert_array_equal(found, np.sort(integers(9)))


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        ('@TopK(%x) {backend_config = ""}', [[5, 4, 4], [2, 0, 3]]),
        (
            "@mhlo.topk(%x) {mhlo.attributes = {k = 3 : i64, largest = true}, "
            "mhlo.version = 1 : i64}",
            [[5, 4, 4], [2, 0, 3]],
        ),
        (
            "@mhlo.topk(%x) {mhlo.attributes = {k = 3 : i64, largest = false}}",
            [[1, 4, 4], [1, 0, 3]],
        ),
    ],
)
def test_top_k_as_a_custom_call(call: str, wanted: list[list[int]]) -> None:
    text = f"""func.func @main(%x: tensor<4xf32>) -> (tensor<3xf32>, tensor<3xi32>) {{
      %0:2 = stablehlo.custom_call {call}
        : (tensor<4xf32>) -> (tensor<3xf32>, tensor<3xi32>)
      return %0#0, %0#1 : tensor<3xf32>, tensor<3xi32>
    }}"""
    found = lifting.lifted(text, np.array([4, 1, 5, 4], np.float32))
    np.testing.assert_array_equal(found, wanted)
