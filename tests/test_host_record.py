"""Bytes, ragged variants and chance without TensorFlow."""

import gzip
import time
import zlib
from typing import Any

import host_recordings
import numpy as np
import pytest
from host_differences import differences
from host_recordings import Array, Case, Recording, scalar, strings

from jaxrt.converters.host import graph, native

I32, I64, F32 = np.int32, np.int64, np.float32
BYTES = strings(b"", b"abc", b"abcdefgh", bytes(range(20)), b"\0\0\0\0\1")
CHANCE = (
    "uniform",
    "uniform of halves",
    "uniform of doubles",
    "dice",
    "normal",
    "shuffled",
    "time",
)


def _bytes(tf: Any) -> dict[str, Case]:
    raw = tf.raw_ops
    found: dict[str, Case] = {}
    for dtype in (tf.uint8, tf.int16, tf.float32, tf.int64):
        for little in (True, False):
            # Big-endian, the kernel reads past the end of what is too short.
            values = BYTES if little else BYTES[2:4]
            found[f"padded {dtype.name} {little}"] = (
                lambda x, n, t=dtype, e=little: raw.DecodePaddedRaw(
                    input_bytes=x, fixed_length=n, out_type=t, little_endian=e
                ),
                [(values, I32(n)) for n in (8, 16, 3, 0, -8) if little or n < 16],
            )
    found["padded, of no rank"] = (
        lambda x, n: raw.DecodePaddedRaw(input_bytes=x, fixed_length=n, out_type=tf.uint8),
        [(scalar(b"ab"), I32(4))],
    )
    texts = [b"", b"hello " * 100, bytes(range(256))]
    for name, pack in (("ZLIB", zlib.compress), ("GZIP", gzip.compress), ("", bytes)):
        found[f"decompressed {name}"] = (
            lambda x, n=name: raw.DecodeCompressed(bytes=x, compression_type=n),
            [(strings(*map(pack, texts)),), (scalar(pack(texts[1])),), (strings(),)],
        )
    tensors: list[Any] = [
        (scalar(tf.io.serialize_tensor(tf.constant(value)).numpy()),)
        for value in ([1.5, 2], [[1.0]], 3.0, np.zeros((0, 2), F32))
    ]
    wrong: list[Any] = [
        (scalar(tf.io.serialize_tensor(tf.constant([1, 2])).numpy()),),
        (scalar(b"\xff"),),
    ]
    found["parsed"] = (
        lambda x: raw.ParseTensor(serialized=x, out_type=tf.float32),
        [*tensors, *wrong],
    )
    words = tf.io.serialize_tensor(tf.constant([[b"a", b"\xff"]])).numpy()
    found["parsed words"] = (
        lambda x: raw.ParseTensor(serialized=x, out_type=tf.string),
        [(scalar(words),)],
    )
    return found


def _ragged(tf: Any) -> dict[str, Case]:
    def there_and_back(values: Any, outer: Any, inner: Any) -> Any:
        encoded = tf.raw_ops.RaggedTensorToVariant(
            rt_nested_splits=[outer, inner], rt_dense_values=values, batched_input=True
        )
        picked = tf.gather(encoded, [1, 0, 1])
        return (
            tf.raw_ops.RaggedTensorFromVariant(
                encoded_ragged=picked, input_ragged_rank=1, output_ragged_rank=2,
                Tvalues=values.dtype, Tsplits=tf.int64,
            ),
            tf.raw_ops.RaggedTensorFromVariant(
                encoded_ragged=encoded[1], input_ragged_rank=-1, output_ragged_rank=1,
                Tvalues=values.dtype, Tsplits=tf.int64,
            ),
        )  # fmt: skip

    def whole(values: Any, splits: Any) -> Any:
        encoded = tf.raw_ops.RaggedTensorToVariant(
            rt_nested_splits=[splits], rt_dense_values=values, batched_input=False
        )
        return tf.raw_ops.RaggedTensorFromVariant(
            encoded_ragged=[encoded, encoded], input_ragged_rank=1, output_ragged_rank=2,
            Tvalues=values.dtype, Tsplits=tf.int64,
        )  # fmt: skip

    def mapped(values: Any, splits: Any) -> Any:
        rows = tf.RaggedTensor.from_row_splits(values, splits)
        kind = tf.RaggedTensorSpec([None], values.dtype)
        return tf.map_fn(lambda row: tf.reverse(row, [0]), rows, fn_output_signature=kind)

    words = strings(b"a", b"b", b"", b"d", b"e")
    outer, inner = np.array([0, 2, 2, 3], I64), np.array([0, 1, 4, 5], I64)
    pairs = np.arange(10, dtype=F32).reshape(5, 2)
    return {
        "ragged": (there_and_back, [(words, outer, inner), (words[::-1], outer, inner)]),
        "ragged pairs": (there_and_back, [(pairs, outer, inner)]),
        "ragged, whole": (whole, [(pairs, inner), (pairs[:0], np.array([0], I64))]),
        "ragged, mapped": (mapped, [(words, inner), (words, np.array([0, 0, 5], I64))]),
    }


