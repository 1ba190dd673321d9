"""JSON value → tensor of a dtype, with TF Serving's rules and error texts."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxrt.errors import InvalidArgument, Unimplemented
from jaxrt.serving.rest.base64_text import decoded
from jaxrt.serving.rest.json_text import shown
from jaxrt.serving.rest.json_value import NumberKind, Numbers, Object, Value, plain, type_name
from jaxrt.specs import DType

Array = np.ndarray[Any, Any]

MAX_RANK = 63
"""numpy's limit of 64 less the batch that row items get; TensorFlow's own is 254."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Kind:
    """What a dtype takes."""

    takes: Callable[[Value], bool]
    """Whether one JSON value is of the dtype."""
    takes_all: Callable[[list[Any]], bool]
    """Whether every value of a non-empty list is; a quick test that may say no too often."""
    wide: Any
    """The numpy dtype that holds every accepted value, before the cast to the dtype itself."""
    code: NumberKind | None = None
    """What Numbers.array calls it, None where it does not take numbers."""
    bounds: tuple[int, int] | None = None
    """The least and the greatest, where `wide` holds others too."""


def _integers(least: int, most: int, wide: Any, code: NumberKind) -> _Kind:
    held = np.iinfo(wide)
    return _Kind(
        bounds=None if (least, most) == (held.min, held.max) else (least, most),
        takes=lambda v: type(v) is int and least <= v <= most,
        takes_all=lambda vs: set(map(type, vs)) == {int} and least <= min(vs) and max(vs) <= most,
        wide=wide,
        code=code,
    )


def _typed(types: set[type], wide: Any, code: NumberKind | None = None) -> _Kind:
    return _Kind(
        takes=lambda v: type(v) in types,
        takes_all=lambda vs: set(map(type, vs)) <= types,
        wide=wide,
        code=code,
    )


_INT32 = _integers(-(1 << 31), (1 << 31) - 1, np.int64, "i")
_FLOAT = _typed({int, float}, np.float64, "d")

Kinds = Mapping[str, _Kind]
"""Dtype → what it takes."""

# The narrow integers are checked against int32 and then cut, as in TF Serving. What is missing
# (uint16, half, bfloat16, complex, quantized) TF Serving does not take over REST.
WRAPPING: Kinds = {
    "float32": _FLOAT,
    "float64": _FLOAT,
    "int8": _INT32,
    "int16": _INT32,
    "int32": _INT32,
    "uint8": _INT32,
    "int64": _integers(-(1 << 63), (1 << 63) - 1, np.int64, "i"),
    "uint32": _integers(0, (1 << 32) - 1, np.uint64, "u"),
    "uint64": _integers(0, (1 << 64) - 1, np.uint64, "u"),
    "bool": _typed({bool}, np.bool_),
    "string": _typed({bytes}, np.object_),
}

STRICT: Kinds = {
    **WRAPPING,
    "int8": _integers(-(1 << 7), (1 << 7) - 1, np.int64, "i"),
    "int16": _integers(-(1 << 15), (1 << 15) - 1, np.int64, "i"),
    "uint8": _integers(0, (1 << 8) - 1, np.int64, "i"),
}
"""Refuses what TF Serving would cut: 300 for an uint8."""


def is_base64(value: Value) -> bool:
    """{"b64": "<string>"} with no other member."""
    if not isinstance(value, Object) or len(value.members) != 1:
        return False
    ((key, text),) = value.members
    return key == b"b64" and isinstance(text, bytes)


def shape_text(shape: tuple[int, ...]) -> str:
    """TensorFlow's text of a shape: `[2,3]`."""
    return "[" + ",".join(map(str, shape)) + "]"


def shape_of(value: Value) -> tuple[int, ...]:
    """The shape by the first element of each level; () for anything that is no list."""
    shape: list[int] = []
    value = plain(value)
    while isinstance(value, list):
        shape.append(len(value))
        value = plain(value[0]) if value else None
    return tuple(shape)


