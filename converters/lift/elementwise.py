"""Elementwise StableHLO ops."""

from jax import Array, lax

from jaxrt.converters.lift.evaluator import rule
from jaxrt.converters.lift.module import Operation


@rule("stablehlo.add")
def add(op: Operation, x: Array, y: Array) -> Array:
    return lax.bitwise_or(x, y) if x.dtype == bool else lax.add(x, y)
