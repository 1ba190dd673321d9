"""Products of matrices and softmax without TensorFlow: its answers to the last digit or two."""

from collections.abc import Callable
from typing import Any

import host_recordings
import ml_dtypes
import numpy as np
import pytest
from host_recordings import Case, Recording

from jaxrt.converters.host import graph, native
from jaxrt.errors import RequestError

TOLERANCES = {"float32": 1e-6, "float64": 1e-14, "float16": 2e-3, "bfloat16": 2e-2, "int32": 0}


def array(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    draw = np.random.default_rng(sum(shape))
    if np.dtype(dtype).kind == "i":
        return draw.integers(-1000, 1000, shape).astype(dtype)
    return draw.normal(size=shape).astype(dtype)


def cases(tf: Any) -> dict[str, Case]:
    def product(turned: bool, other: bool) -> Callable[..., Any]:
        return lambda a, b: tf.raw_ops.MatMul(a=a, b=b, transpose_a=turned, transpose_b=other)

    def batched(turned: bool, other: bool) -> Callable[..., Any]:
        return lambda x, y: tf.raw_ops.BatchMatMulV2(x=x, y=y, adj_x=turned, adj_y=other)

    dtypes = (np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.int32)
    found: dict[str, Case] = {}
    for dtype in dtypes:
        name = np.dtype(dtype).name
        pair = (array(3, 4, dtype=dtype), array(4, 5, dtype=dtype))
        found[f"MatMul {name}"] = (product(False, False), [pair])
        found[f"MatMul turned {name}"] = (product(True, True), [(pair[0].T, pair[1].T)])
        many = (array(2, 1, 3, 4, dtype=dtype), array(6, 4, 5, dtype=dtype))
        found[f"BatchMatMulV2 {name}"] = (batched(False, False), [many])
        turned = (many[0].swapaxes(-1, -2), many[1].swapaxes(-1, -2))
        found[f"BatchMatMulV2 turned {name}"] = (batched(True, True), [turned])
        if np.dtype(dtype).kind != "i":
            logits = [(array(3, 7, dtype=dtype),), (array(7, dtype=dtype) * 50,)]
            found[f"Softmax {name}"] = (lambda x: tf.raw_ops.Softmax(logits=x), logits[:1])
            found[f"Softmax line {name}"] = (lambda x: tf.raw_ops.Softmax(logits=x), logits[1:])
            log = lambda x: tf.raw_ops.LogSoftmax(logits=x)  # noqa: E731
            found[f"LogSoftmax {name}"] = (log, logits[:1])
    empty = (array(0, 4), array(4, 5))
    found["MatMul empty"] = (product(False, False), [empty, (array(3, 0), array(0, 5))])
    return found


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    return host_recordings.record(__file__, tmp_path_factory.mktemp("linear") / "recorded")


def executor(recording: Recording) -> native.Executor:
    outputs = {f"y{i}": name for i, name in enumerate(recording.fetches)}
    inputs = {f"x{i}": name for i, name in enumerate(recording.feeds)}
    return native.Executor(graph.parse(recording.graph), inputs, outputs, {})


def test_answers_are_tensorflows_but_for_the_last_digits(recorded: dict[str, Recording]) -> None:
    assert len(recorded) == 33
    for name, recording in recorded.items():
        for run in recording.runs:
            assert run.error is None, (name, run.error)
            given = {f"x{i}": value for i, value in enumerate(run.arguments)}
            (found,) = executor(recording).run(given).values()
            (want,) = run.results
            assert (found.dtype, found.shape) == (want.dtype, want.shape), name
            wide = np.float64
            scale = max(1.0, float(np.abs(want.astype(wide)).max(initial=0)))
            error = np.abs(found.astype(wide) - want.astype(wide)).max(initial=0)
            assert error <= TOLERANCES[found.dtype.name] * scale, (name, error)


@pytest.mark.parametrize("shapes", [((3, 4), (5, 6)), ((3,), (3, 4)), ((3, 4), (4,))])
@pytest.mark.parametrize("op", ["MatMul float32", "BatchMatMulV2 float32"])
def test_shapes_that_do_not_fit_are_the_callers_fault(
    recorded: dict[str, Recording], op: str, shapes: tuple[tuple[int, ...], ...]
) -> None:
    given = {f"x{i}": array(*shape) for i, shape in enumerate(shapes)}
    with pytest.raises(RequestError, match=r"In\[[01]\]"):
        executor(recorded[op]).run(given)


def test_products_of_floats_keep_a_stage_with_tensorflow(recorded: dict[str, Recording]) -> None:
    for name, kept in (("MatMul float32", ("MatMul",)), ("MatMul int32", ())):
        recording = recorded[name]
        parsed = graph.parse(recording.graph)
        assert native.missing(parsed, recording.fetches, recording.feeds) == ()
        assert native.inexact(parsed, recording.fetches, recording.feeds) == kept
