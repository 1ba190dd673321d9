"""Sparse ops without TensorFlow: its results, its order of additions, its refusals."""

from typing import Any

import host_recordings
import numpy as np
import pytest
from host_recordings import Case, Recording, strings

Array = np.ndarray[Any, Any]
DRAW = np.random.default_rng(0)


def sparse(*shape: int, count: int, kind: Any = np.float32, sort: bool = True) -> tuple[Array, ...]:
    """Indices without repeats, values, shape."""
    flat = DRAW.permutation(int(np.prod(shape)))[:count]
    flat = np.sort(flat) if sort else flat
    indices = np.stack(np.unravel_index(flat, shape), axis=1).astype(np.int64)
    values = (DRAW.standard_normal(count) * 100).astype(kind)
    return indices, values, np.array(shape, np.int64)


def ints(*values: Any) -> Array:
    return np.array(values, np.int64)


EMPTY = (np.empty((0, 2), np.int64), np.empty(0, np.float32), ints(3, 4))
WORDS = (ints([0, 1], [2, 0], [2, 3]), strings(b"a\0", b"", b"c"), ints(4, 4))


def cases(tf: Any) -> dict[str, Case]:
    return {**_dense(tf), **_rows(tf), **_shapes(tf), **_segments(tf)}


def _dense(tf: Any) -> dict[str, Case]:
    def to_dense(validate: bool) -> Any:
        return lambda i, s, v, d: tf.raw_ops.SparseToDense(
            sparse_indices=i, output_shape=s, sparse_values=v, default_value=d,
            validate_indices=validate,
        )  # fmt: skip

    one = np.float32(-1)
    full = [(i, s, v, one) for i, v, s in (sparse(5, 6, count=n) for n in (1, 9, 30))]
    i, v, s = sparse(5, 6, count=4)
    wrong = [
        (i[[0, 1, 1, 2]], s, v, one),
        (i[::-1].copy(), s, v, one),
        (i + 3, s, v, one),
        (i - 3, s, v, one),
        (i, ints(5), v, one),
        (i, s, v[:2], one),
        (i, ints(5, -1), v, one),
        (i, s, v, np.full(2, 1, np.float32)),
        (i[None], s, v, one),
    ]
    empty = (EMPTY[0], EMPTY[2], EMPTY[1], one)
    return {
        "to dense": (to_dense(True), [*full, empty, *wrong]),
        "to dense, unchecked": (to_dense(False), [*full, empty, *wrong[:-1]]),
        "to dense, one dimension": (
            to_dense(True),
            [(ints(1, 4), ints(6), np.array([1, 2], np.int32), np.int32(0))],
        ),
        "to dense, one value": (to_dense(True), [(ints(3), ints(6), np.float64(2), np.float64(0))]),
        "to dense, int32": (
            to_dense(True),
            [(i.astype(np.int32), s.astype(np.int32), v, np.float32(0))],
        ),
        "to dense, strings": (
            to_dense(True),
            [(WORDS[0], WORDS[2], WORDS[1], host_recordings.scalar(b"none\0"))],
        ),
    }


def _rows(tf: Any) -> dict[str, Case]:
    def fill(i: Any, v: Any, s: Any, d: Any) -> Any:
        return tf.raw_ops.SparseFillEmptyRows(indices=i, values=v, dense_shape=s, default_value=d)

    runs = [
        (*parts, np.float32(-7))
        for parts in (
            sparse(8, 4, count=6),
            sparse(8, 4, count=32),
            sparse(8, 4, count=13, sort=False),
            EMPTY,
            (EMPTY[0], EMPTY[1], ints(0, 4)),
            (ints([0, 1]), np.ones(1, np.float32), ints(0, 4)),
            (ints([5, 1]), np.ones(1, np.float32), ints(2, 4)),
            (ints([-1, 1]), np.ones(1, np.float32), ints(2, 4)),
            (ints([0, 1]), np.ones(2, np.float32), ints(2, 4)),
        )
    ]
    return {
        "fill rows": (fill, runs),
        "fill rows of strings": (fill, [(*WORDS, host_recordings.scalar(b"none\0"))]),
    }


