"""Sparse arithmetic, sets and counts without TensorFlow, as TensorFlow computes them."""

from typing import Any

import host_recordings
import numpy as np
import pytest
from host_differences import differences
from host_recordings import Case, Recording, strings

Array = np.ndarray[Any, Any]
I32, I64, F32 = np.int32, np.int64, np.float32


def sparse(seed: int, shape: tuple[int, ...], count: int, dtype: Any = I64) -> tuple[Any, ...]:
    """Indices in order, values, shape."""
    random = np.random.default_rng(seed)
    size = int(np.prod(shape))
    flat = np.sort(random.choice(size, min(count, size), replace=False))
    indices = np.stack(np.unravel_index(flat, shape), axis=1).astype(I64)
    values = random.integers(-9, 9, len(flat)).astype(dtype)
    return indices.reshape(-1, len(shape)), values, np.array(shape, I64)


def _reductions(tf: Any) -> dict[str, Case]:
    raw = tf.raw_ops
    found: dict[str, Case] = {}
    runs: list[Any] = [
        (*sparse(seed, (3, 4, 5), count), np.array(axes, I32))
        for seed, count in ((1, 20), (2, 1), (3, 0), (4, 60))
        for axes in ([0], [1], [2, 0], [-1], [0, 1, 2], [], [1, 1], [-3, -2])
    ]
    shuffled = sparse(5, (4, 4), 9)
    order = np.random.default_rng(6).permutation(9)
    runs.append((shuffled[0][order], shuffled[1][order], shuffled[2], np.array([1], I32)))
    runs += [(*sparse(1, (3, 4), 5), np.array([axis], I32)) for axis in (2, -3)]
    for name in ("SparseReduceSum", "SparseReduceMax"):
        for keep in (False, True):
            for kind in ("", "Sparse"):
                found[f"{name}{kind} {keep}"] = (
                    lambda i, v, s, a, n=name + kind, k=keep: getattr(raw, n)(
                        input_indices=i, input_values=v, input_shape=s, reduction_axes=a,
                        keep_dims=k,
                    ),
                    runs,
                )  # fmt: skip
    floats: list[Any] = [(i, (v / 7).astype(F32), s, a) for i, v, s, a in runs]
    found["SparseReduceMax of floats"] = (
        lambda i, v, s, a: raw.SparseReduceMax(
            input_indices=i, input_values=v, input_shape=s, reduction_axes=a
        ),
        floats,
    )
    return found


def _arithmetic(tf: Any) -> dict[str, Case]:
    raw = tf.raw_ops
    names = ("a_indices", "a_values", "a_shape", "b_indices", "b_values", "b_shape", "thresh")
    pairs: list[Any] = [
        (*sparse(a, (3, 4), n), *sparse(b, (3, 4), m), np.array(t, I64))
        for a, b, n, m, t in ((1, 2, 6, 6, 0), (3, 4, 12, 12, 3), (5, 6, 0, 4, 1), (7, 8, 4, 0, 0))
    ]
    bad: list[Any] = [
        (*sparse(1, (3, 4), 6), *sparse(2, (3, 5), 6), np.array(0, I64)),
        (*sparse(1, (3, 4), 6), *sparse(2, (3,), 2), np.array(0, I64)),
    ]
    random = np.random.default_rng(9)
    found: dict[str, Case] = {
        "SparseAdd": (
            lambda *a: raw.SparseAdd(**dict(zip(names, a, strict=True))),
            [*pairs, *bad],
        ),
        "SparseTensorDenseAdd": (
            lambda i, v, s, d: raw.SparseTensorDenseAdd(a_indices=i, a_values=v, a_shape=s, b=d),
            [
                (*sparse(1, (3, 4), n, F32), random.normal(size=shape).astype(F32))
                for n, shape in ((5, (3, 4)), (0, (3, 4)), (5, (3, 5)))
            ],
        ),
    }
    for name in ("Add", "Mul", "Div"):
        for dtype in (F32, I32):
            found[f"SparseDenseCwise{name} {dtype.__name__}"] = (
                lambda i, v, s, d, n=name: getattr(raw, f"SparseDenseCwise{n}")(
                    sp_indices=i, sp_values=v, sp_shape=s, dense=d
                ),
                [
                    (*sparse(1, (3, 4), n, dtype), random.integers(1, 9, shape).astype(dtype))
                    for n, shape in (
                        (5, (3, 4)),
                        (0, (3, 4)),
                        (5, (1, 4)),
                        (7, (3, 1)),
                        (3, (2, 4)),
                    )
                ],
            )
    for count in (1, 2, 3):
        found[f"SparseSplit in {count}"] = (
            lambda a, i, v, s, n=count: raw.SparseSplit(
                split_dim=a, indices=i, values=v, shape=s, num_split=n
            ),
            [
                (np.array(axis, I64), *sparse(axis + 9, shape, 7))
                for shape in ((3, 4), (5, 2), (2, 7))
                for axis in (0, 1)
            ],
        )
    for left in (False, True):
        for right in (False, True):
            shape = (5, 3) if left else (3, 5)
            dense = random.integers(-5, 5, (4, 5) if right else (5, 4)).astype(I32)
            found[f"SparseTensorDenseMatMul {left} {right}"] = (
                lambda i, v, s, d, a=left, b=right: raw.SparseTensorDenseMatMul(
                    a_indices=i, a_values=v, a_shape=s, b=d, adjoint_a=a, adjoint_b=b
                ),
                [(*sparse(3, shape, n, I32), dense) for n in (0, 6, 15)],
            )
    return found


