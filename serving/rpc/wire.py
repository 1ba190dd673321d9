"""Protobuf's wire format: the fields of a serialized message, and fields to serialize.

https://protobuf.dev/programming-guides/encoding/. Messages that carry tensors are read and written
here rather than by the protobuf runtime, which copies every byte and holds numbers one by one.
"""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

VARINT, FIXED64, BYTES, GROUP, END_GROUP, FIXED32 = range(6)
"""Wire types."""

Field = tuple[int, int, int, int]
"""Number, wire type, begin, end. A VARINT's value stands in the place of its begin."""

_UINT64 = (1 << 64) - 1
_DEPTH = 100
"""Of nested groups: protobuf's own recursion limit."""


class Malformed(ValueError):
    """The bytes are no message."""


def fields(data: bytes, at: int, end: int) -> list[Field]:
    """The fields of the message in data[at:end], in order, groups left out. Raises Malformed."""
    found: list[Field] = []
    try:
        while at < end:
            tag = data[at]
            at += 1
            if tag >= 0x80:
                tag, at = varint(data, at - 1)
            number, wire = tag >> 3, tag & 7
            if wire == BYTES:
                size = data[at]
                at += 1
                if size >= 0x80:
                    size, at = varint(data, at - 1)
                begin, at = at, at + size
                found.append((number, BYTES, begin, at))
            elif wire == VARINT:
                value = data[at]
                at += 1
                if value >= 0x80:
                    value, at = varint(data, at - 1)
                found.append((number, VARINT, value, at))
            elif wire in (FIXED32, FIXED64):
                begin, at = at, at + (4 if wire == FIXED32 else 8)
                found.append((number, wire, begin, at))
            else:
                at = _skip(data, at, wire, number)
            if not 0 < number < 1 << 29:
                raise Malformed(f"field number {number}")
    except IndexError:
        raise Malformed("the message ends within a field") from None
    if at != end:
        raise Malformed("a field ends after its message")
    return found


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at data[at] and where it ends. Raises Malformed, IndexError at the end."""
    value = shift = 0
    while True:
        digit = data[at]
        at += 1
        value |= (digit & 0x7F) << shift
        if digit < 0x80:
            return value & _UINT64, at
        shift += 7
        if shift > 63:
            raise Malformed("a number of more than ten bytes")


def _skip(data: bytes, at: int, wire: int, number: int) -> int:
    """The end of a group that begins at `at`. Nobody writes them; parsers skip them."""
    if wire != GROUP:
        raise Malformed(f"wire type {wire}")
    open_groups = [number]
    while open_groups:
        tag, at = varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == GROUP:
            open_groups.append(number)
            if len(open_groups) > _DEPTH:
                raise Malformed("too many nested groups")
        elif wire == END_GROUP:
            if open_groups.pop() != number:
                raise Malformed("a group ends that is not open")
        elif wire == VARINT:
            _, at = varint(data, at)
        elif wire == BYTES:
            size, at = varint(data, at)
            at += size
        elif wire in (FIXED32, FIXED64):
            at += 4 if wire == FIXED32 else 8
        else:
            raise Malformed(f"wire type {wire}")
    return at


def text(data: bytes, begin: int, end: int) -> str:
    """A string field. Raises Malformed unless it is UTF-8, as proto3's parsers do."""
    try:
        return data[begin:end].decode()
    except UnicodeDecodeError:
        raise Malformed("a string that is not UTF-8") from None


def parsed(parse: Callable[[bytes], T], data: bytes) -> T:
    """What a protobuf class's FromString makes of the bytes. Raises Malformed."""
    # google.protobuf.message.DecodeError is a plain Exception; strings raise UnicodeDecodeError.
    try:
        return parse(data)
    except Exception as error:
        raise Malformed(str(error)) from None


def number(value: int) -> bytes:
    """A varint; a negative value as the uint64 of the same bits."""
    if 0 <= value < 0x80:
        return bytes((value,))
    value &= _UINT64
    digits = bytearray()
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def head(field: int, size: int) -> bytes:
    """What stands before `size` bytes of a string, a message or packed numbers."""
    return number(field << 3 | BYTES) + number(size)


def delimited(field: int, payload: bytes) -> bytes:
    """A string, a message or packed numbers."""
    return head(field, len(payload)) + payload


def integer(field: int, value: int) -> bytes:
    """A number, nothing for the default."""
    return number(field << 3 | VARINT) + number(value) if value else b""
