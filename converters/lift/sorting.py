"""Sort by any comparator: the known ones by keys, the others by a network of comparisons."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxrt.converters.lift import expression, module, network
from jaxrt.converters.lift.evaluator import Scope, rule
from jaxrt.converters.lift.expression import Apply, Argument, Expression
from jaxrt.converters.lift.module import Operation

DType = np.dtype[Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    """What two elements are compared by."""

    argument: int
    """The operand it is computed from."""
    left: Expression
    """Computed from the left element; from the right one by the same function."""
    descending: bool
    total: bool
    """Floats are compared with TOTALORDER: -NaN < -inf < -0 < +0 < inf < NaN."""

    @property
    def plain(self) -> bool:
        """The operand itself, or in the form in which lax.sort compares floats anyway."""
        return self.left == Argument(2 * self.argument) or _canonical(self)

    def by_bits(self, dtype: DType) -> bool:
        """Needs an order of floats finer than lax.sort's, to which -0 is 0 and NaN is NaN."""
        return self.total and jnp.issubdtype(dtype, np.floating) and not _canonical(self)


@rule("stablehlo.sort", "dimension", "is_stable", scope=True)
def sort(op: Operation, scope: Scope, *operands: Array) -> list[Array]:
    (comparator,) = op.regions
    return sort_by(scope, comparator, operands, op.attrs.get("dimension", -1))


def sort_by(
    scope: Scope, comparator: module.Block, operands: Sequence[Array], dimension: int
) -> list[Array]:
    """Sorts operands of one shape together along `dimension`; a negative one counts from the end.

    Always stable: the tie rule of what TensorFlow lowers to unstable sorts (lower index first)
    is then kept, and the same on all devices.
    """
    dimension %= operands[0].ndim
    found = keys(comparator, scope.functions)
    if found is None:
        return network.sort(scope, comparator, operands, dimension)
    columns = [_column(key, scope, operands[key.argument]) for key in found]
    # An operand that its key gives back bit by bit is not carried along beside it.
    inverted = {key.argument: k for k, key in reversed(list(enumerate(found))) if key.plain}
    rest = [n for n in range(len(operands)) if n not in inverted]
    out = lax.sort(
        [*columns, *(operands[n] for n in rest)],
        dimension=dimension,
        is_stable=True,
        num_keys=len(columns),
    )
    results = dict(zip(rest, out[len(columns) :], strict=True))
    for n, k in inverted.items():
        results[n] = _operand(found[k], out[k], operands[n].dtype)
    return [results[n] for n in range(len(operands))]


def _column(key: Key, scope: Scope, operand: Array) -> Array:
    """The key of every element, so that ascending order is the order wanted."""
    values = operand
    if not key.plain:
        # The key is a function of the left element, the argument of an even number.
        block = expression.block(key.left, module.Aval((), operand.dtype))
        (flat,) = jax.vmap(lambda element: scope.run(block, [element]))(
            lax.reshape(operand, (operand.size,))
        )
        values = lax.reshape(flat, operand.shape)
    if key.by_bits(values.dtype):
        values = _flip(lax.bitcast_convert_type(values, _integer(values.dtype)))
    return _reversed(values) if key.descending else values


def _operand(key: Key, column: Array, dtype: DType) -> Array:
    """The operand a plain key was made of."""
    column = _reversed(column) if key.descending else column
    return lax.bitcast_convert_type(_flip(column), dtype) if key.by_bits(dtype) else column


def _reversed(values: Array) -> Array:
    """In descending order where `values` are in ascending order; its own inverse."""
    if jnp.issubdtype(values.dtype, np.inexact):
        return lax.neg(values)
    return lax.bitwise_not(values)


def _integer(dtype: DType) -> DType:
    return np.dtype(f"int{dtype.itemsize * 8}")


def _flip(bits: Array) -> Array:
    """Bits of floats → integers in their order: below zero they run backwards. Its own inverse."""
    mask = lax.full(bits.shape, np.iinfo(np.dtype(bits.dtype)).max, bits.dtype)
    below = lax.lt(bits, lax.full(bits.shape, 0, bits.dtype))
    return lax.select(below, lax.bitwise_xor(bits, mask), bits)


def keys(comparator: module.Block, functions: Mapping[str, module.Block]) -> list[Key] | None:
    """What a comparator compares by, most significant first; None where it is not made of keys."""
    results = expression.of(comparator, functions)
    return None if results is None else _lexicographic(results[0])


