"""Reductions, sorting, counting and segments without TensorFlow: its own answers."""

from collections.abc import Callable
from typing import Any

import host_recordings
import numpy as np
import pytest
from host_differences import differences
from host_recordings import Case, Recording, strings

I32, I64, F32, F64 = np.int32, np.int64, np.float32, np.float64
RANDOM = np.random.default_rng(3)
FLOATS = RANDOM.standard_normal((3, 5, 7)).astype(F32)
WHOLE = RANDOM.integers(-100, 100, (3, 5, 7)).astype(I32)
FLAGS = RANDOM.integers(0, 2, (3, 5)).astype(bool)


def ints(*values: Any, kind: Any = I32) -> np.ndarray[Any, Any]:
    return np.array(values, kind)


def raw(tf: Any, op: str, *names: str, **attrs: Any) -> Callable[..., Any]:
    """The raw op of its inputs, by their names."""
    rule = getattr(tf.raw_ops, op)
    return lambda *inputs: rule(**dict(zip(names, inputs, strict=True)), **attrs)


def reductions(tf: Any) -> dict[str, Case]:
    found: dict[str, Case] = {}
    axes = [ints(0), ints(-1, 0), ints(0, 1, 2), ints(1, kind=I64), np.zeros(0, I32)]
    for op in ("Sum", "Prod", "Max", "Min", "Mean"):
        for name, x in (("int32", WHOLE), ("int64", WHOLE.astype(I64)), ("float32", FLOATS)):
            for keep in (False, True):
                runs = [(x, axis.astype(I32)) for axis in axes] + [(x[:, :0], ints(1))]
                if op == "Mean" and name != "float32":
                    runs = runs[:-1]  # a mean of no integers divides by zero
                found[f"{op} of {name}, kept: {keep}"] = (
                    raw(tf, op, "input", "axis", keep_dims=keep),
                    runs,
                )
    for op in ("All", "Any"):
        runs = [(FLAGS, ints(0)), (FLAGS, ints(-1, 0)), (FLAGS[:0], ints(0)), (FLAGS, ints(2))]
        found[op] = (raw(tf, op, "input", "axis"), runs)
    return found


def scans(tf: Any) -> dict[str, Case]:
    found: dict[str, Case] = {}
    for op in ("Cumsum", "Cumprod"):
        for exclusive in (False, True):
            for reverse in (False, True):
                call = raw(tf, op, "x", "axis", exclusive=exclusive, reverse=reverse)
                name = f"{op}, exclusive: {exclusive}, reverse: {reverse}"
                found[name] = (call, [(WHOLE, np.asarray(1, I32)), (WHOLE, np.asarray(-3, I32))])
    return found


def orders(tf: Any) -> dict[str, Case]:
    ties = ints([3, 1, 3, 2], [0, 0, 0, 0])
    return {
        "ArgMax": (raw(tf, "ArgMax", "input", "dimension"), [(ties, np.asarray(1, I32))]),
        "ArgMin": (
            raw(tf, "ArgMin", "input", "dimension", output_type=tf.int32),
            [(ties, np.asarray(-1, I32)), (WHOLE[0], np.asarray(0, I32))],
        ),
        "TopKV2": (
            raw(tf, "TopKV2", "input", "k"),
            [
                (ties, np.asarray(3, I32)),
                (WHOLE[0, :2], np.asarray(7, I32)),
                (ties, np.asarray(0, I32)),
                (ties, np.asarray(5, I32)),
            ],
        ),
        "TopKV2 of floats": (raw(tf, "TopKV2", "input", "k"), [(FLOATS, np.asarray(7, I32))]),
        "TopKV2 of int64 indices": (
            raw(tf, "TopKV2", "input", "k", index_type=tf.int64),
            [(np.array([5, 9, 9, 1], np.uint8), np.asarray(2, I32))],
        ),
        "UpperBound": (
            raw(tf, "UpperBound", "sorted_inputs", "values"),
            [(ints([1, 3, 3, 5], [0, 0, 1, 9]), ints([0, 3, 6], [0, 1, 9]))],
        ),
        "LowerBound": (
            raw(tf, "LowerBound", "sorted_inputs", "values", out_type=tf.int64),
            [(np.array([[0.5, 1.5]], F32), np.array([[0.5, 1.0, 9.0]], F32))],
        ),
    }


def buckets(tf: Any) -> dict[str, Case]:
    edges = [-1.5, 0.1, 3.0, 16777216.0]
    found: dict[str, Case] = {
        f"Bucketize of {np.dtype(kind).name}": (
            raw(tf, "Bucketize", "input", boundaries=edges),
            [(np.array([[-2, -1.5, 0.1], [3, 2.9, 16777217]]).astype(kind),)],
        )
        for kind in (F32, F64, I32, I64)
    }
    found["Bucketize of NaN"] = (
        raw(tf, "Bucketize", "input", boundaries=edges),
        [(np.array([np.nan, np.inf, -np.inf], F32),)],
    )
    return found


