"""What leaves the request path, what stays, how it is named, and that nothing changes a result."""

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.ad_checkpoint import checkpoint_name
from programs import program, rows_of, run

from jaxrt.passes import prepare
from jaxrt.passes.prepare import Split
from jaxrt.program import Program

F32 = np.float32
Weights = Mapping[str, Array]
N = 2048
"""Floats in a row: 8 KiB, above what is carried regardless of size."""


def weight(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.abs(np.random.default_rng(seed).standard_normal(shape)).astype(F32) + F32(0.1)


NORM = {n: weight(N, seed=i) for i, n in enumerate(("gamma", "beta", "mean", "var"))}
INPUT = {"x": ((N,), F32)}


def norm(w: Weights, x: Array) -> Array:
    scale = w["gamma"] * lax.rsqrt(w["var"] + 1e-3)
    shift = w["beta"] - w["mean"] * scale
    return x * jnp.broadcast_to(scale[None], x.shape) + jnp.broadcast_to(shift[None], x.shape)


def names(closed: Any) -> list[str]:
    return list(prepare.primitives(closed))


def size(found: Program) -> int:
    return sum(int(np.prod(a.shape)) * a.dtype.itemsize for a in found.weight_avals)


def agrees(found: Program, split: Split, weights: Mapping[str, Any]) -> None:
    inputs = {
        n: (a.shape[1:], a.dtype) for n, a in zip(found.input_names, found.input_avals, strict=True)
    }
    data = rows_of(inputs, found.input_avals[0].shape[0])
    prepared = prepare.run_prepare(split, {n: weights[n] for n in split.needed})
    assert list(prepared) == list(split.apply.weight_names)
    assert [(a.shape, a.dtype) for a in prepared.values()] == [
        (a.shape, a.dtype) for a in split.apply.weight_avals
    ]
    wanted = run(found.jaxpr, [*(weights[n] for n in found.weight_names), *data])
    ours = run(split.apply.jaxpr, [*prepared.values(), *data])
    for a, b in zip(wanted, ours, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_batch_norm_leaves_one_product_and_one_sum_on_the_request_path() -> None:
    found = program(norm, 3, INPUT, NORM)
    split = prepare.split(found)
    assert "rsqrt" in names(split.prepare)
    kept = [n for n in names(split.apply.jaxpr) if n not in ("broadcast_in_dim", "reshape", "jit")]
    assert kept == ["mul", "add"]
    assert len(split.prepared_names) == 2
    assert split.needed == ("gamma", "beta", "mean", "var")
    agrees(found, split, NORM)


def test_names_are_the_first_weight_and_do_not_depend_on_the_batch() -> None:
    splits = [prepare.split(program(norm, batch, INPUT, NORM)) for batch in (1, 3, 8)]
    assert len({s.apply.weight_names for s in splits}) == 1
    assert all(n.startswith("gamma~") for n in splits[0].prepared_names)


def test_names_differ_where_a_constant_or_a_weight_does() -> None:
    def other(w: Weights, x: Array) -> Array:
        return x * (w["gamma"] * lax.rsqrt(w["var"] + 1e-5))[None]

    def third(w: Weights, x: Array) -> Array:
        return x * (w["gamma"] * lax.rsqrt(w["mean"] + 1e-5))[None]

    def fourth(w: Weights, x: Array) -> Array:
        return x * (w["gamma"] * lax.rsqrt(w["var"] + 1e-3))[None]

    found = [prepare.split(program(f, 3, INPUT, NORM)) for f in (other, third, fourth)]
    assert len({s.prepared_names for s in found}) == 3
    assert found[2].prepared_names[0] in prepare.split(program(norm, 3, INPUT, NORM)).prepared_names


def test_names_are_the_same_in_another_process() -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "import test_passes_prepare as t\n"
        "from jaxrt.passes import prepare\n"
        "print(*prepare.split(t.program(t.looped, 3, t.INPUT, t.NORM)).prepared_names)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert tuple(out) == prepare.split(program(looped, 3, INPUT, NORM)).prepared_names


def looped(w: Weights, x: Array) -> Any:
    power = lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] * s[1]), (0, w["gamma"]))
    smooth = lax.scan(lambda c, v: (c * 0.5 + v, c), jnp.float32(0.0), w["var"])[1]
    chosen = lax.cond(w["mean"][0] > 0, lambda v: v, lambda v: -v, w["beta"])
    return x * power[1][None] + jax.nn.relu(smooth)[None] * chosen[None]


