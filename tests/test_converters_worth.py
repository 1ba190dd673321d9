"""What layers in few bits are worth."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from jaxrt import target
from jaxrt.compression.goals import Goal, Wanted
from jaxrt.compression.layers import Found, find
from jaxrt.compression.schemes import Rule, Scheme
from jaxrt.converters import worth
from jaxrt.passes.rewrite import inline
from jaxrt.program import Program

CPU = target.attached("cpu")
FAST = Wanted(goal=Goal.THROUGHPUT)


class Timed:
    """Times that were measured."""

    def __init__(self, ratio: float | None) -> None:
        self._ratio = ratio

    def ratio(self, found: Found, rule: Rule, total: int) -> float | None:
        return self._ratio


def taken(rows: int) -> Found:
    with jax.enable_x64(True):
        jaxpr = jax.make_jaxpr(lambda w, x: [x @ w])(
            np.zeros((64, 32), np.float32), np.zeros((rows, 64), np.float32)
        )
    (found,) = find(
        Program(
            signature="s",
            jaxpr=inline(jaxpr),
            weight_names=("w",),
            input_names=("x",),
            output_names=("y",),
        )
    )
    return found


def gain(wanted: Wanted, scheme: Scheme = Scheme.W8A8, ratio: float | None = None) -> float:
    times: Any = Timed(ratio)
    rule = Rule(pattern="w", scheme=scheme)
    return worth.gain([taken(4), taken(100)], 6000, rule, wanted, CPU, times, 8192)


def test_bytes_alone_count_where_size_does() -> None:
    assert gain(dataclasses.replace(FAST, goal=Goal.SIZE)) == 6000
    assert gain(FAST, Scheme.INT8) == 6000


@pytest.mark.parametrize(("ratio", "shorter"), [(None, 0.5), (0.25, 0.75), (1.5, 0.0)])
def test_time_counts_as_the_bytes_that_are_read_in_it(ratio: float | None, shorter: float) -> None:
    flops = 2 * 64 * 32 * 100
    assert gain(FAST, ratio=ratio) == pytest.approx(6000 + shorter * flops / 5)
