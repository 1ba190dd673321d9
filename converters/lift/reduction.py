"""Reductions over dimensions, maps of scalar functions, batch normalization."""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax import Array, lax

from jaxrt.converters.lift import elementwise
from jaxrt.converters.lift.evaluator import Scope, Value, rule
from jaxrt.converters.lift.module import Aval, Block, Operation

_MONOIDS = {
    f"stablehlo.{name}": name
    for name in ("add", "multiply", "maximum", "minimum", "and", "or", "xor")
}


def monoid(block: Block, functions: Mapping[str, Block]) -> str | None:
    """`add` of a body that adds its two arguments and does nothing else; None for another body."""
    if len(block.operations) != 1 or len(block.arguments) != 2:
        return None
    (op,) = block.operations
    if block.returns != op.results or sorted(op.operands) != sorted(block.arguments):
        return None
    if op.name == "func.call":
        return monoid(functions[op.attrs["callee"]], functions)
    return _canonical(_MONOIDS.get(op.name), op.aval.dtype)


def _canonical(name: str | None, dtype: np.dtype[np.generic]) -> str | None:
    """On booleans there is only logic; complex numbers have no order a machine reduces by."""
    if dtype == np.bool_ and name is not None:
        return {"add": "or", "maximum": "or", "multiply": "and", "minimum": "and"}.get(name, name)
    if jnp.issubdtype(dtype, np.complexfloating) and name in ("maximum", "minimum"):
        return None
    return name


def identity(name: str, dtype: np.dtype[np.generic]) -> np.ndarray[tuple[()], np.dtype[np.generic]]:
    """The value that changes nothing when reduced with."""
    if name in ("maximum", "minimum"):
        low, high = _bounds(dtype)
        return elementwise.scalar(low if name == "maximum" else high, dtype)
    if name == "and":
        return elementwise.scalar(True if dtype == np.bool_ else _all_ones(dtype), dtype)
    return elementwise.scalar(1 if name == "multiply" else 0, dtype)


def _bounds(dtype: np.dtype[np.generic]) -> tuple[float, float]:
    if jnp.issubdtype(dtype, np.integer):
        integers = ml_dtypes.iinfo(dtype)  # type: ignore[no-untyped-call]
        return integers.min, integers.max
    info = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    infinite = bool(np.isinf(np.array(np.inf, np.float32).astype(dtype).astype(np.float32)))
    return (-np.inf, np.inf) if infinite else (float(info.min), float(info.max))


def _all_ones(dtype: np.dtype[np.generic]) -> int:
    return -1 if jnp.issubdtype(dtype, np.signedinteger) else int(ml_dtypes.iinfo(dtype).max)  # type: ignore[no-untyped-call]


_REDUCERS: dict[str, Callable[[Array, Sequence[int]], Array]] = {
    "add": lax.reduce_sum,
    "multiply": lax.reduce_prod,
    "maximum": lax.reduce_max,
    "minimum": lax.reduce_min,
    "and": lax.reduce_and,
    "or": lax.reduce_or,
    "xor": lax.reduce_xor,
}

_COMBINERS: dict[str, Callable[[Array, Array], Array]] = {
    "add": lax.add,
    "multiply": lax.mul,
    "maximum": lax.max,
    "minimum": lax.min,
    "and": lax.bitwise_and,
    "or": lax.bitwise_or,
    "xor": lax.bitwise_xor,
}


def is_identity(name: str, init: Value) -> bool:
    """Is `init` known at trace time, and the identity of the monoid?"""
    if not isinstance(init, np.ndarray):
        return False
    if name == "add":
        return bool(init == 0)  # -0 too.
    return init.tobytes() == identity(name, init.dtype).tobytes()


@rule("stablehlo.reduce", "dimensions", scope=True)
def reduce(op: Operation, scope: Scope, *operands: Array) -> list[Array]:
    """Inputs, then as many initial values; the body's dtype may be wider than the inputs'."""
    (body,) = op.regions
    xs, inits = as_arguments(body, operands)
    dimensions = tuple(op.attrs["dimensions"])
    if (name := monoid(body, scope.functions)) is not None:
        out = _REDUCERS[name](xs[0], dimensions)
        if is_identity(name, inits[0]):
            return [out]
        first = lax.broadcast_in_dim(inits[0], out.shape, ())
        return [_COMBINERS[name](first, out)]
    return list(lax.reduce(tuple(xs), tuple(inits), pairwise(scope, body), dimensions))


