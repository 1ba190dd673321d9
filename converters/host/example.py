"""Serialized tf.Example messages as columns: one list of values a feature, counted by example.

The columns are those of TensorFlow's fast parser, tensorflow/core/util/
example_proto_fast_parsing.cc, in what it accepts, what it refuses and in which words. It is looser
than protobuf: what follows a value list is ignored, a length that passes the end of the message
ends there, a key that comes twice counts once, the last time. Messages as protobuf writes them
are read a column at a time; all others, and those with an error, one by one.
"""

import dataclasses
import enum
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrt.converters.host import wire
from jaxrt.errors import Internal, InvalidArgument

Array = np.ndarray[Any, np.dtype[Any]]


_FEW = 2
"""So many messages are read one by one: numpy's calls cost more."""


class Layout(enum.Enum):
    """How a feature's lists become tensors."""

    FIXED = "fixed"
    """A dense tensor; every example has the same number of values, or takes the default."""
    PADDED = "padded"
    """A dense tensor as long as the longest example, in strides, filled up with the default."""
    SPARSE = "sparse"
    RAGGED = "ragged"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Feature:
    """What one key must hold. `default` is used by FIXED and PADDED only."""

    key: bytes
    kind: wire.Kind
    layout: Layout
    shape: tuple[int, ...] = ()
    """Of one example; the first is -1 where PADDED."""
    stride: int = 1
    """Values of one example where FIXED, of one step where PADDED."""
    default: Array = dataclasses.field(default_factory=lambda: np.empty(0))
    """No values: FIXED must be there."""

    @property
    def dense(self) -> bool:
        return self.layout in (Layout.FIXED, Layout.PADDED)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One feature of n examples."""

    values: Array
    """[sum of counts], example after example."""
    counts: Array
    """[n] int64."""
    missing: Array
    """[n] bool: the example does not have the feature; it counts 0."""


def columns(
    serialized: Sequence[bytes], features: Sequence[Feature], names: Sequence[bytes] = ()
) -> list[Column]:
    """One Column a feature. `names` ([n] or nothing) are used in messages.

    Raises InvalidArgument in the words of TensorFlow's ParseExample.
    """
    index = _index(features)
    raw = _scan(serialized, index) if len(serialized) > _FEW else None
    if raw is not None:
        quick = [_decode(rows, feature) for rows, feature in zip(raw, features, strict=True)]
        if None not in quick:
            return [column for column in quick if column is not None]
    lists = _Lists(features, [len(message) for message in serialized])
    for row, message in enumerate(serialized):
        lists.read(message, index, row, text(names[row]) if names else "<unknown>")
    return lists.columns()


def single(message: bytes, features: Sequence[Feature]) -> list[Column]:
    """Columns of one row, for the ops that take a scalar: their messages differ."""
    index = _index(features)
    found: dict[int, tuple[Sequence[Any], int]] = {}
    for key, body in reversed(_entries(message)):
        at = index.get(key)
        kind = None if at is None else kind_of(body)
        if at is not None and kind is not None and at not in found:
            found[at] = _one(features[at], kind, body)
    for at, feature in enumerate(features):
        if at not in found and feature.layout is Layout.FIXED and not feature.default.size:
            raise InvalidArgument(required(feature))
    rows = [found.get(at, ((), 0)) for at in range(len(features))]
    return [
        Column(
            values=_array(feature.kind, values),
            counts=np.array([count], np.int64),
            missing=np.array([at not in found]),
        )
        for at, (feature, (values, count)) in enumerate(zip(features, rows, strict=True))
    ]


def _one(feature: Feature, kind: wire.Kind, body: bytes) -> tuple[Sequence[Any], int]:
    key = text(feature.key)
    if kind is not feature.kind:
        raise InvalidArgument(f"Key: {key}.  {mismatch(feature, kind)}")
    plural = "bytes" if kind is wire.Kind.BYTES else kind.text
    broken = f"Key: {key}.  Can't parse serialized Example: "
    fixed = feature.layout is Layout.FIXED
    try:
        values, count = wire.values(kind, body[1:], feature.stride if fixed else None)
    except wire.Malformed:
        if kind is wire.Kind.BYTES and not fixed:
            raise InvalidArgument(f"{broken}Could not get num elements in bytes_list.") from None
        raise InvalidArgument(f"{broken}Parsing {plural}_list failed.") from None
    if fixed and count != feature.stride:
        raise InvalidArgument(f"{broken}Some {plural}_list slice was not parsed.")
    if feature.layout is Layout.PADDED and count % feature.stride:
        raise InvalidArgument(
            f"Error while parsing feature with key {key}: number of elements should be divisible"
            f" by {feature.stride}, found {count} instead"
        )
    return values, count


def _index(features: Sequence[Feature]) -> dict[bytes, int]:
    index = {feature.key: at for at, feature in enumerate(features)}
    if len(index) != len(features):
        raise Internal("Could not avoid collision. This should not happen.")
    return index


def _entries(message: bytes) -> list[tuple[bytes, bytes]]:
    try:
        return wire.features(message)
    except wire.Malformed:
        raise InvalidArgument(f"Could not parse example input, value: '{text(message)}'") from None


def text(name: bytes) -> str:
    """For a message; bytes that are no UTF-8 as surrogates, as the REST API wants them."""
    return name.decode("utf-8", "surrogateescape")


def _scan(serialized: Sequence[bytes], index: dict[bytes, int]) -> list[list[bytes | None]] | None:
    """The features' bytes, [features][n]; None unless every message is as protobuf writes it."""
    raw: list[list[bytes | None]] = [[None] * len(serialized) for _ in index]
    try:
        for row, message in enumerate(serialized):
            _place(message, row, index, raw)
    except (IndexError, wire.Malformed):
        return None
    return raw


