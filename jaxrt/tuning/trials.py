"""What is timed, ready to run on the target: a convolution in one form, a whole program."""

import functools
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax

from jaxrt import compiler
from jaxrt import target as targets
from jaxrt.passes import one_kernel
from jaxrt.passes.convolution import Convolution
from jaxrt.passes.convolution_table import Lowering
from jaxrt.program import Program
from jaxrt.target import Target

Array = np.ndarray[Any, Any]


def operands(conv: Convolution) -> tuple[Array, Array]:
    """Random ones, of the magnitudes that trained networks have."""
    random = np.random.default_rng(0)
    dtype = np.dtype(conv.dtype)
    kernel = random.normal(size=conv.kernel_shape) / math.sqrt(conv.terms)
    return random.random(conv.x_shape, dtype.type), kernel.astype(dtype)


def convolved(
    lowering: Lowering, conv: Convolution, x: Array, kernel: Array, target: Target
) -> Callable[[], Any]:
    """Runs the convolution, a bias and a relu, until the result is there."""

    def function(x: Any, weights: Any, bias: Any) -> Any:
        y = lowering.apply(conv, x, weights)
        y = lax.add(y, lax.broadcast_in_dim(bias, y.shape, (y.ndim - 1,)))
        return lax.max(y, np.zeros((), y.dtype))

    device = targets.devices(target.platform)[0]
    with jax.enable_x64(True), jax.default_device(device):
        weights = jax.jit(lowering.transform)(kernel)
        operands = [jax.device_put(a, device) for a in (x, weights, _bias(conv))]
        lowered = jax.jit(function).lower(*operands)
        compiled = lowered.compile(compiler_options=target.compiler_options)
    return functools.partial(_wait, compiled, operands)


def _bias(conv: Convolution) -> Array:
    return np.zeros(conv.out_features, conv.dtype)


def _wait(compiled: Any, operands: Sequence[Any]) -> Any:
    return jax.block_until_ready(compiled(*operands))


def runnable(program: Program, target: Target, *, whole: bool = False) -> Callable[[], Any]:
    """Runs a program on random weights and inputs until the results are there.

    `whole`: as `jaxrt.passes.one_kernel` says. Raises jax's error when XLA does not compile it.
    """
    device = targets.devices(target.platform)[0]
    random = np.random.default_rng(0)
    with jax.enable_x64(True), jax.default_device(device):
        given = [jax.device_put(_random(random, a), device) for a in program.avals]
        function = jax.jit(one_kernel.function(program.jaxpr, whole=whole), keep_unused=True)
        lowered = function.lower(*program.avals)
        options = {**target.compiler_options, **one_kernel.options(whole=whole)}
        compiled = lowered.compile(options)
    return functools.partial(_wait, compiled, given)


_COMPILE = """
import sys
from jaxrt import compiler, target
compiler.compile_portable(sys.stdin.buffer.read(), target.select("cpu"))
"""


def compiles_whole(program: Program) -> bool:
    """Whether XLA:CPU compiles it as one kernel: tried in a process of its own.

    Where XLA has not foreseen something it does not refuse but aborts.
    """
    data = compiler.portable(program, "cpu", whole=True)
    try:
        done = subprocess.run(
            [sys.executable, "-c", _COMPILE], input=data, capture_output=True, timeout=60
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _random(random: np.random.Generator, aval: Any) -> Array:
    """Small floats; zeros of other types, which are in range whatever they index."""
    if np.dtype(aval.dtype).kind != "f":
        return np.zeros(aval.shape, aval.dtype)
    values: Array = random.random(aval.shape, np.float32) * np.float32(0.1)
    return values.astype(aval.dtype)