def as_arguments(body: Block, operands: Sequence[Value]) -> tuple[list[Value], list[Value]]:
    """Splits inputs from initial values, each in the dtype of the body's argument."""
    half = len(operands) // 2
    wanted = [t.dtype for t in body.types if isinstance(t, Aval)]
    cast = [elementwise.converted(x, dtype) for x, dtype in zip(operands, wanted, strict=True)]
    return cast[:half], cast[half:]


Pairwise = Callable[[tuple[Array, ...], tuple[Array, ...]], tuple[Array, ...]]


def pairwise(scope: Scope, body: Block) -> Pairwise:
    """A reducer's body as the function of two tuples that lax.reduce wants."""

    def combine(left: tuple[Array, ...], right: tuple[Array, ...]) -> tuple[Array, ...]:
        return tuple(scope.run(body, [*left, *right]))

    return combine


@rule("stablehlo.map", "dimensions", scope=True)
def map_scalars(op: Operation, scope: Scope, *operands: Array) -> Array:
    """The body takes and gives scalars; `dimensions` are all of them, in order."""
    (body,) = op.regions

    def one(*scalars: Array) -> Array:
        (out,) = scope.run(body, scalars)
        return jnp.asarray(out)

    function: Callable[..., Array] = one
    for _ in op.aval.shape:
        function = jax.vmap(function)
    return function(*operands)


def _per_feature(x: Array, like: Array, axis: int) -> Array:
    """[features] -> the shape of `like`."""
    return lax.broadcast_in_dim(x, like.shape, (axis,))


def _others(x: Array, axis: int) -> tuple[int, ...]:
    return tuple(d for d in range(x.ndim) if d != axis)


def _mean(x: Array, axis: int) -> Array:
    """Over all dimensions but `axis`."""
    total = lax.reduce_sum(x, _others(x, axis))
    return lax.div(total, elementwise.filled(total, x.size // x.shape[axis]))


def _scaled_rsqrt(scale: Array, variance: Array, epsilon: float) -> Array:
    return lax.mul(scale, lax.rsqrt(lax.add(variance, elementwise.filled(variance, epsilon))))


@rule("stablehlo.batch_norm_inference", "epsilon", "feature_index")
def batch_norm_inference(
    op: Operation, x: Array, scale: Array, offset: Array, mean: Array, variance: Array
) -> Array:
    return _normalized(op, x, scale, offset, mean, variance)


def _normalized(
    op: Operation, x: Array, scale: Array, offset: Array, mean: Array, variance: Array
) -> Array:
    axis = op.attrs["feature_index"]
    factor = _per_feature(_scaled_rsqrt(scale, variance, op.attrs["epsilon"]), x, axis)
    centered = lax.sub(x, _per_feature(mean, x, axis))
    return lax.add(lax.mul(centered, factor), _per_feature(offset, x, axis))


@rule("stablehlo.batch_norm_training", "epsilon", "feature_index")
def batch_norm_training(op: Operation, x: Array, scale: Array, offset: Array) -> list[Array]:
    """Output, and the mean and biased variance of the batch."""
    axis = op.attrs["feature_index"]
    mean = _mean(x, axis)
    centered = lax.sub(x, _per_feature(mean, x, axis))
    variance = _mean(lax.mul(centered, centered), axis)
    return [_normalized(op, x, scale, offset, mean, variance), mean, variance]


@rule("stablehlo.batch_norm_grad", "epsilon", "feature_index")
def batch_norm_grad(
    op: Operation, x: Array, scale: Array, mean: Array, variance: Array, grad: Array
) -> list[Array]:
    """Gradients of batch_norm_training by operand, scale and offset."""
    axis = op.attrs["feature_index"]
    epsilon = elementwise.filled(variance, op.attrs["epsilon"])
    inverse = lax.rsqrt(lax.add(variance, epsilon))
    centered = lax.sub(x, _per_feature(mean, x, axis))
    unit = lax.mul(centered, _per_feature(inverse, x, axis))
    by_scale = lax.reduce_sum(lax.mul(grad, unit), _others(x, axis))
    by_offset = lax.reduce_sum(grad, _others(x, axis))
    count = elementwise.filled(by_offset, x.size // x.shape[axis])
    explained = lax.add(
        _per_feature(lax.div(by_offset, count), x, axis),
        lax.mul(unit, _per_feature(lax.div(by_scale, count), x, axis)),
    )
    by_operand = lax.mul(lax.sub(grad, explained), _per_feature(lax.mul(scale, inverse), x, axis))
    return [by_operand, by_scale, by_offset]
