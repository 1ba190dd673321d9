"""Fourier transforms and the linear algebra that StableHLO has ops for."""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxrt.converters.lift.evaluator import rule
from jaxrt.converters.lift.module import Operation


@rule("stablehlo.fft", "fft_type", "fft_length")
def fft(op: Operation, x: Array) -> Array:
    transformed: Array = lax.fft(x, op.attrs["fft_type"], op.attrs["fft_length"])
    return transformed


def wide(x: Array) -> Array:
    """LAPACK knows no type narrower than float32."""
    narrow = jnp.issubdtype(x.dtype, np.floating) and x.dtype.itemsize < 4
    return lax.convert_element_type(x, np.float32) if narrow else x


def adjoint(x: Array) -> Array:
    """[..., m, n] → [..., n, m], conjugated."""
    order = [*range(x.ndim - 2), x.ndim - 1, x.ndim - 2]
    swapped = lax.transpose(x, order)
    return lax.conj(swapped) if jnp.issubdtype(x.dtype, np.complexfloating) else swapped


def cholesky_factor(a: Array, lower: bool) -> Array:
    """L of a = L Lᴴ, or U of a = Uᴴ U, reading only that triangle; NaN where there is none."""
    if lower:
        return lax.linalg.cholesky(a, symmetrize_input=False)
    return adjoint(lax.linalg.cholesky(adjoint(a), symmetrize_input=False))


@rule("stablehlo.cholesky", "lower")
def cholesky(op: Operation, a: Array) -> Array:
    """The other triangle is the implementation's to choose: zeros."""
    factor = cholesky_factor(wide(a), op.attrs.get("lower", False))
    return lax.convert_element_type(factor, a.dtype)


@rule("stablehlo.triangular_solve", "left_side", "lower", "unit_diagonal", "transpose_a")
def triangular_solve(op: Operation, a: Array, b: Array) -> Array:
    transpose = op.attrs["transpose_a"]
    solved = lax.linalg.triangular_solve(
        wide(a),
        wide(b),
        left_side=op.attrs["left_side"],
        lower=op.attrs["lower"],
        unit_diagonal=op.attrs["unit_diagonal"],
        transpose_a=transpose in ("TRANSPOSE", "ADJOINT"),
        conjugate_a=transpose == "ADJOINT",
    )
    return lax.convert_element_type(solved, b.dtype)
