"""Ops on strings that read and change their text."""

import base64
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.ops_math import shape_text
from jaxrt.converters.host.ops_shape import axis_of, numpy_dtype
from jaxrt.converters.host.rules import Array, map_strings, op, string_array
from jaxrt.converters.host.text import raw
from jaxrt.errors import InvalidArgument
from jaxrt.specs import DTYPES

# Letters whose case Unicode 14 and later tell: TensorFlow's ICU knows Unicode 13.
_NEWER = re.compile(
    "([\u1c89\u1c8a\u2c2f\u2c5f\ua7c0\ua7c1\ua7cb-\ua7dc\U00010570-\U000105bc"
    "\U00010d50-\U00010d85])"
)


def _cased(value: bytes, case: Callable[[str], str]) -> bytes:
    """UTF-8 in another case, up to the first zero byte, at which ICU is told to stop."""
    text = value.partition(b"\0")[0].decode("utf-8", "replace")
    pieces = _NEWER.split(text)  # those letters lie at the odd places
    return "".join(p if i % 2 else case(p) for i, p in enumerate(pieces)).encode()


@op("StringLower", rowwise=True, encoding=b"")
def string_lower(node: Node, x: Array) -> Array:
    if not node.attrs["encoding"]:
        return map_strings(bytes.lower, x)
    return map_strings(lambda value: _cased(value, str.lower), x)


@op("StringUpper", rowwise=True, encoding=b"")
def string_upper(node: Node, x: Array) -> Array:
    if not node.attrs["encoding"]:
        return map_strings(bytes.upper, x)
    return map_strings(lambda value: _cased(value, str.upper), x)


@op("StringStrip", rowwise=True)
def string_strip(node: Node, x: Array) -> Array:
    return map_strings(bytes.strip, x)


def _characters(value: bytes) -> int:
    """Bytes that do not continue a UTF-8 character."""
    return sum(byte & 0xC0 != 0x80 for byte in value)


@op("StringLength", rowwise=True, unit=b"BYTE")
def string_length(node: Node, x: Array) -> Array:
    count = len if node.attrs["unit"] == b"BYTE" else _characters
    return np.asarray([count(value) for value in x.ravel().tolist()], np.int32).reshape(x.shape)


@op("Substr", rowwise=True, unit=b"BYTE")
def substr(node: Node, x: Array, position: Array, length: Array) -> Array:
    if position.shape != length.shape:
        raise InvalidArgument(
            "pos and len should have the same shape, got: "
            f"{shape_text(position)} vs. {shape_text(length)}"
        )
    try:
        values, positions, lengths = np.broadcast_arrays(x, position, length)
    except ValueError:
        raise InvalidArgument(
            f"Incompatible shapes: {shape_text(x)} vs. {shape_text(position)}"
        ) from None
    cut = _cut_bytes if node.attrs["unit"] == b"BYTE" else _cut_characters
    rows = zip(
        values.ravel().tolist(), positions.ravel().tolist(), lengths.ravel().tolist(), strict=True
    )
    found = [cut(value, at, count, i) for i, (value, at, count) in enumerate(rows)]
    return string_array(found, values.shape)


def _cut_bytes(value: bytes, position: int, length: int, i: int) -> bytes:
    at = position + len(value) if position < 0 else position
    if not 0 <= at <= len(value):
        raise InvalidArgument(
            f"pos {position} out of range for string b'{raw(value)}' at index {i}"
        )
    return value[at:] if length < 0 else value[at : at + length]


def _cut_characters(value: bytes, position: int, length: int, i: int) -> bytes:
    starts = [at for at, byte in enumerate(value) if byte & 0xC0 != 0x80 or not at]
    ends = [*starts, len(value)]
    count = len(starts)
    if not -count <= position <= count:
        raise InvalidArgument(f"pos {position} out of range for string at index {i}")
    if position >= 0:
        return value[ends[position] : ends[min(position + max(length, 0), count)]]
    skipped = max(-position - length, 0)
    if skipped > count:
        raise InvalidArgument(f"pos {position} out of range for string at index {i}")
    return value[ends[count + position] : ends[count - skipped]]


@op("StringJoin", rowwise=True, separator=b"")
def string_join(node: Node, *inputs: Array) -> Array:
    separator = node.attrs["separator"]
    shapes = {x.shape for x in inputs if x.ndim}
    if len(shapes) > 1:
        first = next(x for x in inputs if x.ndim)
        other = next(x for x in inputs if x.ndim and x.shape != first.shape)
        raise InvalidArgument(
            f"Input shapes do not match: {shape_text(first)} vs. {shape_text(other)}"
        )
    shape: tuple[int, ...] = shapes.pop() if shapes else ()
    columns = [np.broadcast_to(x, shape).ravel().tolist() for x in inputs]
    return string_array([separator.join(row) for row in zip(*columns, strict=True)], shape)


@op("ReduceJoin", keep_dims=False, separator=b"")
def reduce_join(node: Node, x: Array, axes: Array) -> Array:
    """The first axis is joined first; none given is none joined."""
    order = [axis_of(a, x.ndim) for a in axes.ravel().tolist()]
    kept = [i for i in range(x.ndim) if i not in order]
    moved = np.transpose(x, [*kept, *order[::-1]])
    shape = tuple(x.shape[i] for i in kept)
    rows = moved.reshape(int(np.prod(shape, dtype=np.int64)), -1 if x.size else 0)
    found = [node.attrs["separator"].join(row) for row in rows.tolist()]
    if node.attrs["keep_dims"]:
        shape = tuple(1 if i in order else n for i, n in enumerate(x.shape))
    return string_array(found, shape)


