"""Ops on shapes and places without TensorFlow: its own answers, and its own refusals."""

from collections.abc import Callable
from typing import Any

import host_recordings
import ml_dtypes
import numpy as np
import pytest
from host_differences import differences
from host_recordings import Case, Recording, scalar, strings

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
WORDS = strings(b"a", b"bc", b"", b"\xff\xfe", b"e", b"f").reshape(2, 3)
I32, I64 = np.int32, np.int64


def ints(*values: Any, kind: Any = I32) -> np.ndarray[Any, Any]:
    return np.array(values, kind)


def one(value: int, kind: Any = I32) -> np.ndarray[Any, Any]:
    return np.asarray(value, kind)


def raw(tf: Any, op: str, *names: str, **attrs: Any) -> Callable[..., Any]:
    """The raw op of its inputs, by their names."""
    rule = getattr(tf.raw_ops, op)
    return lambda *inputs: rule(**dict(zip(names, inputs, strict=True)), **attrs)


def listed(tf: Any, op: str, name: str, *rest: str, **attrs: Any) -> Callable[..., Any]:
    """The raw op of a list of inputs; `rest` name the last of them."""
    rule = getattr(tf.raw_ops, op)

    def call(*inputs: Any) -> Any:
        cut = len(inputs) - len(rest)
        others = dict(zip(rest, inputs[cut:], strict=True))
        return rule(**{name: list(inputs[:cut])}, **others, **attrs)

    return call


def arrangements(tf: Any) -> dict[str, Case]:
    return {
        "Shape": (raw(tf, "Shape", "input", out_type=tf.int64), [(X,), (X[:0],)]),
        "ShapeN": (listed(tf, "ShapeN", "input"), [(X, X[0])]),
        "Size": (raw(tf, "Size", "input"), [(X,), (X[:0],)]),
        "Rank": (raw(tf, "Rank", "input"), [(X,)]),
        "Reshape": (
            raw(tf, "Reshape", "tensor", "shape"),
            [
                (X, ints(4, -1)),
                (X, ints(24)),
                (X, ints(5, -1)),
                (X, ints(5, 5)),
                (X[:0], ints(0, 7)),
                (X[:0], ints(-1, 7)),
            ],
        ),
        "Reshape of strings": (
            raw(tf, "Reshape", "tensor", "shape"),
            [(WORDS, ints(3, 2, kind=I64))],
        ),
        "ExpandDims": (
            raw(tf, "ExpandDims", "input", "axis"),
            [(X, one(-1)), (X, one(0)), (X, one(4))],
        ),
        "Squeeze": (raw(tf, "Squeeze", "input"), [(X[:1, :, :1],), (X,)]),
        "Squeeze of an axis": (
            raw(tf, "Squeeze", "input", axis=[-1]),
            [(X[:1, :, :1],), (X,)],
        ),
        "Pack": (listed(tf, "Pack", "values", axis=-1), [(X, X)]),
        "Pack of strings": (listed(tf, "Pack", "values"), [(WORDS, WORDS)]),
        "Pack of scalars": (listed(tf, "Pack", "values"), [(one(3), one(4))]),
        "Unpack": (raw(tf, "Unpack", "value", num=3, axis=-2), [(X,)]),
        "Unpack of a vector": (raw(tf, "Unpack", "value", num=2), [(ints(5, 6),)]),
        "Unpack of strings": (raw(tf, "Unpack", "value", num=3, axis=1), [(WORDS,)]),
        "ConcatV2": (
            listed(tf, "ConcatV2", "values", "axis"),
            [(X, X[:, :1], one(1)), (X, X[:, :1], one(-2)), (X, X[:, :1], one(0))],
        ),
        "ConcatV2 of strings": (listed(tf, "ConcatV2", "values", "axis"), [(WORDS, WORDS, one(0))]),
        "Concat": (
            lambda axis, a, b: tf.raw_ops.Concat(concat_dim=axis, values=[a, b]),
            [(one(1), X, X)],
        ),
        "Split": (
            lambda axis, x: tf.raw_ops.Split(axis=axis, value=x, num_split=2),
            [(one(-1), X), (one(0), X), (one(1), X)],
        ),
        "SplitV": (
            lambda x, sizes, axis: tf.raw_ops.SplitV(
                value=x, size_splits=sizes, axis=axis, num_split=2
            ),
            [(X, ints(1, -1), one(1)), (X, ints(3, 1), one(2))],
        ),
        "Tile": (raw(tf, "Tile", "input", "multiples"), [(X, ints(1, 2, 0)), (X, ints(2, 1, 3))]),
        "Tile of strings": (raw(tf, "Tile", "input", "multiples"), [(WORDS, ints(2, 1))]),
        "Fill": (raw(tf, "Fill", "dims", "value"), [(ints(2, 3), one(7)), (ints(0), one(7))]),
        "Fill of strings": (raw(tf, "Fill", "dims", "value"), [(ints(2, 3), scalar(b"x"))]),
        "ZerosLike": (raw(tf, "ZerosLike", "x"), [(X,)]),
        "ZerosLike of strings": (raw(tf, "ZerosLike", "x"), [(WORDS,)]),
        "OnesLike": (raw(tf, "OnesLike", "x"), [(X.astype(ml_dtypes.bfloat16),)]),
        "Transpose": (raw(tf, "Transpose", "x", "perm"), [(X, ints(2, 0, 1))]),
        "Transpose of strings": (raw(tf, "Transpose", "x", "perm"), [(WORDS, ints(1, 0))]),
        "InvertPermutation": (raw(tf, "InvertPermutation", "x"), [(ints(2, 0, 1),)]),
        "BroadcastTo": (
            raw(tf, "BroadcastTo", "input", "shape"),
            [(X[:, :1], ints(2, 3, 4)), (X[0, 0], ints(2, 4))],
        ),
        "BroadcastTo of strings": (
            raw(tf, "BroadcastTo", "input", "shape"),
            [(WORDS, ints(2, 2, 3))],
        ),
        "BroadcastArgs": (raw(tf, "BroadcastArgs", "s0", "s1"), [(ints(2, 1), ints(3))]),
        "ReverseV2": (raw(tf, "ReverseV2", "tensor", "axis"), [(X, ints(-1, 0))]),
        "ReverseV2 of strings": (raw(tf, "ReverseV2", "tensor", "axis"), [(WORDS, ints(1))]),
        "ReverseSequence": (
            raw(tf, "ReverseSequence", "input", "seq_lengths", seq_dim=1, batch_dim=0),
            [(X, ints(2, 3))],
        ),
        "Pad": (raw(tf, "Pad", "input", "paddings"), [(X, ints([1, 0], [0, 2], [0, 0]))]),
        "Pad of strings": (raw(tf, "Pad", "input", "paddings"), [(WORDS, ints([1, 0], [0, 2]))]),
        "PadV2": (
            raw(tf, "PadV2", "input", "paddings", "constant_values"),
            [(X, ints([1, 0], [0, 2], [0, 0]), np.float32(9))],
        ),
        "PadV2 of strings": (
            raw(tf, "PadV2", "input", "paddings", "constant_values"),
            [(WORDS, ints([1, 0], [0, 2]), scalar(b"?"))],
        ),
        "MirrorPad": (
            raw(tf, "MirrorPad", "input", "paddings", mode="REFLECT"),
            [(X, ints([0, 1], [2, 0], [1, 1]))],
        ),
        "MirrorPad of the edge": (
            raw(tf, "MirrorPad", "input", "paddings", mode="SYMMETRIC"),
            [(X, ints([0, 2], [2, 0], [1, 1]))],
        ),
        "EnsureShape": (raw(tf, "EnsureShape", "input", shape=[None, 3, 4]), [(X,)]),
        "ConcatOffset": (
            lambda axis, a, b: tf.raw_ops.ConcatOffset(concat_dim=axis, shape=[a, b]),
            [(one(1), ints(2, 3), ints(2, 5))],
        ),
    }


