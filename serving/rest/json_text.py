"""JSON values as they stand in error messages: rapidjson's PrettyWriter, four blanks, cut."""

import math
from collections.abc import Iterator

import numpy as np

from jaxrt.serving.rest.json_string import quoted
from jaxrt.serving.rest.json_value import Object, Value, plain
from jaxrt.serving.rest.number_text import decimal

LIMIT = 256
"""Bytes of a value that a message shows."""

# The bounds of rapidjson's Value::IsFloat, a little below the largest float32.
_FLOAT_MAX = 3.4028234e38


def shown(value: Value) -> str:
    """The first LIMIT bytes of the pretty printed value; bytes that are no UTF-8 as surrogates."""
    if isinstance(value, float):
        # TF Serving prints a number on its own by the rules of answers, as a float if it fits.
        single = abs(value) <= _FLOAT_MAX
        return decimal(np.float32(value) if single else np.float64(value))
    pieces: list[bytes] = []
    size = 0
    for piece in _pieces(value):
        pieces.append(piece)
        size += len(piece)
        if size >= LIMIT:
            break
    return b"".join(pieces)[:LIMIT].decode("utf-8", "surrogateescape")


def _pieces(root: Value) -> Iterator[bytes]:
    """The text, piece by piece, so that a long value costs no more than what is shown of it."""
    stack: list[tuple[Iterator[tuple[bytes | None, Value]], bytes, bool]] = []
    head, opened = _head(root)
    yield head
    if opened is not None:
        stack.append((opened, b"}" if isinstance(root, Object) else b"]", True))
    while stack:
        members, close, first = stack.pop()
        member = next(members, None)
        if member is None:
            yield b"\n" + b"    " * len(stack) + close
            continue
        stack.append((members, close, False))
        yield (b"\n" if first else b",\n") + b"    " * len(stack)
        key, value = member
        head, opened = _head(value)
        yield head if key is None else quoted(key) + b": " + head
        if opened is not None:
            stack.append((opened, b"}" if isinstance(value, Object) else b"]", True))


def _head(value: Value) -> tuple[bytes, Iterator[tuple[bytes | None, Value]] | None]:
    """The text of a value without members, or its opening bracket and its members."""
    value = plain(value)
    if isinstance(value, Object):
        return (b"{", iter(value.members)) if value.members else (b"{}", None)
    if isinstance(value, list):
        return (b"[", ((None, item) for item in value)) if value else (b"[]", None)
    return _scalar(value), None


def _scalar(value: Value) -> bytes:
    match value:
        case None:
            return b"null"
        case bool():
            return b"true" if value else b"false"
        case bytes():
            return quoted(value)
        case float():
            return shortest(value).encode()
    return str(value).encode()


def shortest(value: float) -> str:
    """A double as rapidjson's writer prints it: the fewest digits, its own choice of exponent."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    sign = "-" if math.copysign(1, value) < 0 else ""
    mantissa, _, power = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(digits) - len(fraction) + int(power or 0)  # digits before the decimal point
    digits = digits.rstrip("0")
    if not digits:
        return sign + "0.0"
    if len(digits) <= point <= 21:
        return sign + digits.ljust(point, "0") + ".0"
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    rest = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{rest}e{point - 1}"