def _shapes(tf: Any) -> dict[str, Case]:
    raw = tf.raw_ops
    i, v, s = sparse(4, 6, count=9)
    targets = [
        (24,),
        (2, -1),
        (6, 4),
        (4, 6),
        (-1, 2, 3),
        (-1, -1),
        (-2, 4),
        (5, -1),
        (5, 5),
        (0, -1),
    ]
    a, b = sparse(4, 3, count=5), sparse(4, 2, count=4)
    box = [((0, 0), (4, 6)), ((1, 2), (2, 3)), ((2, 4), (9, 9)), ((0, 0), (0, 0)), ((9, 9), (1, 1))]
    return {
        "reshape": (
            lambda i, s, t: raw.SparseReshape(input_indices=i, input_shape=s, new_shape=t),
            [(i, s, ints(*t)) for t in targets]
            + [(EMPTY[0], ints(0, 4), ints(-1, 2)), (i, ints(0, 4), ints(0, 2))],
        ),
        "reorder": (
            lambda i, v, s: raw.SparseReorder(input_indices=i, input_values=v, input_shape=s),
            [sparse(4, 6, count=12, sort=False), EMPTY],
        ),
        "slice": (
            lambda *a: raw.SparseSlice(
                indices=a[0], values=a[1], shape=a[2], start=a[3], size=a[4]
            ),
            [(i, v, s, ints(*start), ints(*size)) for start, size in box],
        ),
        **{
            f"concat at {axis}": (
                lambda i, v, s, j, w, t, axis=axis: raw.SparseConcat(
                    indices=[i, j], values=[v, w], shapes=[s, t], concat_dim=axis
                ),
                [(*a, *a), (*a, *b), (*a, *EMPTY)],
            )
            for axis in (1, 0, -1, 5)
        },
    }


def _segments(tf: Any) -> dict[str, Case]:
    raw = tf.raw_ops
    lengths = [1, 2, 3, 7, 8, 9, 10, 15, 16, 17, 18, 25, 40]
    ids = np.repeat(np.arange(len(lengths), dtype=np.int32) * 2, lengths)
    data = (DRAW.standard_normal((50, 3)) * 10.0 ** DRAW.integers(-3, 3, (50, 3))).astype(
        np.float32
    )
    at = DRAW.integers(0, 50, len(ids)).astype(np.int32)
    wrong = [
        (data, at, ids[::-1].copy()),
        (data, at + 1, ids),
        (data, at - 50, ids),
        (data, at, ids[:-1]),
        (data, at, ids - 1),
        (data, at[:0], ids[:0]),
    ]
    found: dict[str, Case] = {}
    for name in ("Sum", "Mean", "SqrtN"):
        function = getattr(raw, f"SparseSegment{name}")
        numbered = getattr(raw, f"SparseSegment{name}WithNumSegments")
        for kind in (np.float32, np.float64, np.float16, tf.bfloat16.as_numpy_dtype):
            found[f"{name} of {np.dtype(kind).name}"] = (
                lambda d, i, s, f=function: f(data=d, indices=i, segment_ids=s),
                [(data.astype(kind), at, ids)],
            )
        found[f"{name}, refused"] = (
            lambda d, i, s, f=function: f(data=d, indices=i, segment_ids=s), wrong
        )  # fmt: skip
        found[f"{name} of so many"] = (
            lambda d, i, s, n, f=numbered: f(data=d, indices=i, segment_ids=s, num_segments=n),
            [(data, at, ids, np.int32(n)) for n in (25, 30, 24, 2)]
            + [(data, at[:0], ids[:0], np.int32(2)), (data, at, ids, np.int32(-1))],
        )
    found["Sum of ints"] = (
        lambda d, i, s: raw.SparseSegmentSum(data=d, indices=i, segment_ids=s),
        [(np.arange(50, dtype=np.int32), at.astype(np.int64), ids.astype(np.int64))],
    )
    return found


NAMES = (
    "to dense", "to dense, unchecked", "to dense, one dimension", "to dense, one value",
    "to dense, int32", "to dense, strings", "fill rows", "fill rows of strings", "reshape",
    "reorder", "slice", "concat at 1", "concat at 0", "concat at -1", "concat at 5",
    *[f"{name}{rest}" for name in ("Sum", "Mean", "SqrtN") for rest in (
        " of float32", " of float64", " of float16", " of bfloat16", ", refused", " of so many",
    )],
    "Sum of ints",
)  # fmt: skip


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    return host_recordings.record(__file__, tmp_path_factory.mktemp("sparse") / "recorded")


@pytest.mark.parametrize("name", NAMES)
def test_a_sparse_op_gives_what_tensorflow_gives(recorded: dict[str, Recording], name: str) -> None:
    assert set(recorded) == set(NAMES)
    host_recordings.check(recorded[name])
