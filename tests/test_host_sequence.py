"""ParseSequenceExample without TensorFlow: what TensorFlow parses, pads, refuses, and says."""

import random
from typing import Any

import host_recordings
import pytest
from host_differences import differences
from host_recordings import Case, Recording, scalar, strings
from test_host_example import BYTES, FLOAT, INT64, feature, field

KEYS = (b"a", b"b", b"c", b"f", b"i", b"s", b"y" * 140)
NONE = strings()


def entries(*pairs: tuple[bytes, bytes]) -> bytes:
    return b"".join(field(1, field(1, key) + field(2, value)) for key, value in pairs)


def steps(*features: bytes) -> bytes:
    """A tf.train.FeatureList."""
    return b"".join(field(1, one) for one in features)


def message(context: bytes, lists: bytes) -> bytes:
    return field(1, context) + field(2, lists)


def random_values(draw: random.Random, kind: int) -> list[Any]:
    count = draw.choice((0, 1, 2, 2, 2, 3))
    if kind == BYTES:
        return [bytes(draw.choices(range(256), k=draw.choice((0, 1, 3)))) for _ in range(count)]
    return [draw.choice((0, 1, 127, 128, -1, 1 << 40)) for _ in range(count)]


def random_feature(draw: random.Random, key: bytes, count: int | None = None) -> bytes:
    """Of the kind that the key tells."""
    kind = {b"f": FLOAT, b"a": FLOAT, b"s": BYTES, b"c": BYTES}.get(key, INT64)
    values = random_values(draw, kind)
    while count is not None and len(values) != count and draw.random() < 0.97:
        values = random_values(draw, kind)
    return feature(kind, *values, packed=draw.random() < 0.8)


def random_message(draw: random.Random, broken: bool) -> bytes:
    fixed = {b"a": 1, b"b": 2, b"c": 2}
    context = [(key, random_feature(draw, key, fixed.get(key))) for key in KEYS]
    lists = []
    for key in KEYS:
        count = draw.randrange(4)
        found = [random_feature(draw, key, fixed.get(key)) for _ in range(count)]
        lists.append((key, steps(*found)))
    keep = [pair for pair in context if draw.random() < 0.93]
    kept = [pair for pair in lists if draw.random() < 0.95]
    draw.shuffle(keep)
    out = message(entries(*keep, *keep[:1]), entries(*kept)) + draw.choice(
        (b"", b"", field(5, b"xx"), b"\x18\x05")
    )
    if not broken:
        return out
    cut = bytearray(out)
    cut[draw.randrange(len(cut))] = draw.choice((0, 1, 2, 8, 10, 13, 18, 26, 128, 255))
    return bytes(cut[: draw.choice((len(cut), len(cut) - 1))])


def random_batches(seed: int, count: int, broken: bool) -> list[Any]:
    draw = random.Random(seed)
    found: list[Any] = []
    for _ in range(count):
        size = 1 if broken else draw.choice((1, 1, 2, 3, 5))
        rows = strings(*(random_message(draw, broken) for _ in range(size)))
        names = strings(*(b"name%d" % i for i in range(size))) if draw.random() < 0.5 else NONE
        found.append((rows, names))
    return found


def v2(tf: Any, dense: Any, batch: bool = True) -> Any:
    """Keys a, b, c are dense; f, i, s sparse in the context and ragged in the lists, or both."""
    kinds = {b"f": tf.float32, b"i": tf.int64, b"s": tf.string}

    def parse(serialized: Any, names: Any) -> Any:
        found = tf.raw_ops.ParseSequenceExampleV2(
            serialized=serialized, debug_name=names,
            context_sparse_keys=[b"f", b"s"], context_dense_keys=[b"a", b"b", b"c"],
            context_ragged_keys=[b"i", b"y" * 140],
            feature_list_sparse_keys=[b"i", b"s"], feature_list_dense_keys=[b"a", b"b", b"c"],
            feature_list_ragged_keys=[b"f", b"y" * 140],
            feature_list_dense_missing_assumed_empty=[True, False, True],
            context_dense_defaults=[tf.constant(value, dtype) for value, dtype in dense],
            Ncontext_sparse=2, Nfeature_list_sparse=2, Nfeature_list_dense=3,
            context_sparse_types=[kinds[b"f"], kinds[b"s"]],
            context_ragged_value_types=[tf.int64, tf.int64],
            context_ragged_split_types=[tf.int32, tf.int64],
            context_dense_shapes=[[], [2], [1, 2]],
            feature_list_dense_types=[tf.float32, tf.int64, tf.string],
            feature_list_sparse_types=[tf.int64, tf.string],
            feature_list_ragged_value_types=[tf.float32, tf.int64],
            feature_list_ragged_split_types=[tf.int64, tf.int32],
            feature_list_dense_shapes=[[], [2], [1, 2]],
        )  # fmt: skip
        # Splits of a single message are memory that nothing was written to.
        unread = () if batch else ("context_ragged_row_splits", "feature_list_ragged_outer_splits")
        return [value for name, value in found._asdict().items() if name not in unread]

    return parse


