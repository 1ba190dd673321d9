"""CHLO ops: what JAX emits beside StableHLO. XLA's translator writes some of them as `mhlo.*`."""

from collections.abc import Callable, Sequence

import numpy as np
from jax import Array, lax

from jaxrt.converters.lift import elementwise
from jaxrt.converters.lift.evaluator import Value, rule
from jaxrt.converters.lift.module import Operation

_Function = Callable[..., Array]


def conj(x: Array) -> Array:
    return lax.conj(x) if elementwise.is_complex(x) else x


def is_inf(x: Array) -> Array:
    return lax.eq(lax.abs(x), elementwise.filled(x, np.inf))


def is_pos_inf(x: Array) -> Array:
    return lax.eq(x, elementwise.filled(x, np.inf))


def is_neg_inf(x: Array) -> Array:
    return lax.eq(x, elementwise.filled(x, -np.inf))


DIRECT: dict[str, _Function] = {
    "acos": lax.acos,
    "acosh": lax.acosh,
    "asin": lax.asin,
    "asinh": lax.asinh,
    "atan": lax.atan,
    "atanh": lax.atanh,
    "bessel_i1e": lax.bessel_i1e,
    "conj": conj,
    "cosh": lax.cosh,
    "digamma": lax.digamma,
    "erf": lax.erf,
    "erf_inv": lax.erf_inv,
    "erfc": lax.erfc,
    "is_inf": is_inf,
    "is_neg_inf": is_neg_inf,
    "is_pos_inf": is_pos_inf,
    "lgamma": lax.lgamma,
    "mulhi": lax.mulhi,
    "next_after": lax.nextafter,
    "polygamma": lax.polygamma,
    "sinh": lax.sinh,
    "square": lax.square,
    "tan": lax.tan,
    "zeta": lax.zeta,
}
"""Name without its dialect → a function of the operands; a custom call may carry the name too."""


def _register(name: str, function: _Function) -> None:
    def direct(op: Operation, *operands: Array) -> Array:
        return function(*operands)

    rule(f"chlo.{name}")(direct)
    rule(f"mhlo.{name}")(direct)


for _name, _function in DIRECT.items():
    _register(_name, _function)


@rule("mhlo.exp2")
def exp2(op: Operation, x: Array) -> Array:
    return lax.exp2(x)


@rule("mhlo.log2")
def log2(op: Operation, x: Array) -> Array:
    # lax.log2 is younger than the oldest jax we run on.
    return lax.div(lax.log(x), elementwise.filled(x, np.log(2)))


@rule("mhlo.copy")
def copy(op: Operation, x: Array) -> Array:
    return x


@rule("chlo.constant_like", "value")
def constant_like(op: Operation, x: Array) -> Array:
    return lax.full(op.aval.shape, elementwise.scalar(op.attrs["value"], op.aval.dtype))


@rule("chlo.top_k", "k", "is_stable")
def top_k(op: Operation, x: Array) -> list[Array]:
    return largest(x, op.attrs["k"])


@rule("mhlo.topk", "k", "largest")
def mhlo_topk(op: Operation, x: Array) -> list[Array]:
    take = largest if op.attrs.get("largest", True) else smallest
    return take(x, op.attrs["k"])


def largest(x: Array, k: int) -> list[Array]:
    """[..., n] -> values [..., k] in descending order and their int32 indices."""
    return list(lax.top_k(x, k))


def smallest(x: Array, k: int) -> list[Array]:
    """[..., n] -> values [..., k] in ascending order and their int32 indices."""
    last = x.ndim - 1
    places = lax.broadcasted_iota(np.int32, x.shape, last)
    both = lax.sort((x, places), dimension=last, is_stable=True, num_keys=1)
    return [lax.slice_in_dim(part, 0, k, axis=last) for part in both]


_BROADCAST: dict[str, _Function] = {
    "add": elementwise.sum_of,
    "and": lax.bitwise_and,
    "atan2": lax.atan2,
    "complex": lax.complex,
    "divide": lax.div,
    "maximum": lax.max,
    "minimum": lax.min,
    "multiply": elementwise.product_of,
    "next_after": lax.nextafter,
    "or": lax.bitwise_or,
    "polygamma": lax.polygamma,
    "power": elementwise.power_of,
    "remainder": lax.rem,
    "shift_left": lax.shift_left,
    "shift_right_arithmetic": lax.shift_right_arithmetic,
    "shift_right_logical": lax.shift_right_logical,
    "subtract": lax.sub,
    "xor": lax.bitwise_xor,
    "zeta": lax.zeta,
}


def _register_broadcast(name: str, function: _Function) -> None:
    @rule(f"chlo.broadcast_{name}", "broadcast_dimensions")
    def broadcast(op: Operation, x: Array, y: Array) -> Array:
        return function(*_aligned(op, x, y))


for _name, _function in _BROADCAST.items():
    _register_broadcast(_name, _function)


def _aligned(op: Operation, x: Array, y: Array) -> tuple[Array, Array]:
    """Both operands in the result's shape.

    `broadcast_dimensions` places the operand of lower rank; without it the last dimensions match.
    """
    shape = op.aval.shape
    dims = op.attrs.get("broadcast_dimensions")
    smaller = dims if x.ndim != y.ndim else None
    return (
        expanded(x, shape, smaller if x.ndim < y.ndim else None),
        expanded(y, shape, smaller if y.ndim < x.ndim else None),
    )


def expanded(x: Array, shape: tuple[int, ...], dims: Sequence[int] | None = None) -> Array:
    """Broadcasts `x`, its dimensions placed at `dims`, or at the end of `shape`."""
    if dims is None:
        dims = range(len(shape) - x.ndim, len(shape))
    return lax.broadcast_in_dim(x, shape, tuple(dims))


@rule("chlo.broadcast_compare", "broadcast_dimensions", "comparison_direction", "compare_type")
def broadcast_compare(op: Operation, x: Array, y: Array) -> Value:
    # CHLO's own enums are unknown to jaxlib and arrive as text: `#chlo<comparison_direction EQ>`.
    direction, kind = (
        str(op.attrs.get(name, "NOTYPE")).removesuffix(">").split()[-1]
        for name in ("comparison_direction", "compare_type")
    )
    return elementwise.compared(*_aligned(op, x, y), direction, kind)


@rule("chlo.broadcast_select")
def broadcast_select(op: Operation, which: Array, on_true: Array, on_false: Array) -> Array:
    return lax.select(*(expanded(x, op.aval.shape) for x in (which, on_true, on_false)))
