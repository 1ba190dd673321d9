"""One row times a large matrix of few bits on a CPU: a loop that widens what it has just read.

XLA:CPU writes a matrix that is widened before a product to memory, 64 MiB for one of 4096 squared.
Sums along memory it computes in one loop with what goes into them: with [n, k] that takes 0.6 to
0.7 of the time that a float product takes, from 16 MiB of floats that are in no cache.
"""

import math
from typing import Any

import jax.numpy as jnp
from jax import lax

from jaxrt.compression.layers import DOT, Layer, Use
from jaxrt.compression.quantize import Form, rows
from jaxrt.compression.schemes import Scheme
from jaxrt.target import Target

SMALLEST = 1 << 20
"""Elements of a matrix."""


def is_turned(layer: Layer, form: Form, target: Target) -> bool:
    """Whether a matrix is held as [n, k]: for all numbers of rows, so that it is held once."""
    return (
        target.platform == "cpu"
        and form.scheme in (Scheme.INT8, Scheme.W8A8)
        and layer.kind == DOT
        and len(layer.shape) == 2
        and form.axes == (0,)
        and layer.shape[0] * layer.shape[1] >= SMALLEST
    )


def fits(use: Use, values: Any, target: Target) -> bool:
    """Whether the equation multiplies one row with a matrix that is large."""
    if target.platform != "cpu" or use.kind != DOT or values.ndim != 2:
        return False
    other = use.eqn.invars[1 - use.operand].aval
    terms = values.shape[use.axes[0]] if len(use.axes) == 1 else 0
    batch = use.eqn.params["dimension_numbers"][1]
    return bool(values.size >= SMALLEST and other.size == terms and not batch[0])


def is_one_row(use: Use, target: Target) -> bool:
    """Whether the equation multiplies one row with a matrix, on a CPU."""
    other = use.eqn.invars[1 - use.operand].aval
    batch: Any = use.eqn.params["dimension_numbers"][1] if use.kind == DOT else ()
    terms = math.prod(use.eqn.invars[use.operand].aval.shape[d] for d in use.axes)
    return target.platform == "cpu" and use.kind == DOT and not batch[0] and other.size == terms


def twice(use: Use, row: Any, values: Any, scale: Any) -> Any:
    """int8 by int8, the row repeated: XLA:CPU has no fast product of one row of int8."""
    terms = math.prod(values.shape[d] for d in use.axes)
    whole, by = rows(lax.reshape(row, (1, terms)), (1,), Scheme.W8A8)
    free = [d for d in range(values.ndim) if d not in use.axes]
    matrix = lax.reshape(lax.transpose(values, (*use.axes, *free)), (terms, values.size // terms))
    sums = lax.dot_general(
        lax.concatenate([whole, whole], 0),
        matrix,
        (((1,), (0,)), ((), ())),
        preferred_element_type=jnp.int32,
    )
    found = lax.mul(
        lax.convert_element_type(sums[0], jnp.float32),
        lax.reshape(scale, (math.prod(scale.shape),)),
    )
    return lax.reshape(found * by[0], use.eqn.outvars[0].aval.shape)


def product(use: Use, row: Any, values: Any, scale: Any) -> Any:
    """`row` has one dimension that is not 1; values [n, k] or [k, n], scales to match."""
    if use.axes == (0,):
        values = lax.transpose(values, (1, 0))
    wide = lax.convert_element_type(values, jnp.float32)
    terms = lax.convert_element_type(lax.reshape(row, (values.shape[1],)), jnp.float32)
    sums = jnp.sum(lax.mul(wide, lax.broadcast_in_dim(terms, wide.shape, (1,))), axis=1)
    found = lax.mul(sums, lax.reshape(scale, sums.shape))
    return lax.reshape(found, use.eqn.outvars[0].aval.shape)
