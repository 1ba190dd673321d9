"""Runs StableHLO twice: lifted to a jaxpr, and by XLA as it stands. Shared by test_lift_*.py."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import jaxpr_as_fun
from jaxlib import xla_client

import jaxrt.converters.lift  # noqa: F401
from jaxrt.converters.lift import evaluator, module

Arrays = list[np.ndarray[Any, Any]]


def main(body: str, signature: str) -> str:
    """A module whose main has this body and `(%a: type, ...) -> types`."""
    return f"module {{ func.func @main{signature} {{ {body} }} }}"


def lifted(data: bytes | str, *arguments: Any) -> Arrays:
    """The results of the lifted module, jitted."""
    returns = len(module.read(data).main.returns)
    found = evaluator.lift(
        data,
        signature="test",
        inputs=[f"x{i}" for i in range(len(arguments))],
        weights=(),
        outputs=[f"y{i}" for i in range(returns)],
    )
    weights = [found.constants[name] for name in found.program.weight_names]
    with jax.enable_x64(True):
        out = jax.jit(jaxpr_as_fun(found.program.jaxpr))(*weights, *arguments)
        return [np.asarray(x) for x in out]


def jaxpr_of(data: bytes | str, inputs: int) -> str:
    """The lifted module as text."""
    returns = len(module.read(data).main.returns)
    names = [f"x{i}" for i in range(inputs)], [f"y{i}" for i in range(returns)]
    found = evaluator.lift(data, signature="t", inputs=names[0], weights=(), outputs=names[1])
    return str(found.program.jaxpr)


def by_xla(text: str, *arguments: Any) -> Arrays:
    """The results of the module compiled as it stands: what the words of the spec mean here."""
    device = jax.devices("cpu")[0]
    devices = xla_client.DeviceList((device,))
    with jax.enable_x64(True):
        executable = device.client.compile_and_load(
            text.encode(), devices, xla_client.CompileOptions()
        )
        placed = [jax.device_put(x, device) for x in arguments]
        out = executable.execute_sharded(placed).disassemble_into_single_device_arrays()
        return [np.asarray(x[0]) for x in out]


def stablehlo_of(function: Callable[..., Any], *arguments: Any) -> str:
    """What JAX lowers the function to."""
    with jax.enable_x64(True):
        return str(jax.jit(function, keep_unused=True).lower(*arguments).as_text())


def assert_equal(found: Sequence[Any], wanted: Sequence[Any], *, rtol: float = 0.0) -> None:
    """Dtypes, shapes and values; NaN equals NaN. `rtol` 0 compares bit for bit, -0 as 0."""
    assert len(found) == len(wanted)
    for x, y in zip(found, wanted, strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        wide = np.complex128 if np.dtype(x.dtype).kind == "c" else np.float64
        if rtol == 0.0 and np.dtype(x.dtype).kind in "biu":
            np.testing.assert_array_equal(x, y)
        else:
            np.testing.assert_allclose(
                np.asarray(x).astype(wide), np.asarray(y).astype(wide), rtol=rtol, atol=rtol
            )