def _chance(tf: Any) -> dict[str, Case]:
    raw = tf.raw_ops
    size = np.array([100, 200], I32)
    return {
        "uniform": (lambda n: raw.RandomUniform(shape=n, dtype=tf.float32), [(size,)]),
        "uniform of halves": (lambda n: raw.RandomUniform(shape=n, dtype=tf.float16), [(size,)]),
        "uniform of doubles": (lambda n: raw.RandomUniform(shape=n, dtype=tf.float64), [(size,)]),
        "dice": (lambda n, a, b: raw.RandomUniformInt(shape=n, minval=a, maxval=b),
                 [(size, I64(1), I64(7))]),
        "normal": (lambda n: raw.RandomStandardNormal(shape=n, dtype=tf.float32), [(size,)]),
        "shuffled": (lambda x: raw.RandomShuffle(value=x), [(np.arange(5000),)]),
        "time": (lambda x: raw.Timestamp() + x, [(np.float64(0),)]),
    }  # fmt: skip


def cases(tf: Any) -> dict[str, Case]:
    return {**_bytes(tf), **_ragged(tf), **_chance(tf)}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    return host_recordings.record(__file__, tmp_path_factory.mktemp("record") / "recordings")


def test_bytes_and_ragged_variants_are_as_in_tensorflow(recordings: dict[str, Recording]) -> None:
    fixed = {name: found for name, found in recordings.items() if name not in CHANCE}
    assert not differences(fixed)


def drawn(recording: Recording) -> tuple[Array, Array, Array]:
    """Two native runs, and TensorFlow's."""
    inputs = {f"x{i}": name for i, name in enumerate(recording.feeds)}
    executor = native.Executor(
        graph.parse(recording.graph), inputs, {"y": recording.fetches[0]}, {}
    )
    (run,) = recording.runs
    given = {f"x{i}": array for i, array in enumerate(run.arguments)}
    return executor.run(given)["y"], executor.run(given)["y"], run.results[0]


@pytest.mark.parametrize("name", [name for name in CHANCE if name != "time"])
def test_chance_is_fresh_and_distributed_as_tensorflows(
    recordings: dict[str, Recording], name: str
) -> None:
    first, second, theirs = drawn(recordings[name])
    assert (first.dtype, first.shape) == (theirs.dtype, theirs.shape)
    assert (first != second).mean() > 0.5
    wide, wanted = first.astype(np.float64), theirs.astype(np.float64)
    assert abs(wide.mean() - wanted.mean()) < 0.05 * max(wanted.std(), 1e-9)
    assert abs(wide.std() - wanted.std()) < 0.05 * wanted.std()
    if name != "normal":
        assert abs(np.min(wide) - np.min(wanted)) <= 0.01 * wanted.std()
        assert abs(np.max(wide) - np.max(wanted)) <= 0.01 * wanted.std()


def test_uniform_numbers_lie_on_tensorflows_grid(recordings: dict[str, Recording]) -> None:
    for name, bits in (("uniform", 23), ("uniform of halves", 10)):
        for values in drawn(recordings[name]):
            steps = values.astype(np.float64) * (1 << bits)
            assert (steps == np.floor(steps)).all() and values.max() < 1


def test_the_time_is_now(recordings: dict[str, Recording]) -> None:
    first, second, _ = drawn(recordings["time"])
    assert time.time() - 60 < first <= second <= time.time()
