"""Fourier transforms, solvers and factorizations give after the lift what they gave before."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import lifting
import numpy as np
import pytest
from jax import lax

from jaxrt.converters.lift import module
from jaxrt.converters.lift.evaluator import lift
from jaxrt.errors import UnsupportedOps

FLOATS = [np.float32, np.float64, np.complex64, np.complex128]


def data(*shape: int, kind: Any = np.float32, seed: int = 0) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape)
    if np.dtype(kind).kind == "c":
        return (values + 1j * rng.standard_normal(shape)).astype(kind)
    return values.astype(kind)


def positive(*shape: int, kind: Any = np.float32) -> np.ndarray[Any, Any]:
    """Hermitian, positive definite."""
    a = data(*shape, kind=kind)
    found = a @ np.swapaxes(a.conj(), -1, -2) + 3 * np.eye(shape[-1], dtype=kind)
    return np.asarray(found, kind)


def tolerance(kind: Any) -> float:
    return 1e-4 if np.finfo(kind).eps > 1e-10 else 1e-10


def check(function: Callable[..., Any], *arguments: Any, kind: Any) -> None:
    with jax.enable_x64(True):
        text = jax.jit(function).lower(*arguments).as_text()
        wanted = jax.tree.leaves(jax.jit(function)(*arguments))
    for found, want in zip(lifting.lifted(text, *arguments), wanted, strict=True):
        near = tolerance(kind)
        np.testing.assert_allclose(found, np.asarray(want), rtol=near, atol=near)


TRANSFORMS: dict[str, tuple[Callable[..., Any], tuple[int, ...], str]] = {
    "fft": (jnp.fft.fft, (3, 8), "c"),
    "fft of a prime length": (jnp.fft.fft, (7,), "c"),
    "ifft": (jnp.fft.ifft, (3, 8), "c"),
    "fft2": (jnp.fft.fft2, (2, 6, 8), "c"),
    "ifftn": (jnp.fft.ifftn, (4, 6, 5), "c"),
    "rfft": (jnp.fft.rfft, (3, 9), "f"),
    "rfft2": (jnp.fft.rfft2, (2, 6, 8), "f"),
    "rfftn": (jnp.fft.rfftn, (4, 6, 8), "f"),
    "irfft": (jnp.fft.irfft, (3, 5), "c"),
    "irfft of an odd length": (lambda x: jnp.fft.irfft(x, 9), (3, 5), "c"),
    "irfftn": (jnp.fft.irfftn, (4, 6, 5), "c"),
}


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("wide", [False, True])
def test_fourier_transforms(name: str, wide: bool) -> None:
    function, shape, letter = TRANSFORMS[name]
    kinds = {"c": (np.complex64, np.complex128), "f": (np.float32, np.float64)}
    kind = kinds[letter][wide]
    check(function, data(*shape, kind=kind), kind=kind)


MLIR = {
    np.float32: "f32", np.float64: "f64", np.complex64: "complex<f32>",
    np.complex128: "complex<f64>", np.float16: "f16",
}  # fmt: skip


@pytest.mark.parametrize("kind", [*FLOATS, np.float16])
@pytest.mark.parametrize("lower", [True, False])
def test_cholesky_reads_one_triangle(lower: bool, kind: Any) -> None:
    shape = f"2x4x4x{MLIR[kind]}"
    text = f"""func.func @main(%a: tensor<{shape}>) -> tensor<{shape}> {{
      %0 = stablehlo.cholesky %a, lower = {str(lower).lower()} : tensor<{shape}>
      return %0 : tensor<{shape}>
    }}"""
    a = positive(2, 4, 4, kind=kind)
    half = np.tril(a) if lower else np.triu(a)
    (found,) = lifting.lifted(text, half)
    factor = found.astype(np.complex128 if np.dtype(kind).kind == "c" else np.float64)
    other = np.swapaxes(factor.conj(), -1, -2)
    near = 0.05 if kind is np.float16 else tolerance(kind)
    product = factor @ other if lower else other @ factor
    np.testing.assert_allclose(product, a, rtol=near, atol=near)
    np.testing.assert_array_equal(factor, np.tril(factor) if lower else np.triu(factor))


def test_a_matrix_without_a_cholesky_factor_gives_nan() -> None:
    text = """func.func @main(%a: tensor<2x2xf32>) -> tensor<2x2xf32> {
      %0 = stablehlo.cholesky %a, lower = true : tensor<2x2xf32>
      return %0 : tensor<2x2xf32>
    }"""
    assert np.isnan(lifting.lifted(text, np.array([[1, 2], [2, 1]], np.float32))).any()


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("transpose", ["NO_TRANSPOSE", "TRANSPOSE", "ADJOINT"])
@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("unit", [True, False])
def test_triangular_solve(left: bool, lower: bool, unit: bool, transpose: str, kind: Any) -> None:
    flags = {"left_side": left, "lower": lower, "unit_diagonal": unit}
    written = ", ".join(f"{k} = {str(v).lower()}" for k, v in flags.items())
    rows = "4x3" if left else "3x4"
    a_type, b_type = (f"tensor<2x{s}x{MLIR[kind]}>" for s in ("4x4", rows))
    text = f"""func.func @main(%a: {a_type}, %b: {b_type}) -> {b_type} {{
      %0 = "stablehlo.triangular_solve"(%a, %b) <{{
        {written}, transpose_a = #stablehlo<transpose {transpose}>
      }}> : ({a_type}, {b_type}) -> {b_type}
      return %0 : {b_type}
    }}"""
    a = data(2, 4, 4, kind=kind) + 4 * np.eye(4, dtype=kind)
    b = data(*(2, 4, 3) if left else (2, 3, 4), kind=kind, seed=1)
    (found,) = lifting.lifted(text, a, b)
    used = np.tril(a) if lower else np.triu(a)
    if unit:
        used[:, range(4), range(4)] = 1
    if transpose != "NO_TRANSPOSE":
        used = np.swapaxes(used, -1, -2)
    used = used.conj() if transpose == "ADJOINT" else used
    product = used @ found if left else found @ used
    np.testing.assert_allclose(product, b, rtol=tolerance(kind), atol=tolerance(kind))


def spectrum(a: Any) -> Any:
    """Eigenvalues and |right eigenvectors|, whose phases and order are LAPACK's."""
    values, left, right = lax.linalg.eig(a)
    return values, abs(left), abs(right)


