"""A serialized TensorProto → array, as TensorFlow's Tensor::FromProto reads it."""

import functools
import math
from typing import Any

import numpy as np

from jaxrt.serving.rpc import varints
from jaxrt.serving.rpc.datatypes import DATATYPES, Coding, Datatype
from jaxrt.serving.rpc.wire import BYTES, VARINT, Field, Malformed, fields, varint

Array = np.ndarray[Any, Any]

LIMIT = (1 << 31) - 1
"""Bytes of a tensor: those of the largest message. A shape costs nothing to send, and what repeats
the last value, or has none, could name any."""

_DTYPE, _SHAPE, _CONTENT = 1, 2, 4
_MAX_DIMENSIONS = 64
"""numpy's; TensorFlow takes 254."""


class Unreadable(ValueError):
    """The message is no tensor, in a way that TensorFlow answers with `tensor parsing error`."""


def tensor(data: bytes, at: int, end: int) -> tuple[Datatype, Array]:
    """The tensor in data[at:end]; strings are an object array of bytes.

    `tensor_content` is not copied where numpy can use it as it lies, so the array may be read-only.
    Values beyond those of the shape are left out, and the last value stands for those that are
    missing; without any, they are zeros.

    Raises Unreadable, or wire.Malformed where protobuf's parser would refuse the message.
    """
    number = 0
    content: Field | None = None
    shapes: list[bytes] = []
    values: dict[int, list[Field]] = {}
    for field in fields(data, at, end):
        match field[0]:
            case 1:
                number = field[2]
            case 2:
                shapes.append(bytes(data[field[2] : field[3]]))
            case 4:
                content = field
            case other:
                values.setdefault(other, []).append(field)
    datatype = DATATYPES.get(number)
    if datatype is None:
        raise Unreadable(f"dtype {number}")
    shape = _shape(shapes[0] if len(shapes) == 1 else b"".join(shapes))
    count = math.prod(shape)
    assert datatype.dtype.numpy is not None
    if count * datatype.dtype.numpy.itemsize > LIMIT:
        raise Unreadable(f"shape {shape}")
    if content is not None and content[3] > content[2]:
        found = _content(data, content[2], content[3], datatype, count)
    else:
        found = _filled(_typed(data, values.get(datatype.field, []), datatype), datatype, count)
    return datatype, found.reshape(shape)


def _shape(serialized: bytes) -> tuple[int, ...]:
    """Of a TensorShapeProto; that its rank is unknown is overlooked, as TensorFlow does."""
    shape = _known_shape(serialized) if len(serialized) <= 256 else _parsed_shape(serialized)
    if shape is None:
        raise Unreadable("shape")
    return shape


def _parsed_shape(serialized: bytes) -> tuple[int, ...] | None:
    shape = []
    for number, wire, begin, end in fields(serialized, 0, len(serialized)):
        if number != 2 or wire != BYTES:
            continue
        size = 0
        for inner, kind, value, _ in fields(serialized, begin, end):
            if inner == 1 and kind == VARINT:
                size = value
        if size >= 1 << 63:  # negative
            return None
        shape.append(size)
    return tuple(shape) if len(shape) <= _MAX_DIMENSIONS and _countable(shape) else None


def _countable(shape: list[int]) -> bool:
    """Whether TensorFlow can count the elements: no overflow on the way, though a 0 comes later."""
    count = 1
    for size in shape:
        count *= size
        if count >= 1 << 63:
            return False
    return True


_known_shape = functools.lru_cache(maxsize=4096)(_parsed_shape)


def _content(data: bytes, begin: int, end: int, datatype: Datatype, count: int) -> Array:
    dtype = datatype.dtype.numpy
    assert dtype is not None
    if not count:
        return np.empty(0, dtype)
    if datatype.coding is Coding.STRING:
        return _string_content(data, begin, end, count)
    if end - begin != count * dtype.itemsize:
        raise Unreadable("tensor_content")
    if dtype == np.bool_:
        return np.asarray(np.frombuffer(data, np.uint8, count, begin) != 0)
    found = np.frombuffer(data, dtype, count, begin)
    # XLA and numpy's faster loops want elements at multiples of their size.
    return found if found.flags.aligned else found.copy()


def _string_content(data: bytes, at: int, end: int, count: int) -> Array:
    """The sizes of all strings, then the strings (port::DecodeStringList)."""
    found = np.empty(count, np.object_)
    sizes = []
    if count > end - at:
        raise Unreadable("tensor_content")
    try:
        for _ in range(count):
            size, at = varint(data, at)
            sizes.append(size)
    except (IndexError, Malformed):
        raise Unreadable("tensor_content") from None
    if sum(sizes) != end - at:
        raise Unreadable("tensor_content")
    for index, size in enumerate(sizes):
        found[index] = bytes(data[at : at + size])
        at += size
    return found


def _typed(data: bytes, found: list[Field], datatype: Datatype) -> Array:
    """All values of the typed field, in order."""
    dtype = datatype.dtype.numpy
    assert dtype is not None
    match datatype.coding:
        case Coding.FIXED:
            return _fixed(data, found, dtype)
        case Coding.STRING:
            strings = np.empty(len(found), np.object_)
            strings[:] = [bytes(data[begin:end]) for _, _, begin, end in found]
            return strings
        case Coding.OCTET:
            begin, end = found[-1][2:] if found else (0, 0)
            return np.frombuffer(data, dtype, end - begin, begin)
    whole = _integers(data, found)
    if datatype.coding is Coding.BITS:
        return whole.astype(np.uint16).view(dtype)
    if dtype == np.bool_:
        return np.asarray(whole != 0)
    if dtype.kind in "iu":  # the low bits, as C++ casts
        return whole.astype(f"u{dtype.itemsize}").view(dtype)
    return whole.astype(np.uint8).view(np.int8).astype(dtype)  # four bits


def _fixed(data: bytes, found: list[Field], dtype: np.dtype[Any]) -> Array:
    part = np.dtype(f"f{dtype.itemsize // 2}") if dtype.kind == "c" else dtype
    parts = []
    for _, wire, begin, end in found:
        if wire == VARINT or (end - begin) % part.itemsize:
            raise Malformed("packed numbers end within a number")
        parts.append(np.frombuffer(data, part, (end - begin) // part.itemsize, begin))
    whole = _joined(parts, part)
    if dtype.kind == "c":
        return whole[: len(whole) // 2 * 2].view(dtype)
    return whole


def _integers(data: bytes, found: list[Field]) -> Array:
    """uint64, negative ones by their bits."""
    parts = []
    for _, wire, begin, end in found:
        if wire == VARINT:
            parts.append(np.array([begin], np.uint64))
        elif wire == BYTES:
            parts.append(varints.decode(np.frombuffer(data, np.uint8, end - begin, begin)))
        else:
            raise Malformed("integers of a fixed size")
    return _joined(parts, np.dtype(np.uint64))


def _joined(parts: list[Array], dtype: np.dtype[Any]) -> Array:
    if len(parts) != 1:
        return np.concatenate(parts) if parts else np.empty(0, dtype)
    return parts[0] if parts[0].flags.aligned else parts[0].copy()


def _filled(values: Array, datatype: Datatype, count: int) -> Array:
    """[count] of the values: cut, or the last one repeated."""
    if len(values) >= count:
        return values[:count]
    dtype = datatype.dtype.numpy
    assert dtype is not None
    nothing = b"" if datatype.coding is Coding.STRING else np.zeros((), dtype)
    found = np.full(count, values[-1] if len(values) else nothing, dtype)
    found[: len(values)] = values
    return found
