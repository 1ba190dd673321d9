"""Precision: what is rounded, what is kept, and what it does to numbers and to memory."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax
from jax.extend.core import jaxpr_as_fun

from jaxrt.errors import UsageError
from jaxrt.passes import prepare
from jaxrt.passes.precision import DEFAULTS, Precision, Rounded, Rounding, apply, emulated
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


def _at(precision: Precision, *kept: str) -> Rounded:
    return apply(_program(), Rounding(precision=precision, kept=kept), "cpu")


def _run(program: Program) -> Any:
    return np.asarray(jax.jit(jaxpr_as_fun(program.jaxpr))(*WEIGHTS.values(), IDS)[0])


def test_bf16_rounds_products_convolutions_and_tables() -> None:
    rounded = _at(Precision.BF16)
    assert (rounded.changed, rounded.kept) == (3, 0)
    exact, found = _run(_program()), _run(rounded.program)
    assert found.dtype == np.float32
    error = np.max(np.abs(found - exact)) / np.max(np.abs(exact))
    assert 1e-5 < error < 1e-2


def test_weights_are_stored_rounded_and_take_half() -> None:
    program = _at(Precision.BF16).program
    with jax.enable_x64(True):
        split = prepare.split(program)
    assert {a.dtype for a in split.apply.weight_avals} == {np.dtype(jnp.bfloat16)}
    held = sum(a.size * a.dtype.itemsize for a in split.apply.weight_avals)
    assert held * 2 == sum(w.nbytes for w in WEIGHTS.values())


def test_layers_can_be_kept() -> None:
    rounded = _at(Precision.BF16, "^fir")
    assert (rounded.changed, rounded.kept) == (2, 1)
    eqns: Any = rounded.program.jaxpr.jaxpr.eqns
    dtypes = {
        eqn.primitive.name: eqn.invars[1].aval.dtype
        for eqn in eqns
        if eqn.primitive.name in ("dot_general", "conv_general_dilated")
    }
    assert dtypes["dot_general"] == np.float32
    assert dtypes["conv_general_dilated"] == jnp.bfloat16


@pytest.mark.parametrize(
    ("precision", "wanted"),
    [(Precision.F32, lax.Precision.HIGHEST), (Precision.TF32, lax.Precision.HIGH)],
)
def test_f32_and_tf32_say_how_f32_is_multiplied(
    precision: Precision, wanted: lax.Precision
) -> None:
    rounded = _at(precision)
    program = rounded.program
    assert rounded.changed == 2
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
    assert apply(program, Rounding(precision=Precision.BF16), "tpu").changed == 0


def test_every_platform_has_its_own_default() -> None:
    assert DEFAULTS == {
        "tpu": Precision.BF16,
        "cuda": Precision.TF32,
        "cpu": Precision.F32,
    }


def test_the_platform_decides_where_nobody_does() -> None:
    assert Rounding().on("tpu") is Precision.BF16
    assert Rounding(precision=Precision.F32).on("tpu") is Precision.F32
    (dot,) = [
        eqn
        for eqn in apply(_program(), Rounding(), "cuda").program.jaxpr.jaxpr.eqns
        if eqn.primitive.name == "dot_general"
    ]
    assert dot.params["precision"] == (lax.Precision.HIGH, lax.Precision.HIGH)


def test_roundings_are_written_and_read() -> None:
    for rounding in (Rounding(), Rounding(precision=Precision.BF16, kept=("a", "b$"))):
        assert Rounding.from_json(rounding.to_json()) == rounding


def test_what_is_no_regular_expression_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--keep-f32 'a\(': no regular expression"):
        Rounding(kept=("a(",))


def test_emulated_tf32_rounds_as_far_as_tf32_does() -> None:
    program = _at(Precision.TF32, "^fir").program
    exact, found = _run(_program()), _run(emulated(program))
    error = np.max(np.abs(found - exact)) / np.max(np.abs(exact))
    assert 1e-6 < error < 1e-3
    rounded = [
        e for e in emulated(program).jaxpr.jaxpr.eqns if e.primitive.name == "reduce_precision"
    ]
    assert len(rounded) == 2  # of the convolution, the product is kept
    assert all(e.params["mantissa_bits"] == 10 for e in rounded)


def _looping(table: Array, first: Array, kernel: Array, ids: Array) -> list[Array]:
    """A weight as a constant of a loop, one handed on by it, and one that a branch multiplies."""

    def body(carry: tuple[Any, Array, Array]) -> tuple[Any, Array, Array]:
        step, state, same = carry
        return step + 1, jnp.tanh(state @ first @ same), same

    state = table[ids[:, 0]]
    _, state, _ = lax.while_loop(lambda c: c[0] < 3, body, (0, state, first.T))
    wide = jnp.squeeze(kernel[0]).T
    return [lax.cond(ids[0, 0] > 5, lambda x: x @ wide[:, :32].T, lambda x: x[:, :8], state)]


def _scanning(table: Array, first: Array, kernel: Array, ids: Array) -> list[Array]:
    """A weight as a constant of a scan, and one that it runs over."""

    def body(state: Array, row: Array) -> tuple[Array, None]:
        return jnp.tanh(state @ first @ first.T) + row[None, :], None

    state, _ = lax.scan(body, table[ids[:, 0]] * kernel[0, 0, 0], table)
    return [state]


def test_weights_are_known_inside_scans() -> None:
    program = Program(
        signature="s",
        jaxpr=jax.make_jaxpr(_scanning)(*WEIGHTS.values(), IDS),
        weight_names=tuple(WEIGHTS),
        input_names=("ids",),
        output_names=("y",),
    )
    for pattern, kept in (("^first$", 2), ("^kernel$", 0)):
        rounding = Rounding(precision=Precision.BF16, kept=(pattern,))
        assert apply(program, rounding, "tpu").kept == kept, pattern


def test_weights_are_known_inside_loops_and_branches() -> None:
    program = Program(
        signature="s",
        jaxpr=jax.make_jaxpr(_looping)(*WEIGHTS.values(), IDS),
        weight_names=tuple(WEIGHTS),
        input_names=("ids",),
        output_names=("y",),
    )
    for pattern, kept in (("^first$", 2), ("^kernel$", 1), ("^table$", 1), ("", 4)):
        rounding = Rounding(precision=Precision.BF16, kept=(pattern,))
        assert apply(program, rounding, "tpu").kept == kept, pattern