def _lexicographic(found: Expression) -> list[Key] | None:
    """The keys of a comparison, most significant first; None where it has another form."""
    match found:
        case Apply(name="stablehlo.compare"):
            key = _key(found)
            return None if key is None else [key]
        case Apply(name="stablehlo.select", operands=(equal, rest, first)):
            return _then(first, equal, rest) or _then(rest, _negated(equal), first)
        case Apply(name="stablehlo.or", operands=(one, other)):
            return _either(one, other) or _either(other, one)
    return None


def _either(first: Expression, both: Expression) -> list[Key] | None:
    match both:
        case Apply(name="stablehlo.and", operands=(one, other)):
            return _then(first, one, other) or _then(first, other, one)
    return None


def _then(first: Expression, equal: Expression, rest: Expression) -> list[Key] | None:
    """By `first`, and where the keys of that are `equal`, by `rest`."""
    head = _lexicographic(first)
    if head is None or (tail := _lexicographic(rest)) is None:
        return None
    wanted = {(frozenset((k.left, _swapped(k.left))), k.total) for k in head}
    found = set()
    for part in _conjuncts(equal):
        if not _compares(part, "EQ"):
            return None
        found.add((frozenset(part.operands), _total(part)))
    return [*head, *tail] if found == wanted else None


def _conjuncts(found: Expression) -> list[Apply]:
    match found:
        case Apply(name="stablehlo.and", operands=(one, other)):
            return [*_conjuncts(one), *_conjuncts(other)]
        case Apply():
            return [found]
    return []


def _negated(found: Expression) -> Expression:
    """`a != b` as `a == b`; anything else stays what it is, which is no equality."""
    if isinstance(found, Apply) and _compares(found, "NE"):
        attrs = {**found.op.attrs, "comparison_direction": "EQ"}
        op = dataclasses.replace(found.op, attrs=attrs)
        return dataclasses.replace(found, op=op)
    return found


def _compares(found: Expression, direction: str) -> bool:
    return (
        isinstance(found, Apply)
        and found.name == "stablehlo.compare"
        and found.op.attrs["comparison_direction"] == direction
    )


def _total(found: Apply) -> bool:
    return found.op.attrs.get("compare_type") == "TOTALORDER"


_DESCENDING = {"LT": False, "LE": False, "GT": True, "GE": True}


def _key(found: Apply) -> Key | None:
    """A comparison of the same function of the left and of the right element."""
    left, right = found.operands
    direction = found.op.attrs["comparison_direction"]
    numbers = expression.arguments(left)
    if direction not in _DESCENDING or _swapped(left) != right or len(numbers) != 1:
        return None
    (number,) = numbers
    # Arguments come in pairs: the left and the right element of each operand.
    flipped = number % 2 == 1
    return Key(
        argument=number // 2,
        left=right if flipped else left,
        descending=_DESCENDING[direction] != flipped,
        total=_total(found),
    )


def _swapped(found: Expression) -> Expression:
    """The same expression of the other element."""
    if isinstance(found, Argument):
        return Argument(found.number ^ 1)
    operands = tuple(_swapped(operand) for operand in found.operands)
    return dataclasses.replace(found, operands=operands)


def _canonical(key: Key) -> bool:
    """select(x != x, NaN, select(x == 0, 0, x)): what JAX compares floats by, -0 as 0."""
    match key.left:
        case Apply(
            name="stablehlo.select",
            operands=(
                Apply() as isnan,
                Apply(name="stablehlo.constant") as nan,
                Apply(
                    name="stablehlo.select",
                    operands=(Apply() as iszero, Apply(name="stablehlo.constant") as zero, x),
                ) as inner,
            ),
        ):
            return (
                x == Argument(2 * key.argument)
                and key.total
                and (_compares(isnan, "NE") and isnan.operands == (inner, inner))
                and (_compares(iszero, "EQ") and iszero.operands[0] == x)
                and _is_constant(iszero.operands[1], 0.0)
                and _is_constant(zero, 0.0)
                and _is_constant(nan, np.nan)
            )
    return False


def _is_constant(found: Expression, value: float) -> bool:
    if not isinstance(found, Apply) or found.name != "stablehlo.constant":
        return False
    held = np.asarray(found.op.attrs["value"], np.float64)
    return bool(np.array_equal(held, value, equal_nan=True) and not np.signbit(held))
