"""Weights of whole steps: programs that hold them in few bits compute what the float program does.

Whatever scales are, an element that takes another's, or is cut off, shows.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import pytest
from compressed_cases import CASES
from jax.extend.core import jaxpr_as_fun
from programs import program

from jaxrt.compression import rewrite
from jaxrt.compression.schemes import parse_rule
from jaxrt.program import Program
from jaxrt.target import Target

CPU = Target(platform="cpu", device_kind="cpu", num_devices=1, fingerprint="", features="")
RNG = np.random.default_rng(0)
Array = np.ndarray[Any, Any]

STEPS = {
    "bf16": (-127, -5, 1, 127),
    "int8": (-127, -5, 1, 127),
    "w8a8": (-127, -5, 1, 127),
    "int4": (-7, -3, 1, 7),
    "fp8": (-448, -16, 1, 448),
}
"""Scheme → weights that it holds as they are, where each channel and group has the first."""

NEAR = {"int4": 4e-3, "w8a8": 2e-2}
"""int4 holds some layers in int8; w8a8 rounds what is multiplied."""

FLOAT = {"nothing", "steps", "one channel", "pieces"}
"""Vectors, weights that change from round to round, look-ups from any place."""

ROWS = RNG.choice(np.asarray([-127, 2, 3], np.float32), (2, 67))
NUMBERS = np.asarray([[0, 50, 99], [-1, 5, 1000]], np.int32)


@functools.cache
def _float() -> Program:
    def function(weights: Any, x: Any, i: Any) -> Any:
        return [use(weights[name], x, i) for name, (_, use) in CASES.items()]

    inputs = {"x": ((67,), np.float32), "i": ((3,), np.int32)}
    likes = {name: np.zeros(shape, np.float32) for name, (shape, _) in CASES.items()}
    return program(function, 2, inputs, likes)


def _run(found: Program, weights: Sequence[Array]) -> list[Array]:
    """Compiled in a hurry."""
    arguments = (*weights, ROWS, NUMBERS)
    with jax.enable_x64(True):
        lowered = jax.jit(jaxpr_as_fun(found.jaxpr)).lower(*arguments)
        compiled = lowered.compile(compiler_options={"xla_backend_optimization_level": "0"})
        return [np.asarray(array) for array in compiled(*arguments)]


@pytest.mark.parametrize(
    "scheme",
    ["int8", "int4", *(pytest.param(s, marks=pytest.mark.slow) for s in ("w8a8", "fp8", "bf16"))],
)
def test_weights_of_whole_steps_give_the_same_answers(scheme: str) -> None:
    found = _float()
    steps = np.asarray(STEPS[scheme], np.float32)
    weights = [RNG.choice(steps, shape) for shape, _ in CASES.values()]
    held, changed = rewrite.apply(found, [parse_rule(f".*={scheme}")], CPU)
    for name, got, want in zip(CASES, _run(held, weights), _run(found, weights), strict=True):
        assert (got.dtype, got.shape) == (want.dtype, want.shape), name
        near = NEAR.get(scheme, 1e-5) * np.abs(want).max(initial=0)
        np.testing.assert_allclose(got, want, rtol=0, atol=near, err_msg=name)
    assert set(CASES) - {layer.name for layer in changed} == FLOAT
