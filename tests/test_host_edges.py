"""What TensorFlow answers to awkward inputs: empty, not a number, out of range, of other shapes."""

from typing import Any

import host_recordings
import numpy as np
import pytest
from host_differences import differences
from host_recordings import Array, Case, Recording, strings

I32, I64, F32, F64 = np.int32, np.int64, np.float32, np.float64
NAN = np.array([1, np.nan, -np.inf, np.inf, -0.0, 0.0, -1.5, 2.5, 1e30, -1e30], F32)
A = np.arange(24, dtype=F32).reshape(2, 3, 4)


def a(*v: Any, t: Any = I32) -> Array:
    return np.array(v, t)


def cases(tf: Any) -> dict[str, Case]:
    r = tf.raw_ops
    c: dict[str, Case] = {}
    c["reshape"] = (
        lambda x, s: r.Reshape(tensor=x, shape=s),
        [
            (A, a(4, 6)),
            (A, a(-1, 5)),
            (A, a(-1, -1)),
            (A, a(5, 5)),
            (A[:0], a(-1, 0)),
            (A[:0], a(0, -1)),
            (A, a(-2, 3)),
            (A[:0], a(-1, 3)),
            (A, a(2, 3, 4, t=I32)),
        ],
    )
    c["squeeze"] = (lambda x: r.Squeeze(input=x, axis=[1]), [(A[:, :1],), (A,)])
    c["squeeze all"] = (lambda x: r.Squeeze(input=x), [(A[:1, :1],), (A,)])
    c["expand"] = (
        lambda x, i: r.ExpandDims(input=x, axis=i),
        [(A, I32(i)) for i in (-4, -1, 0, 3, 4, -5)],
    )
    c["concat"] = (
        lambda x, y, i: r.ConcatV2(values=[x, y], axis=i),
        [
            (A, A, I32(0)),
            (A, A[:1], I32(1)),
            (A, A, I32(3)),
            (A, A, I32(-4)),
            (A[:0], A, I32(0)),
            (A, A[:, :1], I32(-2)),
        ],
    )
    c["split"] = (
        lambda x, i: r.Split(value=x, axis=i, num_split=2),
        [(A, I32(0)), (A, I32(1)), (A, I32(-1)), (A, I32(3)), (A[:0], I32(0))],
    )
    c["splitv"] = (
        lambda x, s, i: r.SplitV(value=x, size_splits=s, axis=i, num_split=2),
        [
            (A, a(1, 1), I32(0)),
            (A, a(-1, 1), I32(1)),
            (A, a(3, 1), I32(0)),
            (A, a(-1, -1), I32(0)),
            (A, a(-1, 5), I32(0)),
            (A, a(0, 2), I32(0)),
            (A, a(1, 1), I32(7)),
        ],
    )
    c["slice"] = (
        lambda x, b, s: r.Slice(input=x, begin=b, size=s),
        [
            (A, a(0, 1, 2), a(-1, 2, 2)),
            (A, a(0, 1, 2), a(-1, 3, 2)),
            (A, a(0, -1, 2), a(1, 1, 1)),
            (A, a(2, 0, 0), a(0, 0, 0)),
            (A, a(3, 0, 0), a(0, 0, 0)),
            (A, a(0, 0, 0), a(1, 1, -2)),
        ],
    )
    for nm, kw in {
        "plain": {},
        "shrink": dict(shrink_axis_mask=1),
        "masks": dict(begin_mask=2, end_mask=1),
        "ell": dict(ellipsis_mask=2),
        "new": dict(new_axis_mask=2),
    }.items():
        c["strided " + nm] = (
            lambda x, b, e, s, kw=kw: r.StridedSlice(input=x, begin=b, end=e, strides=s, **kw),
            [
                (A, a(*b), a(*e), a(*s))
                for b, e, s in [
                    ((0, 0, 0), (2, 3, 4), (1, 1, 1)),
                    ((-1, -5, 9), (9, 9, -9), (1, 2, -1)),
                    ((1, 2, 3), (0, 0, 0), (-1, -1, -2)),
                    ((0, 0, 0), (0, 0, 0), (1, 1, 1)),
                    ((5, 0, 0), (6, 1, 1), (1, 1, 1)),
                    ((-3, 0, 0), (1, 1, 1), (1, 1, 1)),
                    ((0, 0, 0), (1, 1, 1), (0, 1, 1)),
                    ((-9, -9, -9), (-1, -1, -1), (1, 1, 1)),
                    ((0, 0, 0), (2, 2, 2), (-1, 1, 1)),
                ]
            ],
        )
    c["gather"] = (
        lambda p, i, x: r.GatherV2(params=p, indices=i, axis=x),
        [
            (A, a(0, 1), I32(0)),
            (A, a(2), I32(0)),
            (A, a(-1), I32(1)),
            (A, a(3), I32(-1)),
            (A, a(4), I32(2)),
            (A[:0], a(0), I32(0)),
            (A, a(), I32(0)),
            (A, a(0), I32(5)),
        ],
    )
    c["gather b"] = (
        lambda p, i, x: r.GatherV2(params=p, indices=i, axis=x, batch_dims=1),
        [
            (A, a(0, 1).reshape(2, 1), I32(1)),
            (A, a(0, 9).reshape(2, 1), I32(1)),
            (A, a(0, 1, 2).reshape(3, 1), I32(1)),
            (A, a(0, 1).reshape(2, 1), I32(2)),
            (A, a(0, 1).reshape(2, 1), I32(0)),
        ],
    )
    c["gathernd"] = (
        lambda p, i: r.GatherNd(params=p, indices=i),
        [
            (A, a([0, 1], [1, 2])),
            (A, a([0, 1], [1, 3])),
            (A, a([0, -1])),
            (A, np.zeros((2, 0), I32)),
            (A, np.zeros((0, 2), I32)),
            (A, np.zeros((2, 4), I32)),
            (A[:0], a([0, 0])),
        ],
    )
    c["onehot"] = (
        lambda i, d: r.OneHot(indices=i, depth=d, on_value=1.0, off_value=0.0),
        [(a(0, 1, -1, 9), I32(3)), (a(0), I32(0)), (a(0), I32(-1)), (a(), I32(2))],
    )
    c["onehot0"] = (
        lambda i, d: r.OneHot(indices=i, depth=d, on_value=1.0, off_value=0.0, axis=0),
        [(a([0, 1], [2, 3]), I32(3))],
    )
    c["tile"] = (
        lambda x, m: r.Tile(input=x, multiples=m),
        [(A, a(1, 2, 0)), (A, a(2, 2, 2)), (A, a(-1, 1, 1)), (A, a(1, 1))],
    )
    c["transpose"] = (
        lambda x, p: r.Transpose(x=x, perm=p),
        [(A, a(2, 0, 1)), (A, a(-1, 0, 1)), (A, a(0, 0, 1)), (A, a(0, 1)), (A, a(0, 1, 3))],
    )
    c["pad"] = (
        lambda x, p: r.Pad(input=x, paddings=p),
        [(A, a([0, 1], [2, 0], [0, 0])), (A, a([0, -1], [2, 0], [0, 0])), (A, a([0, 1], [2, 0]))],
    )
    c["mirror"] = (
        lambda x, p: r.MirrorPad(input=x, paddings=p, mode="REFLECT"),
        [
            (A, a([0, 1], [2, 0], [1, 1])),
            (A, a([2, 1], [2, 0], [0, 0])),
            (A, a([0, 0], [0, 0], [4, 0])),
        ],
    )
    c["mirror s"] = (
        lambda x, p: r.MirrorPad(input=x, paddings=p, mode="SYMMETRIC"),
        [(A, a([0, 1], [2, 0], [1, 4])), (A, a([3, 1], [2, 0], [0, 0]))],
    )
    for t in (F32, F64):
        c[f"range {t.__name__}"] = (
            lambda s, e, d: r.Range(start=s, limit=e, delta=d),
            [
                (t(s), t(e), t(d))
                for s, e, d in [
                    (0, 1, 0.1),
                    (0, 10, 3),
                    (1, 0, -0.3),
                    (0, 1, 0),
                    (0, 1, -1),
                    (1, 0, 1),
                    (0, 0, 1),
                    (0.1, 0.7, 0.2),
                    (-1e8, 1e8, 1e7),
                ]
            ],
        )
    c["range i"] = (
        lambda s, e, d: r.Range(start=s, limit=e, delta=d),
        [
            (I32(s), I32(e), I32(d))
            for s, e, d in [(0, 10, 3), (10, 0, -3), (0, 0, 1), (5, 0, 1), (0, 5, -1), (0, 5, 0)]
        ],
    )
    for t in (tf.int32, tf.int64, tf.uint8, tf.int8, tf.bool, tf.float16, tf.bfloat16, tf.int16):
        c[f"cast {t.name}"] = (
            lambda x, t=t: tf.cast(x, t),
            [(NAN,), (np.array([1.9, -1.9, 300.5, -300.5, 65537.2, 3e9, -3e9], F32),)],
        )
    c["cast i"] = (
        lambda x: (
            tf.cast(x, tf.int8),
            tf.cast(x, tf.uint16),
            tf.cast(x, tf.float32),
            tf.cast(x, tf.bool),
            tf.cast(x, tf.float16),
        ),
        [
            (np.array([0, -1, 300, 2**31 - 1, -(2**31), 16777217, 65520], I32),),
        ],
    )
    for n in (
        "FloorDiv",
        "FloorMod",
        "TruncateDiv",
        "TruncateMod",
        "Maximum",
        "Minimum",
        "Sub",
        "Mul",
        "SquaredDifference",
        "RealDiv",
        "Mod",
        "Div",
    ):
        if n not in ("RealDiv",):
            c[f"{n} i"] = (
                lambda x, y, n=n: getattr(r, n)(x=x, y=y),
                [
                    (a(-(2**31), 7, -7, 7, 2**31 - 1), a(-2, 2, 2, -2, -1)),
                    *([] if n.startswith("Truncate") else [(a(1, 2), a(0, 1))]),
                    (a(1, 2), a(1, 2, 3)),
                    (a(), a()),
                    (a(5), I32(2)),
                ],
            )
        c[f"{n} f"] = (
            lambda x, y, n=n: getattr(r, n)(x=x, y=y),
            [
                (NAN, NAN[::-1].copy()),
                (NAN, F32(0)),
                (NAN, F32(np.nan)),
                (NAN, F32(-1.5)),
                (NAN[:3], NAN[:2]),
            ],
        )
    for n in ("Max", "Min", "All", "Any", "Sum", "Prod", "Mean"):
        f = getattr(r, n)
        d = (
            (np.arange(12).reshape(3, 4) % 3 == 0)
            if n in ("All", "Any")
            else (
                NAN[:8].reshape(2, 4)
                if n in ("Max", "Min")
                else np.arange(12, dtype=I32).reshape(3, 4) - 5
            )
        )
        c[f"{n}"] = (
            lambda x, i, f=f: f(input=x, axis=i),
            [
                (d, a(0)),
                (d, a(1)),
                (d, a()),
                (d, a(-1, 0)),
                (d[:0], a(0)),
                (d[:0], a(1)),
                (d, a(2)),
                (d, a(-3)),
                (d, a(0, 0)),
            ],
        )
    for n in ("ArgMax", "ArgMin"):
        c[n] = (
            lambda x, i, n=n: getattr(r, n)(input=x, dimension=i),
            [
                (NAN.reshape(2, 5), I32(1)),
                (NAN.reshape(2, 5), I32(0)),
                (NAN.reshape(2, 5), I32(2)),
                (NAN.reshape(2, 5)[:0], I32(0)),
                (NAN.reshape(2, 5)[:0], I32(1)),
            ],
        )
    c["topk"] = (
        lambda x, k: r.TopKV2(input=x, k=k),
        [
            (NAN[2:].reshape(2, 4), I32(2)),
            (np.array([[1, 1, 2, 2, 1]], F32), I32(4)),
            (NAN[2:].reshape(2, 4), I32(5)),
            (NAN[2:].reshape(2, 4), I32(0)),
            (NAN[2:].reshape(2, 4), I32(-1)),
            (NAN[:0].reshape(0, 4), I32(2)),
        ],
    )
    for n in ("Unique", "UniqueWithCounts"):
        c[n] = (
            lambda x, n=n: getattr(r, n)(x=x),
            [(NAN[4:],), (NAN[:0],), (np.array([3, 3, 1, 2, 1], F32),)],
        )
    c["unique s"] = (lambda x: r.Unique(x=x), [(strings(b"b", b"a", b"b"),), (strings(),)])
    c["where"] = (lambda x: r.Where(condition=x), [(NAN.reshape(2, 5),), (NAN[:0],)])
    c["where s"] = (lambda x: r.Where(condition=x), [(np.array([[0, 1], [2, 0]], I64),)])
    c["bucketize"] = (
        lambda x: r.Bucketize(input=x, boundaries=[-1, 0, 1.1, 2.5]),
        [(NAN,), (NAN[:0],)],
    )
    c["bucketize i"] = (
        lambda x: r.Bucketize(input=x, boundaries=[-1, 0, 1, 2]),
        [(a(-2, -1, 0, 1, 2, 3, 2**31 - 1, -(2**31)),)],
    )
    c["bucketize d"] = (
        lambda x: r.Bucketize(input=x, boundaries=[0.1, 0.2]),
        [(np.array([0.1, 0.2, 0.3, np.float32(0.1), np.float32(0.2)], F64),)],
    )
    c["select"] = (
        lambda q, x, y: r.SelectV2(condition=q, t=x, e=y),
        [
            (NAN > 0, NAN, NAN[::-1].copy()),
            (np.array(True), NAN, F32(3)),
            (NAN > 0, F32(1), NAN),
            (NAN[:3] > 0, NAN[:2], NAN[:3]),
        ],
    )
    c["select1"] = (
        lambda q, x, y: r.Select(condition=q, x=x, y=y),
        [
            (a(1, 0) > 0, A, -A),
            (np.array(True), A, -A),
            (a(1, 0, 1) > 0, A, -A),
            (A > 3, A, -A),
            (a(1, 0) > 0, A, -A[:1]),
        ],
    )
    c["fill"] = (
        lambda s, v: r.Fill(dims=s, value=v),
        [(a(2, 3), F32(1)), (a(), F32(1)), (a(-1, 2), F32(1)), (a(0, 2), F32(1))],
    )
    c["bcast"] = (
        lambda x, s: r.BroadcastTo(input=x, shape=s),
        [
            (A, a(5, 2, 3, 4)),
            (A[:, :1], a(2, 3, 4)),
            (A, a(2, 3, 5)),
            (A, a(3, 4)),
            (A[:0], a(0, 3, 4)),
            (A[:1], a(0, 3, 4)),
        ],
    )
    c["bargs"] = (
        lambda x, y: r.BroadcastArgs(s0=x, s1=y),
        [(a(2, 1), a(3)), (a(2, 3), a(4, 3)), (a(), a(3))],
    )
    c["reverse"] = (
        lambda x, i: r.ReverseV2(tensor=x, axis=i),
        [(A, a(0, -1)), (A, a(3)), (A, a(0, 0)), (A, a())],
    )
    c["revseq"] = (
        lambda x, i: r.ReverseSequence(input=x, seq_lengths=i, seq_dim=1),
        [(A, a(0, 3)), (A, a(1, 2)), (A, a(4, 1)), (A, a(-1, 1)), (A, a(1))],
    )
    c["dynpart"] = (
        lambda x, i: r.DynamicPartition(data=x, partitions=i, num_partitions=2),
        [
            (A, a(1, 0)),
            (A, a(1, 2)),
            (A, a(-1, 0)),
            (A, a([0, 1, 0], [1, 1, 0])),
            (A, a(0, 1, 0)),
            (A[:0], a()),
        ],
    )
    c["dynstitch"] = (
        lambda i, j, x, y: r.DynamicStitch(indices=[i, j], data=[x, y]),
        [
            (a(0, 2), a(1), A, A[:1]),
            (a(0, 0), a(4), A, A[:1]),
            (a(), a(), A[:0], A[:0]),
            (a(-1, 0), a(1), A, A[:1]),
            (a(0, 2), a(1), A, A[:1, :2]),
        ],
    )
    c["scatternd"] = (
        lambda i, u, s: r.ScatterNd(indices=i, updates=u, shape=s),
        [
            (a([0], [2]), A[0, :2], a(4, 4)),
            (a([0], [4]), A[0, :2], a(4, 4)),
            (a([-1], [2]), A[0, :2], a(4, 4)),
            (a([0], [0]), A[0, :2], a(4, 4)),
            (a([0], [1]), A[0, :2], a(4, 3)),
            (np.zeros((0, 1), I32), A[0, :0], a(4, 4)),
            (a([0], [2]), A[0, :2], a(0, 4)),
        ],
    )
    c["tscatter"] = (
        lambda x, i, u: r.TensorScatterUpdate(tensor=x, indices=i, updates=u),
        [
            (A[0], a([0], [2]), A[1, :2]),
            (A[0], a([0], [3]), A[1, :2]),
            (A[0], a([0], [0]), A[1, :2]),
            (A[0], a([0], [1]), A[1, :2, :3]),
        ],
    )
    c["segsum"] = (
        lambda x, i: r.SegmentSum(data=x, segment_ids=i),
        [
            (a(1, 2, 3, 4), a(0, 0, 2, 2)),
            (a(1, 2, 3, 4), a(0, 2, 1, 3)),
            (a(1, 2), a(0, 0, 1)),
            (a(), a()),
            (a(1, 2, 3, 4), a(-1, 0, 0, 1)),
            (a(1, 2), a(1, 1)),
        ],
    )
    c["segmax"] = (
        lambda x, i: r.SegmentMax(data=x, segment_ids=i),
        [(NAN[:4], a(0, 0, 2, 2)), (NAN[4:8], a(1, 1, 2, 4))],
    )
    c["unseg"] = (
        lambda x, i, n: r.UnsortedSegmentSum(data=x, segment_ids=i, num_segments=n),
        [
            (a(1, 2, 3, 4), a(0, 3, 1, -1), I32(4)),
            (a(1, 2, 3, 4), a(0, 4, 1, -1), I32(4)),
            (a(1, 2), a(0, 0, 1), I32(4)),
            (a(1, 2, 3, 4), a(0, 3, 1, 1), I32(-4)),
            (a(), a(), I32(3)),
            (a(1, 2, 3, 4), a(0, 0, 0, 0), I32(0)),
        ],
    )
    c["unsegmax"] = (
        lambda x, i, n: r.UnsortedSegmentMax(data=x, segment_ids=i, num_segments=n),
        [(NAN[:4], a(0, 0, 2, 2), I32(4))],
    )
    c["cumsum"] = (
        lambda x, i: r.Cumsum(x=x, axis=i, exclusive=True, reverse=True),
        [
            (a([1, 2], [3, 4]), I32(0)),
            (a([1, 2], [3, 4]), I32(2)),
            (a([1, 2], [3, 4])[:0], I32(0)),
            (a([1, 2], [3, 4]), I32(-1)),
        ],
    )
    c["ensure"] = (lambda x: r.EnsureShape(input=x, shape=[None, 3, 4]), [(A,), (A[:, :2],)])
    c["invert"] = (
        lambda x: r.InvertPermutation(x=x),
        [(a(2, 0, 1),), (a(0, 0),), (a(0, 2),), (a(-1, 0),), (a(),)],
    )
    c["linspace"] = (
        lambda s, e, n: r.LinSpace(start=s, stop=e, num=n),
        [(F32(0), F32(1), I32(1)), (F32(0), F32(1), I32(0))],
    )
    c["bincount"] = (
        lambda x, n: r.Bincount(arr=x, size=n, weights=tf.constant([], tf.float32)),
        [
            (a(1, 1, 5), I32(3)),
            (a(-1, 1, 5), I32(3)),
            (a(), I32(3)),
            (a(1), I32(-1)),
            (a(1), I32(0)),
        ],
    )
    c["dbincount"] = (
        lambda x, n: r.DenseBincount(input=x, size=n, weights=tf.constant([], tf.float32)),
        [(a(1, 1, 5), I32(3)), (a(-1, 1, 5), I32(3)), (a(), I32(3)), (a(1), I32(-1))],
    )
    c["dbincount2"] = (
        lambda x, n: r.DenseBincount(
            input=x, size=n, weights=tf.constant([], tf.float32), binary_output=True
        ),
        [
            (a([1, 1], [2, 5]), I32(3)),
            (np.zeros((0, 2), I32), I32(3)),
            (a([1, -1], [2, 5]), I32(3)),
        ],
    )
    c["pack"] = (lambda x, y: r.Pack(values=[x, y], axis=-1), [(A, A), (A, A[:1])])
    c["unpack"] = (lambda x: r.Unpack(value=x, num=2, axis=0), [(A,), (A[:1],)])
    c["equal"] = (
        lambda x, y: (r.Equal(x=x, y=y), r.NotEqual(x=x, y=y, incompatible_shape_error=False)),
        [(NAN, NAN), (NAN[:2], NAN[:2])],
    )
    c["equal2"] = (
        lambda x, y: r.Equal(x=x, y=y, incompatible_shape_error=False),
        [(NAN[:2], NAN[:3])],
    )
    c["equal s"] = (
        lambda x, y: r.Equal(x=x, y=y),
        [
            (strings(b"a", b"b\0"), strings(b"a", b"b")),
            (strings(b"a"), strings(b"a", b"b")),
            (strings(b"a", b"b", b"c"), strings(b"a", b"b")),
        ],
    )
    c["clip"] = (
        lambda x, m, h: r.ClipByValue(t=x, clip_value_min=m, clip_value_max=h),
        [(NAN, F32(-1), F32(1)), (NAN, F32(1), F32(-1)), (NAN, NAN, F32(2))],
    )
    c["addn"] = (lambda x, y: r.AddN(inputs=[x, y, x]), [(NAN, NAN)])
    c["checknum"] = (
        lambda x: r.CheckNumerics(tensor=x, message="m"),
        [(NAN,), (NAN[4:],), (NAN[1:2],), (NAN[2:3],)],
    )
    c["biasadd"] = (lambda x, b: r.BiasAdd(value=x, bias=b), [(A, A[0, 0]), (A, A[0, 0, :3])])
    c["sqrt etc"] = (
        lambda x: (
            r.Sqrt(x=x),
            r.Sign(x=x),
            r.Round(x=x),
            r.Rint(x=x),
            r.Floor(x=x),
            r.Ceil(x=x),
            r.Abs(x=x),
            r.Relu(features=x),
            r.Relu6(features=x),
            r.LeakyRelu(features=x),
            r.IsNan(x=x),
            r.Square(x=x),
        ),
        [(NAN,), (NAN[:0],)],
    )
    c["pow i"] = (
        lambda x, y: r.Pow(x=x, y=y),
        [(a(2, 3, -2), a(31, 40, 3)), (a(2), a(-1)), (a(0), a(0))],
    )
    c["shift"] = (
        lambda x, y: (r.LeftShift(x=x, y=y), r.RightShift(x=x, y=y)),
        [(a(1, -1, 7), a(40, 31, -1))],
    )
    c["lower"] = (
        lambda s, v: r.LowerBound(sorted_inputs=s, values=v),
        [(a([1, 3, 5]), a([0, 3, 9])), (a([1, 3, 5]), a([0, 3], [1, 1]))],
    )
    c["size"] = (
        lambda x: (r.Size(input=x, out_type=tf.int64), r.Rank(input=x), r.Shape(input=x)),
        [(A,), (A[:0],)],
    )
    c["stack of nothing"] = (
        lambda x, kept, asked: r.TensorListStack(
            input_handle=r.TensorListFromTensor(tensor=x, element_shape=kept),
            element_shape=asked,
            element_dtype=tf.float32,
        ),
        [
            (A[:0], kept, asked)
            for kept in (a(3, 4), a(-1, 4), I32(-1))
            for asked in (a(3, 4), a(3, -1), a(-1, -1), I32(-1))
        ],
    )
    return c


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    return host_recordings.record(__file__, tmp_path_factory.mktemp("edges") / "recordings")


def test_awkward_inputs_are_answered_as_by_tensorflow(recordings: dict[str, Recording]) -> None:
    assert not differences(recordings)
