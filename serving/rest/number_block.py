"""Arrays of numbers as JSON text, by `number_text`'s rules, without Python work per element."""

import functools
import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from jaxrt.serving.rest.float_block import float_text
from jaxrt.serving.rest.number_text import joined

Array = np.ndarray[Any, Any]

FEW = 32
"""Numbers up to which a loop is faster than the start of some sixty array operations."""


def written(array: Array, gaps: Sequence[bytes]) -> bytes:
    """[...] of float32, float64, bool or an integer dtype, with an element at least → its numbers.

    `gaps[k]` stands between two numbers where the innermost k of the dimensions end.
    """
    if array.size <= FEW:
        numbers = _few(array)
        return numbers[0] if len(numbers) == 1 else _nested(numbers, array.shape, gaps)
    match array.dtype.char:
        case "f":
            return float_text(array, gaps)
        case "d":
            # A double's seventeen digits are not its fewest, which is what orjson writes.
            flat = np.ascontiguousarray(array).reshape(-1)
            return joined(
                flat, _closed(array.shape), [gap.decode() for gap in (*gaps, b"")]
            ).encode()
    return _spread(orjson.dumps(_plain(array), option=orjson.OPT_SERIALIZE_NUMPY), gaps)


def _closed(shape: tuple[int, ...]) -> Array:
    """[n]: how many of the innermost dimensions end after each number."""
    closed = np.zeros(math.prod(shape), np.intp)
    step = 1
    for size in reversed(shape):
        step *= size
        closed[step - 1 :: step] += 1
    return closed


def _plain(array: Array) -> Array:
    """As orjson takes it: contiguous, in the machine's byte order."""
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


_SIX_DIGITS = "%g"


def _few(array: Array) -> list[bytes]:
    values = array.ravel().tolist()
    if array.dtype.char not in "fd":
        return [str(value).lower().encode() for value in values]
    short = [_SIX_DIGITS % value for value in values]
    full = "%.9g" if array.dtype.char == "f" else "%.17g"
    form = _struct(len(values), array.dtype.char)
    back = form.unpack(form.pack(*map(float, short)))
    return [
        _float(s if b == v else full % v).encode()
        for v, s, b in zip(values, short, back, strict=True)
    ]


@functools.cache
def _struct(count: int, kind: str) -> struct.Struct:
    """Of up to FEW numbers of one kind."""
    return struct.Struct(f"{count}{kind}")


def _float(text: str) -> str:
    if "." in text or "e" in text:
        return text
    if text[-1] in "nf":
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[text]
    return text + ".0"


def _nested(numbers: list[bytes], shape: tuple[int, ...], gaps: Sequence[bytes]) -> bytes:
    for size, gap in zip(reversed(shape), gaps, strict=False):
        numbers = [gap.join(numbers[i : i + size]) for i in range(0, len(numbers), size)]
    (text,) = numbers
    return text


def _spread(text: bytes, gaps: Sequence[bytes]) -> bytes:
    """`[[1,2],[3,4]]` → the numbers with the gaps between them."""
    rank = len(gaps)
    text = text[rank:-rank]
    inline = [b"]" * k + b", " + b"[" * k for k in range(rank)]
    if list(gaps) == inline:
        return text.replace(b",", b", ")
    first, *pieces = text.split(b"]")
    found = [first.replace(b",", gaps[0])]
    closed = 0
    for piece in pieces:  # one for each list that ends; empty but where the next one begins
        closed += 1
        if piece:
            found += (gaps[closed], piece[1 + closed :].replace(b",", gaps[0]))
            closed = 0
    return b"".join(found)
