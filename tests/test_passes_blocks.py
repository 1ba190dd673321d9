"""A program of independent rows may run as a loop over blocks of them, prepared as one block is."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from convolutions import NHWC, program, run
from jax import lax
from jax.extend.core import jaxpr_as_fun

from jaxrt import target
from jaxrt.passes import blocks, prepare
from jaxrt.passes.precision import Precision, Rounding
from jaxrt.program import Program
from jaxrt.tuning import rules
from jaxrt.tuning.optimizer import Optimized, Optimizer, Passes, optimizer
from jaxrt.tuning.tuner import Autotune, Tuner

CPU = target.attached("cpu")
KERNEL = np.random.default_rng(0).normal(size=(3, 3, 4, 4)).astype(np.float32)


def images(rows: int, side: int = 6) -> np.ndarray[Any, Any]:
    return np.random.default_rng(rows).normal(size=(rows, side, side, 4)).astype(np.float32)


def convolved(rows: int, side: int = 6) -> Program:
    def function(kernel: Any, x: Any) -> Any:
        y = lax.conv_general_dilated(x, kernel * 2, (1, 1), "SAME", dimension_numbers=NHWC)
        return jnp.tanh(y).sum(axis=(1, 2))

    return program(function, {"kernel": KERNEL}, images(rows, side))


def test_a_loop_over_blocks_gives_what_the_whole_gives() -> None:
    whole, block = convolved(6), prepare.split(convolved(2))
    assert blocks.fits(whole, block.apply, shared=frozenset())
    looped = blocks.looped(whole, block, shared=frozenset())
    assert "scan" in set(prepare.primitives(looped.apply.jaxpr))
    prepared = prepare.run_prepare(looped, {"kernel": KERNEL})
    assert looped.prepared_names == block.prepared_names
    got = run(looped.apply, *prepared.values(), images(6))
    np.testing.assert_allclose(got, run(whole, KERNEL, images(6)), rtol=1e-5, atol=1e-5)


def test_blocks_must_divide_the_rows_and_equal_the_rest() -> None:
    assert not blocks.fits(convolved(5), convolved(2), shared=frozenset())
    assert not blocks.fits(convolved(4), convolved(2, side=7), shared=frozenset())
    assert not blocks.fits(convolved(4), convolved(2), shared=frozenset({"x"}))


def test_inputs_without_rows_are_the_same_in_every_block() -> None:
    def scaled(rows: int) -> Program:
        def function(kernel: Any, x: Any) -> Any:
            return x[:, None] * kernel[None]

        found = program(function, {"kernel": np.ones(3, np.float32)}, np.ones(rows, np.float32))
        # The weight becomes an input that has no rows.
        return Program(
            signature="f",
            jaxpr=found.jaxpr,
            weight_names=(),
            input_names=("factor", "x"),
            output_names=("y",),
        )

    shared = frozenset({"factor"})
    assert blocks.fits(scaled(4), scaled(1), shared=shared)
    assert not blocks.fits(scaled(4), scaled(1), shared=frozenset())
    looped = blocks.looped(scaled(4), prepare.split(scaled(1)), shared=shared)
    factor, x = np.asarray([1, 2, 3], np.float32), np.arange(4, dtype=np.float32)
    (y,) = jaxpr_as_fun(looped.apply.jaxpr)(factor, x)
    np.testing.assert_array_equal(np.asarray(y), x[:, None] * factor[None])


def optimized(rows: int, smaller: tuple[Optimized, ...] = (), **more: Any) -> Optimized:
    side = 1 + round((rules.CACHE / 4 / 4 / 4) ** 0.5)  # four rows are more than the cache holds
    return optimizer(CPU, Passes(**more))(convolved(rows, side), smaller, frozenset())


def test_large_programs_run_in_the_smallest_blocks_by_rule() -> None:
    one = optimized(1)
    two = optimized(2, (one,))
    assert (one.block, two.block) == (None, None)
    four = optimized(4, (one, two))
    assert four.block == 1
    assert four.gains[-1] == "blocks: 1 row at a time, for the cache"
    assert (four.rounds, four.has_own_loops, four.all_rounds(10.0)) == (4, True, 40.0)
    assert (one.rounds, one.has_own_loops, one.all_rounds(10.0)) == (1, False, 10.0)
    assert four.split.apply.weight_names == one.split.apply.weight_names
    assert optimized(4, (two,)).gains[-1] == "blocks: 2 rows at a time, for the cache"
    assert optimized(4, (one, two), disabled=("blocks",)).block is None


def test_the_whole_must_be_clearly_faster_than_a_loop() -> None:
    one = optimized(1)
    whole = optimized(4).program
    loops = [(1, blocks.looped(whole, one.split, shared=frozenset()))]

    def chosen(whole_seconds: float) -> int | None:
        ticks = _clock({"1": 1.0, "all": whole_seconds})
        return Tuner(CPU, Autotune.FAST, choices=None, clock=ticks).block(whole, loops)

    assert chosen(1.0) == 1
    assert chosen(0.5) is None


WEIGHT = np.full((4, 4), 0.5, np.float32)


def multiplied(rows: int, tokens: int) -> Program:
    """[rows, tokens, 4], each token through one product."""

    def function(weight: Any, x: Any) -> Any:
        return jnp.tanh(x @ weight).sum(axis=1)

    return program(function, {"weight": WEIGHT}, np.ones((rows, tokens, 4), np.float32))


def test_products_are_timed_in_the_largest_block_that_reads_weights_for_enough() -> None:
    tokens = 1 + rules.CACHE // 4 // 4 // 4
    passes = optimizer(CPU, Passes(autotune=Autotune.OFF))
    one, two = (passes(multiplied(rows, tokens), (), frozenset()) for rows in (1, 2))
    assert blocks.reuse(two.split.apply) == 2 * tokens
    # Untimed, they stay whole.
    assert passes(multiplied(4, tokens), (one, two), frozenset()).block is None

    def chosen(whole_seconds: float) -> int | None:
        ticks = _clock({"2": 1.0, "all": whole_seconds})
        tuner = Tuner(CPU, Autotune.FAST, choices=None, clock=ticks)
        timed = Optimizer(tuner, platform="cpu", rounding=Rounding(precision=Precision.F32))
        return timed(multiplied(4, tokens), (one, two), frozenset()).block

    assert chosen(1.2) == 2
    assert chosen(1.01) is None


def test_products_that_would_read_their_weights_for_little_stay_whole() -> None:
    wide = np.ones((8, 1 << 19), np.float32)

    def program_of(rows: int) -> Program:
        return program(
            lambda weight, x: jnp.tanh(x @ weight),
            {"weight": wide},
            np.ones((rows, 8), np.float32),
        )

    passes = optimizer(CPU, Passes(autotune=Autotune.FAST, disabled=("one-kernel",)))
    one = passes(program_of(1), (), frozenset())
    assert blocks.largest(program_of(8)) > rules.CACHE
    assert blocks.reuse(one.split.apply) == 1 < rules.REUSE
    assert passes(program_of(8), (one,), frozenset()).block is None


def _clock(seconds: dict[str, float]) -> Callable[[], float]:
    """As the tuner asks it: at the start, then as `timing.interleaved` does: once, then per round
    once for the limit, twice a run; and at the end."""
    now, order = [0.0], list(seconds)

    def readings() -> Iterator[float]:
        yield now[0]
        yield now[0]
        for number in itertools.count():
            if number >= 2:
                yield now[0]
            turn = number % len(order)
            for name in order[turn:] + order[:turn]:
                yield now[0]
                now[0] += seconds[name]
                yield now[0]

    ticks = readings()
    return lambda: next(ticks)
