"""Precision: what is rounded, what is kept, and what it does to numbers and to memory."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax
from jax.extend.core import jaxpr_as_fun

from jaxrt.passes import prepare
from jaxrt.passes.precision import DEFAULTS, Precision, Rounding, apply
from jaxrt.program import Program

RNG = np.random.default_rng(0)
WEIGHTS: dict[str, np.ndarray[Any, Any]] = {
    "table": RNG.standard_normal((100, 32)).astype(np.float32),
    "first": RNG.standard_normal((32, 64)).astype(np.float32) / 6,
    "kernel": RNG.standard_normal((3, 64, 8)).astype(np.float32) / 12,
}
IDS = RNG.integers(0, 100, (4, 10)).astype(np.int32)


def _function(table: Array, first: Array, kernel: Array, ids: Array) -> list[Array]:
    x = table[ids]
    with jax.named_scope("dense"):
        x = jnp.tanh(jnp.einsum("btd,df->btf", x, first))
    with jax.named_scope("conv"):
        return [
            lax.conv_general_dilated(
                x, kernel, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
            )
        ]


def _program() -> Program:
    return Program(
        signature="s",
        jaxpr=jax.make_jaxpr(_function)(*WEIGHTS.values(), IDS),
        weight_names=tuple(WEIGHTS),
        input_names=("ids",),
        output_names=("y",),
    )


def _run(program: Program) -> Any:
    return np.asarray(jax.jit(jaxpr_as_fun(program.jaxpr))(*WEIGHTS.values(), IDS)[0])


def test_bf16_rounds_products_convolutions_and_tables() -> None:
    program, changed = apply(_program(), Rounding(precision=Precision.BF16))
    assert changed == 3
    exact, found = _run(_program()), _run(program)
    assert found.dtype == np.float32
    error = np.max(np.abs(found - exact)) / np.max(np.abs(exact))
    assert 1e-5 < error < 1e-2


def test_weights_are_stored_rounded_and_take_half() -> None:
    program, _ = apply(_program(), Rounding(precision=Precision.BF16))
    with jax.enable_x64(True):
        split = prepare.split(program)
    assert {a.dtype for a in split.apply.weight_avals} == {np.dtype(jnp.bfloat16)}
    held = sum(a.size * a.dtype.itemsize for a in split.apply.weight_avals)
    assert held * 2 == sum(w.nbytes for w in WEIGHTS.values())


def test_layers_can_be_kept() -> None:
    program, _ = apply(_program(), Rounding(precision=Precision.BF16, kept=("^fir",)))
    eqns: Any = program.jaxpr.jaxpr.eqns
    dtypes = {
        eqn.primitive.name: eqn.invars[1].aval.dtype
        for eqn in eqns
        if eqn.primitive.name in ("dot_general", "conv_general_dilated")
    }
    assert dtypes["dot_general"] == np.float32
    assert dtypes["conv_general_dilated"] == jnp.bfloat16


@pytest.mark.parametrize(
    ("precision", "wanted"),
    [(Precision.F32, lax.Precision.HIGHEST), (Precision.TF32, lax.Precision.DEFAULT)],
)
def test_f32_and_tf32_say_how_f32_is_multiplied(
    precision: Precision, wanted: lax.Precision
) -> None:
    program, changed = apply(_program(), Rounding(precision=precision))
    assert changed == 2
    said = [e.params["precision"] for e in program.jaxpr.jaxpr.eqns if "precision" in e.params]
    assert said == [(wanted, wanted)] * 2
    np.testing.assert_allclose(_run(program), _run(_program()), rtol=1e-5, atol=1e-5)


def test_integers_are_left_alone() -> None:
    def function(x: Array, y: Array) -> list[Array]:
        return [jnp.dot(x, y)]

    x = np.ones((3, 3), np.int32)
    program = Program(
        signature="s",
        jaxpr=jax.make_jaxpr(function)(x, x),
        weight_names=("x",),
        input_names=("y",),
        output_names=("z",),
    )
    assert apply(program, Rounding(precision=Precision.BF16))[1] == 0


def test_every_platform_has_its_own_default() -> None:
    assert DEFAULTS == {
        "tpu": Precision.BF16,
        "cuda": Precision.TF32,
        "cpu": Precision.F32,
    }
