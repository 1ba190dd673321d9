"""tf.Example on the wire, written without TensorFlow.

The messages are those of tensorflow/core/example/example.proto and feature.proto: Example holds
Features (field 1), whose field 1 maps a name to a Feature, which holds one of BytesList (1),
FloatList (2) and Int64List (3). Names are bytes here, since no parser of TensorFlow validates them.
"""

import array
import enum
import sys
from collections.abc import Mapping, Sequence
from typing import Any

_FIRST, _SECOND = b"\x0a", b"\x12"
"""The tags of length-delimited fields 1 and 2."""
_UINT64 = (1 << 64) - 1
_SMALL = tuple(bytes((value,)) for value in range(0x80))
"""The varints of one byte: those of nearly all lengths."""


class Kind(enum.Enum):
    """What a feature holds; the value is the number of the list's field in Feature."""

    BYTES = 1
    FLOAT = 2
    INT64 = 3


def example(features: Mapping[bytes, bytes]) -> bytes:
    """Name → serialized Feature, as one serialized Example: names sorted, no bytes for none.

    An entry has its key and its value even where they are empty: TensorFlow's parser
    (core/util/example_proto_fast_parsing.cc) refuses entries that lack one.
    """
    if not features:
        return b""
    entries = (
        _delimited(_FIRST, name) + _delimited(_SECOND, features[name]) for name in sorted(features)
    )
    return _delimited(_FIRST, b"".join(_delimited(_FIRST, entry) for entry in entries))


def feature(kind: Kind, values: Sequence[Any]) -> bytes:
    """A serialized Feature of one or more values.

    They are bytes; numbers, which round to float32 and become infinite beyond it; or integers in
    int64 and bools.
    """
    match kind:
        case Kind.BYTES:
            items = b"".join(_delimited(_FIRST, value) for value in values)
        case Kind.FLOAT:
            items = _delimited(_FIRST, _floats(values))
        case Kind.INT64:
            items = _delimited(_FIRST, _varints(values))
    return _delimited(bytes((kind.value << 3 | 2,)), items)


def _floats(values: Sequence[float]) -> bytes:
    singles = array.array("f", values)  # C's conversion: to the nearest, no error beyond the range
    if sys.byteorder == "big":
        singles.byteswap()
    return singles.tobytes()


def _varints(values: Sequence[int]) -> bytes:
    if min(values) >= 0 and max(values) < 0x80:
        return bytes(values)
    return b"".join(map(_varint, values))


def _delimited(tag: bytes, payload: bytes) -> bytes:
    return tag + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    """Base 128, low digits first; a negative value as the uint64 of the same bits."""
    if 0 <= value < 0x80:
        return _SMALL[value]
    value &= _UINT64
    digits = bytearray()
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)
