"""Layers timed alone: what is timed, once for equal ones, and what is left to rules."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import jaxpr_as_fun
from programs import program

from jaxrt import target
from jaxrt.compression.layers import Found, find
from jaxrt.compression.schemes import Rule, Scheme
from jaxrt.converters import conversion, layer_times
from jaxrt.converters.layer_times import LayerTimes
from jaxrt.passes.rewrite import inline

CPU = target.attached("cpu")
INT8 = Rule(pattern=".*", scheme=Scheme.INT8)
RNG = np.random.default_rng(0)


def _found(function: Any, shape: tuple[int, ...], given: Any) -> list[Found]:
    made = program(function, 2, {"x": given}, {name: np.zeros(shape, np.float32) for name in "ab"})
    return list(find(dataclasses.replace(made, jaxpr=inline(made.jaxpr))))


def _products(w: Any, x: Any) -> list[Any]:
    return [jnp.dot(x, w[name].T) for name in "ab"]


def _tables(w: Any, ids: Any) -> list[Any]:
    return [jnp.take(w[name], ids, axis=0, mode="clip") for name in "ab"]


def _convolutions(w: Any, x: Any) -> list[Any]:
    for name in "ab":
        x = lax.conv_general_dilated(
            x, w[name], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    return [x]


def _loop(w: Any, x: Any) -> list[Any]:
    return [lax.fori_loop(0, 3, lambda _, y: jnp.tanh(y @ w["a"]), x) @ w["b"]]


CASES = [
    (_products, (64, 64), ((64,), np.float32)),
    (_convolutions, (3, 3, 16, 16), ((8, 8, 16), np.float32)),
]


@pytest.mark.parametrize(("function", "shape", "given"), CASES)
def test_a_layer_alone_computes_what_it_does_in_its_program(
    function: Any, shape: tuple[int, ...], given: Any
) -> None:
    found = _found(function, shape, given)[0]
    alone = layer_times.alone(found)
    weight = RNG.standard_normal(shape, np.float32)
    (aval,) = alone.input_avals
    x = RNG.standard_normal(aval.shape, np.float32)
    (eqn,) = [use.eqn for use in found.uses]
    with jax.enable_x64(True):
        (got,) = jaxpr_as_fun(alone.jaxpr)(weight, x)
    assert (got.shape, got.dtype) == (eqn.outvars[0].aval.shape, eqn.outvars[0].aval.dtype)


@pytest.mark.parametrize(("function", "shape", "given"), CASES)
def test_equal_layers_are_timed_once_and_each_has_the_ratio(
    function: Any, shape: tuple[int, ...], given: Any
) -> None:
    ticks = iter(range(100_000))
    asked = []

    def clock() -> float:
        asked.append(next(ticks))
        return asked[-1] * 1e-3

    times = LayerTimes(CPU, conversion.unchanged, clock=clock)
    first, second = _found(function, shape, given)
    ratio = times.ratio(first, INT8, 1 << 20)
    count = len(asked)
    assert ratio == pytest.approx(1)  # of this clock, every call takes a millisecond
    assert times.ratio(second, INT8, 1 << 20) == ratio and len(asked) == count
    assert times.ratios == {"a": ratio, "b": ratio}


def test_layers_in_loops_are_left_to_rules() -> None:
    found = {f.layer.name: f for f in _found(_loop, (64, 64), ((64,), np.float32))}
    assert LayerTimes(CPU, conversion.unchanged).ratio(found["a"], INT8, 1 << 20) is None


def test_tables_are_left_to_rules_and_to_the_whole_program() -> None:
    for found in _found(_tables, (300, 64), ((5,), np.int32)):
        assert LayerTimes(CPU, conversion.unchanged).ratio(found, INT8, 1 << 20) is None


def test_nothing_more_is_timed_when_the_budget_is_spent() -> None:
    hours = iter(range(0, 10_000_000, 3600))
    times = LayerTimes(CPU, conversion.unchanged, clock=lambda: float(next(hours)))
    (first, *_) = _found(_products, (64, 64), ((64,), np.float32))
    (other, *_) = _found(_products, (32, 64), ((64,), np.float32))
    assert times.ratio(first, INT8, 1 << 20) is not None
    assert times.ratio(other, INT8, 1 << 20) is None
