"""Random numbers: bits follow the state given, draws without a state differ from run to run."""

from typing import Any

import jax
import lifting
import numpy as np
import pytest
from jax.extend.core import jaxpr_as_fun

from jaxrt.converters.lift.evaluator import lift
from jaxrt.errors import UnsupportedOps


def generator(algorithm: str, state: int, out: str) -> str:
    types = f"tensor<{state}xui64>", f"tensor<{out}>"
    return f"""func.func @main(%s: {types[0]}) -> ({types[0]}, {types[1]}) {{
      %0, %1 = stablehlo.rng_bit_generator %s, algorithm = {algorithm}
        : ({types[0]}) -> ({types[0]}, {types[1]})
      return %0, %1 : {types[0]}, {types[1]}
    }}"""


@pytest.mark.parametrize("counter", [5, 2**32 - 2, 2**64 - 2])
@pytest.mark.parametrize(
    ("algorithm", "state"),
    [("PHILOX", 2), ("PHILOX", 3), ("DEFAULT", 2), ("DEFAULT", 3), ("THREE_FRY", 2)],
)
@pytest.mark.parametrize(
    "out", ["ui32", "3x3xui32", "7xui64", "5xi32", "2x3xi64", "5xui8", "9xi16"]
)
def test_bits_and_next_state_are_xlas(algorithm: str, state: int, out: str, counter: int) -> None:
    text = generator(algorithm, state, out)
    start = np.array([0x9E3779B97F4A7C15, counter, 2**64 - 1][:state], np.uint64)
    wanted_state, wanted = lifting.by_xla(text, start)
    found_state, found = lifting.lifted(text, start)
    np.testing.assert_array_equal(found_state, wanted_state)
    # XLA:CPU hands signed results back as the unsigned bits they are.
    np.testing.assert_array_equal(found.view(wanted.dtype), wanted)


@pytest.mark.parametrize(
    ("algorithm", "state", "out", "problem"),
    [
        ("PHILOX", 3, "4xf32", "of float32: only bits of integer types are defined"),
        ("THREE_FRY", 3, "4xui32", r"with a state of \(3,\): want ui64\[2\]"),
        ("DEFAULT", 4, "4xui32", r"want ui64\[2\] or ui64\[3\]"),
    ],
)
def test_a_generator_out_of_reach_is_refused(
    algorithm: str, state: int, out: str, problem: str
) -> None:
    text = generator(algorithm, state, out)
    with pytest.raises(UnsupportedOps, match=problem):
        lift(text, signature="s", inputs=["s"], weights=[], outputs=["s", "x"])


def draw(distribution: str, kind: str, low: str, high: str) -> str:
    return f"""func.func @main() -> tensor<64x512x{kind}> {{
      %a = stablehlo.constant dense<{low}> : tensor<{kind}>
      %b = stablehlo.constant dense<{high}> : tensor<{kind}>
      %n = stablehlo.constant dense<[64, 512]> : tensor<2xi64>
      %0 = stablehlo.rng %a, %b, %n, distribution = {distribution}
        : (tensor<{kind}>, tensor<{kind}>, tensor<2xi64>) -> tensor<64x512x{kind}>
      return %0 : tensor<64x512x{kind}>
    }}"""


@pytest.mark.parametrize("kind", ["f32", "f64", "f16", "bf16"])
def test_uniform_numbers_fill_their_interval(kind: str) -> None:
    (found,) = lifting.lifted(draw("UNIFORM", kind, "-2.0", "6.0"))
    values = np.asarray(found, np.float64)
    assert np.min(values) >= -2 and np.max(values) <= 6
    assert abs(np.mean(values) - 2) < 0.1 and abs(np.var(values) - 64 / 12) < 0.2


@pytest.mark.parametrize("kind", ["i32", "i64", "ui8"])
def test_uniform_integers_take_every_value_but_the_upper_bound(kind: str) -> None:
    (found,) = lifting.lifted(draw("UNIFORM", kind, "3", "11"))
    values, counts = np.unique(found, return_counts=True)
    np.testing.assert_array_equal(values, np.arange(3, 11))
    assert np.min(counts) > found.size / 8 * 0.9


@pytest.mark.parametrize("kind", ["f32", "f64", "f16", "bf16"])
def test_normal_numbers_have_the_mean_and_deviation_asked_for(kind: str) -> None:
    (found,) = lifting.lifted(draw("NORMAL", kind, "1.0", "3.0"))
    values = np.asarray(found, np.float64)
    assert np.isfinite(values).all()
    assert abs(np.mean(values) - 1) < 0.1 and abs(np.std(values) - 3) < 0.1
    inside = np.mean(abs(values - 1) < 3)
    assert abs(inside - 0.6827) < 0.02  # one sigma


def test_every_run_of_one_executable_draws_anew() -> None:
    text = draw("UNIFORM", "f32", "0.0", "1.0")
    found = lift(text, signature="s", inputs=[], weights=[], outputs=["x"])
    with jax.enable_x64(True):
        run = jax.jit(jaxpr_as_fun(found.program.jaxpr))
        first, second = (np.asarray(run()[0]) for _ in range(2))
    assert (first != second).mean() > 0.99


def test_a_draw_in_a_loop_is_anew_in_every_turn() -> None:
    text = """func.func @main() -> tensor<8xf32> {
      %zero = stablehlo.constant dense<0> : tensor<i32>
      %one = stablehlo.constant dense<1> : tensor<i32>
      %n = stablehlo.constant dense<8> : tensor<i32>
      %low = stablehlo.constant dense<0.0> : tensor<f32>
      %high = stablehlo.constant dense<1.0> : tensor<f32>
      %shape = stablehlo.constant dense<1> : tensor<1xi64>
      %start = stablehlo.constant dense<0.0> : tensor<8xf32>
      %0:2 = stablehlo.while(%i = %zero, %x = %start) : tensor<i32>, tensor<8xf32>
      cond {
        %1 = stablehlo.compare LT, %i, %n : (tensor<i32>, tensor<i32>) -> tensor<i1>
        stablehlo.return %1 : tensor<i1>
      } do {
        %1 = stablehlo.rng %low, %high, %shape, distribution = UNIFORM
          : (tensor<f32>, tensor<f32>, tensor<1xi64>) -> tensor<1xf32>
        %2 = stablehlo.dynamic_update_slice %x, %1, %i
          : (tensor<8xf32>, tensor<1xf32>, tensor<i32>) -> tensor<8xf32>
        %3 = stablehlo.add %i, %one : tensor<i32>
        stablehlo.return %3, %2 : tensor<i32>, tensor<8xf32>
      }
      return %0#1 : tensor<8xf32>
    }"""
    (found,) = lifting.lifted(text)
    assert len(set(found.tolist())) == 8


def test_jax_random_keeps_its_numbers() -> None:
    def function(seed: Any) -> Any:
        key = jax.random.key(seed)
        return jax.random.normal(key, (5,)), jax.random.permutation(key, 9)

    def by_rbg(seed: Any) -> Any:
        return jax.random.uniform(jax.random.key(seed, impl="rbg"), (5, 3))

    for each in (function, by_rbg):
        text = jax.jit(each).lower(np.uint32(7)).as_text()
        wanted = jax.tree.leaves(jax.jit(each)(np.uint32(7)))
        for found, want in zip(lifting.lifted(text, np.uint32(7)), wanted, strict=True):
            np.testing.assert_allclose(found, np.asarray(want), rtol=1e-6)