FACTORIZATIONS: dict[str, Callable[..., Any]] = {
    "cholesky": lambda a: jnp.linalg.cholesky(a @ jnp.swapaxes(a.conj(), -1, -2)),
    "cholesky of one that has none": lambda a: lax.linalg.cholesky(-a @ a, symmetrize_input=False),
    "qr": lambda a: jnp.linalg.qr(a),
    "qr of a wide matrix": lambda a: jnp.linalg.qr(a[..., :2, :]),
    "full qr of a tall matrix": lambda a: jnp.linalg.qr(a[..., :2], mode="complete"),
    "qr with pivots": lambda a: lax.linalg.qr(a, pivoting=True, full_matrices=False),
    "lu": lambda a: lax.linalg.lu(a),
    "lu of a tall matrix": lambda a: lax.linalg.lu(a[..., :3]),
    "solve": lambda a: jnp.linalg.solve(a, a[..., :2]),
    "inverse": jnp.linalg.inv,
    "determinant": jnp.linalg.det,
    "log determinant": jnp.linalg.slogdet,
    "eigh": lambda a: jnp.linalg.eigh(a)[0],
    "eigh, upper": lambda a: lax.linalg.eigh(a, lower=False, symmetrize_input=False)[1],
    "eigenvectors of a hermitian matrix": lambda a: abs(jnp.linalg.eigh(a).eigenvectors),
    "svd": lambda a: [abs(x) for x in jnp.linalg.svd(a[..., :3], full_matrices=False)],
    "full svd": lambda a: jnp.linalg.svd(a[..., :3])[1],
    "singular values": lambda a: jnp.linalg.svd(a, compute_uv=False),
    "svd by qr": lambda a: lax.linalg.svd(a, algorithm=lax.linalg.SvdAlgorithm.QR)[1],
    "pseudo-inverse": lambda a: jnp.linalg.pinv(a[..., :3]),
    "eig": spectrum,
    "eigenvalues": lambda a: lax.linalg.eig(
        a, compute_left_eigenvectors=False, compute_right_eigenvectors=False
    ),
    "schur": lambda a: lax.linalg.schur(a),
    "hessenberg": lax.linalg.hessenberg,
    "tridiagonal": lambda a: lax.linalg.tridiagonal(a),
    "tridiagonal, upper": lambda a: lax.linalg.tridiagonal(a, lower=False),
    "triangular solve": lambda a: lax.linalg.triangular_solve(
        a, a[..., :2, :], lower=True, transpose_a=True, conjugate_a=True, unit_diagonal=True
    ),
    "householder product": lambda a: lax.linalg.householder_product(a, a[..., 0]),
    "tridiagonal solve": lambda a: lax.linalg.tridiagonal_solve(
        a[..., 0].at[..., 0].set(0), a[..., 1] + 5, a[..., 2].at[..., -1].set(0), a[..., :2]
    ),
    "expm": jsl.expm,
    "product with q": lambda a: lax.linalg.ormqr(a, a[..., 0], a, left=False, transpose=True),
}  # fmt: skip
SINGLE = {"expm"}
"""Not batched in JAX."""


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("name", FACTORIZATIONS)
def test_factorizations_that_jax_calls_lapack_for(name: str, kind: Any) -> None:
    a = data(4, 4, kind=kind) if name in SINGLE else data(2, 4, 4, kind=kind)
    if "tridiagonal s" not in name:
        a = a + np.swapaxes(a.conj(), -1, -2) * kind(0.5)
    check(FACTORIZATIONS[name], a, kind=kind)


