"""Packed varints as arrays: many numbers at once, without Python work per number."""

from typing import Any

import numpy as np

from jaxrt.serving.rpc.wire import Malformed

Array = np.ndarray[Any, Any]

_LONGEST = 10
"""Bytes of a number of 64 bits, seven at a time."""


def decode(packed: Array) -> Array:
    """[bytes] uint8 → [numbers] uint64. Raises Malformed."""
    last = packed < 0x80
    if last.all():
        return packed.astype(np.uint64)
    ends = np.flatnonzero(last)
    if not len(ends) or ends[-1] != len(packed) - 1:
        raise Malformed("packed numbers end within a number")
    begins = np.empty_like(ends)
    begins[0], begins[1:] = 0, ends[:-1] + 1
    sizes = ends - begins + 1
    longest = int(np.max(sizes))
    if longest > _LONGEST:
        raise Malformed("a number of more than ten bytes")
    values = (packed[begins] & 0x7F).astype(np.uint64)
    for at in range(1, longest):
        some = np.flatnonzero(sizes > at)
        digits = (packed[begins[some] + at] & 0x7F).astype(np.uint64)
        values[some] |= digits << np.uint64(7 * at)
    return values


def encode(values: Array) -> Array:
    """[numbers], integers or bools → [bytes] uint8; negative ones as the uint64 of their bits."""
    if values.dtype.kind == "i":
        values = values.astype(np.int64).view(np.uint64)
    elif values.dtype != np.uint64:
        values = values.astype(np.uint64)
    if not len(values) or values.max() < 0x80:
        return values.astype(np.uint8)
    sizes = np.ones(len(values), np.int64)
    for at in range(1, _LONGEST):
        sizes += values >= np.uint64(1) << np.uint64(7 * at)
    begins = np.cumsum(sizes) - sizes
    packed = np.empty(int(begins[-1] + sizes[-1]), np.uint8)
    for at in range(int(np.max(sizes))):
        some = np.flatnonzero(sizes > at)
        digits = (values[some] >> np.uint64(7 * at)).astype(np.uint8) & 0x7F
        digits[sizes[some] > at + 1] |= 0x80
        packed[begins[some] + at] = digits
    return packed
