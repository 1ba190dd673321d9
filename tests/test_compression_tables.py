"""Tables of few bits on a CPU: rows in words, what is looked up, what is stored."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from programs import program, run

from jaxrt.compression import rewrite
from jaxrt.compression.schemes import parse_rule
from jaxrt.passes import prepare
from jaxrt.passes.tables import join
from jaxrt.target import Target

CPU = Target(platform="cpu", device_kind="cpu", num_devices=1, fingerprint="", features="")
MESH = Target(platform="cpu", device_kind="cpu", num_devices=8, fingerprint="", features="")
RNG = np.random.default_rng(0)
Array = np.ndarray[Any, Any]


def _split(
    shape: tuple[int, int], scheme: str, target: Target = CPU, *, tied: bool = False
) -> tuple[prepare.Split, Any, Array]:
    table = RNG.standard_normal(shape).astype(np.float32)

    def function(w: Any, ids: Any) -> list[Any]:
        found = jnp.take(w["table"], ids, axis=0, mode="clip")
        return [jnp.dot(found, w["table"].T) if tied else found]

    made = program(function, 4, {"ids": ((3,), np.int32)}, {"table": table})
    held, _ = rewrite.apply(made, [parse_rule(f".*={scheme}")], target)
    return prepare.split(held), made, table


def _stored(split: prepare.Split) -> list[tuple[str, tuple[int, ...]]]:
    return [(a.dtype.name, a.shape) for a in split.apply.weight_avals]


def _answers(split: prepare.Split, table: Array, ids: Array) -> Array:
    prepared = prepare.run_prepare(split, {"table": table})
    found: Array = np.asarray(run(split.apply.jaxpr, [*prepared.values(), ids])[0])
    return found


@pytest.mark.parametrize(
    ("width", "scheme", "wanted"),
    [
        (64, "int8", [("int32", (200, 17))]),
        (48, "int8", [("int32", (200, 12)), ("bfloat16", (200, 1))]),
        (16, "int8", [("int32", (200, 4)), ("float32", (1, 16))]),
        (64, "int4", [("int32", (200, 9))]),
        (33, "int8", [("int8", (200, 33)), ("bfloat16", (200, 1))]),
    ],
)
def test_rows_lie_in_words_where_little_is_wasted(width: int, scheme: str, wanted: Any) -> None:
    split, _, _ = _split((200, width), scheme)
    assert sorted(_stored(split)) == sorted(wanted)


@pytest.mark.parametrize("width", [16, 48, 64, 128])
@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_words_give_the_rows_that_other_targets_look_up(width: int, scheme: str) -> None:
    ids = np.asarray([[0, 3, 199], [200, 999, -1], [7, 7, 7], [48, 1, 2]], np.int32)
    state = RNG.bit_generator.state
    split, _, table = _split((200, width), scheme)
    RNG.bit_generator.state = state
    apart, _, same = _split((200, width), scheme, MESH)
    assert np.array_equal(table, same)
    assert ("int32", (200, width // 4)) not in _stored(apart)
    np.testing.assert_array_equal(_answers(split, table, ids), _answers(apart, table, ids))


def test_tables_that_are_multiplied_with_too_keep_their_columns() -> None:
    split, _, _ = _split((200, 64), "int8", tied=True)
    assert sorted(name for name, _ in _stored(split)) == ["bfloat16", "int8"]


def test_words_are_looked_up_before_they_are_taken_apart() -> None:
    split, _, _ = _split((200, 64), "int8")
    names = [eqn.primitive.name for eqn in split.apply.jaxpr.jaxpr.eqns]
    assert names.count("gather") == 1
    assert names[names.index("gather") + 1] == lax.optimization_barrier_p.name


def test_tables_of_one_width_are_looked_up_at_once_in_few_bits_too() -> None:
    weights = {f"t{i}": RNG.standard_normal((200, 64)).astype(np.float32) for i in range(5)}

    def function(w: Any, ids: Any) -> list[Any]:
        found = [jnp.take(w[name], ids[:, i], axis=0, mode="clip") for i, name in enumerate(w)]
        return [jnp.concatenate(found, 1)]

    made = program(function, 4, {"ids": ((5,), np.int32)}, weights)
    held, _ = rewrite.apply(made, [parse_rule(".*=int8")], CPU)
    joined, count = join(held)
    split = prepare.split(joined)
    assert count == 5 and _stored(split) == [("int32", (1000, 17))]
    ids = np.asarray(RNG.integers(-1, 201, (4, 5)), np.int32)
    apart = prepare.split(held)
    got, want = (
        run(s.apply.jaxpr, [*prepare.run_prepare(s, weights).values(), ids])[0]
        for s in (split, apart)
    )
    np.testing.assert_array_equal(got, want)
    names = [eqn.primitive.name for eqn in split.apply.jaxpr.jaxpr.eqns]
    assert names.count("gather") == names.count(lax.optimization_barrier_p.name) == 1
