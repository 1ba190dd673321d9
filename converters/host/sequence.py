"""Serialized tf.SequenceExample messages: the values of a feature, example by example.

They are read as by TensorFlow's FastParseSequenceExample (tensorflow/core/util/
example_proto_fast_parsing.cc): other rules than its parser of tf.Example has, and other words.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrt.converters.host import wire
from jaxrt.converters.host.example import text
from jaxrt.errors import InvalidArgument

Values = list[Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Messages:
    """The serialized features of n examples, context and feature lists apart, by key."""

    names: Sequence[bytes]
    """For messages; empty: all are unknown."""
    contexts: list[dict[bytes, bytes]]
    lists: list[dict[bytes, bytes]]

    def name(self, at: int) -> str:
        return text(self.names[at]) if len(self.names) else "<unknown>"


def messages(serialized: Sequence[bytes], names: Sequence[bytes]) -> Messages:
    """Raises InvalidArgument where a message is none, or the names are not as many."""
    if len(names) not in (0, len(serialized)):
        raise InvalidArgument("example_names must be empty or have the correct number of elements")
    found = Messages(names, [], [])
    for at, data in enumerate(serialized):
        context: dict[bytes, bytes] = {}
        lists: dict[bytes, bytes] = {}
        try:
            _split(data, context, lists)
        except wire.Malformed:
            raise InvalidArgument(
                f"Invalid protocol message input, example id: {found.name(at)}"
            ) from None
        found.contexts.append(context)
        found.lists.append(lists)
    return found


def _split(data: bytes, context: dict[bytes, bytes], lists: dict[bytes, bytes]) -> None:
    """Of equal keys the last one counts."""
    at, end = 0, len(data)
    while at < end:
        if data[at] not in (0x0A, 0x12):
            at = wire.skip(data, at, end)
            continue
        target = context if data[at] == 0x0A else lists
        size, at = wire.length(data, at + 1, end)
        stop = wire.limit(at, size, end)
        while at < stop:
            at = _entry(data, at, stop, target)


def _entry(data: bytes, at: int, end: int, target: dict[bytes, bytes]) -> int:
    """A key and then its value, and nothing else."""
    size, at = wire.length(data, _tagged(data, at, end, 0x0A), end)
    stop = wire.limit(at, size, end)
    key, at = wire.text(data, _tagged(data, at, stop, 0x0A), stop)
    value, at = wire.text(data, _tagged(data, at, stop, 0x12), stop)
    if at != stop:
        raise wire.Malformed
    target[key] = value
    return at


def _tagged(data: bytes, at: int, end: int, tag: int) -> int:
    if at >= end or data[at] != tag:
        raise wire.Malformed
    return at + 1


def context(found: Messages, key: bytes, kind: wire.Kind) -> list[Values | None]:
    """A context feature: its values in each example; None where it is missing."""
    rows: list[Values | None] = []
    for at, features in enumerate(found.contexts):
        data = features.get(key)
        try:
            rows.append(
                _values(kind, data, 0, len(data))[0] if data else None if data is None else []
            )
        except wire.Malformed:
            raise InvalidArgument(
                f"Name: {found.name(at)}, Context feature: {text(key)}."
                f"  Data types don't match. Expected type: {kind.text}"
            ) from None
    return rows


def steps(found: Messages, key: bytes, kind: wire.Kind) -> list[list[Values] | None]:
    """A feature list: the values of its steps in each example; None where it is missing."""
    rows: list[list[Values] | None] = []
    for at, features in enumerate(found.lists):
        data = features.get(key)
        rows.append(None if data is None else _steps(kind, key, data, found.name(at)))
    return rows


def _steps(kind: wire.Kind, key: bytes, data: bytes, name: str) -> list[Values]:
    rows: list[Values] = []
    at, end = 0, len(data)
    while at < end:
        try:
            size, at = wire.length(data, _tagged(data, at, end, 0x0A), end)
        except wire.Malformed:
            size = 1
        if size == 1:  # no Feature is as short as that
            raise InvalidArgument(f"Error in sequence feature {text(key)} in example {name}")
        try:
            values, at = _step(kind, data, at, end, size)
        except wire.Malformed:
            raise InvalidArgument(
                f"Name: {name}, Feature list: {text(key)}, Index: {len(rows)}."
                f"  Data types don't match. Expected type: {kind.text}"
            ) from None
        rows.append(values)
    return rows


def _step(kind: wire.Kind, data: bytes, at: int, end: int, size: int) -> tuple[Values, int]:
    if size == 0:
        return [], at
    if size == 2:
        empty, at = wire.length(data, _tagged(data, at, end, kind.tag), end)
        if empty:
            raise wire.Malformed
        return [], at
    return _values(kind, data, at, wire.limit(at, size, end))


def _values(kind: wire.Kind, data: bytes, at: int, end: int) -> tuple[Values, int]:
    """A Feature's one list, and where what follows begins."""
    size, at = wire.length(data, _tagged(data, at, end, kind.tag), end)
    if not size:
        return [], at
    end = wire.limit(at, size, end)
    if kind is wire.Kind.BYTES:
        return _texts(data, at, end)
    if at >= end:
        raise wire.Malformed
    if data[at] == 0x0A:
        packed, at = wire.length(data, at + 1, end)
        return _numbers(kind, data, at, wire.limit(at, packed, end), None)
    return _numbers(kind, data, at, end, 0x0D if kind is wire.Kind.FLOAT else 0x08)


def _texts(data: bytes, at: int, end: int) -> tuple[Values, int]:
    found: Values = []
    while at < end:
        value, at = wire.text(data, _tagged(data, at, end, 0x0A), end)
        found.append(value)
    return found, at


def _numbers(
    kind: wire.Kind, data: bytes, at: int, end: int, tag: int | None
) -> tuple[Values, int]:
    found: Values = []
    while at < end:
        if tag is not None:
            at = _tagged(data, at, end, tag)
        if kind is wire.Kind.INT64:
            number, at = wire.varint(data, at, end)
            found.append(number - (number >> 63 << 64))
        elif at + 4 > end:
            raise wire.Malformed
        else:
            found.append(np.frombuffer(data, "<f4", 1, at)[0])
            at += 4
    return found, at
