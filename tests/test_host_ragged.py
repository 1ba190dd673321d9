"""Ragged ops without TensorFlow: rows cut, filled, picked and counted as TensorFlow does."""

from typing import Any

import host_recordings
import numpy as np
import pytest
from host_recordings import Case, Recording, scalar, strings

Array = np.ndarray[Any, Any]


def ints(*values: Any) -> Array:
    return np.array(values, np.int64)


def floats(*values: Any) -> Array:
    return np.array(values, np.float32)


WORDS = strings(b"a\0", b"bb", b"", b"d", b"e")
NONE = np.float32(-1)


def cases(tf: Any) -> dict[str, Case]:
    return {**_dense(tf), **_sparse(tf), **_gather(tf), **_range(tf)}


def _to_tensor(tf: Any, *kinds: str) -> Any:
    return lambda s, v, d, *p: tf.raw_ops.RaggedTensorToTensor(
        shape=s, values=v, default_value=d, row_partition_tensors=list(p),
        row_partition_types=list(kinds),
    )  # fmt: skip


def _unsized(tf: Any, *kinds: str) -> Any:
    """TensorFlow wants to see that the shape is -1 when it builds the graph."""
    function = _to_tensor(tf, *kinds)
    return lambda *rest: function(tf.constant(-1, tf.int64), *rest)


def _dense(tf: Any) -> dict[str, Case]:
    one = [
        (floats(1, 2, 3), NONE, ints(0, 2, 2, 3)),
        (floats(), NONE, ints(0, 0, 0)),
        (floats(), NONE, ints(0)),
        (floats(1, 2, 3), NONE, ints(0, 2, 1)),
        (floats(1, 2, 3), NONE, ints()),
        (floats(1, 2, 3, 4), NONE, ints(0, 1, 2)),
    ]
    sized = [
        (ints(*shape), floats(1, 2, 3, 4), NONE, ints(0, 3, 3, 4))
        for shape in ((-1, -1), (-1, 2), (2, -1), (5, 5), (0, 2), (3, 0), (2, 2, 2))
    ]
    pairs = np.arange(8, dtype=np.float32).reshape(4, 2)
    wide = [
        (pairs, default, ints(0, 2, 2, 4))
        for default in (NONE, floats(7, 8), floats(9), floats(1, 2, 3))
    ]
    tall = [
        (ints(*shape), pairs, default, ints(0, 2, 2, 4))
        for shape, default in (((-1, -1, 3), NONE), ((-1, 2, -1), floats(7, 8)))
    ]
    nested = [
        (shape, floats(1, 2, 3, 4, 5), NONE, ints(0, 2, 2, 3), ints(0, 1, 4, 5))
        for shape in (ints(-1, -1, 2), ints(2, 1, -1), ints(4, 3, 4))
    ]
    ids = [
        (floats(1, 2, 3), NONE, np.int64(4), ints(0, 0, 2)),
        (floats(1, 2, 3), NONE, np.int64(0), ints(0, 0, 2)),
        (floats(), NONE, np.int64(3), ints()),
        (floats(1, 2, 3), NONE, np.int64(2), ints(0, 0, 2)),
        (floats(1, 2, 3), NONE, np.int64(2), ints(2, 2, 2)),
    ]
    deep = (floats(1, 2, 3, 4), NONE, np.int64(3), ints(0, 0, 2), ints(0, 1, 1, 2))
    return {
        "dense": (_unsized(tf, "ROW_SPLITS"), one),
        "dense of a size": (_to_tensor(tf, "ROW_SPLITS"), sized),
        "dense of pairs": (_unsized(tf, "ROW_SPLITS"), wide),
        "dense of pairs and a size": (_to_tensor(tf, "ROW_SPLITS"), tall),
        "dense of words": (
            _unsized(tf, "ROW_SPLITS"), [(WORDS, scalar(b"?\0"), ints(0, 1, 1, 5))]
        ),
        "dense, two deep": (_to_tensor(tf, "ROW_SPLITS", "ROW_SPLITS"), nested),
        "dense of row ids": (_unsized(tf, "FIRST_DIM_SIZE", "VALUE_ROWIDS"), ids),
        "dense of row ids and a size": (
            _to_tensor(tf, "FIRST_DIM_SIZE", "VALUE_ROWIDS"),
            [(ints(2, 1), floats(1, 2, 3), NONE, np.int64(4), ints(0, 0, 2))],
        ),
        "dense of row ids, two deep": (
            _unsized(tf, "FIRST_DIM_SIZE", "VALUE_ROWIDS", "VALUE_ROWIDS"), [deep]
        ),
    }  # fmt: skip