def test_loops_and_branches_of_weights_move_whole() -> None:
    found = program(looped, 3, INPUT, NORM)
    split = prepare.split(found)
    assert {"while", "scan", "cond"} <= set(names(split.prepare))
    assert not {"while", "scan", "cond"} & set(names(split.apply.jaxpr))
    agrees(found, split, NORM)


def test_what_only_grows_a_weight_stays_in_apply() -> None:
    def grown(w: Weights, x: Array) -> Array:
        wide = jnp.broadcast_to(w["gamma"][None], (64, N))
        padded = jnp.pad(wide * 2.0, ((0, 64), (0, 0)))
        return jnp.concatenate([padded, padded]) @ x[0] + jnp.sum(x)

    found = program(grown, 3, INPUT, {"gamma": NORM["gamma"]})
    split = prepare.split(found)
    assert size(split.apply) <= NORM["gamma"].nbytes
    agrees(found, split, {"gamma": NORM["gamma"]})


def test_an_outer_product_stays_and_what_is_before_it_goes() -> None:
    def outer(w: Weights, x: Array) -> Array:
        a, b = jnp.sqrt(w["gamma"]), jnp.log(w["beta"])
        return (x * b[None]) @ (a[:, None] * b[None])

    weights = {n: NORM[n] for n in ("gamma", "beta")}
    found = program(outer, 3, INPUT, weights)
    split = prepare.split(found)
    assert size(split.apply) == 2 * N * 4
    assert {"sqrt", "log"} <= set(names(split.prepare))
    agrees(found, split, weights)


def test_a_weight_that_is_used_as_it_is_keeps_its_name_and_is_not_copied() -> None:
    def both(w: Weights, x: Array) -> Array:
        return x * w["gamma"][None] + jnp.exp(w["gamma"])[None]

    found = program(both, 3, INPUT, {"gamma": NORM["gamma"]})
    split = prepare.split(found)
    assert split.apply.weight_names == ("gamma",)
    assert split.prepared_names == ()
    prepared = prepare.run_prepare(split, {"gamma": NORM["gamma"]})
    assert prepared["gamma"] is NORM["gamma"]


def test_a_reshaped_weight_is_a_view_in_apply() -> None:
    found = program(
        lambda w, x: x @ jnp.reshape(w["k"], (N, 4)), 3, INPUT, {"k": weight(1, 1, N, 4)}
    )
    assert prepare.split(found).apply.weight_names == ("k",)


def test_a_cast_that_shrinks_is_prepared_and_one_that_grows_is_not() -> None:
    def shrinks(w: Weights, x: Array) -> Array:
        return x.astype(jnp.bfloat16) @ w["k"].astype(jnp.bfloat16)

    def grows(w: Weights, x: Array) -> Array:
        return x @ w["q"].astype(F32) * w["s"]

    wide = {"k": weight(N, 4)}
    small = {"q": np.ones((N, 4), np.int8), "s": np.asarray(0.5, F32)}
    assert size(prepare.split(program(shrinks, 3, INPUT, wide)).apply) == N * 4 * 2
    split = prepare.split(program(grows, 3, INPUT, small))
    assert "q" in split.apply.weight_names
    agrees(program(grows, 3, INPUT, small), split, small)


