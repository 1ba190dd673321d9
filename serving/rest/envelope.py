"""Requests that are one list of numbers in a plain envelope: read in a few steps.

    {"signature_name": "score", "instances": [[1.0, 2.5], [3, 4]]}

Everything that is not exactly of this form goes through the reader, which also finds what is wrong
with it: this module only ever says yes or nothing.
"""

import re

import simdjson

from jaxrt.serving.rest.json_value import Numbers, Object, Value

_ARRAY = simdjson.Array
_SPACE = rb"[ \t\n\r]*+"
_SIGNATURE = (
    rb'"signature_name"' + _SPACE + rb":" + _SPACE + rb'"([^"\\\x00-\x1f]{0,1000}+)"' + _SPACE
)
_HEAD = re.compile(
    _SPACE + rb"\{" + _SPACE + rb"(?:" + _SIGNATURE + rb"," + _SPACE + rb")?"
    rb'"(instances|inputs)"' + _SPACE + rb":" + _SPACE + rb"(?=\[)"
)
_TAIL = re.compile(rb"\]" + _SPACE + rb"(?:," + _SPACE + _SIGNATURE + rb")?\}" + _SPACE + rb"\Z")


def opened(body: bytes) -> Object | None:
    """The request, as the reader would give it; None if only the reader can tell."""
    head = _HEAD.match(body)
    if head is None:
        return None
    end = body.rfind(b"]")
    tail = _TAIL.match(body, end)
    if tail is None:
        return None
    numbers = read_numbers(body[head.end() : end + 1])
    if numbers is None:
        return None
    # The first of two names counts, so the one before goes first.
    members: list[tuple[bytes, Value]] = [(head[2], numbers)]
    if head[1] is not None:
        members.insert(0, (b"signature_name", head[1]))
    if tail[1] is not None:
        members.append((b"signature_name", tail[1]))
    return Object(members)


def read_numbers(text: bytes) -> Numbers | None:
    """A whole non-empty list without strings and objects; None for anything else."""
    # One that holds strings or objects is valid JSON, but not a list of numbers.
    if b'"' in text or b"{" in text:
        return None
    try:
        parsed = simdjson.Parser().parse(text)
    except (ValueError, RuntimeError):
        return None
    if type(parsed) is not _ARRAY or len(parsed) == 0:
        return None
    return Numbers(text, parsed)
