"""JSON values as TF Serving tells them apart: literals keep their kind, strings are bytes."""

import dataclasses
import functools
import math
from typing import Any, Literal, TypeAlias

import numpy as np
import simdjson


@dataclasses.dataclass(slots=True)
class Object:
    """An object: its members in the order of the text, repeated names included.

    Never changed, like all values; not frozen, which would take longer to make.
    """

    members: list[tuple[bytes, "Value"]]

    def find(self, name: bytes) -> "Value | Missing":
        """The first member of that name, as rapidjson finds it."""
        for key, value in self.members:
            if key == name:
                return value
        return MISSING


@dataclasses.dataclass(frozen=True, slots=True)
class Missing:
    """No such member: `null` is a value."""


MISSING = Missing()

_NOT_STRUCTURE = b"0123456789+-.eE \t\n\r"
NumberKind: TypeAlias = Literal["d", "i", "u"]
_KINDS: dict[NumberKind, Any] = {"d": np.float64, "i": np.int64, "u": np.uint64}


@dataclasses.dataclass(eq=False)
class Numbers:
    """A list of numbers, or lists of them, that simdjson has parsed and nobody has unpacked.

    The text holds no strings and no objects; `true`, `false` and `null` are possible. Every number
    in it fits int64, uint64 or double, and no list is nested deeper than simdjson's limit of 1024.
    """

    text: bytes
    parsed: simdjson.Array

    @functools.cached_property
    def nested(self) -> list[Any]:
        """Nested lists of int (integer literals), float, bool and None."""
        return list(self.parsed.as_list())

    @functools.cached_property
    def shape(self) -> tuple[int, ...] | None:
        """The shape if all lists of a level are equally long and no list is empty, else None.

        `as_buffer` flattens ragged lists silently, so this is the only check of raggedness.
        """
        marks = self.text.translate(None, _NOT_STRUCTURE)
        return _known_shape(marks) if len(marks) <= _REMEMBERED else _shape(marks)

    def array(self, kind: NumberKind) -> np.ndarray[Any, Any] | None:
        """`shape` of float64 ("d"), int64 ("i") or uint64 ("u").

        None if the lists are ragged, one is empty, or a literal is not of the kind: "d" takes any
        number, "i" and "u" take integer literals in their range.
        """
        shape = self.shape
        if shape is None:
            return None
        try:
            flat = np.frombuffer(self.parsed.as_buffer(of_type=kind), dtype=_KINDS[kind])
        except (TypeError, ValueError):
            return None
        # [[1], []] has the marks of [[1], [2]]: the number of values tells them apart.
        return flat.reshape(shape) if len(flat) == math.prod(shape) else None


def _shape(marks: bytes) -> tuple[int, ...] | None:
    """The shape of lists of which only brackets and commas are left."""
    depth = len(marks) - len(marks.lstrip(b"["))
    shape: list[int] = []
    part = b""
    for level in range(depth, 0, -1):
        # The first list of this level, if it is regular: `part`s with commas between them.
        inner = depth - level
        end = marks.find(b"]" * (inner + 1), level)
        size, rest = divmod(end + inner - level + 1, len(part) + 1)
        if end < 0 or rest:
            return None
        part = b"[" + b",".join([part] * size) + b"]"
        shape.append(size)
    # Lists that are all like the first ones have exactly these brackets and commas.
    return tuple(reversed(shape)) if part == marks else None


# The requests to a model have the same few shapes, again and again.
_known_shape = functools.lru_cache(maxsize=256)(_shape)
_REMEMBERED = 4096
"""Brackets and commas."""

Value: TypeAlias = "None | bool | int | float | bytes | list[Any] | Object | Numbers"
"""int: an integer literal within int64 or uint64. float: every other number."""


def plain(value: Value) -> Value:
    """The same value, its outermost list unpacked."""
    return value.nested if isinstance(value, Numbers) else value


def type_name(value: Value) -> str:
    """rapidjson's name of the type, as in TF Serving's error texts."""
    match value:
        case None:
            return "Null"
        case bool():
            return "True" if value else "False"
        case int() | float():
            return "Number"
        case bytes():
            return "String"
        case Object():
            return "Object"
        case _:
            return "Array"
