"""Graphs whose rows stand alone are told from those whose rows do not."""

import dataclasses
from typing import Any

import host_recordings
import numpy as np
import pytest
from host_recordings import Case, Recording, strings
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrt.converters.host import graph, native

WORDS = strings(b"a b", b"", b"c,d e", b"a b")
PAIRS = np.concatenate([WORDS, WORDS[::-1]]).reshape(4, 2)
X = np.arange(8, dtype=np.float32).reshape(4, 2)


def alone(tf: Any) -> dict[str, Case]:
    """Rows that depend on nothing but themselves."""

    def hashed(words: Any) -> Any:
        return tf.strings.to_hash_bucket_fast(tf.strings.lower(words), 100)

    def flattened(x: Any) -> Any:
        return tf.reshape(x, [tf.shape(x)[0], -1])

    def packed(x: Any) -> Any:
        size = tf.shape(x)
        return tf.reshape(x, tf.stack([size[0], 2, 1])), tf.fill([size[0], 3], 7.0)

    def crossed(pairs: Any) -> Any:
        empty: dict[str, list[Any]] = {"indices": [], "values": [], "shapes": []}
        places, values, sizes = tf.raw_ops.SparseCrossHashed(
            **empty, dense_inputs=[pairs[:, :1], pairs[:, 1:]], num_buckets=50, strong_hash=False,
            salt=[1, 2],
        )  # fmt: skip
        return tf.raw_ops.SparseToDense(
            sparse_indices=places,
            output_shape=sizes,
            sparse_values=values,
            default_value=tf.constant(0, tf.int64),
        )

    def scaled(x: Any) -> Any:
        mean, one = tf.constant([[1.0, 2.0]]), tf.ones_like(x)
        return tf.clip_by_value((x - mean) * 0.5 + one, -1.0, 1.0)

    def one_hot(x: Any) -> Any:
        buckets = tf.raw_ops.Bucketize(input=x, boundaries=[1.0, 4.0])
        return tf.reduce_max(tf.one_hot(buckets, 3), axis=1), tf.reduce_sum(x, axis=[-1])

    def cut(words: Any) -> Any:
        pieces = tf.raw_ops.StringSplitV2(input=words, sep=" ")
        sizes = tf.cast(tf.stack([tf.shape(words)[0], 4]), tf.int64)
        values = tf.strings.to_hash_bucket_fast(pieces.values, 9)
        return tf.raw_ops.SparseToDense(
            sparse_indices=pieces.indices,
            output_shape=sizes,
            sparse_values=values,
            default_value=tf.constant(-1, tf.int64),
        )

    return {
        "hashed": (hashed, [(PAIRS,)]),
        "flattened": (flattened, [(X,)]),
        "packed": (packed, [(X,)]),
        "crossed": (crossed, [(PAIRS,)]),
        "scaled": (scaled, [(X,)]),
        "one hot": (one_hot, [(X,)]),
        "cut": (cut, [(WORDS,)]),
        "transposed": (lambda x: tf.transpose(x[:, None, :], [0, 2, 1]), [(X,)]),
        "joined": (lambda w: tf.strings.join([w, "-", tf.strings.upper(w)]), [(WORDS,)]),
        "split": (lambda x: tf.concat(tf.split(x, 2, axis=1)[::-1], 1), [(X,)]),
        "gathered": (
            lambda x: tf.gather(tf.constant([[1, 2], [3, 4]]), tf.cast(x > 3, tf.int32)),
            [(X,)],
        ),
        "counted": (
            lambda x: tf.raw_ops.DenseBincount(
                input=tf.cast(x, tf.int32), size=9, weights=tf.zeros([0]), binary_output=True
            ),
            [(X,)],
        ),
        "chosen": (lambda x: tf.where(x[:, :1] > 3, x, tf.zeros_like(x)), [(X,)]),
        "best": (lambda x: (tf.argmax(x, 1), tf.math.top_k(x, 1)[0]), [(X,)]),
        "tiled": (lambda x: tf.tile(tf.constant([[1.0, 2.0]]), [tf.shape(x)[0], 1]), [(X,)]),
    }


