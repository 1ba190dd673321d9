"""Matrix factorizations as custom calls: XLA's own names, and LAPACK's as JAX calls it on CPU.

LAPACK's meaning: netlib.org/lapack/explore-html; packed factors, one-based pivots, `info`
0 for success. Here `info` says only whether a result could not be had, and settings that ask for
something else than JAX's front end ever does are refused.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxrt.converters.lift.custom_call import Call, target
from jaxrt.converters.lift.linalg import cholesky_factor

linalg = lax.linalg


def _packed_qr(a: Array) -> tuple[Array, Array]:
    """[..., m, n] → R above, Householder vectors below the diagonal [..., m, n], tau [..., k]."""
    transposed, tau = jnp.linalg.qr(a, mode="raw")
    return lax.transpose(transposed, [*range(a.ndim - 2), a.ndim - 1, a.ndim - 2]), tau


@target("Qr")
def qr(_call: Call, a: Array) -> Sequence[Array]:
    return _packed_qr(a)


@target("ProductOfElementaryHouseholderReflectors")
def householder_product(_call: Call, a: Array, tau: Array) -> Sequence[Array]:
    return [linalg.householder_product(a, tau)]


@target("Eigh", check=lambda c: None if len(c.text.split(",")) == 4 else f"with {c.text!r}")
def eigh(call: Call, a: Array) -> Sequence[Array]:
    """(vectors, values); settings `lower,sort,sweeps,tolerance`, the last two a hint to Jacobi."""
    lower, in_order, _, _ = call.text.split(",")
    vectors, values = linalg.eigh(
        a, lower=lower == "1", symmetrize_input=False, sort_eigenvalues=in_order == "1"
    )
    return [vectors, values]


@target("LuDecomposition")
def lu(_call: Call, a: Array) -> Sequence[Array]:
    return linalg.lu(a)


def _lapack(*routines: str, check: Any = None) -> Callable[[Any], Any]:
    """Targets of routines, named without LAPACK's letter for the type: `?getrf`."""
    names = [
        f"lapack_{letter}{routine[1:]}_ffi"
        for routine in routines
        for letter in ("sdcz" if routine[0] == "?" else routine[0])
    ]
    return target(*names, check=check)


def _letter(call: Call, name: str) -> str:
    """LAPACK's options are letters, given as their codes."""
    return chr(call.config[name])


def _wants(**letters: str) -> Callable[[Call], str | None]:
    """Refuses options other than the ones given."""

    def check(call: Call) -> str | None:
        for name, allowed in letters.items():
            if name not in call.config or _letter(call, name) not in allowed:
                return f"with {name} = {call.config.get(name)}"
        return None

    return check


def _failed(*results: Array, batch: int) -> Array:
    """1 for every matrix of the batch with a NaN in its result, else 0: int32."""
    (first, *_) = results
    axes = tuple(range(batch, first.ndim))
    isnan = lax.ne(first, first)
    found = jnp.any(isnan, axis=axes) if axes else isnan
    return lax.convert_element_type(found, np.int32)


@_lapack("?potrf", check=_wants(uplo="LU"))
def potrf(call: Call, a: Array) -> Sequence[Array]:
    factor = cholesky_factor(a, _letter(call, "uplo") == "L")
    return [factor, _failed(factor, batch=a.ndim - 2)]


@_lapack("?getrf")
def getrf(_call: Call, a: Array) -> Sequence[Array]:
    factors, pivots, _ = linalg.lu(a)
    return [factors, lax.add(pivots, lax.full(pivots.shape, 1, pivots.dtype)), _singular(factors)]


def _singular(factors: Array) -> Array:
    """One-based number of the first zero on the diagonal of U, 0 where there is none: int32."""
    diagonal = _diagonal(factors)
    size = diagonal.shape[-1]
    numbers = lax.broadcasted_iota(np.int32, diagonal.shape, diagonal.ndim - 1)
    zero = lax.eq(diagonal, lax.full(diagonal.shape, 0, diagonal.dtype))
    found = lax.select(zero, numbers, lax.full(numbers.shape, size, np.int32))
    first = (
        lax.reduce_min(found, (found.ndim - 1,))
        if size
        else lax.full(found.shape[:-1], 0, np.int32)
    )
    return lax.rem(lax.add(first, np.int32(1)), np.int32(size + 1))


@_lapack("?geqrf")
def geqrf(_call: Call, a: Array) -> Sequence[Array]:
    return _packed_qr(a)


@_lapack("?geqp3")
def geqp3(_call: Call, a: Array, _pivots: Array) -> Sequence[Array]:
    """(packed, pivots, tau). JAX always passes pivots of 0: every column is free to move."""
    _, _, order = linalg.qr(a, pivoting=True, full_matrices=False)
    index = lax.broadcast_in_dim(order, a.shape, (*range(a.ndim - 2), a.ndim - 1))
    packed, tau = _packed_qr(jnp.take_along_axis(a, index, axis=-1))
    return [packed, lax.add(order, lax.full(order.shape, 1, order.dtype)), tau]


_lapack("sorgqr", "dorgqr", "cungqr", "zungqr")(householder_product)


@_lapack("sormqr", "dormqr", "cunmqr", "zunmqr")
def ormqr(call: Call, a: Array, tau: Array, c: Array) -> Sequence[Array]:
    left, transpose = call.config["left"], call.config["transpose"]
    return [linalg.ormqr(a, tau, c, left=left, transpose=transpose)]


