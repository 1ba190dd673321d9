"""The request parser: rapidjson 1.1.0's grammar, values and error texts.

The flags are those of TF Serving (iterative, NaN and Inf, stop when done): whatever follows the
first value is ignored, a NUL byte ends the text, bytes of strings are kept unvalidated. Lists of
numbers go to simdjson in one piece; everything else, and everything simdjson refuses, is read here.
Doubles are rounded correctly, where rapidjson may be some units in the last place off.
"""

import re

from jaxrt.errors import InvalidArgument
from jaxrt.serving.rest.envelope import opened, read_numbers
from jaxrt.serving.rest.json_number import read_number
from jaxrt.serving.rest.json_string import read_string
from jaxrt.serving.rest.json_syntax import (
    COLON,
    COMMA_OR_BRACE,
    COMMA_OR_BRACKET,
    DOCUMENT_EMPTY,
    NAME,
    SPACE,
    VALUE,
    JsonSyntaxError,
)
from jaxrt.serving.rest.json_text import shown
from jaxrt.serving.rest.json_value import Numbers, Object, Value

# rapidjson's UTF8 stream drops each byte of the byte order mark on its own.
_BYTE_ORDER_MARK = re.compile(rb"\xef?\xbb?\xbf?")

# Below this many bytes a simdjson parser costs more than it saves.
_BLOCK = 256

# Lists of short number literals, and objects of those and of strings without escapes, are read in
# one step. The limits on digits keep every literal within int64 and double: no error can arise.
_LITERAL = (
    rb"(?>-?(?>0|[1-9][0-9]{0,17}+)(?>\.[0-9]{1,40}+)?(?>[eE][+-]?[0-9]{1,2}+)?"
    rb"|NaN|-?Infinity)"
)
_SPACE = rb"[ \t\n\r]*+"
_STRING = rb'"[^"\\\x00-\x1f]*+"'
_MEMBER = _STRING + _SPACE + rb":" + _SPACE + rb"(?>" + _LITERAL + rb"|" + _STRING + rb")" + _SPACE


def _sequence(item: bytes) -> bytes:
    return _SPACE + item + rb"(?>," + _SPACE + item + rb")*+"


# No groups in these: CPython 3.11 and 3.12 lose track of a group inside an atomic one
# (SystemError: The span of capturing group is wrong).
_FLAT = re.compile(rb"\[" + _sequence(_LITERAL + _SPACE) + rb"\]")
_FLAT_OBJECT = re.compile(rb"\{" + _sequence(_MEMBER) + rb"\}")
# {"b64": "..."}, up to the text, and after it.
_BASE64_OBJECT = re.compile(rb"\{" + _SPACE + rb'"b64"' + _SPACE + rb":" + _SPACE + rb'"')
_CLOSED = re.compile(_SPACE + rb"\}")
_NEEDS_READING = bytes(code for code in range(256) if code < 0x20 or code in b'\\"')
_MEMBERS = re.compile(rb'"([^"]*)"' + _SPACE + rb":" + _SPACE + rb'(?:"([^"]*)"|([^",}]+))')
_FRACTIONS = re.compile(rb"[.eENI]")

_WORDS: dict[int, tuple[bytes, Value]] = {
    ord("n"): (b"null", None),
    ord("t"): (b"true", True),
    ord("f"): (b"false", False),
}


def parse(body: bytes) -> Object:
    """The request object.

    Raises InvalidArgument with TF Serving's text: `JSON Parse error: ...` for bad syntax,
    `JSON Value: ... Is not object` for any other value on the top level.
    """
    if not body:
        raise InvalidArgument("JSON Parse error: The document is empty")
    request = opened(body)
    if request is not None:
        return request
    try:
        value = read(body)
    except JsonSyntaxError as error:
        raise InvalidArgument(f"JSON Parse error: {error.text} at offset: {error.offset}") from None
    if not isinstance(value, Object):
        raise InvalidArgument(f"JSON Value: {shown(value)} Is not object")
    return value


def read(text: bytes) -> Value:
    """The first value of the text. Raises JsonSyntaxError."""
    return _Reader(text.partition(b"\0")[0]).document()


class _Open:
    """A list or object whose end has not been read; `key` names the next member of an object."""

    __slots__ = ("items", "key", "members")

    def __init__(self) -> None:
        self.items: list[Value] | None = None
        self.members: list[tuple[bytes, Value]] = []
        self.key = b""


