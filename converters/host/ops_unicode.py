"""Strings as code points and back. Kernel: tensorflow/core/kernels/unicode_ops.cc."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxrt.converters.host import unicode
from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.rules import Array, map_strings, op, string_array
from jaxrt.errors import InvalidArgument
from jaxrt.specs import DTYPES


def _covers(node: Node) -> bool:
    """Other encodings are left to TensorFlow: their tables are ICU's."""
    return unicode.codec(node.attrs["input_encoding"]) is not None


@op(
    "UnicodeDecode", "UnicodeDecodeWithOffsets", covers=_covers,
    errors=b"replace", replacement_char=unicode.REPLACEMENT, replace_control_characters=False,
    Tsplits="int64",
)  # fmt: skip
def unicode_decode(node: Node, x: Array) -> tuple[Array, ...]:
    """Row splits, code points, and where the bytes of each begin."""
    points: list[int] = []
    starts: list[int] = []
    splits = [0]
    for value in x.ravel().tolist():
        at = 0
        for point, width, malformed in _letters(node, value):
            if malformed and node.attrs["errors"] == b"strict":
                raise InvalidArgument("Invalid formatting on input string")
            if point is not None:
                points.append(point)
                starts.append(at)
            at += width
        splits.append(len(points))
    dtype = DTYPES[node.attrs["Tsplits"]].numpy
    return np.array(splits, dtype), np.array(points, np.int32), np.array(starts, dtype)


@op(
    "UnicodeTranscode", rowwise=True, covers=_covers,
    errors=b"replace", replacement_char=unicode.REPLACEMENT, replace_control_characters=False,
)  # fmt: skip
def unicode_transcode(node: Node, x: Array) -> Array:
    codec = _codec(node.attrs["output_encoding"])
    strict = node.attrs["errors"] == b"strict"

    def transcode(value: bytes) -> bytes:
        letters = list(_letters(node, value))
        if strict and any(changed for _, _, changed in letters):
            raise InvalidArgument("Invalid formatting on input string")
        return unicode.encoded([point for point, _, _ in letters if point is not None], codec)

    return map_strings(transcode, x)


@op("UnicodeEncode", errors=b"replace", replacement_char=unicode.REPLACEMENT, Tsplits="int64")
def unicode_encode(node: Node, points: Array, splits: Array) -> Array:
    """Code points [n] and row splits [rows + 1] → strings [rows]."""
    _check_splits(points, splits)
    codec = _codec(node.attrs["output_encoding"])
    found = []
    for begin, end in itertools.pairwise(splits.tolist()):
        if begin > end:
            raise InvalidArgument("Values in input_splits must be equal or in ascending order.")
        found.append(unicode.encoded(_valid(node, points[begin:end]), codec))
    return string_array(found, (len(found),))


def _valid(node: Node, points: Array) -> list[int]:
    found: list[int] = points.tolist()
    surrogates = (points >= 0xD800) & (points <= 0xDFFF)
    bad = (points < 0) | (points > 0x10FFFF) | surrogates
    if not bad.any():
        return found
    match node.attrs["errors"]:
        case b"strict":
            raise InvalidArgument("Code point is out of range for Unicode, or is a surrogate.")
        case b"ignore":
            return [point for point, wrong in zip(found, bad, strict=True) if not wrong]
    other: int = node.attrs["replacement_char"]
    return [other if wrong else point for point, wrong in zip(found, bad, strict=True)]


def _check_splits(points: Array, splits: Array) -> None:
    if splits[0] != 0:
        raise InvalidArgument("First value in input_splits must be zero.")
    if splits[-1] != len(points):
        raise InvalidArgument("Last value in input_splits must be equal to length of input_tensor.")


def _letters(node: Node, value: bytes) -> Iterator[tuple[int | None, int, bool]]:
    """Code points (None: left out), widths in bytes, and whether something is wrong with them."""
    attrs: Any = node.attrs
    codec = _codec(attrs["input_encoding"])
    transcodes = node.op == "UnicodeTranscode"
    for point, width, malformed in unicode.decoded(value, codec):
        control = attrs["replace_control_characters"] and point <= 0x1F
        if malformed or control:
            other = None if attrs["errors"] == b"ignore" else attrs["replacement_char"]
            yield other, width, malformed or transcodes
        else:
            yield point, width, False


def _codec(name: bytes) -> str:
    found = unicode.codec(name)
    assert found is not None, name
    return found
