"""Numbers as text."""

import fractions
import math
import re
from typing import Any

import numpy as np

from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.ops_shape import numpy_dtype
from jaxrt.converters.host.rules import Array, op, string_array
from jaxrt.converters.host.text import raw
from jaxrt.errors import InvalidArgument


@op(
    "AsString",
    rowwise=True,
    precision=-1,
    scientific=False,
    shortest=False,
    width=-1,
    fill=b"",
)
def as_string(node: Node, x: Array) -> Array:
    """As C's printf writes them."""
    attrs = node.attrs
    if attrs["scientific"] and attrs["shortest"]:
        raise InvalidArgument("Cannot select both scientific and shortest notation")
    values = x.ravel().tolist()
    if x.dtype == np.bool_:
        return string_array([b"true" if v else b"false" for v in values], x.shape)
    size = f"{attrs['fill'].decode()}{attrs['width']}" if attrs["width"] > -1 else ""
    places = f".{attrs['precision']}" if attrs["precision"] > -1 else ""
    if x.dtype == np.object_:
        return string_array([_printed(f"%{size}s", v) for v in values], x.shape)
    if x.dtype.kind in "iu":
        return string_array([_printed(f"%{size}{places}d", v) for v in values], x.shape)
    letter = "g" if attrs["shortest"] else "e" if attrs["scientific"] else "f"
    pattern = f"%{size}{places}{letter}"
    if x.dtype.kind == "c":
        pairs = [(_printed(pattern, v.real), _printed(pattern, v.imag)) for v in values]
        return string_array([b"(%s,%s)" % pair for pair in pairs], x.shape)
    return string_array([_printed(pattern, float(v)) for v in values], x.shape)


def _printed(pattern: str, value: Any) -> bytes:
    if isinstance(value, bytes):
        return bytes(pattern.encode() % value)
    text: str = pattern % value
    if isinstance(value, float) and not math.isfinite(value):
        pattern = re.sub(r"^%0", "%", pattern)  # C pads infinities with spaces
        text = pattern % value
        if math.isnan(value) and math.copysign(1, value) < 0:
            size = re.match(r"%-?\d*", pattern)
            text = f"{size[0] if size else '%'}s" % "-nan"
    return text.encode()


_SPACES = b" \t\n\v\f\r"
_HEX = re.compile(rb"([+-]?)0x([0-9a-f]*)\.?([0-9a-f]*)(?:p([+-]?\d+))?", re.IGNORECASE)
_FLOAT = re.compile(
    rb"[+-]?(?:inf|infinity|nan(?:\(\w*\))?|(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"
    rb"|0x(?:[0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)(?:p[+-]?\d+)?)",
    re.IGNORECASE,
)
_INT = re.compile(rb"[+-]?\d+")
_NATURAL = re.compile(rb"\+?\d+")


@op("StringToNumber", rowwise=True, out_type="float32")
def string_to_number(node: Node, x: Array) -> Array:
    dtype = numpy_dtype(node.attrs["out_type"])
    values = []
    for value in x.ravel().tolist():
        found = parsed(value, dtype)
        if found is None:
            raise InvalidArgument(
                f"StringToNumberOp could not correctly convert string: {raw(value)}"
            )
        values.append(found)
    return np.asarray(values, dtype).reshape(x.shape)


def parsed(value: bytes, dtype: np.dtype[Any]) -> Any:
    """The number; None where the text is none, or one that the dtype does not hold."""
    return _float(value, dtype) if dtype.kind == "f" else _int(value, dtype)


def _int(value: bytes, dtype: np.dtype[Any]) -> int | None:
    bare, limits = value.strip(_SPACES), np.iinfo(dtype)
    if not (_INT if limits.min else _NATURAL).fullmatch(bare):
        return None
    # Python refuses to read thousands of digits; zeros in front do not matter.
    digits = bare.lstrip(b"+-").lstrip(b"0") or b"0"
    found = int(digits[:21]) * (-1 if bare.startswith(b"-") else 1)
    if not limits.min <= found <= limits.max:
        return None
    return found


def _float(value: bytes, dtype: np.dtype[Any]) -> Any:
    bare = value.strip(_SPACES)
    if not _FLOAT.fullmatch(bare):
        return None
    return rounded(bare.partition(b"(")[0], dtype)


def rounded(text: bytes, dtype: np.dtype[Any]) -> Any:
    """Decimal or hexadecimal text → the nearest number of the dtype.

    A double in between would round twice: where it lies halfway, the text itself decides.
    """
    near = _double(text)
    found = dtype.type(near)
    if dtype.itemsize == 8 or not np.isfinite(found) or float(found) == near:
        return found
    other = np.nextafter(found, dtype.type(math.inf if near > float(found) else -math.inf))
    if (float(found) + float(other)) / 2 != near:
        return found
    exact = _exact(text)
    if exact == fractions.Fraction(near):
        return found
    return max(found, other) if exact > fractions.Fraction(near) else min(found, other)


def _double(text: bytes) -> float:
    if not _HEX.fullmatch(text):
        return float(text)
    try:
        return float.fromhex(text.decode())
    except OverflowError:
        return -math.inf if text.startswith(b"-") else math.inf


def _exact(text: bytes) -> fractions.Fraction:
    match = _HEX.fullmatch(text)
    if match is None:
        return fractions.Fraction(text.decode())
    sign, whole, part, power = match.groups()
    digits = fractions.Fraction(int(whole + part, 16), 16 ** len(part))
    return digits * fractions.Fraction(2) ** int(power or 0) * (-1 if sign == b"-" else 1)
