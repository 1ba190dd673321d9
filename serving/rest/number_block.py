"""Arrays of numbers as JSON text, by the rules of `number_text`, without Python work per element.

orjson writes a double with the fewest digits that read back as it. So numpy first rounds each
float32 to the decimal number that TensorFlow Serving would print, as the double next to it, and
orjson prints exactly that. The few numbers that the two lay out differently (large exponents, NaN)
are written as null and put in afterwards.
"""

import itertools
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from jaxrt.serving.rest.number_text import texts

Array = np.ndarray[Any, Any]

FEW = 32
"""Numbers up to which a loop is faster than the start of some thirty array operations."""

_BLOCK = 16384
"""Numbers rounded at a time: what some ten arrays of them take stays in the processor's cache."""

_SELDOM = 100
"""One number in so many."""

_LARGEST, _MILLION = np.float32(1e9), np.float32(1e6)
"""From these on numbers of nine and of six digits have an exponent."""
_SMALL = np.float32(1e-4)
"""Smaller numbers have an exponent."""
_SMALLEST = np.float32(1e-13)
"""The powers of ten that smaller numbers need are no doubles."""

# The scale that gives a float32 nine digits before the point, by the top bits of the number: the
# exponent and some of the significand, so that few scales are one too large. 1 for 0 and for what
# is written elsewhere.
_SHIFT = np.uint32(18)
_UNSIGNED = np.uint32(0x7FFFFFFF)
_CELLS = (np.arange(1 << 13, dtype=np.uint32) << _SHIFT).view(np.float32)


def _scales() -> np.ndarray[Any, np.dtype[np.float64]]:
    found = np.ones(len(_CELLS))
    plain = (_CELLS >= _SMALLEST / 2) & (_CELLS < _LARGEST)
    found[plain] = [10.0 ** (8 - _power(cell)) for cell in _CELLS[plain].tolist()]
    return found


# Numbers with the exponent -5, which orjson writes without one, are written with this one.
_FREE = 14


def _power(value: float) -> int:
    return int(f"{value:e}".partition("e")[2])


_SCALES = _scales()


def written(array: Array, gaps: Sequence[bytes]) -> bytes:
    """[...] of float32, float64, bool or an integer dtype, with an element at least → its numbers.

    `gaps[k]` stands between two numbers where the innermost k of the dimensions end.
    """
    if array.size <= FEW:
        return _nested(_few(array), array.shape, gaps)
    if array.dtype.char not in "fd":
        return _spread(orjson.dumps(_plain(array), option=orjson.OPT_SERIALIZE_NUMPY), gaps)
    flat = np.ascontiguousarray(array).reshape(-1)
    numbers = np.full(flat.shape, np.nan)  # a double's seventeen digits are not its fewest
    for start in range(0, flat.size if array.dtype.char == "f" else 0, _BLOCK):
        numbers[start : start + _BLOCK] = _rounded(flat[start : start + _BLOCK])
    small = (np.abs(flat) < _SMALL) & (flat != 0)
    count = int(np.count_nonzero(small))
    if count * _SELDOM < flat.size:  # then they cost less one by one than a pass over the text
        numbers[small] = np.nan
        count = 0
    odd = np.flatnonzero(np.isnan(numbers))
    text = orjson.dumps(numbers.reshape(array.shape), option=orjson.OPT_SERIALIZE_NUMPY)
    if count:
        text = _padded(text)
    if odd.size:
        first, *pieces = text.split(b"n")  # null: a single byte is found faster
        rest = [piece[3:] for piece in pieces]
        text = b"".join(_alternate([first, *rest], " ".join(texts(flat[odd])).encode().split()))
    return _spread(text, gaps)


def _plain(array: Array) -> Array:
    """As orjson takes it: contiguous, in the machine's byte order."""
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


_SIX_DIGITS = "{:g}".format


def _few(array: Array) -> list[bytes]:
    values = array.ravel().tolist()
    if array.dtype.char not in "fd":
        return [str(value).lower().encode() for value in values]
    short = list(map(_SIX_DIGITS, values))
    full = "%.9g" if array.dtype.char == "f" else "%.17g"
    form = f"{len(values)}{array.dtype.char}"
    back = struct.unpack(form, struct.pack(form, *map(float, short)))
    return [
        _float(s if b == v else full % v).encode()
        for v, s, b in zip(values, short, back, strict=True)
    ]


def _float(text: str) -> str:
    if text[-1] in "nf":
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[text]
    return text if "." in text or "e" in text else text + ".0"


def _nested(numbers: list[bytes], shape: tuple[int, ...], gaps: Sequence[bytes]) -> bytes:
    for size, gap in zip(reversed(shape), gaps, strict=False):
        numbers = [gap.join(numbers[i : i + size]) for i in range(0, len(numbers), size)]
    (text,) = numbers
    return text


def _rounded(flat: Array) -> Array:
    """[n] float32 → [n] float64 whose shortest text is the wanted one; NaN where there is none."""
    cells = (flat.view(np.uint32) & _UNSIGNED) >> _SHIFT
    scale = _SCALES[cells]
    with np.errstate(all="ignore"):
        size = np.abs(flat)
        scaled = size * scale
        over = np.flatnonzero(scaled >= 1e9)
        if over.size:
            scale[over] /= 10
            scaled[over] = size[over] * scale[over]
        digits = np.rint(scaled)
        # The product is rounded once: so near to a tie, nine digits may be the wrong ones.
        tie = np.abs(np.abs(scaled - digits) - 0.5) < 1e-6
        six = np.rint(scaled * 1e-3) * 1e3
        short = (six / scale).astype(np.float32) == size
        np.copyto(digits, six, where=short)
        carried = np.flatnonzero(digits >= 1e9)
        digits[carried] /= 10
        scale[carried] /= 10
        scale[scale == 1e13] = 10.0 ** (8 + _FREE)
        numbers: Array = np.copysign(digits / scale, flat)
        odd = ~(size < _LARGEST) | ((size < _SMALLEST) & (size > 0))
        odd |= tie | (short & (size >= _MILLION))
    numbers[odd] = np.nan
    return numbers


def _padded(text: bytes) -> bytes:
    """Exponents, all of them negative, of two digits."""
    # Not bytes.replace: it takes milliseconds for a megabyte where more than one byte is sought.
    chars = np.frombuffer(text, np.uint8).copy()
    at = np.flatnonzero(chars == ord("e")) + 2
    first, second = chars[at], chars[at + 1]
    single = (second < ord("0")) | (second > ord("9"))
    ours = at[~single & (first == ord("1")) & (second == ord(f"{_FREE % 10}"))]
    chars[ours], chars[ours + 1] = ord("0"), ord("5")
    if single.any():
        chars = np.insert(chars, at[single], ord("0"))
    return chars.tobytes()


def _alternate(pieces: list[bytes], between: list[bytes]) -> "itertools.chain[bytes]":
    pairs = zip(pieces, between, strict=False)
    return itertools.chain(itertools.chain.from_iterable(pairs), pieces[-1:])


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
