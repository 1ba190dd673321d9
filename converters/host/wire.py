"""Protobuf's wire format as TensorFlow's parser of tf.Example reads it.

Tags and lengths are those of google/protobuf/io/coded_stream.h: a varint has ten bytes at most, a
length keeps its lower 32 bits, and one that passes the end of the enclosing message ends there.
"""

import enum
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


class Malformed(Exception):
    """The bytes are not of the message that was expected."""


class Kind(enum.Enum):
    """The three lists of tf.train.Feature."""

    BYTES = ("string", 0x0A, object)
    FLOAT = ("float", 0x12, np.float32)
    INT64 = ("int64", 0x1A, np.int64)

    def __init__(self, text: str, tag: int, dtype: type) -> None:
        self.text = text
        """TensorFlow's name for the dtype, as in its messages."""
        self.tag = tag
        """What a Feature that holds this list begins with."""
        self.dtype = np.dtype(dtype)


KINDS = {kind.tag: kind for kind in Kind}
_VARINT_BYTES = 10


def varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The number that begins at `at`, and where the next thing begins."""
    number = 0
    for shift, place in enumerate(range(at, min(at + _VARINT_BYTES, end))):
        byte = data[place]
        number |= (byte & 0x7F) << 7 * shift
        if byte < 128:
            return number & 0xFFFF_FFFF_FFFF_FFFF, place + 1
    raise Malformed


def length(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A length, and where what it measures begins."""
    number, start = varint(data, at, end)
    return number & 0xFFFF_FFFF, start


def limit(start: int, size: int, end: int) -> int:
    """Where a message of `size` bytes ends inside one that ends at `end`."""
    return min(start + size, end) if size < 1 << 31 else end


def text(data: bytes, at: int, end: int) -> tuple[bytes, int]:
    """A length and that many bytes, which must be there."""
    size, start = length(data, at, end)
    if start + size > end:
        raise Malformed
    return data[start : start + size], start + size


def prefix(total: int) -> bytes | None:
    """The varint that counts the bytes after it, both together `total`; None: there is none."""
    for width in range(1, 6):
        if 0 <= total - width < 1 << 7 * width:
            number = encode(total - width)
            return number if len(number) == width else None
    return None


def encode(number: int) -> bytes:
    """A varint."""
    out = bytearray()
    while number > 127:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def long_entry(data: bytes, at: int) -> tuple[bytes, int, int]:
    """One entry of a map, key before value: the key, where the value begins, where it ends."""
    end = len(data)
    size, start = varint(data, at + 1, end)
    key_size, key = varint(data, start + 1, end)
    middle = key + key_size
    value_size, value = varint(data, middle + 1, end)
    after = value + value_size
    if not (data[at] == data[start] == 0x0A and data[middle] == 0x12 and after == start + size):
        raise Malformed
    return data[key:middle], value, after


def features(message: bytes) -> list[tuple[bytes, bytes]]:
    """Keys and Features of a tf.Example, in order, repeated keys included. Raises Malformed."""
    found: list[tuple[bytes, bytes]] = []
    at, end = 0, len(message)
    while at < end:
        if message[at] != 0x0A:
            at = skip(message, at, end)
            continue
        size, at = length(message, at + 1, end)
        stop = limit(at, size, end)
        while at < stop:
            if message[at] != 0x0A:
                raise Malformed
            key, value, at = _entry(message, at + 1, stop)
            found.append((key, value))
    return found


def _entry(data: bytes, at: int, end: int) -> tuple[bytes, bytes, int]:
    """Two fields, key and value in any order: one may be there twice."""
    size, at = length(data, at, end)
    stop = limit(at, size, end)
    fields = {1: b"", 2: b""}
    for _ in range(2):
        tag, at = length(data, at, stop)
        if tag not in (0x0A, 0x12):
            raise Malformed
        fields[tag >> 3], at = text(data, at, stop)
    if at != stop:
        raise Malformed
    return fields[1], fields[2], at


