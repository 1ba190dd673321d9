"""A bool that decides branches is fixed: the other branch goes, answers stay, data stay data."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax
from programs import run

from jaxrt.passes import rows
from jaxrt.passes.prepare import primitives
from jaxrt.passes.specialize import LIMIT, choices, specialize
from jaxrt.program import Program

W = np.array([[2.0, 3.0, 5.0]], np.float32)
X = np.arange(12, dtype=np.float32).reshape(4, 3)
Function = Callable[..., Any]


def program(function: Function, *flags: str, batch: int = 4) -> Program:
    """`function(w, x, *flags)`, x [batch, 3]; flags are scalar bools."""
    avals = [
        jax.ShapeDtypeStruct((1, 3), np.float32),
        jax.ShapeDtypeStruct((batch, 3), np.float32),
        *(jax.ShapeDtypeStruct((), np.bool_) for _ in flags),
    ]
    with jax.enable_x64(True):
        closed = jax.make_jaxpr(function)(*avals)
    return Program(
        signature="f",
        jaxpr=closed,
        weight_names=("w",),
        input_names=("x", *flags),
        output_names=("y",),
    )


def answer(made: Program, flags: Mapping[str, bool], x: np.ndarray[Any, Any] = X) -> Any:
    weights = [W] if made.weight_names else []
    return run(made.jaxpr, [*weights, x, *(np.asarray(v) for v in flags.values())])[0]


def centered(w: Array, x: Array) -> Any:
    return (x - jnp.mean(x, axis=0, keepdims=True)) * w


def scaled(w: Array, x: Array) -> Any:
    return x * w + 1.0


def plain(w: Array, x: Array, training: Array) -> Any:
    return lax.cond(training, centered, scaled, w, x)


def negated(w: Array, x: Array, training: Array) -> Any:
    return lax.cond(jnp.logical_not(training), scaled, centered, w, x)


def numbered(w: Array, x: Array, training: Array) -> Any:
    index = lax.convert_element_type(training, np.int32)
    return lax.switch(lax.select(index >= 0, index, jnp.int32(1)), [scaled, centered], w, x)


def nested_in_a_branch(w: Array, x: Array, training: Array) -> Any:
    return lax.cond(x[0, 0] > 3, lambda: plain(w, x, training), lambda: -plain(w, x, training))


def carried_by_a_loop(w: Array, x: Array, training: Array) -> Any:
    def step(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        i, y, flag = state
        return i + np.int32(1), plain(w, y, flag), flag

    start = (jnp.int32(0), x, training)
    return lax.while_loop(lambda state: state[0] < 2, step, start)[1]


def captured_by_a_loop(w: Array, x: Array, training: Array) -> Any:
    return lax.fori_loop(0, 2, lambda _, y: plain(w, y, training), x)


def scanned(w: Array, x: Array, training: Array) -> Any:
    return lax.scan(lambda y, _: (plain(w, y, training), None), x, None, length=2)[0]


def called(w: Array, x: Array, training: Array) -> Any:
    return jax.jit(plain)(w, x, training)


DECIDED = [
    plain, negated, numbered, nested_in_a_branch, carried_by_a_loop, captured_by_a_loop, scanned,
    called,
]  # fmt: skip


@pytest.mark.parametrize("function", DECIDED)
@pytest.mark.parametrize("value", [False, True])
def test_a_program_for_one_value_answers_as_the_whole_one_and_branches_less(
    function: Function, value: bool
) -> None:
    made = program(function, "training")
    assert choices([made]) == ({"training": False}, {"training": True})
    fixed = specialize(made, {"training": value})
    before, after = (list(primitives(p.jaxpr)).count("cond") for p in (made, fixed))
    assert after < before
    # Whatever is fed: the value is in the program.
    for fed in (False, True):
        found = answer(fixed, {"training": fed})
        np.testing.assert_allclose(found, answer(made, {"training": value}), rtol=1e-6)
    assert fixed.input_shapes == made.input_shapes


@pytest.mark.parametrize("function", DECIDED)
def test_rows_are_independent_where_only_training_mixes_them(function: Function) -> None:
    sized = {batch: program(function, "training", batch=batch) for batch in (2, 3)}
    shared = frozenset({"training"})
    assert not rows.verdict(sized, shared).independent
    inference, training = (
        rows.verdict({b: specialize(p, {"training": v}) for b, p in sized.items()}, shared)
        for v in (False, True)
    )
    # That one asks the first row which way to go.
    assert inference.independent == (function is not nested_in_a_branch)
    assert not training.independent


@pytest.mark.parametrize(
    "function",
    [
        lambda w, x, flag: x * w + lax.convert_element_type(flag, np.float32),
        lambda w, x, flag: jnp.where(flag, x * w, -x * w),
        lambda w, x, flag: (
            lax.cond(x[0, 0] > 1, lambda: x * w, lambda: x + w) * flag.astype(np.float32)
        ),
        lambda w, x, flag: x * w,
    ],
)  # fmt: skip
def test_a_bool_that_decides_no_branch_makes_no_programs(function: Function) -> None:
    made = program(function, "flag")
    assert choices([made]) == ({},)
    assert specialize(made, {}) is made


def test_what_two_bools_decide_together_is_fixed_for_each_pair() -> None:
    def both(w: Array, x: Array, a: Array, b: Array) -> Any:
        return lax.cond(jnp.logical_and(a, b), centered, scaled, w, x)

    made = program(both, "a", "b")
    pairs = choices([made])
    assert pairs == tuple({"a": a, "b": b} for a in (False, True) for b in (False, True))
    for values in pairs:
        fixed = specialize(made, values)
        assert "cond" not in list(primitives(fixed.jaxpr))
        np.testing.assert_allclose(answer(fixed, values), answer(made, values), rtol=1e-6)


def test_no_more_inputs_than_the_limit_are_fixed() -> None:
    def many(w: Array, x: Array, *flags: Array) -> Any:
        for flag in flags:
            x = plain(w, x, flag)
        return x

    assert LIMIT == 2
    names = ("a", "b", "c")
    found = choices([program(many, *names)])
    assert [sorted(values) for values in found] == [["a", "b"]] * 4


def test_a_bool_with_rows_is_not_fixed() -> None:
    def by_row(w: Array, x: Array, flags: Array) -> Any:
        return lax.cond(flags[0], centered, scaled, w, x)

    avals = [jax.ShapeDtypeStruct(s, t) for s, t in (((1, 3), np.float32), ((4, 3), np.float32))]
    with jax.enable_x64(True):
        closed = jax.make_jaxpr(by_row)(*avals, jax.ShapeDtypeStruct((4,), np.bool_))
    made = Program(
        signature="f",
        jaxpr=closed,
        weight_names=("w",),
        input_names=("x", "flags"),
        output_names=("y",),
    )
    assert choices([made]) == ({},)


def test_weights_of_the_other_branch_are_dropped() -> None:
    def only_training(w: Array, x: Array, training: Array) -> Any:
        return lax.cond(training, lambda: x * w, lambda: x + 1.0)

    made = program(only_training, "training")
    assert specialize(made, {"training": True}).weight_names == ("w",)
    assert specialize(made, {"training": False}).weight_names == ()


def test_an_index_beyond_the_branches_takes_the_nearest() -> None:
    def switched(w: Array, x: Array, flag: Array) -> Any:
        index = lax.convert_element_type(flag, np.int32) * jnp.int32(7) - jnp.int32(3)
        return lax.switch(index, [scaled, centered], w, x)

    made = program(switched, "flag")
    for value in (False, True):
        fixed = specialize(made, {"flag": value})
        assert "cond" not in list(primitives(fixed.jaxpr))
        found = answer(fixed, {"flag": value})
        np.testing.assert_allclose(found, answer(made, {"flag": value}), rtol=1e-6)
