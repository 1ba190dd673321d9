"""Elementwise StableHLO ops: one array in, or several of one shape, the same shape out."""

import operator
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxrt.converters.lift.evaluator import Value, rule
from jaxrt.converters.lift.module import Aval, Operation


def scalar(
    value: object, dtype: np.dtype[np.generic]
) -> np.ndarray[tuple[()], np.dtype[np.generic]]:
    """A rank-0 array of exactly `dtype`: Python numbers would be weakly typed."""
    return np.array(value, dtype)


def filled(x: Array | Aval, value: object) -> Array:
    """`value` in the shape and dtype of `x`."""
    return lax.full(x.shape, scalar(value, np.dtype(x.dtype)), x.dtype)


def is_complex(x: Array) -> bool:
    return bool(jnp.issubdtype(x.dtype, np.complexfloating))


def _same_name(name: str, function: Callable[..., Array], *attrs: str) -> None:
    @rule(f"stablehlo.{name}", *attrs)
    def direct(op: Operation, *operands: Array) -> Array:
        return function(*operands)


_DIRECT: dict[str, Callable[..., Array]] = {
    "and": lax.bitwise_and,
    "atan2": lax.atan2,
    "cbrt": lax.cbrt,
    "ceil": lax.ceil,
    "clamp": lax.clamp,
    "complex": lax.complex,
    "cosine": lax.cos,
    "count_leading_zeros": lax.clz,
    "divide": lax.div,
    "exponential": lax.exp,
    "exponential_minus_one": lax.expm1,
    "floor": lax.floor,
    "is_finite": lax.is_finite,
    "log": lax.log,
    "log_plus_one": lax.log1p,
    "logistic": lax.logistic,
    "maximum": lax.max,
    "minimum": lax.min,
    "negate": lax.neg,
    "not": lax.bitwise_not,
    "or": lax.bitwise_or,
    "popcnt": lax.population_count,
    "remainder": lax.rem,
    "rsqrt": lax.rsqrt,
    "select": lax.select,
    "shift_left": lax.shift_left,
    "shift_right_arithmetic": lax.shift_right_arithmetic,
    "shift_right_logical": lax.shift_right_logical,
    "sign": lax.sign,
    "sine": lax.sin,
    "sqrt": lax.sqrt,
    "subtract": lax.sub,
    "tan": lax.tan,
    "tanh": lax.tanh,
    "xor": lax.bitwise_xor,
}
"""lax has StableHLO's meaning: integer division truncates, a remainder has the dividend's sign,
max and min give NaN where one operand is NaN, logic on integers is bitwise."""

for _name, _function in _DIRECT.items():
    _same_name(_name, _function)


@rule("stablehlo.add")
def add(op: Operation, x: Array, y: Array) -> Array:
    return sum_of(x, y)


def sum_of(x: Array, y: Array) -> Array:
    """On booleans, addition is `or`."""
    return lax.bitwise_or(x, y) if x.dtype == np.bool_ else lax.add(x, y)


@rule("stablehlo.multiply")
def multiply(op: Operation, x: Array, y: Array) -> Array:
    return product_of(x, y)


def product_of(x: Array, y: Array) -> Array:
    """On booleans, multiplication is `and`."""
    return lax.bitwise_and(x, y) if x.dtype == np.bool_ else lax.mul(x, y)


@rule("stablehlo.abs")
def absolute(op: Operation, x: Array) -> Array:
    return x if jnp.issubdtype(x.dtype, np.unsignedinteger) else lax.abs(x)


@rule("stablehlo.power")
def power(op: Operation, x: Array, y: Array) -> Array:
    return power_of(x, y)


def power_of(x: Array, y: Array) -> Array:
    return integer_power(x, y) if jnp.issubdtype(x.dtype, np.integer) else lax.pow(x, y)


def integer_power(base: Array, exponent: Array) -> Array:
    """Integers modulo 2^bits, by squaring; lax.pow takes none.

    A negative exponent gives the truncated quotient 1 / base^|exponent|: ±1 for a base of ±1, else
    0 (also for a base of 0, as XLA has it).
    """
    zero, one = filled(base, 0), filled(base, 1)

    def unfinished(state: tuple[Array, Array, Array]) -> Array:
        return lax.reduce_or(lax.gt(state[1], zero), tuple(range(base.ndim)))

    def square(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        factor, left, result = state
        odd = lax.eq(lax.bitwise_and(left, one), one)
        result = lax.select(odd, lax.mul(result, factor), result)
        return lax.mul(factor, factor), lax.shift_right_logical(left, one), result

    _, _, result = lax.while_loop(unfinished, square, (base, exponent, one))
    if jnp.issubdtype(base.dtype, np.unsignedinteger):
        return result
    odd = lax.eq(lax.bitwise_and(exponent, one), one)
    minus_one = lax.eq(base, lax.neg(one))
    inverse = lax.select(
        minus_one,
        lax.select(odd, base, one),
        lax.select(lax.eq(base, one), one, zero),
    )
    return lax.select(lax.lt(exponent, zero), inverse, result)


@rule("stablehlo.real")
def real(op: Operation, x: Array) -> Array:
    return lax.real(x) if is_complex(x) else x


@rule("stablehlo.imag")
def imag(op: Operation, x: Array) -> Array:
    return lax.imag(x) if is_complex(x) else filled(x, 0)


@rule("stablehlo.round_nearest_afz")
def round_half_away_from_zero(op: Operation, x: Array) -> Array:
    return lax.round(x, lax.RoundingMethod.AWAY_FROM_ZERO)


@rule("stablehlo.round_nearest_even")
def round_half_to_even(op: Operation, x: Array) -> Array:
    return lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN)