def test_a_singular_matrix_is_reported_at_its_first_zero_pivot() -> None:
    text = """func.func @main(%a: tensor<3x3xf32>) -> (tensor<3xi32>, tensor<i32>) {
      %0:3 = stablehlo.custom_call @lapack_sgetrf_ffi(%a) {mhlo.backend_config = {},
        api_version = 4 : i32, operand_layouts = [dense<[0, 1]> : tensor<2xindex>],
        result_layouts = [dense<[0, 1]> : tensor<2xindex>, dense<0> : tensor<1xindex>,
        dense<> : tensor<0xindex>]}
        : (tensor<3x3xf32>) -> (tensor<3x3xf32>, tensor<3xi32>, tensor<i32>)
      return %0#1, %0#2 : tensor<3xi32>, tensor<i32>
    }"""
    jax.jit(jnp.linalg.inv)(np.eye(2, dtype=np.float32))  # registers LAPACK with the runtime
    for a in (np.diag([1, 0, 0]), np.diag([1, 2, 3]), np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]])):
        pivots, info = lifting.lifted(text, a.astype(np.float32))
        wanted_pivots, wanted_info = lifting.by_xla(text, a.astype(np.float32))
        np.testing.assert_array_equal(pivots, wanted_pivots)
        np.testing.assert_array_equal(info, wanted_info)


def test_schur_form_gives_the_eigenvalues_of_a_real_matrix_in_pairs() -> None:
    text = """func.func @main(%a: tensor<4x4xf64>) -> (tensor<4xf64>, tensor<4xf64>) {
      %0:6 = stablehlo.custom_call @lapack_dgees_ffi(%a) {
        mhlo.backend_config = {mode = 86 : ui8, sort = 78 : ui8}} : (tensor<4x4xf64>)
        -> (tensor<4x4xf64>, tensor<4x4xf64>, tensor<4xf64>, tensor<4xf64>, tensor<i32>,
            tensor<i32>)
      return %0#2, %0#3 : tensor<4xf64>, tensor<4xf64>
    }"""
    a = data(4, 4, kind=np.float64, seed=3)
    wanted = np.linalg.eigvals(a)
    assert (wanted.imag != 0).any()
    real, imaginary = lifting.lifted(text, a)
    found = real + 1j * imaginary
    np.testing.assert_allclose(np.sort_complex(found), np.sort_complex(wanted), rtol=1e-10)


BRIDGE = """func.func @main(%a: tensor<2x5x3xf32>) -> (tensor<2x5x3xf32>, tensor<2x5x3xf32>) {
  %0 = stablehlo.custom_call @Qr(%a) {backend_config = "",
    xla_shape = "(f32[2,5,3]{2,1,0}, f32[2,3]{1,0})"}
    : (tensor<2x5x3xf32>) -> tuple<tensor<2x5x3xf32>, tensor<2x3xf32>>
  %1 = stablehlo.get_tuple_element %0[0]
    : (tuple<tensor<2x5x3xf32>, tensor<2x3xf32>>) -> tensor<2x5x3xf32>
  %2 = stablehlo.get_tuple_element %0[1]
    : (tuple<tensor<2x5x3xf32>, tensor<2x3xf32>>) -> tensor<2x3xf32>
  %3 = stablehlo.custom_call @ProductOfElementaryHouseholderReflectors(%1, %2)
    {backend_config = ""} : (tensor<2x5x3xf32>, tensor<2x3xf32>) -> tensor<2x5x3xf32>
  return %1, %3 : tensor<2x5x3xf32>, tensor<2x5x3xf32>
}"""


def test_the_packed_qr_of_tensorflows_bridge() -> None:
    a = data(2, 5, 3)
    packed, q = lifting.lifted(BRIDGE, a)
    np.testing.assert_allclose(q @ np.triu(packed[:, :3]), a, atol=1e-5)
    for found, want in zip((packed, q), lifting.by_xla(BRIDGE, a), strict=True):
        np.testing.assert_allclose(found, want, atol=1e-5)


