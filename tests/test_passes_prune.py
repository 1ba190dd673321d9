"""Channels that may be taken, and programs without them, against the programs as they were."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import programs
import pytest
from jax import lax

from jaxrt.passes import prepare, prune
from jaxrt.program import Program

Array = np.ndarray[Any, Any]


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def dense(activation: Callable[[Any], Any]) -> Callable[..., Any]:
    def function(w: dict[str, Any], x: Any) -> Any:
        hidden = activation(x @ w["first"] + w["bias"][None])
        return hidden @ w["second"] + w["last"][None]

    return function


def dense_weights() -> dict[str, Array]:
    return {
        "first": floats(6, 8),
        "bias": floats(8),
        "second": floats(8, 3),
        "last": floats(3),
    }


X = {"x": ((6,), np.float32)}


def made(function: Callable[..., Any], weights: dict[str, Array], inputs: Any = X) -> Program:
    return programs.program(function, 4, inputs, weights)


def outputs(program: Program, weights: dict[str, Array], inputs: Any = X) -> Array:
    split = prepare.split(program)
    stored = prepare.run_prepare(split, {n: weights[n] for n in split.needed})
    given = [stored[n] for n in split.apply.weight_names]
    return programs.run(split.apply.jaxpr, [*given, *programs.rows_of(inputs, 4)])[0]


def stored(program: Program, weights: dict[str, Array]) -> dict[str, tuple[int, ...]]:
    split = prepare.split(program)
    found = prepare.run_prepare(split, {n: weights[n] for n in split.needed})
    by_size = sorted(found.items(), key=lambda item: item[1].size)
    return {name.partition("~")[0]: array.shape for name, array in by_size}


def test_a_column_of_zeros_takes_its_bias_and_the_row_of_the_next_kernel_along() -> None:
    weights = dense_weights()
    weights["first"][:, [2, 5]] = 0
    weights["bias"][[2, 5]] = 0
    program = made(dense(jax.nn.relu), weights)
    kept = prune.dead(program, weights)
    assert {n: {d: len(i) for d, i in dims.items()} for n, dims in kept.items()} == {
        "first": {1: 6},
        "bias": {0: 6},
        "second": {0: 6},
    }
    smaller = prune.apply(program, kept)
    assert stored(smaller, weights) == {
        "first": (6, 6),
        "bias": (6,),
        "second": (6, 3),
        "last": (3,),
    }
    np.testing.assert_allclose(outputs(smaller, weights), outputs(program, weights), rtol=1e-5)


def test_a_row_of_zeros_is_enough_whatever_comes_in() -> None:
    weights = dense_weights()
    weights["second"][3] = 0
    program = made(dense(jax.nn.sigmoid), weights)
    kept = prune.dead(program, weights)
    assert list(kept["first"][1]) == [0, 1, 2, 4, 5, 6, 7]
    smaller = prune.apply(program, kept)
    np.testing.assert_allclose(outputs(smaller, weights), outputs(program, weights), rtol=1e-5)


def folded(program: Program, weights: dict[str, Array]) -> Program:
    """Without its dead channels."""
    kept = prune.dead(program, weights)
    return prune.apply(program, kept, prune.constants(program, weights, kept))


@pytest.mark.parametrize("activation", [jax.nn.sigmoid, lambda x: x + 1.0, lax.cos, jax.nn.gelu])
@pytest.mark.parametrize("bias", [0.0, 0.7])
def test_a_channel_that_is_constant_moves_into_the_sums_that_follow(
    activation: Callable[[Any], Any], bias: float
) -> None:
    weights = dense_weights()
    weights["first"][:, 2] = 0
    weights["bias"][2] = bias
    program = made(dense(activation), weights)
    smaller = folded(program, weights)
    assert stored(smaller, weights)["first"] == (6, 7)
    np.testing.assert_allclose(
        outputs(smaller, weights), outputs(program, weights), rtol=1e-5, atol=1e-6
    )


def test_what_a_constant_makes_constant_goes_as_well() -> None:
    weights = {"a": floats(6, 5), "ab": floats(5), "b": floats(5, 7), "c": floats(7, 2)}
    weights["a"][:, [1, 3]] = 0
    weights["b"][[0, 2, 4], 6] = 0  # hears constants alone

    def function(w: dict[str, Any], x: Any) -> Any:
        return lax.tanh(lax.tanh(x @ w["a"] + w["ab"][None]) @ w["b"]) @ w["c"]

    program = made(function, weights)
    smaller = folded(program, weights)
    left = {"a": (6, 3), "ab": (3,), "b": (3, 6), "c": (6, 2)}
    assert stored(smaller, weights) == left
    np.testing.assert_allclose(
        outputs(smaller, weights), outputs(program, weights), rtol=1e-5, atol=1e-6
    )


def test_what_dies_lets_die_what_it_alone_listened_to() -> None:
    weights = {"a": floats(6, 5), "b": floats(5, 7), "c": floats(7, 2)}
    weights["c"][[1, 4]] = 0
    weights["b"][3] = 0
    weights["b"][3, [1, 4]] = 2.0

    def function(w: dict[str, Any], x: Any) -> Any:
        return lax.tanh(lax.tanh(x @ w["a"]) @ w["b"]) @ w["c"]

    program = made(function, weights)
    kept = prune.dead(program, weights)
    assert list(kept["a"][1]) == [0, 1, 2, 4]
    assert len(kept["b"][1]) == 5
    smaller = prune.apply(program, kept)
    np.testing.assert_allclose(outputs(smaller, weights), outputs(program, weights), rtol=1e-5)


IMAGE = {"x": ((8, 8, 3), np.float32)}


def convolve(x: Any, kernel: Any, groups: int = 1) -> Any:
    return lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def block(w: dict[str, Any], x: Any) -> Any:
    x = jax.nn.relu(
        convolve(x, w["in"]) * w["scale"][None, None, None] + w["shift"][None, None, None]
    )
    x = lax.reduce_window(x, -np.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = jax.nn.relu(convolve(x, w["depthwise"], groups=6))
    x = convolve(x, w["out"])
    return x.mean(axis=(1, 2)) @ w["head"]


def block_weights() -> dict[str, Array]:
    return {
        "in": floats(3, 3, 3, 6),
        "scale": floats(6),
        "shift": floats(6, seed=1),
        "depthwise": floats(3, 3, 1, 6),
        "out": floats(1, 1, 6, 4),
        "head": floats(4, 2),
    }


def test_channels_go_through_batch_norm_pooling_and_depthwise_convolutions() -> None:
    weights = block_weights()
    weights["scale"][1] = weights["shift"][1] = 0
    weights["depthwise"][..., 4] = 0
    program = made(block, weights, IMAGE)
    kept = prune.dead(program, weights)
    for name, dim in {"in": 3, "scale": 0, "shift": 0, "depthwise": 3, "out": 2}.items():
        assert list(kept[name][dim]) == [0, 2, 3, 5], name
    smaller = prune.apply(program, kept)
    got, want = (outputs(p, weights, IMAGE) for p in (smaller, program))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def _without_the_weaker_half(program: Program, weights: dict[str, Array]) -> prune.Kept:
    found = prune.Analysis(program)
    gone = np.zeros(found.channels.count, bool)
    for group in prune.groups_of(found):
        order = group.channels[np.argsort(prune.norms(found, group, weights), kind="stable")]
        gone[order[: min(group.size - 1, group.size // 2)]] = True
    return found.kept(gone)


def test_the_weakest_channels_go_and_masked_weights_give_the_same_numbers() -> None:
    weights = block_weights()
    program = made(block, weights, IMAGE)
    kept = _without_the_weaker_half(program, weights)
    assert len(kept["in"][3]) == 3 and len(kept["out"][3]) == 2
    smaller = prune.apply(program, kept)
    got = outputs(smaller, weights, IMAGE)
    want = outputs(program, prune.masked(weights, kept), IMAGE)
    assert not np.allclose(want, outputs(program, weights, IMAGE), rtol=1e-2)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def residual(w: dict[str, Any], x: Any) -> Any:
    return (x + jax.nn.relu(x @ w["up"]) @ w["down"]) @ w["head"]


def test_channels_of_the_input_or_the_output_stay_and_those_inside_go() -> None:
    weights = {"up": floats(6, 9), "down": floats(9, 6), "head": floats(6, 6)}
    weights["head"][2] = 0  # what ends there is the input too
    program = made(residual, weights)
    assert prune.dead(program, weights) == {}
    (group,) = prune.groups(program)
    assert (group.size, dict(group.weights)) == (9, {"up": (1,), "down": (0,)})
    assert group.ends == ("down",)


@pytest.mark.parametrize(
    "function",
    [
        lambda w, x: jax.nn.softmax(x @ w["first"]) @ w["second"],  # a sum over the channels
        lambda w, x: lax.cumsum(x @ w["first"], axis=1) @ w["second"],
        lambda w, x: lax.sort(x @ w["first"]) @ w["second"],
        lambda w, x: (x @ w["first"] + lax.iota(np.float32, 8)[None]) @ w["second"],
    ],
)
def test_nothing_is_taken_where_channels_meet_each_other_or_nobody_follows_them(
    function: Callable[..., Any],
) -> None:
    weights = {"first": floats(6, 8), "second": floats(8, 3)}
    assert prune.groups(made(function, weights)) == ()
    weights["second"][1] = 0
    assert prune.dead(made(function, weights), weights) == {}


def test_one_channel_stays_where_all_are_dead() -> None:
    weights = dense_weights()
    weights["second"][:] = 0
    program = made(dense(jax.nn.relu), weights)
    smaller = prune.apply(program, prune.dead(program, weights))
    assert stored(smaller, weights)["second"] == (1, 3)
    np.testing.assert_allclose(outputs(smaller, weights), outputs(program, weights))


def test_indices_that_do_not_agree_are_refused_by_name() -> None:
    program = made(dense(jax.nn.relu), dense_weights())
    with pytest.raises(ValueError, match="'second': dimension 0 keeps other indices"):
        prune.apply(program, {"first": {1: np.arange(4)}, "second": {0: np.arange(5)}})
    with pytest.raises(ValueError, match="'first': dimension 0 is no channels"):
        prune.apply(program, {"first": {0: np.arange(4)}})
