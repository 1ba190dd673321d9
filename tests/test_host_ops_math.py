"""Elementwise ops without TensorFlow: its own answers on every dtype and at the edges."""

from collections.abc import Callable
from typing import Any

import host_recordings
import ml_dtypes
import numpy as np
import pytest
from host_differences import differences
from host_recordings import Case, Recording, strings

FLOATS = (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)
SIGNED = (np.int8, np.int16, np.int32, np.int64)
UNSIGNED = (np.uint8, np.uint16, np.uint32, np.uint64)


def numbers(dtype: Any) -> np.ndarray[Any, Any]:
    """Edges and ordinary numbers of a dtype."""
    if np.dtype(dtype).kind in "iu":
        limits = np.iinfo(dtype)
        small = [0, 1, 2, 3, 5, 7, 100, limits.max, limits.max - 1, limits.min, limits.min + 1]
        return np.array([*small, *([-1, -2, -7] if limits.min else [4, 6, 8])], dtype)
    edges = [0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -0.5, -1.5, 1e-3, 12345.678, np.inf, -np.inf]
    return np.array([*edges, np.nan, 0.1, 0.3, -7.3, 2.0, 3.0], np.float64).astype(dtype)


def pairs(dtype: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """All pairs of numbers, as a column and a row."""
    found = numbers(dtype)
    return found[:, None], found[None, :]


def divisible(dtype: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Pairs without a zero to divide by, and without the one quotient that does not fit."""
    x, y = pairs(dtype)
    if np.dtype(dtype).kind in "iu":
        y = y[:, (y[0] != 0) & (y[0] != np.array(-1).astype(dtype))]
    return x, y


BINARY: dict[str, tuple[Any, ...]] = {
    "AddV2": (*FLOATS, *SIGNED, *UNSIGNED),
    "Sub": (*FLOATS, *SIGNED, *UNSIGNED),
    "Mul": (*FLOATS, *SIGNED, *UNSIGNED),
    "Maximum": (*FLOATS, *SIGNED, *UNSIGNED),
    "Minimum": (*FLOATS, *SIGNED, *UNSIGNED),
    "SquaredDifference": (*FLOATS, np.int32, np.int64),
    "Less": (*FLOATS, *SIGNED, *UNSIGNED),
    "LessEqual": (*FLOATS, *SIGNED, *UNSIGNED),
    "Greater": (*FLOATS, *SIGNED, *UNSIGNED),
    "GreaterEqual": (*FLOATS, *SIGNED, *UNSIGNED),
    "Equal": (*FLOATS, *SIGNED, *UNSIGNED),
    "NotEqual": (*FLOATS, *SIGNED, *UNSIGNED),
    "BitwiseAnd": (*SIGNED, *UNSIGNED),
    "BitwiseOr": (*SIGNED, *UNSIGNED),
    "BitwiseXor": (*SIGNED, *UNSIGNED),
    "DivNoNan": (np.float32, np.float64),
    "MulNoNan": (np.float32, np.float64),
    "RealDiv": FLOATS,
}
DIVISION: dict[str, tuple[Any, ...]] = {
    "FloorDiv": (*FLOATS, *SIGNED, *UNSIGNED),
    "FloorMod": (np.float32, np.float64, *SIGNED, *UNSIGNED),
    "TruncateDiv": (*SIGNED, *UNSIGNED),
    "Div": (np.float32, np.float64, *SIGNED),
    "Mod": (np.float32, np.float64, np.int32, np.int64),
    "TruncateMod": (np.float32, np.float64, np.int32, np.int64),
}
UNARY: dict[str, tuple[Any, ...]] = {
    "Neg": (*FLOATS, *SIGNED),
    "Abs": (*FLOATS, *SIGNED),
    "Sign": (*FLOATS, *SIGNED),
    "Square": (*FLOATS, np.int32, np.int64),
    "Floor": FLOATS,
    "Ceil": FLOATS,
    "Rint": (np.float32, np.float64),
    "Round": (*FLOATS, np.int32, np.int64),
    "Sqrt": (np.float32, np.float64),
    "IsNan": FLOATS,
    "IsInf": FLOATS,
    "IsFinite": FLOATS,
    "Relu": (np.float32, np.float64, np.int32),
    "Relu6": (np.float32, np.float64),
    "Invert": (*SIGNED, *UNSIGNED),
}
CLOSE: dict[str, tuple[Any, ...]] = {
    "Reciprocal": (np.float32, np.float64),
    "Exp": (np.float32, np.float64),
    "Expm1": (np.float32, np.float64),
    "Log": (np.float32, np.float64),
    "Log1p": (np.float32, np.float64),
    "Rsqrt": (np.float32, np.float64),
    "Tanh": (np.float32, np.float64),
    "Sigmoid": (np.float32, np.float64),
    "Sin": (np.float32, np.float64),
    "Cos": (np.float32, np.float64),
    "Softplus": (np.float32, np.float64),
}


def raw(tf: Any, op: str, names: tuple[str, ...], **attrs: Any) -> Callable[..., Any]:
    """The raw op of its inputs, by their names."""
    rule = getattr(tf.raw_ops, op)
    return lambda *inputs: rule(**dict(zip(names, inputs, strict=True)), **attrs)


def cases(tf: Any) -> dict[str, Case]:
    found: dict[str, Case] = {}
    for op, dtypes in (*BINARY.items(), *DIVISION.items()):
        make = pairs if op in BINARY else divisible
        for dtype in dtypes:
            call = raw(tf, op, ("x", "y"))
            found[f"{op} of {np.dtype(dtype).name}"] = (call, [make(dtype)])
    for op, dtypes in (*UNARY.items(), *CLOSE.items()):
        name = "features" if op in ("Relu", "Relu6", "Softplus") else "x"
        for dtype in dtypes:
            call = raw(tf, op, (name,))
            found[f"{op} of {np.dtype(dtype).name}"] = (call, [(numbers(dtype),)])
    return {**found, **casts(tf), **others(tf), **failures(tf)}


def casts(tf: Any) -> dict[str, Case]:
    found: dict[str, Case] = {}
    every = (*FLOATS, *SIGNED, *UNSIGNED, np.bool_)
    for source in every:
        for target in every:
            values = numbers(source) if source is not np.bool_ else np.array([True, False])
            if np.dtype(target).kind in "iu" and source in FLOATS:
                limits = np.iinfo(target)
                wide = values.astype(np.float64)
                inside = (wide > float(limits.min) - 1) & (wide < float(limits.max))
                values = values[inside & np.isfinite(wide)]  # others are undefined in C++
            found[f"Cast of {np.dtype(source).name} to {np.dtype(target).name}"] = (
                raw(tf, "Cast", ("x",), DstT=tf.as_dtype(target)),
                [(values,)],
            )
    return found


def others(tf: Any) -> dict[str, Case]:
    x = np.array([[1.0, -2.0, 3.0], [4.0, np.nan, -6.0]], np.float32)
    words, more = strings(b"a", b"", b"\xff"), strings(b"b", b"", b"\xff")
    flags = np.array([True, False, True])
    integers = np.array([-5, 1, 3], np.int32)
    shifts = np.array([1, 40, -2], np.int32)
    return {
        "Equal of strings": (raw(tf, "Equal", ("x", "y")), [(words, more)]),
        "NotEqual of strings": (
            raw(tf, "NotEqual", ("x", "y")),
            [(words, more), (words, words[0:1])],
        ),
        "AddV2 of strings": (raw(tf, "Add", ("x", "y")), [(words, more)]),
        "Equal of shapes that differ": (
            raw(tf, "Equal", ("x", "y"), incompatible_shape_error=False),
            [(np.arange(2), np.arange(3)), (np.arange(3), np.arange(3))],
        ),
        "LogicalAnd": (raw(tf, "LogicalAnd", ("x", "y")), [(flags[:, None], flags)]),
        "LogicalOr": (raw(tf, "LogicalOr", ("x", "y")), [(flags[:, None], flags)]),
        "LogicalNot": (raw(tf, "LogicalNot", ("x",)), [(flags,)]),
        "AddN": (lambda a, b: tf.raw_ops.AddN(inputs=[a, b, a]), [(x, x)]),
        "LeftShift": (raw(tf, "LeftShift", ("x", "y")), [(integers, shifts)]),
        "RightShift": (raw(tf, "RightShift", ("x", "y")), [(integers, shifts)]),
        "ClipByValue": (
            raw(tf, "ClipByValue", ("t", "clip_value_min", "clip_value_max")),
            [(x[0], np.float32(-1), np.float32(2))],
        ),
        "SelectV2": (
            raw(tf, "SelectV2", ("condition", "t", "e")),
            [(flags, x, np.zeros((), np.float32))],
        ),
        "SelectV2 of strings": (
            raw(tf, "SelectV2", ("condition", "t", "e")),
            [(flags, words, more)],
        ),
        "Select of rows": (
            raw(tf, "Select", ("condition", "x", "y")),
            [(flags[:2], x, -x)],
        ),
        "BiasAdd": (raw(tf, "BiasAdd", ("value", "bias")), [(x, x[0])]),
        "LeakyRelu": (raw(tf, "LeakyRelu", ("features",), alpha=0.3), [(x[0],)]),
        "Pow of int32": (
            raw(tf, "Pow", ("x", "y")),
            [(integers, np.array([0, 31, 3], np.int32))],
        ),
        "Pow of float32": (
            raw(tf, "Pow", ("x", "y")),
            [(np.array([2.0, -8.0, 0.0], np.float32), np.array([0.5, 2.0, 0.0], np.float32))],
        ),
    }


def failures(tf: Any) -> dict[str, Case]:
    one, zero = np.array([1], np.int32), np.array([0], np.int32)
    return {
        "FloorDiv by zero": (raw(tf, "FloorDiv", ("x", "y")), [(one, zero)]),
        "FloorMod by zero": (raw(tf, "FloorMod", ("x", "y")), [(one, zero)]),
        "Pow to a negative": (raw(tf, "Pow", ("x", "y")), [(one, -one)]),
        "AddV2 of shapes that differ": (
            raw(tf, "AddV2", ("x", "y")),
            [(np.ones(2, np.float32), np.ones(3, np.float32))],
        ),
        "CheckNumerics": (
            raw(tf, "CheckNumerics", ("tensor",), message="here"),
            [(np.array([1.0], np.float32),), (np.array([np.nan], np.float32),)],
        ),
    }


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    return host_recordings.record(__file__, tmp_path_factory.mktemp("math") / "recorded")


def is_close(name: str) -> bool:
    return name.split()[0] in (*CLOSE, "Pow")


def test_every_exact_op_gives_tensorflows_bits(recorded: dict[str, Recording]) -> None:
    assert not differences({n: r for n, r in recorded.items() if not is_close(n)})


def test_the_ops_that_are_not_exact_differ_in_the_last_digits_only(
    recorded: dict[str, Recording],
) -> None:
    close = {name: recording for name, recording in recorded.items() if is_close(name)}
    assert len(close) > 10
    assert not differences(close, close=True)
