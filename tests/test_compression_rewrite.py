"""Programs with weights in few bits: what is stored, what they compute, where scales go."""

import functools
from typing import Any

import jax.numpy as jnp
import mesh_programs
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from programs import program, run

from jaxrt.compression import rewrite
from jaxrt.compression.layers import layers
from jaxrt.compression.schemes import parse_rule
from jaxrt.passes import convolution_lowering, prepare, vector_dots
from jaxrt.program import Program
from jaxrt.target import Target

CPU = Target(platform="cpu", device_kind="cpu", num_devices=1, fingerprint="", features="")
H100 = Target(
    platform="cuda", device_kind="NVIDIA H100", num_devices=1, fingerprint="", features=""
)
RNG = np.random.default_rng(0)
Array = np.ndarray[Any, Any]

mesh = functools.cache(mesh_programs.program)


def _normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def _held(found: Program, scheme: str, target: Target = CPU) -> tuple[prepare.Split, int]:
    held, changed = rewrite.apply(found, [parse_rule(f".*={scheme}")], target)
    return prepare.split(held), len(changed)


def _sqnr(got: Array, want: Array) -> float:
    """Decibels."""
    return float(10 * np.log10(np.mean(want**2) / np.mean((got - want) ** 2)))


def _compare(found: Program, weights: dict[str, Array], x: Array, scheme: str) -> float:
    split, _ = _held(found, scheme)
    want = run(found.jaxpr, [*weights.values(), x])[0]
    got = run(split.apply.jaxpr, [*prepare.run_prepare(split, weights).values(), x])[0]
    assert got.dtype == want.dtype and got.shape == want.shape
    return _sqnr(got, want)


BOUNDS = {"bf16": (0.502, 38), "int8": (0.258, 36), "w8a8": (0.258, 34), "int4": (0.16, 12)}
"""Scheme → share of the bytes at most, decibels at least."""


@pytest.mark.parametrize("scheme", sorted(BOUNDS))
@pytest.mark.parametrize("name", ["encoder", "tables", "loop"])
def test_programs_hold_their_share_and_stay_close(name: str, scheme: str) -> None:
    found = mesh(name, 4)
    *weights, x = mesh_programs.arguments(found)
    named = dict(zip(found.weight_names, weights, strict=True))
    share, decibels = BOUNDS[scheme]
    split, changed = _held(found, scheme)
    assert changed == len(layers(found))
    held = sum(a.size * a.dtype.itemsize for a in split.apply.weight_avals)
    assert held <= share * sum(w.nbytes for w in weights)
    assert _compare(found, named, x, scheme) > decibels


def test_no_float_matrix_is_among_what_is_stored() -> None:
    split, _ = _held(mesh("encoder", 4), "int8")
    wide = [a for a in split.apply.weight_avals if a.dtype == np.float32]
    assert max(a.size for a in wide) <= 2048  # biases, norms and scales


