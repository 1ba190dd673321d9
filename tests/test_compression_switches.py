"""Trials of compression: one program with switches answers as each real program of few bits."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
from jax import lax
from jax.extend.core import jaxpr_as_fun

from jaxrt import target
from jaxrt.compression import quantize, rewrite, switches
from jaxrt.compression.forms import form_of
from jaxrt.compression.layers import find
from jaxrt.compression.schemes import Rule, Scheme
from jaxrt.compression.switches import SWITCHES
from jaxrt.passes.rewrite import inline
from jaxrt.program import Program
from jaxrt.target import Target

CPU = target.attached("cpu")
GPU = dataclasses.replace(CPU, platform="gpu", device_kind="NVIDIA H100 80GB HBM3")
Array = np.ndarray[Any, Any]


def dense(first: Any, second: Any, x: Any) -> Any:
    """A sequence: products of three dimensions."""
    hidden = jax.nn.gelu(lax.dot_general(x, first, (((2,), (0,)), ((), ()))))
    return hidden.reshape(-1, 96) @ second


def convolved(first: Any, second: Any, x: Any) -> Any:
    image = lax.conv_general_dilated(
        x, first, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jax.nn.relu(image).mean((1, 2)) @ second


def large(first: Any, second: Any, x: Any) -> Any:
    """One row by a matrix that vectors take, one row by a smaller one that they do not."""
    return jax.nn.relu(x @ first) @ second


DRAW = np.random.default_rng(0)
CASES: dict[str, tuple[Any, list[tuple[int, ...]], Target, Scheme, int]] = {
    "dense": (dense, [(64, 96), (96, 48), (3, 5, 64)], CPU, Scheme.W8A8, 2),
    "convolved": (convolved, [(3, 3, 16, 64), (64, 48), (2, 8, 8, 16)], CPU, Scheme.W8A8, 2),
    "large": (large, [(1024, 1024), (1024, 64), (1, 1024)], CPU, Scheme.W8A8, 1),
    "fp8": (dense, [(64, 96), (96, 48), (3, 5, 64)], GPU, Scheme.FP8, 2),
    "fp8 of convolutions": (
        convolved,
        [(3, 3, 16, 64), (64, 48), (2, 8, 8, 16)],
        GPU,
        Scheme.FP8,
        1,
    ),
    "weights alone": (dense, [(64, 96), (96, 48), (3, 5, 64)], CPU, Scheme.INT8, 0),
}
"""Function, shapes of two weights and an input, target, scheme, how many layers round."""


def program_of(function: Any, arrays: list[Array]) -> Program:
    with jax.enable_x64(True):
        jaxpr = jax.make_jaxpr(lambda *a: [function(*a)])(*arrays)
    return Program(
        signature="s",
        jaxpr=inline(jaxpr),
        weight_names=("first", "second"),
        input_names=("x",),
        output_names=("y",),
    )


def run(program: Program, *arguments: Any) -> Array:
    with jax.enable_x64(True):
        (found,) = jax.jit(jaxpr_as_fun(program.jaxpr))(*arguments)
    return np.asarray(found, np.float64)


def distance(a: Array, b: Array) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize("case", CASES)
def test_switched_programs_answer_as_the_real_ones(case: str) -> None:
    function, shapes, device, scheme, rounding = CASES[case]
    arrays = [DRAW.normal(size=shape).astype(np.float32) for shape in shapes]
    program = program_of(function, arrays)
    found = {f.layer.name: f for f in find(program)}
    rules = {name: Rule(pattern=f"^{name}$", scheme=scheme) for name in ("first", "second")}
    forms = [(name, form_of(found[name], rule)) for name, rule in rules.items()]
    switched = switches.write(program, forms, device)
    assert (SWITCHES in switched.weight_names) == bool(rounding)
    plain = run(program, *arrays)
    differs = 0
    for on in [(True, False), (False, True), (True, True)]:
        pairs = list(zip(forms, arrays[:2], on, strict=True))
        given = [quantize.fake(a, form) if is_on else a for (_, form), a, is_on in pairs]
        more = [np.array(on)] if rounding else []
        trial = run(switched, *given, *more, arrays[2])
        chosen = [rules[name] for (name, _), _, is_on in pairs if is_on]
        real = run(rewrite.apply(program, chosen, device)[0], *arrays)
        error = distance(real, plain)
        assert distance(trial, real) <= 0.05 * error + 1e-6
        weights_alone = run(program, *given, arrays[2])
        differs += sum(on) == 1 and distance(trial, weights_alone) > 1e-5
    assert differs == rounding
