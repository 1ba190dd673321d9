"""ParseExample without TensorFlow: what TensorFlow parses, pads, refuses, and says."""

import random
from collections.abc import Sequence
from typing import Any

import host_recordings
import numpy as np
import pytest
from host_recordings import Case, Recording, scalar, strings

from jaxrt.converters.host import example, wire
from jaxrt.errors import Internal

FLOAT, INT64, BYTES = 2, 3, 1
KEYS = (b"a", b"bb", b"ccc", b"dd", b"e", b"y" * 140)


def field(number: int, body: bytes) -> bytes:
    """A length-delimited field."""
    return wire.encode(number << 3 | 2) + wire.encode(len(body)) + body


def feature(kind: int, *values: Any, packed: bool = True) -> bytes:
    """A tf.train.Feature: floats, ints or bytes."""
    if kind == BYTES:
        return field(kind, b"".join(field(1, value) for value in values))
    raw = [
        np.float32(value).tobytes() if kind == FLOAT else wire.encode(value & (1 << 64) - 1)
        for value in values
    ]
    if packed:
        return field(kind, field(1, b"".join(raw)))
    return field(kind, b"".join((b"\x0d" if kind == FLOAT else b"\x08") + one for one in raw))


def message(*entries: tuple[bytes, bytes]) -> bytes:
    """A tf.train.Example of keys and Features."""
    return field(1, b"".join(field(1, field(1, k) + field(2, f)) for k, f in entries))


def random_feature(draw: random.Random) -> bytes:
    kind, count = draw.choice((FLOAT, INT64, BYTES)), draw.choice((0, 1, 1, 1, 2, 3, 5))
    values: list[Any] = [draw.randrange(-5, 5) for _ in range(count)]
    if kind == BYTES:
        values = [bytes(draw.choices(range(1, 127), k=draw.choice((0, 1, 3, 140)))) for _ in values]
    elif kind == INT64:
        values = [draw.choice((0, 1, 127, 128, -1, 1 << 62, -(1 << 63))) for _ in values]
    found = feature(kind, *values, packed=draw.random() < 0.8)
    return draw.choice((found, found, found, found, b"", found + field(draw.choice((1, 2)), b"x")))


def random_message(draw: random.Random, broken: bool) -> bytes:
    entries = [(draw.choice(KEYS), random_feature(draw)) for _ in range(draw.randrange(8))]
    out = message(*entries) + draw.choice(
        (b"", b"", b"", field(5, b"xx"), b"\x10\x05", b"\x55abcd")
    )
    if not broken:
        return out
    cut = bytearray(out)
    for _ in range(draw.randrange(1, 3)):
        at = draw.randrange(len(cut))
        match draw.randrange(3):
            case 0:
                cut[at] = (cut[at] + draw.choice((-2, -1, 1, 2))) % 128
            case 1:
                del cut[at : at + draw.randrange(1, 3)]
                cut = cut or bytearray(b"\x0a")
            case 2:
                cut.insert(at, draw.randrange(1, 128))
    return bytes(cut)


def random_batches(seed: int, *, broken: bool, scalars: bool = False) -> list[tuple[Any, ...]]:
    draw = random.Random(seed)
    batches: list[tuple[Any, ...]] = []
    for _ in range(60):
        rows = [random_message(draw, broken) for _ in range(draw.choice((1, 1, 2, 5, 9)))]
        batches.append((scalar(rows[0]),) if scalars else (strings(*rows),))
    return batches


GOOD = message(
    (b"a", feature(FLOAT, 1.5)), (b"bb", feature(INT64, 7, -300)), (b"ccc", feature(BYTES, b"x\0"))
)
EDGES: dict[str, Sequence[bytes]] = {
    "nothing": [],
    "an empty message": [b""],
    "a message without features": [b"\x0a\x00"],
    "two messages in one": [GOOD + message((b"a", feature(FLOAT, 2)))],
    "no example": [b"not an example"],
    "half a message": [GOOD, GOOD[:-3]],
    "no such kind of list": [message((b"a", b"\x22\x00"))],
    "too few floats": [message((b"a", feature(FLOAT)))],
    "too many floats": [GOOD, message((b"a", feature(FLOAT, 1, 2, 3)))],
    "ints for floats": [message((b"a", feature(INT64, 1)))],
    "strings for ints": [GOOD, GOOD, message((b"bb", feature(BYTES, b"1")))],
    "no required feature": [GOOD, message((b"bb", feature(INT64, 1, 2)))],
    "the last of equal keys": [message((b"a", b"")) + GOOD + message((b"a", feature(FLOAT, 9)))],
    "a key without a value": [field(1, field(1, field(1, b"a")))],
    "the value before the key": [field(1, field(1, field(2, feature(FLOAT, 4)) + field(1, b"a")))],
    "a packed list that is no multiple of four": [message((b"a", field(2, field(1, b"123456"))))],
    "a length past the end": [b"\x0a\x7f" + GOOD[2:]],
    "many": [message((b"a", feature(FLOAT, n)), (b"bb", feature(INT64, n, n))) for n in range(70)],
}
"""One case each of what a client may send: none may be answered otherwise than by TensorFlow."""