@pytest.mark.parametrize("lower", [0, 1])
def test_eigh_of_tensorflows_bridge(lower: int) -> None:
    pair = "tuple<tensor<4x4xf32>, tensor<4xf32>>"
    text = f"""func.func @main(%a: tensor<4x4xf32>) -> (tensor<4x4xf32>, tensor<4xf32>) {{
      %0 = stablehlo.custom_call @Eigh(%a) {{backend_config = "{lower},1,100,0.000001"}}
        : (tensor<4x4xf32>) -> {pair}
      %1 = stablehlo.get_tuple_element %0[0] : ({pair}) -> tensor<4x4xf32>
      %2 = stablehlo.get_tuple_element %0[1] : ({pair}) -> tensor<4xf32>
      return %1, %2 : tensor<4x4xf32>, tensor<4xf32>
    }}"""
    a = positive(4, 4)
    vectors, values = lifting.lifted(text, np.tril(a) if lower else np.triu(a))
    np.testing.assert_allclose(vectors * values @ vectors.T, a, atol=1e-4)
    assert (np.diff(values) > 0).all()


def test_lu_as_xla_names_it() -> None:
    text = """func.func @main(%a: tensor<3x3xf32>)
        -> (tensor<3x3xf32>, tensor<3xi32>, tensor<3xi32>) {
      %0:3 = stablehlo.custom_call @LuDecomposition(%a)
        : (tensor<3x3xf32>) -> (tensor<3x3xf32>, tensor<3xi32>, tensor<3xi32>)
      return %0#0, %0#1, %0#2 : tensor<3x3xf32>, tensor<3xi32>, tensor<3xi32>
    }"""
    a = data(3, 3)
    packed, _, order = lifting.lifted(text, a)
    product = (np.tril(packed, -1) + np.eye(3)) @ np.triu(packed)
    np.testing.assert_allclose(product, a[order], atol=1e-5)


def call(target: str, more: str = "") -> str:
    return f"""func.func @main(%a: tensor<2x2xf32>) -> tensor<2x2xf32> {{
      %0 = stablehlo.custom_call @{target}(%a) {{{more}}} : (tensor<2x2xf32>) -> tensor<2x2xf32>
      return %0 : tensor<2x2xf32>
    }}"""


@pytest.mark.parametrize(
    "target",
    [
        "Sharding",
        "annotate_device_placement",
        "MoveToHost",
        "xla.sdy.FuncResultSharding",
        "mhlo.copy",
    ],
)
def test_hints_of_where_a_value_lives_change_nothing(target: str) -> None:
    text = call(target, 'mhlo.sharding = "{replicated}", backend_config = ""')
    np.testing.assert_array_equal(lifting.lifted(text, np.eye(2, dtype=np.float32)), [np.eye(2)])


def test_an_op_that_became_a_custom_call_is_that_op_again() -> None:
    x = np.array([[0, 0.5], [1, -1]], np.float32)
    with jax.enable_x64(True):
        wanted = np.asarray(lax.erf(x))
    np.testing.assert_array_equal(lifting.lifted(call("mhlo.erf"), x), [wanted])


def test_a_buffer_without_content_has_some_content() -> None:
    text = """func.func @main() -> tensor<2x2xf32> {
      %0 = stablehlo.custom_call @AllocateBuffer() : () -> tensor<2x2xf32>
      return %0 : tensor<2x2xf32>
    }"""
    np.testing.assert_array_equal(lifting.lifted(text), [np.zeros((2, 2))])


@pytest.mark.parametrize(
    ("target", "more", "problem"),
    [
        ("my_kernel", "", "op stablehlo.custom_call @my_kernel"),
        ("mhlo.unheard_of", "", "op stablehlo.custom_call @mhlo.unheard_of"),
        (
            "mhlo.erf",
            "mhlo.attributes = {fast = true}",
            "op stablehlo.custom_call @mhlo.erf with fast",
        ),
        (
            "lapack_spotrf_ffi",
            "mhlo.backend_config = {uplo = 66 : ui8}",
            "op stablehlo.custom_call @lapack_spotrf_ffi with uplo = 66",
        ),
        ("Eigh", 'backend_config = "1"', "op stablehlo.custom_call @Eigh with '1'"),
    ],
)
def test_a_custom_call_of_unknown_meaning_is_refused_by_name(
    target: str, more: str, problem: str
) -> None:
    assert module.read(call(target, more)).main.operations
    with pytest.raises(UnsupportedOps) as caught:
        lift(call(target, more), signature="s", inputs=["a"], weights=[], outputs=["b"])
    assert caught.value.problems == (problem,)