class _Reader:
    """One pass over `text`; `at` is the next byte. Nesting lives on a list, not on the stack."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.at = 0
        self.stack: list[_Open] = []
        self.no_block_before = 0
        self.next_mark = {b'"': -1, b"{": -1, b"}": -1}

    def document(self) -> Value:
        match = _BYTE_ORDER_MARK.match(self.text)
        self.at = match.end() if match else 0
        self.space()
        if self.byte() in b"]},:":  # the empty byte, the end, is in it too
            raise JsonSyntaxError(DOCUMENT_EMPTY, self.at)
        while True:
            opened, value = self.value()
            if opened:
                continue
            while self.stack:
                done, value = self.attach(self.stack[-1], value)
                if not done:
                    break
            else:
                return value

    def byte(self) -> bytes:
        return self.text[self.at : self.at + 1]

    def space(self) -> None:
        match = SPACE.match(self.text, self.at)
        if match:
            self.at = match.end()

    def value(self) -> tuple[bool, Value]:
        """A whole value, or (True, None) after the opening of a list or object."""
        match self.byte():
            case b"[":
                return self.list_start()
            case b"{":
                return self.object_start()
            case b'"':
                string, self.at = read_string(self.text, self.at)
                return False, string
            case b"n" | b"t" | b"f":
                return False, self.word()
        number, self.at = read_number(self.text, self.at)
        return False, number

    def word(self) -> Value:
        word, value = _WORDS[self.text[self.at]]
        for letter in word:
            if self.text[self.at : self.at + 1] != bytes((letter,)):
                raise JsonSyntaxError(VALUE, self.at)
            self.at += 1
        return value

    def list_start(self) -> tuple[bool, Value]:
        block = self.block()
        if block is not None:
            return False, block
        flat = _FLAT.match(self.text, self.at)
        if flat:
            self.at = flat.end()
            return False, _numbers(flat[0][1:-1])
        self.at += 1
        self.space()
        if self.byte() == b"]":
            self.at += 1
            return False, []
        frame = _Open()
        frame.items = []
        self.stack.append(frame)
        return True, None

    def block(self) -> Numbers | None:
        """The list that starts here, if it is long, free of strings and objects, and valid."""
        if self.at < self.no_block_before:
            return None
        end = min(self.mark(b'"'), self.mark(b"{"), self.mark(b"}"))
        self.no_block_before = end  # never scan the same bytes twice
        if end - self.at < _BLOCK:
            return None
        numbers = read_numbers(self.text[self.at : end].rstrip(b" \t\n\r,"))
        if numbers is not None:
            self.at += len(numbers.text)
        return numbers

    def mark(self, byte: bytes) -> int:
        """The next position of the byte, the end if there is none."""
        if self.next_mark[byte] < self.at:
            found = self.text.find(byte, self.at)
            self.next_mark[byte] = len(self.text) if found < 0 else found
        return self.next_mark[byte]

    def object_start(self) -> tuple[bool, Value]:
        base64 = self.base64_object()
        if base64 is not None:
            return False, base64
        flat = _FLAT_OBJECT.match(self.text, self.at)
        if flat:
            members = _MEMBERS.findall(self.text, self.at, flat.end())
            self.at = flat.end()
            return False, Object([(k, _number(n) if n else s) for k, s, n in members])
        self.at += 1
        self.space()
        if self.byte() == b"}":
            self.at += 1
            return False, Object([])
        frame = _Open()
        self.name(frame)
        self.stack.append(frame)
        return True, None

    def base64_object(self) -> Object | None:
        """The object that starts here, if its only member is an unescaped `b64`."""
        match = _BASE64_OBJECT.match(self.text, self.at)
        if match is None:
            return None
        end = self.text.find(b'"', match.end())
        close = _CLOSED.match(self.text, end + 1) if end >= 0 else None
        if close is None:
            return None
        text = self.text[match.end() : end]
        # Faster than a regular expression by ten times, and such texts are long.
        if len(text.translate(None, _NEEDS_READING)) != len(text):
            return None
        self.at = close.end()
        return Object([(b"b64", text)])

    def name(self, frame: _Open) -> None:
        if self.byte() != b'"':
            raise JsonSyntaxError(NAME, self.at)
        frame.key, self.at = read_string(self.text, self.at)
        self.space()
        if self.byte() != b":":
            raise JsonSyntaxError(COLON, self.at)
        self.at += 1
        self.space()

    def attach(self, frame: _Open, value: Value) -> tuple[bool, Value]:
        """Puts the value where it belongs; (True, the whole list or object) if that ends there."""
        self.space()
        items = frame.items
        if items is None:
            frame.members.append((frame.key, value))
        else:
            items.append(value)
        byte = self.byte()
        if byte == b",":
            self.at += 1
            self.space()
            if items is None:
                self.name(frame)
            return False, None
        if byte != (b"}" if items is None else b"]"):
            raise JsonSyntaxError(COMMA_OR_BRACE if items is None else COMMA_OR_BRACKET, self.at)
        self.at += 1
        self.stack.pop()
        return True, Object(frame.members) if items is None else items


def _numbers(text: bytes) -> list[Value]:
    """The values of a comma separated list of literals that match _LITERAL."""
    literals = text.split(b",")
    if not _FRACTIONS.search(text):
        return list(map(int, literals))
    return list(map(_number, literals))


def _number(literal: bytes) -> int | float:
    return float(literal) if _FRACTIONS.search(literal) else int(literal)