def skip(data: bytes, at: int, end: int) -> int:
    """Past a field that tf.Example does not have."""
    tag, at = length(data, at, end)
    match tag & 7:
        case 0:
            _, at = varint(data, at, end)
        case 1:
            at += 8
        case 2:
            size, at = length(data, at, end)
            at = min(at + size, end) if size < 1 << 31 else at
        case 5:
            at += 4
        case _:
            raise Malformed
    if at > end:
        raise Malformed
    return at


def values(kind: Kind, body: bytes, room: int | None = None) -> tuple[Sequence[Any], int]:
    """The values of a list and how many it claims to have; `body` follows the tag in a Feature.

    With `room`, TensorFlow has memory for that many: it reads no string and no packed float past
    it, so that what follows may be broken. Raises Malformed.
    """
    size, at = length(body, 0, len(body))
    end = limit(at, size, len(body))
    if at == end:
        return [], 0
    if kind is not Kind.BYTES and body[at] == 0x0A:
        packed, at = length(body, at + 1, end)
        end = limit(at, packed, end)
        if kind is Kind.FLOAT:
            return _floats(body, at, end, packed // 4, room)
        found: Sequence[Any] = list(_varints(body, at, end))
    else:
        found = list(_READERS[kind](body, at, end, room))
    return found, len(found)


def _texts(data: bytes, at: int, end: int, room: int | None) -> Iterator[bytes]:
    count = 0
    while at < end:
        if data[at] != 0x0A or count == room:
            raise Malformed
        value, at = text(data, at + 1, end)
        yield value
        count += 1


def _floats(
    data: bytes, at: int, end: int, count: int, room: int | None
) -> tuple[Sequence[Any], int]:
    """A last float of less than four bytes is ignored; a length that lies otherwise is not."""
    read = count if room is None else min(count, room)
    if at + 4 * read > end:
        raise Malformed
    return list(np.frombuffer(data, "<f4", read, at)), count


def _varints(data: bytes, at: int, end: int) -> Iterator[int]:
    while at < end:
        number, at = varint(data, at, end)
        yield number - (number >> 63 << 64)


def _tagged_floats(data: bytes, at: int, end: int, room: int | None) -> Iterator[Any]:
    while at < end:
        if data[at] != 0x0D or at + 5 > end:
            raise Malformed
        yield np.frombuffer(data, "<f4", 1, at + 1)[0]
        at += 5


def _tagged_varints(data: bytes, at: int, end: int, room: int | None) -> Iterator[Any]:
    while at < end:
        if data[at] != 0x08:
            raise Malformed
        number, at = varint(data, at + 1, end)
        yield number - (number >> 63 << 64)


_READERS = {Kind.BYTES: _texts, Kind.FLOAT: _tagged_floats, Kind.INT64: _tagged_varints}


def objects(strings: Sequence[bytes]) -> Array:
    """[n] objects: numpy would cut trailing zero bytes from its own strings."""
    out = np.empty(len(strings), object)
    out[:] = strings
    return out


def varints(data: Array, sizes: Array) -> tuple[Array, Array] | tuple[None, None]:
    """Many packed lists, one after the other, `sizes` bytes each → their values, and how many.

    Nothing where a list does not end with its last varint, or a varint is too long.
    """
    last = data < 128
    edges = np.cumsum(sizes)
    if data.size and not last[edges[sizes > 0] - 1].all():
        return None, None
    counts = np.diff(np.concatenate([[0], np.cumsum(last)])[edges], prepend=0)
    ends = np.flatnonzero(last)
    if len(ends) == data.size:
        return data.astype(np.int64), counts
    starts = np.concatenate([[0], ends[:-1] + 1])
    widths = ends - starts + 1
    if widths.max() > _VARINT_BYTES:
        return None, None
    numbers = np.zeros(len(ends), np.uint64)
    for place in range(int(widths.max())):
        longer = np.flatnonzero(widths > place)
        bits = data[starts[longer] + place].astype(np.uint64) & np.uint64(0x7F)
        numbers[longer] |= bits << np.uint64(7 * place)
    return numbers.view(np.int64), counts
