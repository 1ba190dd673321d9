"""Programs of one convolution: what the tests of its lowerings, passes and timings share."""

import math
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.extend.core import jaxpr_as_fun

from jaxrt.passes.convolution import Convolution
from jaxrt.program import Program

Array = np.ndarray[Any, Any]

NHWC = ("NHWC", "HWIO", "NHWC")


def program(function: Any, weights: dict[str, Array], x: Array) -> Program:
    """`function(*weights, x)` → one output."""
    with jax.enable_x64(True):
        jaxpr = jax.make_jaxpr(function)(*weights.values(), x)
    return Program(
        signature="f",
        jaxpr=jaxpr,
        weight_names=tuple(weights),
        input_names=("x",),
        output_names=("y",),
    )


def run(of: Program, *operands: Array) -> Array:
    with jax.enable_x64(True):
        (y,) = jax.jit(jaxpr_as_fun(of.jaxpr))(*operands)
    return np.asarray(y)


def convolve(
    x: tuple[int, ...],
    kernel: tuple[int, ...],
    layout: tuple[str, str, str] = NHWC,
    *,
    strides: tuple[int, ...] | None = None,
    padding: Any = "SAME",
    dtype: str = "float32",
    **more: Any,
) -> tuple[Program, Array, Array]:
    """A program of one convolution, its kernel and an input."""
    random = np.random.default_rng(0)
    data = random.normal(size=x).astype(dtype)
    weights = random.normal(size=kernel).astype(dtype) / math.sqrt(math.prod(kernel))
    weights = weights.astype(dtype)

    def function(k: Any, v: Any) -> Any:
        return lax.conv_general_dilated(
            v,
            k,
            strides or (1,) * (len(x) - 2),
            padding,
            dimension_numbers=layout,
            **more,
        )

    return program(function, {"k": weights}, data), weights, data


def convolution(**changes: Any) -> Convolution:
    """A 3x3 one of 14 x 14 x 32, unless said otherwise."""
    given: dict[str, Any] = {
        "batch": 1,
        "spatial": (14, 14),
        "features": 32,
        "window": (3, 3),
        "out_features": 32,
        "strides": (1, 1),
        "padding": ((1, 1), (1, 1)),
        "lhs_dilation": (1, 1),
        "rhs_dilation": (1, 1),
        "groups": 1,
        "dtype": "float32",
        "fixed": True,
    }
    return Convolution(**(given | changes))
