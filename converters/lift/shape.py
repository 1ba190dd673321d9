"""Constants, and StableHLO ops that move elements without computing on them."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxrt.converters.lift import elementwise
from jaxrt.converters.lift.evaluator import Value, rule
from jaxrt.converters.lift.module import Operation
from jaxrt.errors import ConversionError

Static = np.ndarray[tuple[int, ...], np.dtype[np.generic]]


@rule("stablehlo.constant", "value")
@rule("chlo.constant", "value")
def constant(op: Operation) -> Array | Static:
    """A splat becomes a broadcast scalar; anything else stays numpy, known at trace time."""
    array: Static = op.attrs["value"]
    raw = np.ascontiguousarray(array).reshape(-1)
    if (
        array.size > 1
        and (raw.view(np.uint8).reshape(array.size, -1) == raw[:1].view(np.uint8)).all()
    ):
        return lax.full(array.shape, raw[0], array.dtype)
    return array


@rule("stablehlo.iota", "iota_dimension")
@rule("stablehlo.dynamic_iota", "iota_dimension")
def iota(op: Operation, *shape: Array) -> Array:
    return lax.broadcasted_iota(op.aval.dtype, op.aval.shape, op.attrs["iota_dimension"])


@rule("stablehlo.reshape")
@rule("stablehlo.dynamic_reshape")
def reshape(op: Operation, x: Array, *shape: Array) -> Array:
    return x if x.shape == op.aval.shape else lax.reshape(x, op.aval.shape)


@rule("stablehlo.broadcast_in_dim", "broadcast_dimensions")
def broadcast_in_dim(op: Operation, x: Array) -> Array:
    return _broadcast(op, x)


def _broadcast(op: Operation, x: Array) -> Array:
    dimensions = op.attrs["broadcast_dimensions"]
    if x.shape == op.aval.shape and dimensions == tuple(range(x.ndim)):
        return x
    return lax.broadcast_in_dim(x, op.aval.shape, dimensions)


@rule(
    "stablehlo.dynamic_broadcast_in_dim",
    "broadcast_dimensions",
    "known_expanding_dimensions",
    "known_nonexpanding_dimensions",
)
def dynamic_broadcast_in_dim(op: Operation, x: Array, shape: Array) -> Array:
    return _broadcast(op, x)


@rule("stablehlo.broadcast", "broadcast_sizes")
def broadcast(op: Operation, x: Array) -> Array:
    """The new dimensions stand in front."""
    return lax.broadcast(x, op.attrs["broadcast_sizes"])


@rule("stablehlo.transpose", "permutation")
def transpose(op: Operation, x: Array) -> Array:
    order = op.attrs["permutation"]
    return x if order == tuple(range(x.ndim)) else lax.transpose(x, order)


@rule("stablehlo.reverse", "dimensions")
def reverse(op: Operation, x: Array) -> Array:
    return lax.rev(x, op.attrs["dimensions"])


@rule("stablehlo.concatenate", "dimension")
def concatenate(op: Operation, *parts: Array) -> Array:
    return parts[0] if len(parts) == 1 else lax.concatenate(parts, op.attrs["dimension"])


@rule("stablehlo.slice", "start_indices", "limit_indices", "strides")
def static_slice(op: Operation, x: Array) -> Array:
    return lax.slice(
        x, op.attrs["start_indices"], op.attrs["limit_indices"], op.attrs.get("strides")
    )


@rule("stablehlo.real_dynamic_slice")
def real_dynamic_slice(op: Operation, x: Array, start: Array, limit: Array, step: Array) -> Array:
    """Starts and steps are data, only the result's shape is known: each dimension is gathered."""
    for axis, size in enumerate(op.aval.shape):
        first, stride = (_element(v, axis) for v in (start, step))
        places = lax.add(first, lax.mul(lax.iota(np.int64, size), stride))
        x = _taken(x, places, axis)
    return x


def _element(vector: Array, index: int) -> Array:
    """One element of an integer vector, as an i64 scalar."""
    return lax.convert_element_type(
        lax.index_in_dim(vector, index, keepdims=False), np.dtype(np.int64)
    )


def _taken(x: Array, places: Array, axis: int) -> Array:
    """`x` at `places` along `axis`; all of them are in bounds."""
    return jnp.take(x, places, axis=axis, mode="clip")


@rule("stablehlo.pad", "edge_padding_low", "edge_padding_high", "interior_padding")
def pad(op: Operation, x: Array, value: Array) -> Array:
    """Negative edges cut; interior padding comes between elements, before the edges."""
    names = ("edge_padding_low", "edge_padding_high", "interior_padding")
    return lax.pad(x, value, list(zip(*(op.attrs[name] for name in names), strict=True)))


@rule("stablehlo.dynamic_pad")
def dynamic_pad(
    op: Operation, x: Array, value: Array, low: Array, high: Array, interior: Array
) -> Array:
    return padded(x, value, low, interior, op.aval.shape)


def padded(x: Array, value: Array, low: Array, interior: Array, shape: Sequence[int]) -> Array:
    """lax.pad where the amounts are data and the result's `shape` is not."""
    for axis, size in enumerate(shape):
        step = lax.add(_element(interior, axis), np.array(1, np.int64))
        distance = lax.sub(lax.iota(np.int64, size), _element(low, axis))
        place = lax.div(distance, lax.full_like(distance, step))
        inside = lax.bitwise_and(
            lax.eq(lax.rem(distance, lax.full_like(distance, step)), np.zeros(size, np.int64)),
            lax.bitwise_and(
                lax.ge(distance, np.zeros(size, np.int64)),
                lax.lt(place, np.full(size, x.shape[axis], np.int64)),
            ),
        )
        grown = (*x.shape[:axis], size, *x.shape[axis + 1 :])
        filler = lax.broadcast_in_dim(value, grown, ())
        if x.shape[axis] == 0:
            x = filler
            continue
        keep = lax.broadcast_in_dim(inside, grown, (axis,))
        x = lax.select(keep, _taken(x, place, axis), filler)
    return x


@rule("stablehlo.get_dimension_size", "dimension")
def get_dimension_size(op: Operation, x: Array) -> Static:
    return elementwise.scalar(x.shape[op.attrs["dimension"]], op.aval.dtype)


@rule("stablehlo.set_dimension_size", "dimension")
def set_dimension_size(op: Operation, x: Array, size: Array | Static) -> Array:
    """Only the size it has: a smaller one is a shape that depends on data."""
    have = x.shape[op.attrs["dimension"]]
    if not isinstance(size, np.ndarray) or int(size) != have:
        found = int(size) if isinstance(size, np.ndarray) else "data"
        raise ConversionError(
            f"{op.name}: dimension {op.attrs['dimension']} of size {have} set to {found}: "
            "shapes that depend on data cannot be compiled"
        )
    return x


@rule("stablehlo.tuple")
def make_tuple(op: Operation, *values: Value) -> list[Value]:
    return [tuple(values)]


@rule("stablehlo.get_tuple_element", "index")
def get_tuple_element(op: Operation, values: tuple[Value, ...]) -> list[Value]:
    return [values[op.attrs["index"]]]


@rule("stablehlo.optimization_barrier")
def optimization_barrier(op: Operation, *values: Value) -> list[Value]:
    """Tokens pass by: None is no array."""
    return list(lax.optimization_barrier(values)) if values else []


@rule("stablehlo.create_token")
@rule("stablehlo.after_all")
@rule("mhlo.add_dependency")
def token(op: Operation, *values: Value) -> list[Value]:
    """Order matters between effects only; what is left here has none."""
    return [values[0] if op.name == "mhlo.add_dependency" else None]