@_lapack("ssyevd", "dsyevd", "cheevd", "zheevd", check=_wants(mode="VN", uplo="LU"))
def syevd(call: Call, a: Array) -> Sequence[Array]:
    lower = _letter(call, "uplo") == "L"
    vectors, values = linalg.eigh(a, lower=lower, symmetrize_input=False)
    return [vectors, values, _failed(values, batch=a.ndim - 2)]


@_lapack("?gesdd", "?gesvd", check=_wants(mode="ASN"))
def gesdd(call: Call, a: Array) -> Sequence[Array]:
    """(overwritten, s, u, vh, info): the first is scratch, and u and vh too where mode is N."""
    _, _, left, right, _ = call.avals
    mode = _letter(call, "mode")
    if mode == "N":
        s = linalg.svd(a, compute_uv=False)
        u, vh = (lax.full(aval.shape, 0, aval.dtype) for aval in (left, right))
    else:
        u, s, vh = linalg.svd(a, full_matrices=mode == "A")
    return [a, s, u, vh, _failed(s, batch=a.ndim - 2)]


@_lapack("?trsm", check=_wants(side="LR", uplo="LU", trans_x="NTC", diag="NU"))
def trsm(call: Call, a: Array, b: Array) -> Sequence[Array]:
    solved = linalg.triangular_solve(
        a,
        b,
        left_side=_letter(call, "side") == "L",
        lower=_letter(call, "uplo") == "L",
        transpose_a=_letter(call, "trans_x") in "TC",
        conjugate_a=_letter(call, "trans_x") == "C",
        unit_diagonal=_letter(call, "diag") == "U",
    )
    return [solved]


@_lapack("?geev", check=_wants(compute_left="VN", compute_right="VN"))
def geev(call: Call, a: Array) -> Sequence[Array]:
    """(w, left, right, info), with w as two real arrays where a is real."""
    wanted = [_letter(call, side) == "V" for side in ("compute_left", "compute_right")]
    w, *vectors = linalg.eig(
        a, compute_left_eigenvectors=wanted[0], compute_right_eigenvectors=wanted[1]
    )
    values = [w] if _is_complex(a) else [lax.real(w), lax.imag(w)]
    found = iter(vectors)
    sides = [
        next(found) if side else lax.full(aval.shape, 0, aval.dtype)
        for side, aval in zip(wanted, call.avals[-3:-1], strict=True)
    ]
    return [*values, *sides, _failed(values[0], batch=a.ndim - 2)]


def _is_complex(a: Array) -> bool:
    return bool(jnp.issubdtype(a.dtype, np.complexfloating))


@_lapack("?gees", check=_wants(mode="VN", sort="N"))
def gees(call: Call, a: Array) -> Sequence[Array]:
    """(t, vectors, w, selected, info), with w as two real arrays where a is real."""
    wants_vectors = _letter(call, "mode") == "V"
    t, *found = linalg.schur(a, compute_schur_vectors=wants_vectors)
    aval = call.avals[1]
    vectors = found[0] if wants_vectors else lax.full(aval.shape, 0, aval.dtype)
    values = [_diagonal(t)] if _is_complex(a) else _real_schur_values(t)
    none = lax.full(a.shape[:-2], 0, np.int32)
    return [t, vectors, *values, none, _failed(t, batch=a.ndim - 2)]


def _diagonal(t: Array, offset: int = 0) -> Array:
    diagonal: Array = jnp.diagonal(t, offset=offset, axis1=-2, axis2=-1)
    return diagonal


def _real_schur_values(t: Array) -> list[Array]:
    """Real and imaginary parts: a 2×2 block [[d, b], [c, d]] has d ± sqrt(|b|) sqrt(|c|) i."""
    below, above = (lax.sqrt(lax.abs(_diagonal(t, k))) for k in (-1, 1))
    size = lax.mul(below, above)
    zero = lax.full((), 0, t.dtype)
    batch = [(0, 0, 0)] * (t.ndim - 2)
    imaginary = lax.sub(
        lax.pad(size, zero, [*batch, (0, 1, 0)]), lax.pad(size, zero, [*batch, (1, 0, 0)])
    )
    return [_diagonal(t), imaginary]


@_lapack("?gehrd")
def gehrd(_call: Call, a: Array) -> Sequence[Array]:
    reduced, tau = linalg.hessenberg(a)
    return [reduced, tau, _failed(reduced, batch=a.ndim - 2)]


@_lapack("ssytrd", "dsytrd", "chetrd", "zhetrd", check=_wants(uplo="LU"))
def sytrd(call: Call, a: Array) -> Sequence[Array]:
    lower = _letter(call, "uplo") == "L"
    reduced, d, e, tau = linalg.tridiagonal(a, lower=lower)
    return [reduced, d, e, tau, _failed(d, batch=a.ndim - 2)]


@_lapack("?gtsv")
def gtsv(_call: Call, lower: Array, d: Array, upper: Array, b: Array) -> Sequence[Array]:
    """(scratch, scratch, scratch, x, info); JAX pads the side diagonals to one length."""
    solved = linalg.tridiagonal_solve(lower, d, upper, b)
    return [lower, d, upper, solved, _failed(solved, batch=d.ndim - 1)]
