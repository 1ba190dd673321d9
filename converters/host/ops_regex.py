"""Regular expressions, by TensorFlow's own engine: RE2."""

import functools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import re2

from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.rules import Array, map_strings, op
from jaxrt.errors import InvalidArgument

_GROUPS = 17
"""RE2::kVecSize: a rewrite that refers to more groups changes nothing."""


@functools.lru_cache(maxsize=256)
def _compiled(pattern: bytes) -> Any:
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        text = error.args[0] if error.args else ""
        why = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
        raise InvalidArgument(
            f"Invalid pattern: {pattern.decode(errors='replace')}, error: {why}"
        ) from None


@op("RegexReplace", rowwise=True, replace_global=True)
def regex_replace(node: Node, x: Array, pattern: Array, rewrite: Array) -> Array:
    return _replaced(node, x, pattern.item(), rewrite.item())


@op("StaticRegexReplace", rowwise=True, replace_global=True)
def static_regex_replace(node: Node, x: Array) -> Array:
    return _replaced(node, x, node.attrs["pattern"], node.attrs["rewrite"])


@op("RegexFullMatch", rowwise=True)
def regex_full_match(node: Node, x: Array, pattern: Array) -> Array:
    return _matched(x, pattern.item())


@op("StaticRegexFullMatch", rowwise=True)
def static_regex_full_match(node: Node, x: Array) -> Array:
    return _matched(x, node.attrs["pattern"])


def _matched(x: Array, pattern: bytes) -> Array:
    fullmatch = _compiled(pattern).fullmatch
    found = [fullmatch(value) is not None for value in x.ravel().tolist()]
    return np.asarray(found, np.bool_).reshape(x.shape)


def _replaced(node: Node, x: Array, pattern: bytes, rewrite: bytes) -> Array:
    compiled = _compiled(pattern)
    parts = _parts(rewrite)
    highest = max((part for part in parts if isinstance(part, int)), default=0)
    if highest > compiled.groups or highest >= _GROUPS:
        return x
    how = _replace_all if node.attrs["replace_global"] else _replace_first
    return map_strings(lambda value: how(compiled, value, _rewriter(parts)), x)


def _parts(rewrite: bytes) -> tuple[bytes | int, ...]:
    """RE2::Rewrite: `\\1` is a group, `\\\\` a backslash."""
    found: list[bytes | int] = []
    for text, escape in re.findall(rb"([^\\]+)|(\\.?)", rewrite, re.DOTALL):
        if text or escape == b"\\\\":
            found.append(text or b"\\")
        elif escape[1:].isdigit():
            found.append(int(escape[1:]))
        else:
            shown = rewrite.decode(errors="replace")
            raise InvalidArgument(f"Invalid rewrite: {shown}, error: a backslash before no digit")
    return tuple(found)


def _rewriter(parts: tuple[bytes | int, ...]) -> Callable[[Any], bytes]:
    if all(isinstance(part, bytes) for part in parts):
        text = b"".join(part for part in parts if isinstance(part, bytes))
        return lambda match: text
    return lambda match: b"".join(
        (match.group(part) or b"") if isinstance(part, int) else part for part in parts
    )


def _replace_first(compiled: Any, value: bytes, rewrite: Callable[[Any], bytes]) -> bytes:
    match = compiled.search(value)
    if match is None:
        return value
    begin, end = match.span()
    return value[:begin] + rewrite(match) + value[end:]


def _replace_all(compiled: Any, value: bytes, rewrite: Callable[[Any], bytes]) -> bytes:
    """RE2::GlobalReplace: no empty match where the last match ended."""
    found: list[bytes] = []
    at, last = 0, -1
    while at <= len(value):
        match = compiled.search(value, at)
        if match is None:
            break
        begin, end = match.span()
        found.append(value[at:begin])
        if begin == end == last:
            step = _character(value, begin)
            found.append(value[begin : begin + step])
            at = begin + step
            continue
        found.append(rewrite(match))
        at = last = end
    found.append(value[at:])
    return b"".join(found)


def _character(value: bytes, at: int) -> int:
    """Bytes of the UTF-8 character at a place; 1 where there is none."""
    for length in (1, 2, 3, 4):
        try:
            value[at : at + length].decode()
        except UnicodeDecodeError:
            continue
        return length
    return 1