def _place(
    message: bytes, row: int, index: dict[bytes, int], raw: list[list[bytes | None]]
) -> None:
    """One message's features into their columns. The lengths of most are one byte."""
    end, at = len(message), _body(message)
    while at < end:
        size, key_size = message[at + 1], message[at + 3]
        middle = at + 4 + key_size
        value_size = message[middle + 1]
        if size < 128 and value_size < 128:
            start = middle + 2
            after = start + value_size
            headed = message[at] == message[at + 2] == 10 and message[middle] == 18
            if not headed or key_size > 127 or size != after - at - 2:
                raise wire.Malformed
            key = message[at + 4 : middle]
        else:
            key, start, after = wire.long_entry(message, at)
        column = index.get(key)
        if column is not None:
            if raw[column][row] is not None:
                raise wire.Malformed
            raw[column][row] = message[start:after]
        at = after
    if at != end:
        raise wire.Malformed


def _body(message: bytes) -> int:
    """Where the one Features of a message starts; an empty message has none."""
    if not message:
        return 0
    size, at = wire.varint(message, 1, len(message))
    if message[0] != 10 or at + size != len(message):
        raise wire.Malformed
    return at


def _decode(rows: list[bytes | None], feature: Feature) -> Column | None:
    """None where a row is not as protobuf writes it, or not as the feature wants it."""
    missing = np.array([row is None for row in rows], bool)
    if feature.dense:
        missing |= np.array([row == b"" for row in rows], bool)
    held = [row for row in rows if row]
    values, counts = _lists(held, feature.kind)
    if values is None or counts is None:
        return None
    if feature.layout is Layout.FIXED:
        if (counts != feature.stride).any() or (missing.any() and not feature.default.size):
            return None
    elif feature.layout is Layout.PADDED and (counts % feature.stride).any():
        return None
    spread = np.zeros(len(rows), np.int64)
    spread[np.array([bool(row) for row in rows], bool)] = counts
    return Column(values=values, counts=spread, missing=missing)


