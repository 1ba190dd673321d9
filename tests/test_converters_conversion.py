"""Signatures become programs: at every bucket, with their rows judged, or with a reason."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import programs
import pytest
from fake_tensorflow import FakeTensorFlow, Function, signature, tensor

from jaxrt.converters import conversion
from jaxrt.converters.conversion import Converted, ConvertedSignature
from jaxrt.converters.planning import Plan, Planned
from jaxrt.passes import prepare
from jaxrt.program import Shapes

KERNEL = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
ROWS = signature(x=tensor("float32", None, 4))


def layer(weights: Mapping[str, Any], x: Any) -> dict[str, Any]:
    return {"y": jnp.tanh(x @ weights["kernel"])}


def centered(weights: Mapping[str, Any], x: Any) -> dict[str, Any]:
    return {"y": x - x.mean(axis=0, keepdims=True)}


def scaled_by_the_batch(weights: Mapping[str, Any], x: Any) -> dict[str, Any]:
    return {"y": x * jnp.float32(x.shape[0])}


def plan(*sizes: int) -> Plan:
    return Plan(programs=tuple(Planned(shapes={"x": (n, 4)}, batch=n) for n in sizes))


def convert(
    function: Function,
    chosen: Plan,
    *,
    refuse: Callable[[str, Shapes], str | None] = lambda signature, shapes: None,
    weights: Mapping[str, Any] | None = None,
    spec: Any = ROWS,
) -> tuple[ConvertedSignature, FakeTensorFlow]:
    held = {"kernel": KERNEL} if weights is None else weights
    fake = FakeTensorFlow({"f": function}, {"f": spec}, held, refuse=refuse)
    return conversion.convert(fake, fake.open_model(Path("m"), ()), "f", chosen), fake


def refuse_unless(*sizes: int) -> Callable[[str, Shapes], str | None]:
    return lambda signature, shapes: None if shapes["x"][0] in sizes else "it wants other rows"


def run(program: Converted, *inputs: Any) -> list[Any]:
    held = prepare.run_prepare(program.split, {"kernel": KERNEL})
    weights = [held[name] for name in program.split.apply.weight_names]
    return programs.run(program.split.apply.jaxpr, [*weights, *inputs])


def test_every_planned_size_is_a_program_that_computes_the_function() -> None:
    found, _ = convert(layer, plan(1, 4))
    assert [p.planned.batch for p in found.programs] == [1, 4]
    for program in found.programs:
        x = np.random.default_rng(0).normal(size=(program.planned.batch or 0, 4))
        x = x.astype(np.float32)
        np.testing.assert_allclose(run(program, x)[0], np.tanh(x @ KERNEL), rtol=1e-6)


def test_a_size_nobody_planned_is_lifted_as_a_witness() -> None:
    found, fake = convert(layer, plan(1, 4))
    sizes = [shapes["x"][0] for _, shapes in fake.lowered]
    assert sizes[:2] == [1, 4] and len(sizes) == 3 and sizes[2] not in (1, 4)
    assert len(found.programs) == 2


@pytest.mark.parametrize(
    ("function", "independent"),
    [(layer, True), (centered, False), (scaled_by_the_batch, False)],
)
def test_rows_are_judged_by_all_sizes_together(function: Function, independent: bool) -> None:
    found, _ = convert(function, plan(1, 4))
    assert [p.rows.independent for p in found.programs] == [independent] * 2
    assert all(p.rows.reason for p in found.programs)


def test_one_size_alone_is_held_against_the_witness() -> None:
    found, _ = convert(scaled_by_the_batch, plan(4))
    assert [p.rows.independent for p in found.programs] == [False]


def test_a_size_that_is_refused_is_left_out_with_a_note() -> None:
    found, _ = convert(layer, plan(1, 4, 8), refuse=refuse_unless(1, 4, 5, 7, 3, 2, 6, 9))
    assert [p.planned.batch for p in found.programs] == [1, 4]
    assert found.notes == ("x[8,4] left out: it wants other rows",)
    assert found.refused is None


def test_rows_are_not_trusted_where_only_the_planned_sizes_are_taken() -> None:
    found, _ = convert(layer, plan(4), refuse=refuse_unless(4))
    (program,) = found.programs
    assert not program.rows.independent
    assert program.rows.reason == "TensorFlow refuses it at another batch size"
    assert found.notes == ()


def test_a_signature_that_is_refused_at_every_size_says_why() -> None:
    found, _ = convert(layer, plan(1, 4), refuse=refuse_unless())
    assert found.programs == ()
    assert found.refused == "it wants other rows"


def test_another_guess_is_tried_when_the_first_is_refused_at_every_size() -> None:
    scalar = Plan(programs=(Planned(shapes={"x": ()}, batch=None),))
    guess = Plan(programs=plan(1, 4).programs, otherwise=scalar)

    def double(weights: Mapping[str, Any], x: Any) -> dict[str, Any]:
        return {"y": x * 2}

    found, _ = convert(
        double,
        guess,
        refuse=lambda signature, shapes: "it wants a scalar" if shapes["x"] else None,
    )
    (program,) = found.programs
    assert program.planned.shapes == {"x": ()}
    assert (program.rows.independent, program.rows.reason) == (
        False,
        "the signature has no batch dimension",
    )


def test_ops_that_no_rule_knows_are_a_refusal_that_lists_them() -> None:
    def strange(weights: Mapping[str, Any], x: Any) -> dict[str, Any]:
        out = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return {"y": jax.ffi.ffi_call("nobody_knows_me", out)(x)}

    found, _ = convert(strange, plan(1))
    assert found.programs == ()
    assert found.refused is not None and "nobody_knows_me" in found.refused


def test_a_program_that_draws_random_numbers_is_marked() -> None:
    def noisy(weights: Mapping[str, Any], x: Any) -> dict[str, Any]:
        state = jnp.zeros(2, jnp.uint64)
        _, bits = jax.lax.rng_bit_generator(state, x.shape, jnp.uint32)
        return {"y": x + bits.astype(jnp.float32)}

    (random,) = convert(noisy, plan(2))[0].programs
    (sober,) = convert(layer, plan(2))[0].programs
    assert (random.random, sober.random) == (True, False)


def test_large_constants_become_weights_that_all_sizes_share() -> None:
    table = np.random.default_rng(0).normal(size=(4, 4096)).astype(np.float32)

    def wide(weights: Mapping[str, Any], x: Any) -> dict[str, Any]:
        return {"y": x @ jnp.asarray(table)}

    found, _ = convert(wide, plan(1, 4), weights={})
    ((name, array),) = found.constants.items()
    np.testing.assert_array_equal(array, table)
    assert {p.split.needed for p in found.programs} == {(name,)}


def test_every_lift_is_announced() -> None:
    said: list[str] = []
    fake = FakeTensorFlow({"f": layer}, {"f": ROWS}, {"kernel": KERNEL})
    conversion.convert(fake, fake.open_model(Path("m"), ()), "f", plan(1, 4), step=said.append)
    assert said[:2] == ["lift f x[1,4]", "lift f x[4,4]"] and len(said) == 3