def cases(tf: Any) -> dict[str, Case]:
    io = tf.io
    dense = {
        "a": io.FixedLenFeature([], tf.float32),
        "bb": io.FixedLenFeature([2], tf.int64, [5, 6]),
        "ccc": io.FixedLenFeature([1], tf.string, b"none\0"),
    }
    padded = {
        "a": io.FixedLenSequenceFeature([], tf.float32, allow_missing=True, default_value=-1.0),
        "bb": io.FixedLenSequenceFeature([2], tf.int64, allow_missing=True),
        "ccc": io.FixedLenSequenceFeature(
            [1], tf.string, allow_missing=True, default_value=b"none\0"
        ),
    }
    sparse = {key.decode(): io.VarLenFeature(kind) for key, kind in _kinds(tf)}
    ragged = {
        key.decode(): io.RaggedFeature(kind, row_splits_dtype=tf.int32) for key, kind in _kinds(tf)
    }
    mixed = {"a": dense["a"], "bb": padded["bb"], "ccc": sparse["ccc"], "dd": ragged["dd"]}
    edges = [(strings(*rows),) for rows in EDGES.values()]
    found: dict[str, Case] = {}
    for name, spec in (("dense", dense), ("padded", padded), ("sparse", sparse), ("mixed", mixed)):
        found |= _parsers(tf, name, spec, edges)
    found["ragged"] = _batch(tf, ragged, edges + random_batches(1, broken=False))
    found["named"] = (
        lambda x, names: io.parse_example(x, dense, example_names=names),
        [(strings(GOOD, rows[-1]), strings(b"one", b"two")) for rows in EDGES.values() if rows]
        + [(strings(GOOD, GOOD), strings(b"only one"))],
    )
    found["version one"] = (
        lambda x: tf.raw_ops.ParseExample(
            serialized=x, names=[], sparse_keys=["ccc"], dense_keys=["a", "bb"],
            dense_defaults=[[0.5], tf.constant([], tf.int64)], sparse_types=[tf.string],
            dense_shapes=[[1], [2]],
        ),
        edges,
    )  # fmt: skip
    found["a bad default"] = (
        lambda x: tf.raw_ops.ParseSingleExample(
            serialized=x, dense_defaults=[tf.zeros([2])], num_sparse=0, sparse_keys=[],
            dense_keys=["a"], sparse_types=[], dense_shapes=[tf.TensorShape([None])],
        ),
        [(scalar(GOOD),)],
    )  # fmt: skip
    return found


def _kinds(tf: Any) -> list[tuple[bytes, Any]]:
    return [(b"a", tf.float32), (b"bb", tf.int64), (b"ccc", tf.string), (b"dd", tf.int64)]


def _batch(tf: Any, spec: Any, runs: list[tuple[Any, ...]]) -> Case:
    return (lambda x: tf.io.parse_example(x, spec), runs)


def _parsers(tf: Any, name: str, spec: Any, edges: list[tuple[Any, ...]]) -> dict[str, Case]:
    rows = [(scalar(run[0][-1]),) for run in edges if run[0].size]
    lists = {
        f"{name}, {state}": _batch(tf, spec, random_batches(2, broken=state == "broken"))
        for state in ("whole", "broken")
    }
    singles = [*rows, *random_batches(3, broken=True, scalars=True)]
    return {
        **lists,
        f"{name}, edges": _batch(tf, spec, edges),
        f"{name}, one": (lambda x: tf.io.parse_single_example(x, spec), singles),
    }


NAMES = (
    *[f"{name}, {kind}" for name in ("dense", "padded", "sparse", "mixed")
      for kind in ("whole", "broken", "edges", "one")],
    "ragged", "named", "version one", "a bad default",
)  # fmt: skip


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    return host_recordings.record(__file__, tmp_path_factory.mktemp("example") / "recorded")


@pytest.mark.parametrize("name", NAMES)
def test_examples_parse_as_tensorflow_parses_them(
    recorded: dict[str, Recording], name: str
) -> None:
    assert set(recorded) == set(NAMES)
    host_recordings.check(recorded[name])


def test_messages_as_protobuf_writes_them_are_read_a_column_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def slow(message: bytes) -> Any:
        raise AssertionError(message)

    monkeypatch.setattr(wire, "features", slow)
    features = [
        example.Feature(key=b"a", kind=wire.Kind.FLOAT, layout=example.Layout.SPARSE),
        example.Feature(key=b"bb", kind=wire.Kind.INT64, layout=example.Layout.SPARSE),
        example.Feature(key=b"ccc", kind=wire.Kind.BYTES, layout=example.Layout.SPARSE),
    ]
    long = message((b"ccc", feature(BYTES, b"y" * 300, b"z")), (b"a", feature(FLOAT, *range(99))))
    floats, ints, texts = example.columns([GOOD, long, *[GOOD] * 9], features)
    assert floats.counts.tolist() == [1, 99, *[1] * 9]
    assert ints.values[:4].tolist() == [7, -300, 7, -300]
    assert texts.values[:3].tolist() == [b"x\0", b"y" * 300, b"z"]


def test_a_key_cannot_be_asked_for_twice() -> None:
    twice = [example.Feature(key=b"a", kind=wire.Kind.FLOAT, layout=example.Layout.SPARSE)] * 2
    with pytest.raises(Internal, match="collision"):
        example.columns([GOOD], twice)


@pytest.mark.parametrize("size", [*range(260), 16383, 16384, 16385, 16386, 16387, 2_100_000])
def test_a_prefix_and_what_it_counts_are_as_long_as_said(size: int) -> None:
    prefix = wire.prefix(size)
    if prefix is None:
        assert size in (0, 129, 16386)
    else:
        assert len(prefix) + wire.varint(prefix, 0, len(prefix))[0] == size