def ranges(tf: Any) -> dict[str, Case]:
    found: dict[str, Case] = {}
    for kind in (I32, I64):
        found[f"Range of {np.dtype(kind).name}"] = (
            raw(tf, "Range", "start", "limit", "delta"),
            [
                (one(0, kind), one(7, kind), one(2, kind)),
                (one(7, kind), one(0, kind), one(-3, kind)),
                (one(3, kind), one(3, kind), one(1, kind)),
                (one(3, kind), one(0, kind), one(1, kind)),
                (one(0, kind), one(3, kind), one(0, kind)),
            ],
        )
    for real in (np.float32, np.float64):
        a, b, c, d = (np.asarray(v, real) for v in (0.1, 2.7, 0.1, -0.1))
        found[f"Range of {np.dtype(real).name}"] = (
            raw(tf, "Range", "start", "limit", "delta"),
            [(a, b, c), (b, a, d)],
        )
    return found


def slices(tf: Any) -> dict[str, Case]:
    def strided(**masks: int) -> Callable[..., Any]:
        return raw(tf, "StridedSlice", "input", "begin", "end", "strides", **masks)

    return {
        "StridedSlice": (
            strided(),
            [
                (X, ints(0, 1), ints(2, 3), ints(1, 1)),
                (X, ints(-1, 3), ints(-3, 0), ints(-1, -2)),
                (X, ints(0, -100), ints(100, 100), ints(1, 2)),
            ],
        ),
        "StridedSlice with masks": (
            strided(begin_mask=1, end_mask=2),
            [(X, ints(1, 1), ints(1, 2), ints(1, 1)), (X, ints(1, -1), ints(-3, 0), ints(-1, -1))],
        ),
        "StridedSlice that drops an axis": (
            strided(shrink_axis_mask=2),
            [
                (X, ints(0, 1), ints(1, 2), ints(1, 1)),
                (X, ints(0, -1), ints(1, 0), ints(1, 1)),
                (X, ints(0, 3), ints(1, 4), ints(1, 1)),
            ],
        ),
        "StridedSlice with an ellipsis": (
            strided(ellipsis_mask=2, new_axis_mask=1, shrink_axis_mask=4),
            [(X, ints(0, 0, 1), ints(0, 0, 2), ints(1, 1, 1))],
        ),
        "StridedSlice of a shape": (
            strided(shrink_axis_mask=1),
            [(ints(5, 6), ints(0), ints(1), ints(1)), (ints(5, 6), ints(-1), ints(0), ints(1))],
        ),
        "StridedSlice of strings": (
            strided(shrink_axis_mask=3),
            [(WORDS, ints(0, 1), ints(1, 2), ints(1, 1))],
        ),
        "Slice": (
            raw(tf, "Slice", "input", "begin", "size"),
            [
                (X, ints(0, 1, 2), ints(-1, 2, 1)),
                (X, ints(0, 1, 2), ints(-1, 3, 1)),
                (X, ints(0, 4, 2), ints(-1, 0, 1)),
            ],
        ),
    }