def together(tf: Any) -> dict[str, Case]:
    """Rows that depend on others, or on how many there are."""
    return {
        "total": (lambda x: x / tf.reduce_sum(x), [(X,)]),
        "mean of the batch": (lambda x: x - tf.reduce_mean(x, 0), [(X,)]),
        "reversed": (lambda x: x[::-1], [(X,)]),
        "first": (lambda x: x[:1], [(X,)]),
        "numbered": (lambda x: x[:, 0] + tf.cast(tf.range(tf.shape(x)[0]), tf.float32), [(X,)]),
        "unique": (lambda w: tf.unique(w)[1], [(WORDS,)]),
        "running": (lambda x: tf.cumsum(x), [(X,)]),
        "turned": (lambda x: tf.transpose(x), [(X,)]),
        "reshaped": (lambda x: tf.reshape(x, [-1, 4]), [(X,)]),
        "padded to the longest": (
            lambda w: tf.sparse.to_dense(tf.strings.split(w).to_sparse()),
            [(WORDS,)],
        ),
        "across": (lambda x: x[:, 0] + x, [(X[:2],)]),
        "size in a column": (
            lambda x: tf.tile(x[:, :1], tf.stack([1, tf.shape(x)[0]])),
            [(X,)],
        ),
        "size as a number": (lambda x: x * tf.cast(tf.shape(x)[0], tf.float32), [(X,)]),
        "pieces": (lambda w: tf.raw_ops.StringSplitV2(input=w, sep=" ")[1], [(WORDS,)]),
        "constant": (lambda x: tf.zeros([4, 1]), [(X,)]),
        "a loop": (lambda x: tf.map_fn(lambda v: v * 2, x), [(X,)]),
        "along the first": (lambda x: tf.reduce_max(x, axis=tf.constant([0])), [(X,)]),
        "along a vector": (lambda x: x[:, 0] + tf.constant([1.0, 2.0, 3.0, 4.0]), [(X,)]),
    }


def cases(tf: Any) -> dict[str, Case]:
    return {**alone(tf), **together(tf)}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    return host_recordings.record(__file__, tmp_path_factory.mktemp("rowwise") / "recorded")


ALONE = (
    "hashed", "flattened", "packed", "crossed", "scaled", "one hot", "cut", "transposed", "joined",
    "split", "gathered", "counted", "chosen", "best", "tiled",
)  # fmt: skip


def shaped(recording: Recording) -> graph.Graph:
    """With the widths of the arguments in the placeholders."""
    parsed = graph.parse(recording.graph)
    widths = {
        name.partition(":")[0]: (None, *array.shape[1:])
        for name, array in zip(recording.feeds, recording.runs[0].arguments, strict=True)
    }
    nodes = tuple(
        dataclasses.replace(node, attrs={**node.attrs, "shape": widths[node.name]})
        if node.name in widths
        else node
        for node in parsed.nodes
    )
    return dataclasses.replace(parsed, nodes=nodes)


def test_rows_that_stand_alone_are_proved_to(recorded: dict[str, Recording]) -> None:
    proved = {
        name: native.rowwise(shaped(recording), recording.feeds, recording.fetches)
        for name, recording in recorded.items()
    }
    assert proved == {name: name in ALONE for name in recorded}


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_what_is_proved_gives_the_same_alone_and_among_strangers(
    recorded: dict[str, Recording], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(ALONE))
    recording = recorded[name]
    (like,) = recording.runs[0].arguments
    cell = st.binary(max_size=5) if like.dtype == object else st.integers(0, 8)
    count = data.draw(st.integers(1, 5))
    size = count * like[0:1].size
    values = data.draw(st.lists(cell, min_size=size, max_size=size))
    batch = np.empty(size, like.dtype)
    batch[:] = values
    batch = batch.reshape(count, *like.shape[1:])
    outputs = {str(i): fetch for i, fetch in enumerate(recording.fetches)}
    executor = native.Executor(shaped(recording), {"x": recording.feeds[0]}, outputs, {})
    whole = executor.run({"x": batch})
    for row in range(count):
        single = executor.run({"x": batch[row : row + 1]})
        for key, found in whole.items():
            assert found[row : row + 1].tolist() == single[key].tolist()


def test_scalars_have_no_rows(recorded: dict[str, Recording]) -> None:
    parsed = shaped(recorded["scaled"])
    scalar = dataclasses.replace(
        parsed,
        nodes=tuple(
            dataclasses.replace(n, attrs={**n.attrs, "shape": ()}) if n.op == "Placeholder" else n
            for n in parsed.nodes
        ),
    )
    feeds, fetches = recorded["scaled"].feeds, recorded["scaled"].fetches
    assert not native.rowwise(scalar, feeds, fetches)
