"""Constants come out of MLIR with every bit, whatever their dtype and however they are printed."""

from typing import Any

import jax
import jax.numpy as jnp
import lifting
import ml_dtypes
import numpy as np
import pytest

from jaxrt.converters.lift import evaluator, module
from jaxrt.errors import ConversionError

Array = np.ndarray[Any, Any]

DTYPES = [
    *(np.float16, np.float32, np.float64, np.complex64, np.complex128, np.bool_),
    *(np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
    *(ml_dtypes.bfloat16, ml_dtypes.int2, ml_dtypes.uint2, ml_dtypes.int4, ml_dtypes.uint4),
    *(ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3b11fnuz),
    *(ml_dtypes.float8_e4m3, ml_dtypes.float8_e3m4, ml_dtypes.float8_e8m0fnu),
    *(ml_dtypes.float8_e4m3fnuz, ml_dtypes.float8_e5m2fnuz),
]


def value_of(text: str) -> Array:
    (found,) = (op for op in module.read(text).walk() if op.name == "stablehlo.constant")
    array: Array = found.attrs["value"]
    return array


def literal(body: str, kind: str) -> Array:
    t = f"tensor<{kind}>"
    return value_of(
        lifting.main(f"%c = stablehlo.constant {body} : {t}\n return %c : {t}", f"() -> {t}")
    )


def sample(dtype: Any, size: int) -> Array:
    """Values of both signs where there are two, and fractions where there are any."""
    random = np.random.default_rng(size).integers(0, 4, size)
    kind = np.dtype(dtype)
    if kind.name in ("int2", "int4") or kind.kind in "if":
        return (random - 2).astype(np.float32).astype(dtype)
    if kind.kind == "c":
        return ((random - 2) + 0.25j * random).astype(dtype)
    return random.astype(np.float32).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
# From 101 elements on MLIR prints hexadecimal text.
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (300,), (0, 2)])
def test_every_dtype_survives_however_it_is_printed(dtype: Any, shape: tuple[int, ...]) -> None:
    array = sample(dtype, int(np.prod(shape))).reshape(shape)
    with jax.enable_x64(True):
        found = value_of(jax.jit(lambda: jnp.asarray(array)).lower().as_text())
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tobytes() == array.tobytes()


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
def test_a_splat_is_printed_once_and_fills_its_shape(dtype: Any) -> None:
    array = np.full((4, 50), sample(dtype, 1)[0])
    with jax.enable_x64(True):
        found = value_of(jax.jit(lambda: jnp.asarray(array)).lower().as_text())
    assert (found.dtype, found.shape, found.tobytes()) == (dtype, (4, 50), array.tobytes())


@pytest.mark.parametrize(
    ("body", "kind", "dtype", "bits"),
    [
        ("dense<[0x7FC1, 0xFF80, 1.0]>", "3xbf16", ml_dtypes.bfloat16, "c17f80ff803f"),
        ("dense<[0x7FC00001, 0xFF800000]>", "2xf32", np.float32, "0100c07f000080ff"),
        ("dense<(0x7FC00001, -2.0)>", "complex<f32>", np.complex64, "0100c07f000000c0"),
        ("dense<[0x7E, 0xFC]>", "2xf8E5M2", ml_dtypes.float8_e5m2, "7efc"),
        ('dense<"0xC17F803F">', "2xbf16", ml_dtypes.bfloat16, "c17f803f"),
        ("dense<0x8000>", "f16", np.float16, "0080"),
        ("dense<-0.0>", "bf16", ml_dtypes.bfloat16, "0080"),
        ("dense<1.0e-45>", "f32", np.float32, "01000000"),
        ("dense<3.0e38>", "bf16", ml_dtypes.bfloat16, "627f"),
        ("dense<18446744073709551615>", "ui64", np.uint64, "ff" * 8),
        ("dense<[[1, -8], [7, -1]]>", "2x2xi4", ml_dtypes.int4, "01f807ff"),
        ("dense<[true, false]>", "2xi1", np.bool_, "0100"),
    ],
)
def test_bit_patterns_are_kept(body: str, kind: str, dtype: Any, bits: str) -> None:
    found = literal(body, kind)
    assert found.dtype == dtype
    if np.dtype(dtype) == ml_dtypes.int4:
        assert found.astype(np.int8).tobytes().hex() == bits
    else:
        assert found.tobytes().hex() == bits


RESOURCE = """
module {
  func.func @main() -> (tensor<2xf32>, tensor<2xbf16>) {
    %a = stablehlo.constant dense_resource<blob_1> : tensor<2xf32>
    %b = stablehlo.constant dense_resource<blob> : tensor<2xbf16>
    return %a, %b : tensor<2xf32>, tensor<2xbf16>
  }
}
{-# dialect_resources: { builtin: {
  blob: "0x02000000803F0040",
  blob_1: "0x040000000000803F00000040"
} } #-}
"""


def test_resources_are_found_at_the_end_of_the_module() -> None:
    wanted = [np.array([1, 2], np.float32), np.array([1, 2], ml_dtypes.bfloat16)]
    lifting.assert_equal(lifting.lifted(RESOURCE), wanted)


def test_a_missing_resource_is_named() -> None:
    with pytest.raises(ConversionError, match="resource 'blob_1.*' is not in the module"):
        module.read(RESOURCE.replace("blob_1: ", "blob_2: "))


def test_large_constants_become_weights_named_by_content_and_splats_do_not() -> None:
    table = np.arange(400, dtype=np.float32)

    def function(x: Any) -> Any:
        return x + jnp.asarray(table) * jnp.asarray(table.copy()) + jnp.full(400, 2, jnp.float32)

    x = np.ones(400, np.float32)
    text = lifting.stablehlo_of(function, x)
    found = evaluator.lift(text, signature="s", inputs=["x"], weights=(), outputs=["y"])
    assert len(found.program.weight_names) == 1
    (name,) = found.program.weight_names
    assert name.startswith("const/")
    np.testing.assert_array_equal(found.constants[name], table)
    lifting.assert_equal(lifting.lifted(text, x), [x + table * table + 2], rtol=1e-6)


def test_chlo_constants_are_read_like_stablehlos() -> None:
    t = "tensor<2xbf16>"
    text = lifting.main(
        f'%c = "chlo.constant"() {{value = dense<[1.5, -2.0]> : {t}}} : () -> {t}\nreturn %c : {t}',
        f"() -> {t}",
    )
    lifting.assert_equal(lifting.lifted(text), [np.array([1.5, -2], ml_dtypes.bfloat16)])