def v1(tf: Any) -> Any:
    def parse(serialized: Any, names: Any) -> Any:
        return tf.raw_ops.ParseSequenceExample(
            serialized=serialized, debug_name=names,
            context_sparse_keys=[b"f"], context_dense_keys=[b"a"],
            feature_list_sparse_keys=[b"i"], feature_list_dense_keys=[b"b"],
            feature_list_dense_missing_assumed_empty=[b"b"],
            context_dense_defaults=[tf.constant(7.5)],
            context_sparse_types=[tf.float32], context_dense_shapes=[[]],
            feature_list_dense_types=[tf.int64], feature_list_sparse_types=[tf.int64],
            feature_list_dense_shapes=[[2]],
            Ncontext_sparse=1, Ncontext_dense=1, Nfeature_list_sparse=1, Nfeature_list_dense=1,
        )  # fmt: skip

    return parse


def cases(tf: Any) -> dict[str, Case]:
    defaults = [(1.5, tf.float32), ([3, 4], tf.int64), ([[b"x", b""]], tf.string)]
    needed = [([], tf.float32), *defaults[1:]]
    empty = (strings(message(b"", entries((b"b", b""))), b""), NONE)
    full = message(
        entries((b"a", feature(FLOAT, 1.0))), entries((b"b", steps(feature(INT64, 1, 2))))
    )
    refused = [
        (strings(full, full), strings(b"one")),
        (strings(full, b"\x0a"), strings(b"one", b"\xff\xfe")),
        (strings(message(entries((b"a", feature(INT64, 1))), b"")), NONE),
        (strings(message(entries((b"a", feature(FLOAT, 1, 2))), b"")), NONE),
        (strings(message(entries((b"b", feature(INT64, 1))), b"")), NONE),
        (strings(message(b"", entries((b"a", steps(feature(FLOAT, 1, 2)))))), NONE),
        (strings(message(b"", entries((b"b", steps(feature(INT64, 1)))))), NONE),
        (strings(message(b"", entries((b"b", steps(feature(INT64)))))), NONE),
        (strings(message(b"", entries((b"b", steps(feature(FLOAT)))))), NONE),
        (strings(message(b"", entries((b"b", steps(b"", b"x"))))), NONE),
        (strings(message(b"", entries((b"i", steps(b"", feature(FLOAT, 1)))))), NONE),
        (strings(message(entries((b"a", b"")), b"")), NONE),
    ]
    good, broken = random_batches(1, 60, False), random_batches(2, 60, True)
    single = [(scalar(rows[0]), NONE) for rows, _ in [*good[:30], *broken[:15]]]
    return {
        "version 2": (v2(tf, defaults), [*good, *broken, empty, *refused, (NONE, NONE)]),
        "version 2, required": (v2(tf, needed), [*good[:20], empty]),
        "version 2, one message": (v2(tf, defaults, batch=False), single),
        "version 1": (v1(tf), [*good, *broken, empty, *refused]),
    }


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    return host_recordings.record(__file__, tmp_path_factory.mktemp("sequence") / "recordings")


def test_sequences_are_parsed_as_tensorflow_parses_them(recordings: dict[str, Recording]) -> None:
    assert not differences(recordings)


def test_most_of_the_cases_are_parsed(recordings: dict[str, Recording]) -> None:
    runs = [run for recording in recordings.values() for run in recording.runs]
    assert sum(run.error is None for run in runs) > 80
