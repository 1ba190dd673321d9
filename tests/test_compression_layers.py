"""Layers: every way in which programs take weights, and why large weights are none."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import programs
import pytest
from jax import lax

from jaxrt.compression import layers
from jaxrt.compression.layers import CONV, DOT, GATHER, Layer
from jaxrt.passes import prepare
from jaxrt.program import Program

Array = np.ndarray[Any, Any]
ROWS = 2
FLOATS = {"x": ((3, 48), np.float32)}
WORDS = {"x": ((3,), np.int32)}
IMAGE = {"x": ((6, 6, 48), np.float32)}


def floats(*shape: int) -> Array:
    return np.ones(shape, np.float32)


def found(function: Callable[..., Any], inputs: Any, **weights: Array) -> tuple[Layer, ...]:
    """Of the program after what rests on weights alone was prepared, as compression sees it."""
    program = programs.program(function, ROWS, inputs, weights)
    return layers.layers(prepare.split(program).apply)


def conv(x: Any, kernel: Any, padding: Any = "SAME", **more: Any) -> Any:
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=numbers, **more)


@pytest.mark.parametrize(
    ("function", "inputs", "shape", "kind", "axes", "rows"),
    [
        (lambda w, x: x @ w["w"], FLOATS, (48, 64), DOT, (0,), 6),
        (lambda w, x: x @ w["w"].T, FLOATS, (64, 48), DOT, (0,), 6),  # prepared transposed
        (lambda w, x: w["w"] @ x[0].T, FLOATS, (64, 48), DOT, (1,), 3),
        (lambda w, x: x @ w["w"].reshape(48, 64), FLOATS, (48, 8, 8), DOT, (0,), 6),
        (
            lambda w, x: jax.numpy.einsum("bnhd,hde->bnhe", x.reshape(ROWS, 3, 4, 12), w["w"]),
            FLOATS,
            (4, 12, 64),
            DOT,
            (1,),
            6,
        ),
        (
            lambda w, x: jax.numpy.einsum("bnhd,hde->bne", x.reshape(ROWS, 3, 4, 12), w["w"]),
            FLOATS,
            (4, 12, 64),
            DOT,
            (0, 1),
            6,
        ),
        (lambda w, x: conv(x, w["w"]), IMAGE, (3, 3, 48, 32), CONV, (0, 1, 2), 72),
        (
            lambda w, x: conv(x, w["w"], feature_group_count=4),
            IMAGE,
            (3, 3, 12, 32),
            CONV,
            (0, 1, 2),
            72,
        ),
        (
            lambda w, x: conv(x, w["w"], feature_group_count=48),
            IMAGE,
            (3, 3, 1, 480),
            CONV,
            (0, 1, 2),
            72,
        ),
        (
            lambda w, x: conv(x, w["w"], padding=[(1, 1)] * 2, lhs_dilation=(2, 2)),
            IMAGE,
            (3, 3, 48, 32),
            CONV,
            (0, 1, 2),
            242,
        ),
        (lambda w, x: w["w"][x], WORDS, (128, 32), GATHER, (1,), 6),
    ],
)
def test_a_layer_is_found_with_its_axes_and_rows(
    function: Callable[..., Any],
    inputs: Any,
    shape: tuple[int, ...],
    kind: str,
    axes: tuple[int, ...],
    rows: int,
) -> None:
    (layer,) = found(function, inputs, w=floats(*shape))
    assert (layer.kind, sorted(layer.shape)) == (kind, sorted(shape))
    assert (layer.axes, layer.rows) == (axes, rows)
    assert layer.nbytes == 4 * np.prod(shape)


def test_a_table_that_is_multiplied_with_too_is_one_layer() -> None:
    def function(w: Any, x: Any) -> Any:
        hidden = w["table"][x]
        return lax.tanh(hidden @ w["w"]) @ w["table"].T

    tied, alone = found(function, WORDS, table=floats(128, 48), w=floats(48, 48))
    assert (tied.name, tied.kind, alone.name) == ("table", GATHER, "w")
    assert tied.flops == 2 * 6 * 128 * 48


def test_weights_that_are_used_twice_are_one_layer_with_the_work_of_both() -> None:
    (layer,) = found(lambda w, x: lax.tanh(x @ w["w"]) @ w["w"], FLOATS, w=floats(48, 48))
    assert layer.flops == 2 * 2 * 6 * 48 * 48


def test_joined_tables_are_one_layer_under_all_their_weights() -> None:
    def function(w: Any, x: Any) -> Any:
        return lax.concatenate([w["a"], w["b"]], 0)[x]

    (layer,) = found(function, WORDS, a=floats(128, 32), b=floats(64, 32))
    assert (layer.kind, layer.shape) == (GATHER, (192, 32))


def test_weights_that_are_cast_are_the_cast_ones() -> None:
    (layer,) = found(
        lambda w, x: x.astype(jax.numpy.bfloat16) @ w["w"].astype(jax.numpy.bfloat16),
        FLOATS,
        w=floats(48, 64),
    )
    assert layer.nbytes == 2 * 48 * 64


@pytest.mark.parametrize("loop", ["scan", "while", "cond"])
def test_weights_in_loops_and_branches_are_layers(loop: str) -> None:
    def function(w: Any, x: Any) -> Any:
        start = x[:, 0]
        match loop:
            case "scan":
                return lax.scan(
                    lambda h, now: (lax.tanh(h @ w["w"] + now), None), start, x.swapaxes(0, 1)
                )[0]
            case "while":
                return lax.while_loop(lambda h: h[0, 0] < 9, lambda h: h @ w["w"], start)
            case _:
                return lax.cond(x[0, 0, 0] > 0, lambda h: h @ w["w"], lax.tanh, start)

    (layer,) = found(function, FLOATS, w=floats(48, 48))
    assert (layer.name, layer.kind, layer.axes) == ("w", DOT, (0,))


def test_programs_of_other_sizes_name_layers_the_same() -> None:
    def function(w: Any, x: Any) -> Any:
        return lax.tanh(x @ w["one"]) @ w["two"]

    weights = {"one": floats(48, 64), "two": floats(64, 48)}
    names = [
        [layer.name for layer in layers.layers(programs.program(function, n, FLOATS, weights))]
        for n in (1, 8)
    ]
    assert names[0] == names[1] == ["one", "two"]


def test_a_large_weight_that_is_no_layer_says_what_uses_it() -> None:
    weights = {"position": floats(3, 48 * 128), "w": floats(48, 48 * 128)}
    weights |= {"small": floats(48 * 128), "scale": floats(1, 1, 48 * 128 * 3)}
    weights["numbers"] = np.arange(48 * 512).astype(np.int32)

    def function(w: Any, x: Any) -> Any:
        hidden = x @ w["w"] + w["position"][None] + w["small"][None, None]
        scale = w["scale"].reshape(1, 3, 48 * 128)
        return hidden * scale, w["numbers"][None]

    program = programs.program(function, ROWS, FLOATS, weights)
    assert said(program) == {
        "position": "not a layer: used by add",
        "scale": "not a layer: used by mul",
        "numbers": "not a layer: used by an output, of int32",
    }


def said(program: Program) -> dict[str, str]:
    return {other.weight: other.why for other in layers.others(program)}