def test_small_values_are_carried_though_they_grow() -> None:
    def few(w: Weights, x: Array) -> Array:
        return x[:, :4] * (w["s"] * jnp.exp(jnp.arange(4, dtype=F32)))[None]

    split = prepare.split(program(few, 3, INPUT, {"s": np.asarray(2.0, F32)}))
    assert "exp" not in names(split.apply.jaxpr)


def test_a_pinned_value_is_carried_at_any_size() -> None:
    def winograd(w: Weights, x: Array) -> Any:
        grown = checkpoint_name(jnp.concatenate([w["gamma"], w["gamma"] * 2.0]), prepare.PINNED)
        return x * grown[None, :N] + grown[None, N:]

    found = program(winograd, 3, INPUT, {"gamma": NORM["gamma"]})
    split = prepare.split(found)
    assert size(split.apply) == 2 * N * 4
    assert "concatenate" not in names(split.apply.jaxpr)
    agrees(found, split, {"gamma": NORM["gamma"]})


def test_random_equations_stay_and_so_does_what_rests_on_them() -> None:
    def noisy(w: Weights, x: Array) -> Array:
        key = jax.random.key(0)
        return x + (jax.random.uniform(key, (N,), F32) * w["gamma"])[None]

    split = prepare.split(program(noisy, 3, INPUT, {"gamma": NORM["gamma"]}))
    assert split.prepared_names == ()
    assert "random_bits" in names(split.apply.jaxpr)


def test_dead_weights_vanish() -> None:
    found = program(lambda w, x: x * w["gamma"][None], 3, INPUT, NORM)
    split = prepare.split(found)
    assert split.needed == ("gamma",)
    assert split.apply.weight_names == ("gamma",)


def test_an_output_of_weights_alone_is_computed_once() -> None:
    found = program(lambda w, x: (x, jnp.sqrt(w["gamma"])), 3, INPUT, NORM)
    split = prepare.split(found)
    assert "sqrt" not in names(split.apply.jaxpr)
    agrees(found, split, NORM)


def test_one_of_two_results_may_be_carried() -> None:
    def sorted_weights(w: Weights, x: Array) -> Array:
        values, order = lax.top_k(w["k"], N)
        return x * values[None] + values[order][None]

    found = program(sorted_weights, 3, INPUT, {"k": NORM["gamma"]})
    agrees(found, prepare.split(found), {"k": NORM["gamma"]})


def test_equal_computations_are_carried_once() -> None:
    def twice(w: Weights, x: Array) -> Array:
        return x * jnp.sqrt(w["gamma"])[None] + jnp.sqrt(w["gamma"])[None]

    split = prepare.split(program(twice, 3, INPUT, {"gamma": NORM["gamma"]}))
    assert len(split.apply.weight_names) == 1
    agrees(program(twice, 3, INPUT, {"gamma": NORM["gamma"]}), split, NORM)


def test_wide_dtypes_are_prepared_in_full_width() -> None:
    with jax.enable_x64(True):
        weights = {"k": np.linspace(0, 1, N), "n": np.arange(N, dtype=np.int64) + 2**40}
        inputs = {"x": ((N,), np.float64)}
        found = program(
            lambda w, x: x * jnp.sqrt(w["k"])[None] + (w["n"] * 2).astype(np.float64)[None],
            3,
            inputs,
            weights,
        )
    prepared = prepare.run_prepare(prepare.split(found), weights)
    assert {a.dtype for a in prepared.values()} == {np.dtype(np.float64)}
    assert any((a == weights["n"] * 2.0).all() for a in prepared.values())


def test_equal_arrays_are_stored_once() -> None:
    a = np.arange(6, dtype=F32)
    arrays = {"a": a, "b": a.copy(), "c": a.reshape(2, 3), "d": a.view(np.int32), "e": -a}
    stored, names_of = prepare.dedupe(arrays)
    assert names_of == {"a": "a", "b": "a", "c": "c", "d": "d", "e": "e"}
    assert list(stored) == ["a", "c", "d", "e"]
    assert stored["a"] is a