def uniques(tf: Any) -> dict[str, Case]:
    words = strings(b"b", b"a", b"b", b"", b"a")
    numbers = ints(5, -1, 5, 7, -1)
    floats = np.array([0.5, -0.5, 0.5], F32)
    none = np.zeros(0, I64)
    return {
        "Unique": (raw(tf, "Unique", "x"), [(numbers,), (numbers[:0],)]),
        "Unique of strings": (raw(tf, "Unique", "x", out_idx=tf.int64), [(words,), (words[:0],)]),
        "Unique of floats": (raw(tf, "Unique", "x"), [(floats,)]),
        "UniqueWithCounts": (raw(tf, "UniqueWithCounts", "x"), [(numbers,)]),
        "UniqueWithCounts of strings": (raw(tf, "UniqueWithCounts", "x"), [(words,)]),
        "UniqueV2": (raw(tf, "UniqueV2", "x", "axis"), [(numbers, none), (numbers, none[:0])]),
        "UniqueV2 of rows": (
            raw(tf, "UniqueV2", "x", "axis"),
            [(ints([1, 2], [3, 4], [1, 2]), ints(0, kind=I64))],
        ),
        "UniqueWithCountsV2 of columns": (
            raw(tf, "UniqueWithCountsV2", "x", "axis"),
            [(ints([1, 2, 1], [3, 4, 3]), ints(1, kind=I64))],
        ),
    }


def counts(tf: Any) -> dict[str, Case]:
    x = ints([1, 3, 3, 9], [0, 0, 2, 1])
    size, weights = np.asarray(4, I32), np.array([[1, 2, 3, 4], [5, 6, 7, 8]], F32)
    none = np.zeros(0, F32)
    splits = ints(0, 3, 3, 8, kind=I64)
    indices = ints([0, 0], [0, 1], [2, 0], kind=I64)
    shape, values = ints(3, 4, kind=I64), ints(1, 1, 3)
    found: dict[str, Case] = {
        "Bincount": (raw(tf, "Bincount", "arr", "size", "weights"), [(x, size, none)]),
        "Bincount of weights": (
            raw(tf, "Bincount", "arr", "size", "weights"),
            [(x, size, weights), (-x, size, none)],
        ),
    }
    for binary in (False, True):
        found[f"DenseBincount, binary: {binary}"] = (
            raw(tf, "DenseBincount", "input", "size", "weights", binary_output=binary),
            [(x, size, none), (x[0], size, none), (x[:0], size, none)]
            + ([] if binary else [(x, size, weights), (x[0], size, weights[0])]),
        )
        found[f"RaggedBincount, binary: {binary}"] = (
            raw(tf, "RaggedBincount", "splits", "values", "size", "weights", binary_output=binary),
            [(splits, x.ravel(), size, none)],
        )
        found[f"SparseBincount, binary: {binary}"] = (
            raw(
                tf,
                "SparseBincount",
                "indices", "values", "dense_shape", "size", "weights",
                binary_output=binary,
            ),
            [(indices, values, shape, size, none)],
        )  # fmt: skip
    return found


def segments(tf: Any) -> dict[str, Case]:
    x, ids = WHOLE[:, :4, 0], ints(0, 0, 2)
    found: dict[str, Case] = {}
    for how in ("Sum", "Prod", "Max", "Min", "Mean"):
        data = x if how != "Mean" else x.astype(F32)
        found[f"Segment{how}"] = (raw(tf, f"Segment{how}", "data", "segment_ids"), [(data, ids)])
    for how in ("Sum", "Prod", "Max", "Min"):
        found[f"UnsortedSegment{how}"] = (
            raw(tf, f"UnsortedSegment{how}", "data", "segment_ids", "num_segments"),
            [
                (x, ints(2, -1, 0), np.asarray(4, I32)),
                (x, ints(2, 4, 0), np.asarray(4, I32)),
                (x[0], ints(1, 1, 0, 2), np.asarray(3, I32)),
            ],
        )
    return found


def cases(tf: Any) -> dict[str, Case]:
    groups = (reductions, scans, orders, buckets, uniques, counts, segments)
    return {name: case for group in groups for name, case in group(tf).items()}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    return host_recordings.record(__file__, tmp_path_factory.mktemp("reduce") / "recorded")


def is_close(name: str) -> bool:
    """Sums of floats: added in another order."""
    return name.split()[0] in ("Sum", "Prod", "Mean", "SegmentMean") and "int" not in name


def test_every_exact_op_gives_tensorflows_bits(recorded: dict[str, Recording]) -> None:
    assert not differences({n: r for n, r in recorded.items() if not is_close(n)})


def test_sums_of_floats_differ_in_the_last_digits_only(recorded: dict[str, Recording]) -> None:
    close = {name: recording for name, recording in recorded.items() if is_close(name)}
    assert len(close) > 5
    assert not differences(close, close=True)