def _conv(groups: int = 1, window: int = 3) -> tuple[Program, dict[str, Array]]:
    weights = {"kernel": _normal(window, window, 64 // groups, 96)}

    def function(w: Any, x: Any) -> Any:
        return [
            lax.conv_general_dilated(
                x, w["kernel"], (1, 1), "SAME",
                dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups,
            )
        ]  # fmt: skip

    return program(function, 2, {"x": ((8, 8, 64), np.float32)}, weights), weights


@pytest.mark.parametrize("groups", [1, 32])
@pytest.mark.parametrize("scheme", ["int8", "w8a8", "int4", "fp8", "bf16"])
def test_convolutions_of_every_scheme(scheme: str, groups: int) -> None:
    found, weights = _conv(groups)
    bound = {"int8": 40, "w8a8": 36, "int4": 16, "fp8": 28, "bf16": 48}[scheme]
    assert _compare(found, weights, _normal(2, 8, 8, 64), scheme) > bound


def test_small_parts_of_what_is_held_are_not_stored_beside_it() -> None:
    weights = {"taps": _normal(9, 256)}

    def function(w: Any, x: Any) -> Any:
        held = checkpoint_name(lax.convert_element_type(w["taps"], np.int8), prepare.HELD)
        wide = lax.convert_element_type(held, np.float32)
        return [sum(x * wide[i : i + 1] for i in range(9))]

    split = prepare.split(program(function, 2, {"x": ((256,), np.float32)}, weights))
    assert [a.dtype.name for a in split.apply.weight_avals] == ["int8"]


def test_kernels_in_few_bits_are_not_transformed_for_storage() -> None:
    found, _ = _conv()
    held, _ = rewrite.apply(found, [parse_rule(".*=int8")], CPU)
    (conv,) = convolution_lowering.convolutions(held)
    assert not conv.fixed
    assert vector_dots.transpose(held)[1] == 0


def _matrices(found: Program) -> list[str]:
    pairs = zip(found.weight_names, found.weight_avals, strict=True)
    return [name for name, aval in pairs if aval.size > 4096]


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("scheme", ["int8", "w8a8"])
@pytest.mark.parametrize("size", [96, 1024])
def test_one_row_and_several_share_what_is_stored(scheme: str, rows: int, size: int) -> None:
    weights = {"w": _normal(size, 1024)}
    shapes = {"x": ((size,), np.float32)}
    several, one = (
        program(lambda w, x: [jnp.dot(x, w["w"])], n, shapes, weights) for n in (rows, 1)
    )
    assert _matrices(_held(several, scheme)[0].apply) == _matrices(_held(one, scheme)[0].apply)
    assert _compare(several, weights, _normal(rows, size), scheme) > 36


@pytest.mark.parametrize("contracted", [0, 1])
def test_a_matrix_that_is_held_turned_is_multiplied_as_it_lies(contracted: int) -> None:
    """XLA:CPU would turn it back at every call, which takes longer than the product."""
    weights = {"w": _normal(1024, 1536)}
    numbers = (((1,), (contracted,)), ((), ()))

    def multiply(w: Any, x: Any) -> list[Any]:
        return [lax.dot_general(x, w["w"], numbers)]

    x = _normal(8, weights["w"].shape[contracted])
    found = program(multiply, 8, {"x": (x.shape[1:], np.float32)}, weights)
    split, _ = _held(found, "w8a8")
    eqns: Any = split.apply.jaxpr.jaxpr.eqns
    turned = [e for e in eqns if e.primitive.name == "transpose"]
    assert all(e.invars[0].aval.size < 1 << 20 for e in turned)
    assert _compare(found, weights, x, "w8a8") > 34


def test_a_table_that_is_multiplied_with_too_is_stored_once() -> None:
    weights = {"words": _normal(2000, 64)}

    def function(w: Any, ids: Any) -> Any:
        x = jnp.take(w["words"], ids, axis=0, mode="clip")
        return [jnp.dot(x, w["words"].T)]

    found = program(function, 4, {"ids": ((), np.int32)}, weights)
    (layer,) = layers(found)
    assert (layer.kind, layer.shape, layer.axes) == ("gather", (2000, 64), (1,))
    split, _ = _held(found, "int8")
    dtypes = sorted(a.dtype.name for a in split.apply.weight_avals)
    assert dtypes.count("int8") == 1 and set(dtypes) == {"bfloat16", "int8"}
    assert _compare(found, weights, np.arange(4, dtype=np.int32), "int8") > 36


def test_indices_out_of_bounds_find_what_they_found() -> None:
    weights = {"words": _normal(100, 48)}

    def function(w: Any, ids: Any) -> Any:
        return [jnp.take(w["words"], ids, axis=0, mode="fill", fill_value=2.5)]

    found = program(function, 3, {"ids": ((), np.int32)}, weights)
    split, _ = _held(found, "int8")
    held = prepare.run_prepare(split, weights)
    got = run(split.apply.jaxpr, [*held.values(), np.asarray([1, 100, 5000], np.int32)])[0]
    np.testing.assert_allclose(got[0], weights["words"][1], atol=0.03)
    assert (got[1:] == 2.5).all()


def test_a_weight_used_otherwise_is_read_from_the_same_bits() -> None:
    weights = {"w": _normal(128, 128)}

    def function(w: Any, x: Any) -> Any:
        return [jnp.dot(x, w["w"]) + jnp.sum(jnp.tanh(w["w"]) * x[0, 0])]

    found = program(function, 4, {"x": ((128,), np.float32)}, weights)
    split, _ = _held(found, "int8")
    assert {a.dtype.name for a in split.apply.weight_avals} <= {"int8", "float32"}
    assert "round" not in prepare.primitives(split.apply.jaxpr)
    assert _compare(found, weights, _normal(4, 128), "int8") > 30


def test_rows_of_activations_have_scales_of_their_own() -> None:
    weights = {"w": _normal(256, 64)}
    found = program(lambda w, x: [jnp.dot(x, w["w"])], 2, {"x": ((256,), np.float32)}, weights)
    split, _ = _held(found, "w8a8")
    held = list(prepare.run_prepare(split, weights).values())
    x = _normal(2, 256)
    louder = x * np.asarray([[1.0], [1000.0]], np.float32)
    alone, beside = (run(split.apply.jaxpr, [*held, v])[0] for v in (x, louder))
    np.testing.assert_array_equal(alone[0], beside[0])


def _dot_and_conv(w: Any, x: Any) -> Any:
    """Of 256 terms, and of 8 x 8 pixels of 4 channels."""
    return [
        jnp.dot(x, w["w"]),
        lax.conv_general_dilated(
            x.reshape(-1, 8, 8, 4), w["kernel"], (1, 1), "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        ),
    ]  # fmt: skip


@pytest.mark.parametrize("none", [np.nan, np.inf, -np.inf])
def test_rows_that_are_no_numbers_leave_others_as_they_are(none: float) -> None:
    weights = {"w": _normal(256, 64), "kernel": _normal(3, 3, 4, 64)}
    found = program(_dot_and_conv, 6, {"x": ((256,), np.float32)}, weights)
    split, changed = _held(found, "w8a8")
    assert changed == 2
    held = list(prepare.run_prepare(split, weights).values())
    x = _normal(6, 256)
    broken = x.copy()
    broken[1, 7] = none
    broken[2], broken[3], broken[4] = 0, 1e-44, 1e30 * x[4]
    for plain, got in zip(*(run(split.apply.jaxpr, [*held, v]) for v in (x, broken)), strict=True):
        np.testing.assert_array_equal(got[[0, 5]], plain[[0, 5]])
        assert not np.isfinite(got[1]).any()
        np.testing.assert_array_equal(got[2:4], 0)
        np.testing.assert_allclose(got[4] * np.float32(1e-30), plain[4], rtol=1e-5, atol=1e-5)


def test_activations_are_fp8_where_the_device_multiplies_it() -> None:
    weights = {"w": _normal(256, 64)}
    found = program(lambda w, x: [jnp.dot(x, w["w"])], 2, {"x": ((256,), np.float32)}, weights)

    def operands(target: Target) -> set[str]:
        eqns: Any = _held(found, "fp8", target)[0].apply.jaxpr.jaxpr.eqns
        (product,) = (e for e in eqns if e.primitive.name == "dot_general")
        return {v.aval.dtype.name for v in product.invars}

    assert operands(H100) == {"float8_e4m3fn"}
    assert operands(CPU) == {"float32"}


def test_weights_of_bf16_are_held_too() -> None:
    weights = {"w": _normal(256, 256)}

    def function(w: Any, x: Any) -> Any:
        left, right = (lax.convert_element_type(v, jnp.bfloat16) for v in (x, w["w"]))
        return [lax.dot(left, right, preferred_element_type=jnp.float32)]

    found = program(function, 4, {"x": ((256,), np.float32)}, weights)
    (layer,) = layers(found)
    assert layer.nbytes == 256 * 256 * 2
    assert _compare(found, weights, _normal(4, 256), "int8") > 36


def test_the_first_rule_that_fits_holds_and_small_weights_stay() -> None:
    found = mesh("encoder", 4)
    rules = [parse_rule("words=int4"), parse_rule("^0/=float"), parse_rule("up|down=int8")]
    _, changed = rewrite.apply(found, rules, CPU)
    assert [layer.name for layer in changed] == ["words", "1/up", "1/down"]
    same, none = rewrite.apply(found, [], CPU)
    assert none == ()
    assert same.weight_names == found.weight_names