def _pieces(rows: list[list[bytes]]) -> tuple[Array, Array, Array]:
    """Rows of pieces → a sparse matrix."""
    indices = [(i, j) for i, row in enumerate(rows) for j in range(len(row))]
    values = [piece for row in rows for piece in row]
    longest = max((len(row) for row in rows), default=0)
    return (
        np.asarray(indices, np.int64).reshape(-1, 2),
        string_array(values, (len(values),)),
        np.asarray([len(rows), longest], np.int64),
    )


def _vector(x: Array) -> None:
    if x.ndim != 1:
        raise InvalidArgument(f"input must be a vector, got shape: {shape_text(x)}")


@op("StringSplit", skip_empty=True)
def string_split(node: Node, x: Array, delimiter: Array) -> tuple[Array, Array, Array]:
    """Each byte of the delimiter separates; an empty one splits into bytes."""
    _vector(x)
    skip, marks = node.attrs["skip_empty"], delimiter.item()

    def split(value: bytes) -> list[bytes]:
        if not marks:
            return [value[i : i + 1] for i in range(len(value))]
        table = bytes.maketrans(marks, marks[:1] * len(marks))
        found = value.translate(table).split(marks[:1]) if value else []
        return [piece for piece in found if piece] if skip else found

    return _pieces([split(value) for value in x.tolist()])


@op("StringSplitV2", maxsplit=-1)
def string_split_v2(node: Node, x: Array, separator: Array) -> tuple[Array, Array, Array]:
    """As Python splits, but for an empty rest once `maxsplit` pieces are cut."""
    _vector(x)
    most, mark = node.attrs["maxsplit"], separator.item()
    limit = most if most > 0 else -1

    def split(value: bytes) -> list[bytes]:
        if not most:
            return [value]
        if mark:
            return value.split(mark, limit)
        found = value.split(None, limit)
        return [*found, b""] if len(found) == limit else found

    return _pieces([split(value) for value in x.tolist()])


@op("EncodeBase64", rowwise=True, pad=False)
def encode_base64(node: Node, x: Array) -> Array:
    def encode(value: bytes) -> bytes:
        found = base64.urlsafe_b64encode(value)
        return found if node.attrs["pad"] else found.rstrip(b"=")

    return map_strings(encode, x)


@op("DecodeBase64", rowwise=True)
def decode_base64(node: Node, x: Array) -> Array:
    return map_strings(_decode_base64, x)


_WEB_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def _decode_base64(value: bytes) -> bytes:
    bare = value
    if len(value) % 4 == 0:  # padded, perhaps: by two at most
        bare = bare.removesuffix(b"=").removesuffix(b"=")
    if len(bare) % 4 == 1:
        raise InvalidArgument("Base64 string length cannot be 1 modulo 4.")
    if not _WEB_SAFE.issuperset(bare):
        raise InvalidArgument("Invalid character found in base64.")
    return base64.urlsafe_b64decode(bare + b"=" * (-len(bare) % 4))


@op("DecodeRaw", little_endian=True)
def decode_raw(node: Node, x: Array) -> Array:
    dtype, values = numpy_dtype(node.attrs["out_type"]), x.ravel().tolist()
    length = len(values[0]) if values else 0
    for i, value in enumerate(values):
        if len(value) != length:
            raise InvalidArgument(
                "DecodeRaw requires input strings to all be the same size, but element "
                f"{i} has size {length} != {len(value)}"
            )
    if length % dtype.itemsize:
        raise InvalidArgument(
            f"Input to DecodeRaw has length {length} that is not a multiple of {dtype.itemsize}, "
            f"the size of {DTYPES[node.attrs['out_type']].text}"
        )
    flat = np.frombuffer(b"".join(values), dtype)
    if not node.attrs["little_endian"]:
        flat = flat.byteswap()
    return flat.reshape(*x.shape, length // dtype.itemsize)


@op("StringNGrams", preserve_short_sequences=False, pad_width=0)
def string_ngrams(node: Node, data: Array, splits: Array) -> tuple[Array, Array]:
    attrs = node.attrs
    bounds = splits.tolist()
    found: list[bytes] = []
    ends = [0] if bounds else []
    for begin, end in zip(bounds, bounds[1:], strict=False):
        found += _row_ngrams(attrs, data[begin:end].tolist())
        ends.append(len(found))
    return string_array(found, (len(found),)), np.asarray(ends, splits.dtype)


def _row_ngrams(attrs: Any, tokens: list[bytes]) -> list[bytes]:
    """N-grams of all widths; a short row becomes one n-gram where that is asked for."""
    separator, most = attrs["separator"], attrs["pad_width"]
    found: list[bytes] = []
    for width in attrs["ngram_widths"]:
        row = _padded(attrs, tokens, width - 1 if most < 0 else min(most, width - 1))
        found += [separator.join(row[at : at + width]) for at in range(len(row) - width + 1)]
    if not found and attrs["preserve_short_sequences"] and tokens:
        found.append(separator.join(_padded(attrs, tokens, most)))
    return found


def _padded(attrs: Any, tokens: list[bytes], pad: int) -> list[bytes]:
    return [*[attrs["left_pad"]] * pad, *tokens, *[attrs["right_pad"]] * pad]
