"""Channels through every structure that networks have: what hangs on one goes with it."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import programs
import pytest
from jax import lax

from jaxrt.passes import prepare, prune
from jaxrt.passes.channels import components
from jaxrt.program import Program

Array = np.ndarray[Any, Any]
Weights = dict[str, Array]
ROWS = 4


def floats(*shape: int) -> Array:
    return np.random.default_rng([len(shape), *shape]).normal(size=shape).astype(np.float32)


def ran(program: Program, weights: Weights, inputs: Any) -> tuple[Array, dict[str, Any], float]:
    """Its output, the shapes it stores, and the multiplications of its products."""
    split = prepare.split(program)
    stored = prepare.run_prepare(split, {n: weights[n] for n in split.needed})
    given = [stored[n] for n in split.apply.weight_names]
    eqns: Any = split.apply.jaxpr.jaxpr.eqns
    flops = sum(
        float(eqn.outvars[0].aval.size * eqn.invars[1].aval.size)
        for eqn in eqns
        if eqn.primitive.name in ("dot_general", "conv_general_dilated")
    )
    by_size = sorted(stored.items(), key=lambda item: item[1].size)
    shapes = {name.partition("~")[0]: array.shape for name, array in by_size}
    out = programs.run(split.apply.jaxpr, [*given, *programs.rows_of(inputs, ROWS)])[0]
    return out, shapes, flops


def check(function: Callable[..., Any], weights: Weights, inputs: Any, want: Any) -> None:
    """What is left of `weights` is `want`, sums have fewer terms, and answers are the same."""
    program = programs.program(function, ROWS, inputs, weights)
    kept = prune.dead(program, weights)
    smaller = prune.apply(program, kept, prune.constants(program, weights, kept))
    before, _, flops_before = ran(program, weights, inputs)
    after, shapes, flops_after = ran(smaller, weights, inputs)
    left = {
        name: tuple(len(kept.get(name, {}).get(d, range(n))) for d, n in enumerate(a.shape))
        for name, a in weights.items()
    }
    changed = {name: shape for name, shape in left.items() if shape != weights[name].shape}
    assert changed == want
    assert {name: shapes[name] for name in want} == want
    assert flops_after < flops_before or not flops_before
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)


IMAGE = {"x": ((6, 6, 3), np.float32)}
WORDS = {"x": ((5,), np.int32)}
STEPS = {"x": ((5, 6), np.float32)}


def conv(x: Any, kernel: Any, padding: str = "SAME", groups: int = 1) -> Any:
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, (1, 1), padding, dimension_numbers=numbers, feature_group_count=groups
    )


@pytest.mark.parametrize(
    ("padding", "shift", "goes"),
    [("VALID", 0.5, True), ("SAME", -0.5, True), ("SAME", 0.5, False)],
)
def test_a_norm_without_scale_is_a_constant_that_borders_show(
    padding: str, shift: float, goes: bool
) -> None:
    weights = {"a": floats(3, 3, 3, 8), "scale": floats(8), "shift": floats(8)}
    weights |= {"b": floats(3, 3, 8, 4)}
    weights["scale"][5], weights["shift"][5] = 0, shift

    def function(w: Any, x: Any) -> Any:
        x = jax.nn.relu(conv(x, w["a"]) * w["scale"] + w["shift"])
        return conv(x, w["b"], padding)

    with jax.numpy_rank_promotion("allow"):
        if not goes:
            program = programs.program(function, ROWS, IMAGE, weights)
            assert prune.dead(program, weights) == {}
            return
        shapes = {"a": (3, 3, 3, 7), "scale": (7,), "shift": (7,), "b": (3, 3, 7, 4)}
        check(function, weights, IMAGE, shapes)


def test_channels_of_a_residual_go_when_every_branch_is_silent() -> None:
    weights = {"in": floats(1, 1, 3, 8), "one": floats(3, 3, 8, 8), "head": floats(8, 2)}
    weights["in"][..., [1, 2]] = 0
    weights["one"][..., [2, 3]] = 0

    def function(w: Any, x: Any) -> Any:
        x = jax.nn.relu(conv(x, w["in"]))
        x = x + jax.nn.relu(conv(x, w["one"]))
        return x.mean(axis=(1, 2)) @ w["head"]

    left = {"in": (1, 1, 3, 7), "one": (3, 3, 7, 7), "head": (7, 2)}
    check(function, weights, IMAGE, left)


def test_branches_that_are_joined_and_parted_lose_their_own_channels() -> None:
    weights = {"a": floats(1, 1, 3, 4), "b": floats(3, 3, 3, 6), "c": floats(1, 1, 10, 4)}
    weights |= {"d": floats(2, 3)}
    weights["a"][..., 0] = 0
    weights["b"][..., [3, 4]] = 0
    weights["c"][..., 1] = 0

    def function(w: Any, x: Any) -> Any:
        x = lax.concatenate([jax.nn.relu(conv(x, w["a"])), jax.nn.relu(conv(x, w["b"]))], 3)
        x = conv(x, w["c"])
        x = x[..., :2] * jax.nn.sigmoid(x[..., 2:])  # a gated linear unit
        return x.max(axis=(1, 2)) @ w["d"]

    left = {"a": (1, 1, 3, 3), "b": (3, 3, 3, 4), "c": (1, 1, 7, 2), "d": (1, 3)}
    check(function, weights, IMAGE, left)


def test_depthwise_kernels_go_with_what_they_hear_several_of_one_too() -> None:
    weights = {"a": floats(1, 1, 3, 6), "deep": floats(3, 3, 1, 12), "b": floats(1, 1, 12, 4)}
    weights["a"][..., 4] = 0
    weights["deep"][..., [2, 3]] = 0  # both kernels of channel 1

    def function(w: Any, x: Any) -> Any:
        x = jax.nn.relu(conv(x, w["a"]))
        return conv(jax.nn.relu(conv(x, w["deep"], groups=6)), w["b"])

    left = {"a": (1, 1, 3, 4), "deep": (3, 3, 1, 8), "b": (1, 1, 8, 4)}
    check(function, weights, IMAGE, left)


def test_groups_of_a_convolution_stay_equally_large() -> None:
    weights = {"a": floats(1, 1, 3, 8), "grouped": floats(3, 3, 4, 6), "b": floats(1, 1, 6, 4)}
    weights["a"][..., [1, 5, 2]] = 0  # channel 1 of both groups, 2 of the first alone
    weights["grouped"][..., [0, 3]] = 0

    def function(w: Any, x: Any) -> Any:
        x = jax.nn.relu(conv(x, w["a"]))
        return conv(jax.nn.relu(conv(x, w["grouped"], groups=2)), w["b"])

    left = {"a": (1, 1, 3, 6), "grouped": (3, 3, 3, 4), "b": (1, 1, 4, 4)}
    check(function, weights, IMAGE, left)


def test_pixels_of_a_flattened_image_are_one_channel() -> None:
    weights = {"a": floats(3, 3, 3, 5), "bias": floats(5), "b": floats(80, 7), "c": floats(7, 2)}
    weights["a"][..., 3] = 0
    weights["b"][:, 2] = 0

    def function(w: Any, x: Any) -> Any:
        x = jax.nn.relu(conv(x, w["a"], "VALID") + w["bias"][None, None, None])
        x = x.transpose(0, 3, 1, 2).reshape(ROWS, 80)
        return jax.nn.relu(x @ w["b"]) @ w["c"]

    left = {"a": (3, 3, 3, 4), "bias": (4,), "b": (64, 6), "c": (6, 2)}
    check(function, weights, IMAGE, left)


def test_squeeze_and_excite_goes_with_what_it_scales() -> None:
    weights = {"a": floats(3, 3, 3, 8), "down": floats(8, 4), "up": floats(4, 8)}
    weights |= {"b": floats(1, 1, 8, 4)}
    weights["a"][..., [0, 7]] = 0
    weights["down"][:, 1] = 0

    def function(w: Any, x: Any) -> Any:
        x = jax.nn.relu(conv(x, w["a"]))
        gate = jax.nn.sigmoid(jax.nn.relu(x.mean(axis=(1, 2)) @ w["down"]) @ w["up"])
        return conv(x * gate[:, None, None], w["b"])

    left = {"a": (3, 3, 3, 6), "down": (6, 3), "up": (3, 6), "b": (1, 1, 6, 4)}
    check(function, weights, IMAGE, left)


@pytest.mark.parametrize("dead", ["value", "out"])
def test_a_head_of_attention_goes_whole(dead: str) -> None:
    weights = {name: floats(6, 12) for name in ("query", "key", "value")} | {"out": floats(12, 6)}
    if dead == "value":
        weights["value"][:, 4:8] = 0
    else:
        weights["out"][4:8] = 0

    def heads(x: Any, kernel: Any) -> Any:
        return (x @ kernel).reshape(ROWS, 5, 3, 4).transpose(0, 2, 1, 3)

    def function(w: Any, x: Any) -> Any:
        query, key, value = (heads(x, w[name]) for name in ("query", "key", "value"))
        share = jax.nn.softmax(query @ key.swapaxes(2, 3) / 2.0)
        return (share @ value).transpose(0, 2, 1, 3).reshape(ROWS, 5, 12) @ w["out"]

    left = {"query": (6, 8), "key": (6, 8), "value": (6, 8), "out": (8, 6)}
    check(function, weights, STEPS, left)


def test_columns_of_an_embedding_go_and_its_rows_stay() -> None:
    weights = {"table": floats(9, 8), "a": floats(8, 4)}
    weights["a"][[2, 3]] = 0
    weights["table"][[1, 4]] = 0  # some word may ask for them

    def function(w: Any, x: Any) -> Any:
        return w["table"][x].sum(axis=1) @ w["a"]

    check(function, weights, WORDS, {"table": (9, 6), "a": (6, 4)})


def lstm(w: Any, x: Any, state: tuple[Any, Any]) -> tuple[Any, Any]:
    """One step of 4 units; gates in the order of Keras."""
    gates = x @ w["kernel"] + state[0] @ w["recurrent"] + w["bias"][None]
    take, keep, new, show = (gates[:, 4 * i : 4 * i + 4] for i in range(4))
    cell = jax.nn.sigmoid(keep) * state[1] + jax.nn.sigmoid(take) * lax.tanh(new)
    return jax.nn.sigmoid(show) * lax.tanh(cell), cell


def scanned(w: Any, x: Any) -> Any:
    zeros = jax.numpy.zeros((ROWS, 4), np.float32)

    def step(state: Any, now: Any) -> Any:
        state = lstm(w, now, state)
        return state, state[0]

    _, every = lax.scan(step, (zeros, zeros), x.swapaxes(0, 1))
    return every.swapaxes(0, 1) @ w["head"]


def looped(w: Any, x: Any) -> Any:
    zeros = jax.numpy.zeros((ROWS, 4), np.float32)
    every = jax.numpy.zeros((5, ROWS, 4), np.float32)

    def step(carried: Any) -> Any:
        at, every, state = carried
        now = lax.dynamic_index_in_dim(x, at, 1, keepdims=False)
        state = lstm(w, now, state)
        return at + 1, lax.dynamic_update_index_in_dim(every, state[0], at, 0), state

    start = (np.int32(0), every, (zeros, zeros))
    _, every, _ = lax.while_loop(lambda c: c[0] < 5, step, start)
    return every.swapaxes(0, 1) @ w["head"]


@pytest.mark.parametrize("function", [scanned, looped])
@pytest.mark.parametrize("dead", ["silent", "unheard"])
def test_a_unit_of_an_lstm_goes_with_its_four_gates(
    function: Callable[..., Any], dead: str
) -> None:
    weights = {"kernel": floats(6, 16), "recurrent": floats(4, 16), "bias": floats(16)}
    weights |= {"head": floats(4, 3)}
    if dead == "silent":  # what it would learn is zero, and it begins with zero
        weights["kernel"][:, 10] = weights["recurrent"][:, 10] = weights["bias"][10] = 0
    else:
        weights["recurrent"][2] = weights["head"][2] = 0
    left = {"kernel": (6, 12), "recurrent": (3, 12), "bias": (12,), "head": (3, 3)}
    (group,) = prune.groups(programs.program(function, ROWS, STEPS, weights))
    assert group.size == 4 and set(group.ends) == {"recurrent", "head"}
    check(function, weights, STEPS, left)


def test_a_branch_loses_what_both_lose() -> None:
    weights = {"a": floats(6, 5), "b": floats(5, 4), "c": floats(5, 4)}
    weights["b"][[1, 2]] = weights["c"][[2, 3]] = 0

    def function(w: Any, x: Any) -> Any:
        hidden = lax.tanh(x[:, 0] @ w["a"])
        return lax.cond(x[0, 0, 0] > 0, lambda h: h @ w["b"], lambda h: h @ w["c"], hidden)

    check(function, weights, STEPS, {"a": (6, 4), "b": (4, 4), "c": (4, 4)})


def test_channels_nobody_listens_to_go() -> None:
    weights = {"a": floats(6, 8), "b": floats(3, 2)}

    def function(w: Any, x: Any) -> Any:
        return lax.tanh(x[:, 0] @ w["a"])[:, 2:5] @ w["b"]

    check(function, weights, STEPS, {"a": (6, 3)})


def test_components_are_numbered_from_zero() -> None:
    ones, others = np.array([5, 0, 3]), np.array([3, 2, 1])
    assert components(6, ones, others).tolist() == [0, 1, 0, 1, 2, 1]