def _lists(rows: list[bytes], kind: wire.Kind) -> tuple[Array, Array] | tuple[None, None]:
    """The values of all rows, and how many each has."""
    if not rows:
        return np.empty(0, kind.dtype), np.empty(0, np.int64)
    bodies = _bodies(rows, kind)
    if bodies is None:
        return (None, None) if kind is not wire.Kind.BYTES else _strings(rows)
    if kind is wire.Kind.BYTES:
        return wire.objects(bodies), np.ones(len(rows), np.int64)
    sizes = np.fromiter(map(len, bodies), np.int64, len(bodies))
    joined = np.frombuffer(b"".join(bodies), np.uint8)
    if kind is wire.Kind.FLOAT:
        return (None, None) if (sizes % 4).any() else (joined.view("<f4"), sizes // 4)
    return wire.varints(joined, sizes)


def _bodies(rows: list[bytes], kind: wire.Kind) -> list[bytes] | None:
    """What follows the two headers of a packed list, or of a list of one string."""
    bodies = []
    for row in rows:
        header = _header(kind.tag, len(row))
        if header is None or not row.startswith(header):
            return None
        bodies.append(row[len(header) :])
    return bodies


@functools.lru_cache(maxsize=4096)
def _header(tag: int, size: int) -> bytes | None:
    """What a Feature of `size` bytes with one packed list, or one string, begins with."""
    outer = wire.prefix(size - 1)
    if size == 2 and tag != wire.Kind.BYTES.tag:
        return bytes([tag, 0])
    inner = wire.prefix(size - 2 - len(outer)) if outer else None
    return bytes([tag]) + outer + b"\x0a" + inner if outer and inner else None


def _strings(rows: list[bytes]) -> tuple[Array, Array] | tuple[None, None]:
    lists = []
    for row in rows:
        if row[0] != wire.Kind.BYTES.tag:
            return None, None
        try:
            lists.append(wire.values(wire.Kind.BYTES, row[1:])[0])
        except wire.Malformed:
            return None, None
    flat = [value for values in lists for value in values]
    return wire.objects(flat), np.array([len(values) for values in lists], np.int64)


class _Lists:
    """Columns as they grow, one message at a time, with TensorFlow's checks in its order."""

    def __init__(self, features: Sequence[Feature], sizes: Sequence[int]) -> None:
        self._features = features
        self._sizes = sizes
        self._values: list[list[Any]] = [[] for _ in features]
        self._counts: list[list[int]] = [[] for _ in features]
        self._missing: list[list[bool]] = [[] for _ in features]

    def read(self, message: bytes, index: dict[bytes, int], row: int, name: str) -> None:
        seen: set[int] = set()
        # The last of equal keys is the one that counts, so that the first seen does.
        for key, body in reversed(_entries(message)):
            at = index.get(key)
            if at is None:
                continue
            kind = kind_of(body)
            if (kind is None and self._features[at].dense) or at in seen:
                continue
            seen.add(at)
            self._add(at, kind, body, f"Name: {name}, Key: {text(key)}, Index: {row}.  ")
        for at, feature in enumerate(self._features):
            if at not in seen:
                self._fill(at, feature, name)

    def columns(self) -> list[Column]:
        return [
            Column(
                values=_array(feature.kind, self._values[at]),
                counts=np.array(self._counts[at], np.int64),
                missing=np.array(self._missing[at], bool),
            )
            for at, feature in enumerate(self._features)
        ]

    def _add(self, at: int, kind: wire.Kind | None, body: bytes, where: str) -> None:
        feature = self._features[at]
        if kind not in (None, feature.kind):
            raise InvalidArgument(where + mismatch(feature, kind))
        fixed = feature.layout is Layout.FIXED
        try:
            room = feature.stride if fixed else None
            found, count = wire.values(kind, body[1:], room) if kind else ([], 0)
        except wire.Malformed:
            raise InvalidArgument(where + "Can't parse serialized Example.") from None
        plural = "bytes" if feature.kind is wire.Kind.BYTES else feature.kind.text
        if fixed and count != feature.stride:
            raise InvalidArgument(
                f"{where}Number of {plural} values != expected.  Values size: {count}"
                f" but output shape: {shape_text(feature.shape)}"
            )
        if feature.layout is Layout.PADDED and count % feature.stride:
            counts = self._counts[at]
            saw = count + sum(counts[_share(self._sizes, len(counts)) :])
            raise InvalidArgument(
                f"{where}Number of {plural} values is not a multiple of stride length. Saw {saw}"
                f" values but output shape is: {shape_text(feature.shape)}"
            )
        self._values[at] += found
        self._counts[at].append(count)
        self._missing[at].append(False)

    def _fill(self, at: int, feature: Feature, name: str) -> None:
        if feature.layout is Layout.FIXED and not feature.default.size:
            raise InvalidArgument(f"Name: {name}, {required(feature)}")
        self._counts[at].append(0)
        self._missing[at].append(True)


def _share(sizes: Sequence[int], row: int) -> int:
    """The first of the messages that the thread which reads `row` reads.

    TensorFlow counts the values of all of them: FastParseExample's minibatches of 50 kB.
    """
    batches = held = 0
    for size in sizes:
        batches += not held
        held = 0 if held + size + 1 > 50_000 else held + size + 1
    batches = max(min(8, len(sizes)), min(64, batches))
    firsts = [len(sizes) * batch // batches for batch in range(batches)]
    return max(first for first in firsts if first <= row)


def kind_of(body: bytes) -> wire.Kind | None:
    """What list a Feature holds; None: no list. Raises InvalidArgument."""
    if not body:
        return None
    if body[0] not in wire.KINDS:
        raise InvalidArgument("Unsupported datatype.")
    return wire.KINDS[body[0]]


def mismatch(feature: Feature, kind: wire.Kind | None) -> str:
    found = kind.text if kind else "INVALID"
    if feature.dense:
        return f"Data types don't match. Data type: {found} but expected type: {feature.kind.text}"
    return f"Data types don't match. Expected type: {feature.kind.text}, Actual type: {found}"


def required(feature: Feature) -> str:
    return (
        f"Feature: {text(feature.key)} (data type: {feature.kind.text})"
        " is required but could not be found."
    )


def shape_text(shape: Sequence[int]) -> str:
    """As TensorFlow prints a shape: `[?,3]`."""
    return f"[{','.join('?' if size < 0 else str(size) for size in shape)}]"


def _array(kind: wire.Kind, values: Sequence[Any]) -> Array:
    return wire.objects(values) if kind is wire.Kind.BYTES else np.array(values, kind.dtype)