def places(tf: Any) -> dict[str, Case]:
    return {
        "GatherV2": (
            raw(tf, "GatherV2", "params", "indices", "axis"),
            [
                (X, ints([2, 0], [1, 1]), one(1)),
                (X, ints(3), one(-1)),
                (X, one(1), one(0)),
                (X, ints([0, 1], [3, 0]), one(1)),
                (X, one(-1), one(0)),
            ],
        ),
        "GatherV2 of a batch": (
            raw(tf, "GatherV2", "params", "indices", "axis", batch_dims=1),
            [(X, ints([2, 0], [1, 1]), one(1)), (X, ints([2, 0], [1, 3]), one(2))],
        ),
        "GatherV2 of strings": (
            raw(tf, "GatherV2", "params", "indices", "axis"),
            [(WORDS, ints(1, 0, 1, kind=I64), one(0))],
        ),
        "Gather": (raw(tf, "Gather", "params", "indices"), [(X, ints(1, 0, 1))]),
        "GatherNd": (
            raw(tf, "GatherNd", "params", "indices"),
            [
                (X, ints([1, 2], [0, 0])),
                (X, ints([1, 2, 3])),
                (X, np.zeros((2, 0), I32)),
                (X, ints([0, 0], [1, 3])),
            ],
        ),
        "GatherNd of strings": (raw(tf, "GatherNd", "params", "indices"), [(WORDS, ints([1, 2]))]),
        "ScatterNd": (
            raw(tf, "ScatterNd", "indices", "updates", "shape"),
            [
                (ints([0], [2], [0]), ints(1, 2, 3), ints(4)),
                (ints([0], [4]), ints(1, 2), ints(4)),
            ],
        ),
        "TensorScatterUpdate": (
            raw(tf, "TensorScatterUpdate", "tensor", "indices", "updates"),
            [(X[0], ints([0], [2]), X[1, :2]), (X[0], ints([0], [3]), X[1, :2])],
        ),
        "TensorScatterUpdate of strings": (
            raw(tf, "TensorScatterUpdate", "tensor", "indices", "updates"),
            [(WORDS[0], ints([2]), strings(b"new"))],
        ),
        **{
            f"TensorScatter{how}": (
                raw(tf, f"TensorScatter{how}", "tensor", "indices", "updates"),
                [(ints(1, 2, 3), ints([0], [2], [0]), ints(7, -8, 9))],
            )
            for how in ("Add", "Sub", "Max", "Min")
        },
        "Where": (raw(tf, "Where", "condition"), [(X > 5,), (X[0] * 0 > 1,)]),
        "Where of numbers": (raw(tf, "Where", "condition"), [(X - 3,)]),
        "OneHot": (
            raw(tf, "OneHot", "indices", "depth", "on_value", "off_value"),
            [(ints([0, 2], [-1, 5]), one(3), np.float32(1), np.float32(0))],
        ),
        "OneHot along an axis": (
            raw(tf, "OneHot", "indices", "depth", "on_value", "off_value", axis=0),
            [(ints([0, 2], [-1, 5]), one(3), one(5), one(-5))],
        ),
        "DynamicStitch": (
            lambda i, j, a, b: tf.raw_ops.DynamicStitch(indices=[i, j], data=[a, b]),
            [(ints(0, 2), ints(1, 0), X[0, :2], X[1, :2])],
        ),
        "DynamicPartition": (
            raw(tf, "DynamicPartition", "data", "partitions", num_partitions=3),
            [(X[0], ints(2, 0, 2)), (X[0], ints(2, 0, 3))],
        ),
    }


def cases(tf: Any) -> dict[str, Case]:
    return {**arrangements(tf), **ranges(tf), **slices(tf), **places(tf)}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    return host_recordings.record(__file__, tmp_path_factory.mktemp("shape") / "recorded")


def test_every_arrangement_is_tensorflows(recorded: dict[str, Recording]) -> None:
    assert len(recorded) > 70
    assert not differences(recorded)
