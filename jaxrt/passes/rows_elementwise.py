"""Row rules of elementwise primitives, with the arithmetic of constants and of row numbers."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxrt.passes import layout
from jaxrt.passes.jaxprs import RANDOM
from jaxrt.passes.layout import Mix, Scalar, Tag, Value
from jaxrt.passes.rows_walk import Site, rule, sees_mixed

_NAMES = """
abs acos acosh add_any asin asinh atan atan2 atanh bessel_i0e bessel_i1e bessel_i1
bessel_i0 cbrt ceil clz complex conj cos cosh digamma div erf erf_inv erfc exp exp2 expm1
floor igamma igamma_grad_a igammac imag integer_pow is_finite lgamma log log1p log2
logistic neg nextafter not one_minus_square polygamma polynomial population_count pow real
reduce_precision regularized_incomplete_beta rem round rsqrt mulhi shift_left
shift_right_arithmetic shift_right_logical sign sin sinh sqrt square stop_gradient tan
tanh xor zeta eq_to le_to lt_to
"""
PLAIN = frozenset(_NAMES.split())


@rule(*PLAIN)
def elementwise(site: Site, *values: Value) -> Value:
    return Value(axes=layout.combine(values, len(site.shape)))


FOLDS: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "max": np.maximum,
    "min": np.minimum,
    "and": operator.and_,
    "or": operator.or_,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "eq": operator.eq,
    "ne": operator.ne,
}


@rule(*FOLDS)
def folded(site: Site, x: Value, y: Value) -> Value:
    axes = layout.combine([x, y], len(site.shape))
    const = _fold(site, x, y)
    if const is not None:
        return Value(axes=axes, const=const)
    return _absorbed(site, x, y) or _counted(site, x, y) or Value(axes=axes)


def _fold(site: Site, x: Value, y: Value) -> Scalar | None:
    """The constant that the operation makes of two, for integers and booleans only."""
    dtype = np.dtype(site.eqn.invars[0].aval.dtype)
    if x.const is None or y.const is None or dtype.kind not in "biu":
        return None
    with np.errstate(over="ignore"):
        out = FOLDS[site.eqn.primitive.name](dtype.type(x.const), dtype.type(y.const))
    found: Scalar = np.asarray(out).astype(site.dtype).item()
    return found


def _absorbed(site: Site, x: Value, y: Value) -> Value | None:
    """`and`, `or` of booleans with a known side."""
    name = site.eqn.primitive.name
    if name not in ("and", "or") or site.dtype != np.bool_:
        return None
    for known, other in ((x, y), (y, x)):
        if known.const is not None and len(other.axes) == len(site.shape):
            neutral = bool(known.const) == (name == "and")
            return (
                layout.fit(other, site.shape) if neutral else layout.splat(site.shape, name == "or")
            )
    return None


def _counted(site: Site, x: Value, y: Value) -> Value | None:
    """A counting value against a constant: shifted, scaled, compared or clipped."""
    name = site.eqn.primitive.name
    if (counter := _counter(x)) and isinstance(y.const, int):
        right, c = True, int(y.const)
    elif (counter := _counter(y)) and isinstance(x.const, int):
        right, c = False, int(x.const)
    else:
        return None
    value = x if right else y
    if len(value.axes) != len(site.shape):
        return None
    value = layout.fit(value, site.shape)
    scale, offset, last = counter
    if name in ("add", "sub", "mul"):
        affine = _shifted(name, scale, offset, c, right)
        return _counting(value, affine, last, site.dtype)
    ends = [offset, offset + scale * last]
    if name in ("max", "min"):
        picked = [FOLDS[name](e, c) for e in ends]
        return value if picked == ends else None
    if name in ("lt", "le", "gt", "ge"):
        found = {bool(FOLDS[name](e, c) if right else FOLDS[name](c, e)) for e in ends}
        return layout.splat(site.shape, found.pop()) if len(found) == 1 else None
    return None


def _counter(value: Value) -> tuple[int, int, int] | None:
    """(scale, offset, last position) of a counting value."""
    counts = value.counts
    return (*value.affine, counts[1].size - 1) if counts else None


def _shifted(name: str, scale: int, offset: int, c: int, right: bool) -> tuple[int, int]:
    if name == "mul":
        return scale * c, offset * c
    if name == "add":
        return scale, offset + c
    return (scale, offset - c) if right else (-scale, c - offset)


def _counting(
    value: Value, affine: tuple[int, int], last: int, dtype: np.dtype[Any]
) -> Value | None:
    """`value` with another affine, if no element leaves the range of its integer dtype."""
    if dtype.kind not in "iu":
        return None
    limits = np.iinfo(dtype)
    ends = (affine[1], affine[1] + affine[0] * last)
    if not all(limits.min <= e <= limits.max for e in ends):
        return None
    return Value(axes=value.axes, affine=affine)


@rule("convert_element_type")
@sees_mixed
def convert(site: Site, x: Value) -> Value:
    if x.parts:
        axis, pieces = x.parts
        parts = (axis, tuple(_converted(site, p) for p in pieces))
        return Value(axes=x.axes, mixed=x.mixed, parts=parts)
    return x if x.mixed else _converted(site, x)


def _converted(site: Site, x: Value) -> Value:
    axes = tuple(layout.settle(axis) for axis in x.axes)
    source = np.dtype(site.eqn.invars[0].aval.dtype)
    if x.mixed or source.kind not in "biu" or site.dtype.kind not in "biu":
        return x if x.mixed else Value(axes=axes)
    if x.const is not None:
        const = np.asarray(x.const, source).astype(site.dtype).item()
        return Value(axes=axes, const=const)
    if counter := _counter(x):
        return _counting(x, x.affine, counter[2], site.dtype) or Value(axes=axes)
    return Value(axes=axes)


@rule("copy", "copy_p", "name", "optimization_barrier", "device_put", "sharding_constraint")
@sees_mixed
def passed_on(site: Site, *values: Value) -> Sequence[Value]:
    return values


@rule("select_n")
@sees_mixed
def select(site: Site, which: Value, *cases: Value) -> Value:
    full = len(which.axes) == len(site.shape)
    if which.const is not None and (full or which.axes == ()):
        picked = cases[int(which.const)]
        return picked if picked.mixed else layout.fit(picked, site.shape)
    for value in (which, *cases):
        if value.mixed:
            return Value(mixed=value.mixed)
    axes = layout.combine([which, *cases], len(site.shape))
    equal = cases[0].const is not None and all(c.const == cases[0].const for c in cases)
    return Value(axes=axes, const=cases[0].const if equal else None)


@rule("clamp")
def clamp(site: Site, low: Value, x: Value, high: Value) -> Value:
    if _inside(low, x, high):
        return layout.fit(x, site.shape)
    axes = layout.combine([low, x, high], len(site.shape))
    if low.const is None or x.const is None or high.const is None or site.dtype.kind not in "iu":
        return Value(axes=axes)
    return Value(axes=axes, const=min(max(x.const, low.const), high.const))


def _inside(low: Value, x: Value, high: Value) -> bool:
    counter = _counter(x)
    if counter is None or not isinstance(low.const, int) or not isinstance(high.const, int):
        return False
    scale, offset, last = counter
    ends = (offset, offset + scale * last)
    return all(low.const <= e <= high.const for e in ends)


@rule("iota")
def iota(site: Site) -> Value:
    at = site.params["dimension"]
    if site.shape[at] == 1:
        return layout.splat(site.shape, 0)
    axes = [layout.same(n) for n in site.shape]
    axes[at] = (layout.Factor(site.shape[at], Tag.COUNTS),)
    plain = Value(axes=tuple(layout.settle(a) for a in axes))
    counting = _counting(Value(axes=tuple(axes)), (1, 0), site.shape[at] - 1, site.dtype)
    return counting or plain


@rule("rng_uniform")
def fresh_noise(site: Site, low: Value, high: Value) -> Value:
    """Drawn anew each run, each number by itself: no row's noise says anything of another's.

    TensorFlow seeds such an op per run, so a row alone and in a batch differ as two runs do.
    """
    if low.rows_axis is not None or high.rows_axis is not None:
        raise Mix("draws between bounds that depend on the rows")
    return Value(axes=tuple(layout.same(n) for n in site.shape))


@rule(*sorted(RANDOM - {"rng_uniform"}))
@sees_mixed
def random(site: Site, *values: Value) -> Value:
    raise Mix("is random: one seeded stream of numbers feeds all rows")