def _sets(tf: Any) -> dict[str, Case]:
    raw = tf.raw_ops
    random = np.random.default_rng(11)
    words = strings(b"b", b"a", b"a", b"", b"c", b"b", b"z", b"a").reshape(2, 4)
    numbers = [random.integers(0, 5, (3, 2, n)).astype(I64) for n in (4, 6)]
    found: dict[str, Case] = {}
    for kind in ("a-b", "b-a", "intersection", "union"):
        found[f"DenseToDense {kind} of words"] = (
            lambda a, b, k=kind: raw.DenseToDenseSetOperation(set1=a, set2=b, set_operation=k),
            [
                (words, words[::-1]),
                (words, words[:, :1]),
                (words[:, :0], words),
                (words, words[:1]),
            ],
        )
        found[f"DenseToDense {kind}"] = (
            lambda a, b, k=kind: raw.DenseToDenseSetOperation(set1=a, set2=b, set_operation=k),
            [(numbers[0], numbers[1]), (numbers[0][:0], numbers[1][:0])],
        )
        found[f"DenseToSparse {kind}"] = (
            lambda a, i, v, s, k=kind: raw.DenseToSparseSetOperation(
                set1=a, set2_indices=i, set2_values=v, set2_shape=s, set_operation=k
            ),
            [(numbers[0], *sparse(n, (3, 2, 7), n)) for n in (0, 5, 20)]
            + [(numbers[0], *sparse(1, (3, 3, 7), 4)), (numbers[0], *sparse(1, (3, 7), 4))],
        )
        found[f"SparseToSparse {kind}"] = (
            lambda a, b, c, d, e, f, k=kind: raw.SparseToSparseSetOperation(
                set1_indices=a, set1_values=b, set1_shape=c, set2_indices=d, set2_values=e,
                set2_shape=f, set_operation=k,
            ),
            [(*sparse(n, (3, 2, 7), n), *sparse(40 - n, (3, 2, 4), 20 - n)) for n in (0, 5, 20)],
        )  # fmt: skip
    found["SetSize"] = (
        lambda i, v, s: raw.SetSize(set_indices=i, set_values=v, set_shape=s),
        [sparse(n, (3, 2, 7), n) for n in (0, 5, 20)],
    )
    found["ListDiff"] = (
        lambda x, y: raw.ListDiff(x=x, y=y, out_idx=tf.int64),
        [(words[0], words[1]), (words[0, :0], words[1]), (words[0], words[1, :0])],
    )
    found["ListDiff of numbers"] = (
        lambda x, y: raw.ListDiff(x=x, y=y),
        [(numbers[0].ravel(), np.arange(3)), (numbers[0].ravel(), np.arange(9))],
    )
    return found


def _counts(tf: Any) -> dict[str, Case]:
    raw = tf.raw_ops
    random = np.random.default_rng(12)
    flat = random.integers(0, 9, 12).astype(I64)
    weights = (random.integers(0, 9, 12) / 7).astype(F32)
    none = np.zeros(0, F32)
    indices, _, shape = sparse(1, (3, 7), 12)
    found: dict[str, Case] = {}
    for least, most, binary in ((-1, -1, False), (12, -1, False), (3, 5, False), (-1, 4, True)):
        options = dict(minlength=least, maxlength=most, binary_output=binary)
        found[f"DenseCount {options}"] = (
            lambda v, w, o=options: raw.DenseCountSparseOutput(values=v, weights=w, **o),
            [
                (flat, none),
                (flat, weights),
                (flat[:0], none),
                (flat, weights[:5]),
                (flat - 3, none),
            ],
        )
        found[f"DenseCount of rows {options}"] = (
            lambda v, w, o=options: raw.DenseCountSparseOutput(values=v, weights=w, **o),
            [
                (flat.reshape(3, 4), weights.reshape(3, 4)),
                (flat.reshape(3, 4), none.reshape(0, 1)),
                (flat.reshape(3, 4)[:0], none.reshape(0, 1)),
                (flat.reshape(3, 4)[:, :0], none.reshape(0, 1)),
            ],
        )
        found[f"SparseCount {options}"] = (
            lambda i, v, s, w, o=options: raw.SparseCountSparseOutput(
                indices=i, values=v, dense_shape=s, weights=w, **o
            ),
            [
                (indices, flat, shape, none),
                (indices, flat - 3, shape, none),
                (indices, flat, shape, weights),
                (indices[:, 1:], flat, np.array([7], I64), weights),
                (indices[:0], flat[:0], shape, none),
                (indices, flat, np.array([3, 5], I64), none),
                (indices, flat, np.array([0, 5], I64), none),
                (indices[:0], flat[:0], np.array([0, 5], I64), none),
            ],
        )
        found[f"RaggedCount {options}"] = (
            lambda s, v, w, o=options: raw.RaggedCountSparseOutput(
                splits=s, values=v, weights=w, **o
            ),
            [
                (np.array(splits, I64), flat, w)
                for splits in ([0, 3, 3, 12], [0, 12], [0], [1, 12], [0, 5])
                for w in (none, weights)
            ]
            + [(np.array([0, 12], I64), flat - 3, none)],
        )
    return found


def cases(tf: Any) -> dict[str, Case]:
    return {**_reductions(tf), **_arithmetic(tf), **_sets(tf), **_counts(tf)}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    return host_recordings.record(__file__, tmp_path_factory.mktemp("sparse") / "recordings")


def test_sparse_tensors_are_computed_as_tensorflow_does(recordings: dict[str, Recording]) -> None:
    assert not differences(recordings)