def _sparse(tf: Any) -> dict[str, Case]:
    def convert(v: Any, *splits: Any) -> Any:
        return tf.raw_ops.RaggedTensorToSparse(rt_nested_splits=list(splits), rt_dense_values=v)

    return {
        "sparse": (
            convert,
            [
                (floats(1, 2, 3), ints(0, 2, 2, 3)),
                (floats(), ints(0, 0)),
                (floats(), ints(0)),
                (floats(1, 2, 3), ints(1, 3)),
                (floats(1, 2, 3), ints(0, 2, 1, 3)),
                (floats(1, 2, 3), ints(0, 2)),
                (floats(1, 2, 3), ints()),
            ],
        ),
        "sparse of pairs": (
            convert, [(np.arange(8, dtype=np.int32).reshape(4, 2), ints(0, 3, 4))]
        ),
        "sparse of words, two deep": (
            convert,
            [(WORDS, ints(0, 2, 2, last), ints(0, 1, 4, 5)) for last in (3, 2)],
        ),
    }  # fmt: skip


def _gather(tf: Any) -> dict[str, Case]:
    def gather(rank: int) -> Any:
        return lambda v, i, *splits: tf.raw_ops.RaggedGather(
            params_nested_splits=list(splits), params_dense_values=v, indices=i,
            OUTPUT_RAGGED_RANK=rank,
        )  # fmt: skip

    splits = ints(0, 2, 2, 5)
    return {
        "gather": (
            gather(1),
            [(WORDS, ints(*at), splits) for at in ((2, 0, 2), (1,), (), (3,), (0, -1))],
        ),
        "gather, two deep": (
            gather(2), [(WORDS, ints(1, 0), ints(0, 1, 3), splits[[0, 1, 3, 3]])]
        ),
        "gather by a matrix": (
            gather(2),
            [(WORDS, ints([0, 2], [last, 1]), splits) for last in (2, 3)],
        ),
    }  # fmt: skip


def _range(tf: Any) -> dict[str, Case]:
    def ranges(s: Any, e: Any, d: Any) -> Any:
        return tf.raw_ops.RaggedRange(starts=s, limits=e, deltas=d)

    return {
        "range": (
            ranges,
            [
                (ints(0, 5, 8), ints(3, 5, 2), ints(1, 1, -2)),
                (ints(0, 5), ints(3, 9), ints(2, 3)),
                (ints(0, 5), ints(3, 9), ints(0, 3)),
                (ints(0, 5), ints(3, 9, 1), ints(2, 3)),
                (ints(), ints(), ints()),
            ],
        ),
        "range from a scalar": (ranges, [(np.int64(0), ints(3, 4), np.int64(1))]),
        "range of floats": (ranges, [(floats(0, 1), floats(1, -0.35), floats(0.1, -0.1))]),
    }


NAMES = (
    "dense", "dense of a size", "dense of pairs", "dense of pairs and a size", "dense of words",
    "dense, two deep", "dense of row ids", "dense of row ids and a size",
    "dense of row ids, two deep", "sparse", "sparse of pairs", "sparse of words, two deep",
    "gather", "gather, two deep", "gather by a matrix", "range", "range from a scalar",
    "range of floats",
)  # fmt: skip


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    return host_recordings.record(__file__, tmp_path_factory.mktemp("ragged") / "recorded")


@pytest.mark.parametrize("name", NAMES)
def test_a_ragged_op_gives_what_tensorflow_gives(recorded: dict[str, Recording], name: str) -> None:
    assert set(recorded) == set(NAMES)
    host_recordings.check(recorded[name])