def tensor(value: Value, dtype: DType, kinds: Kinds = WRAPPING) -> Array:
    """The value as an array of its own shape.

    Strings are an object array of bytes. Raises InvalidArgument for what the dtype does not take
    or ragged lists, Unimplemented for a dtype that REST does not take.
    """
    array = block(value, dtype, kinds)
    if array is not None:
        return array
    leaves: list[Any] = []
    shape = collect(value, dtype, leaves, kinds)
    return assemble(leaves, dtype).reshape(shape)


def block(value: Value, dtype: DType, kinds: Kinds = WRAPPING) -> Array | None:
    """The quick way for Numbers; None where only the rules for single elements can tell."""
    kind = kinds.get(dtype.name)
    if not isinstance(value, Numbers) or kind is None or kind.code is None:
        return None
    if len(value.shape or ()) > MAX_RANK:
        return None
    array = value.array(kind.code)
    if array is None:
        return None
    if kind.bounds is not None and (array.min() < kind.bounds[0] or array.max() > kind.bounds[1]):
        return None
    return _cast(array, dtype)


def collect(
    value: Value, dtype: DType, leaves: list[Any], kinds: Kinds = WRAPPING
) -> tuple[int, ...]:
    """Appends the leaves of the value, checked, to `leaves`; its shape. Raises as `tensor`."""
    kind = kinds.get(dtype.name)
    if not isinstance(value, list | Numbers):
        leaves.append(_leaf(value, dtype, kind))
        return ()
    shape = shape_of(value)
    if len(shape) > MAX_RANK:
        raise InvalidArgument(
            f"a list nested {len(shape)} deep is no tensor: want at most {MAX_RANK} dimensions"
        )
    _fill(value, 0, shape, dtype, kind, leaves)
    return shape


def assemble(leaves: list[Any], dtype: DType) -> Array:
    """Checked leaves → [n]."""
    if dtype.name not in WRAPPING:  # then there are no leaves
        return np.empty(0, dtype.numpy or np.object_)
    wide = np.empty(len(leaves), WRAPPING[dtype.name].wide)
    wide[:] = leaves
    return _cast(wide, dtype)


def _cast(array: Array, dtype: DType) -> Array:
    with np.errstate(over="ignore"):  # float: beyond its range is infinite
        return array.astype(dtype.numpy, copy=False)


def _fill(
    value: Value,
    level: int,
    shape: tuple[int, ...],
    dtype: DType,
    kind: _Kind | None,
    out: list[Any],
) -> None:
    value = plain(value)
    if not isinstance(value, list):
        if level != len(shape):
            raise InvalidArgument(
                f"JSON Value: {shown(value)} found at incorrect level: {level + 1}"
                f" in the JSON DOM. Expected at level: {len(shape)}"
            )
        out.append(_leaf(value, dtype, kind))
        return
    if level >= len(shape):
        raise InvalidArgument(
            f"Encountered list at unexpected level: {level} expected < {len(shape)}"
        )
    if len(value) != shape[level]:
        raise InvalidArgument(
            f"Encountered list at unexpected size: {len(value)} at level: {level}"
            f" expected size: {shape[level]}"
        )
    if kind is not None and value and level + 1 == len(shape) and kind.takes_all(value):
        out.extend(value)
        return
    for item in value:
        _fill(item, level + 1, shape, dtype, kind, out)


def _leaf(value: Value, dtype: DType, kind: _Kind | None) -> Any:
    if isinstance(value, Object) and dtype.name == "string":
        return _base64(value)
    if isinstance(value, Object) or (kind is not None and not kind.takes(value)):
        raise InvalidArgument(
            f"JSON Value: {shown(value)} Type: {type_name(value)}"
            f" is not of expected type: {dtype.text}"
        )
    if kind is None:
        raise Unimplemented(f"Conversion of JSON Value: {shown(value)} to type: {dtype.text}")
    return value


def _base64(value: Object) -> bytes:
    if not is_base64(value):
        raise InvalidArgument(f"JSON Value: {shown(value)} not formatted correctly for base64 data")
    text = value.members[0][1]
    data = decoded(text) if isinstance(text, bytes) else None
    if data is None:
        raise InvalidArgument("Unable to base64 decode")
    return data