@rule("stablehlo.reduce_precision", "exponent_bits", "mantissa_bits")
def reduce_precision(op: Operation, x: Array) -> Array:
    return lax.reduce_precision(x, op.attrs["exponent_bits"], op.attrs["mantissa_bits"])


@rule("stablehlo.convert")
def convert(op: Operation, x: Array) -> Value:
    return converted(x, op.aval.dtype)


def converted(x: Value, dtype: np.dtype[np.generic]) -> Value:
    """To bool: is it not zero. From complex to real: the real part."""
    if x.dtype == dtype:
        return x
    if (known := _known_as(x, dtype)) is not None:
        return known
    if dtype == np.bool_:
        return lax.ne(x, filled(x, 0))
    if is_complex(x) and not jnp.issubdtype(dtype, np.complexfloating):
        x = lax.real(x)
    return lax.convert_element_type(x, dtype)


def _known_as(x: Value, dtype: np.dtype[np.generic]) -> np.ndarray[Any, Any] | None:
    """A scalar known at trace time, where the new dtype holds it exactly; else None.

    TensorFlow writes `convert(0.0)` for the initial value of a reduction, which has its cheap form
    only if that value is known.
    """
    if not isinstance(x, np.ndarray) or x.ndim or x.dtype.kind == "c":
        return None
    with np.errstate(invalid="ignore", over="ignore"):
        cast = x.astype(dtype)
        return cast if cast.dtype.kind != "c" and cast.astype(x.dtype) == x else None


@rule("stablehlo.bitcast_convert")
def bitcast_convert(op: Operation, x: Array) -> Array:
    """Between widths, the last dimension holds the parts of the wider element, lowest first."""
    return lax.bitcast_convert_type(x, op.aval.dtype)


@rule("stablehlo.compare", "comparison_direction", "compare_type")
def compare(op: Operation, x: Array, y: Array) -> Value:
    return compared(x, y, op.attrs["comparison_direction"], op.attrs.get("compare_type", "NOTYPE"))


_PARTIAL: dict[str, Callable[[Array, Array], Array]] = {
    "EQ": lax.eq,
    "NE": lax.ne,
    "GE": lax.ge,
    "GT": lax.gt,
    "LE": lax.le,
    "LT": lax.lt,
}

_KNOWN: dict[str, Callable[[Value, Value], Value]] = {
    "EQ": operator.eq,
    "NE": operator.ne,
    "GE": operator.ge,
    "GT": operator.gt,
    "LE": operator.le,
    "LT": operator.lt,
}

_TOTAL: dict[str, Callable[[Array, Array], Array]] = {
    "EQ": lambda x, y: lax.eq_to_p.bind(x, y),
    "NE": lambda x, y: lax.bitwise_not(lax.eq_to_p.bind(x, y)),
    "GE": lambda x, y: lax.le_to_p.bind(y, x),
    "GT": lambda x, y: lax.lt_to_p.bind(y, x),
    "LE": lambda x, y: lax.le_to_p.bind(x, y),
    "LT": lambda x, y: lax.lt_to_p.bind(x, y),
}
"""IEEE-754 totalOrder: -NaN < -Inf < ... < -0 < +0 < ... < Inf < NaN."""


def compared(x: Array, y: Array, direction: str, kind: str) -> Value:
    """`direction` of EQ, NE, GE, GT, LE, LT; `kind` matters for floats only, and if TOTALORDER."""
    known = isinstance(x, np.ndarray) and isinstance(y, np.ndarray) and not x.ndim
    if known and kind != "TOTALORDER":
        # TensorFlow writes `false != false` for the initial value of a reduction of booleans.
        return np.asarray(_KNOWN[direction](x, y))
    total = kind == "TOTALORDER" and jnp.issubdtype(x.dtype, np.inexact)
    return (_TOTAL if total else _PARTIAL)[direction](x, y)
