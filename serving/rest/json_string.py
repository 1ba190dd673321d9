"""String literals, as rapidjson 1.1.0 reads and writes them: bytes, never validated as UTF-8."""

import re

from jaxrt.serving.rest.json_syntax import ESCAPE, HEX, QUOTE, SURROGATE, JsonSyntaxError

_UNESCAPED = re.compile(rb'[^"\\\x00-\x1f]*+')
_HEX4 = re.compile(rb"[0-9A-Fa-f]{4}")
_ESCAPES = {
    b'"': b'"',
    b"/": b"/",
    b"\\": b"\\",
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
}
_SPECIAL = re.compile(rb'["\\\x00-\x1f]')
_WRITTEN = {code: b"\\u%04X" % code for code in range(0x20)} | {
    ord(raw): b"\\" + short for short, raw in _ESCAPES.items() if short != b"/"
}


def read_string(text: bytes, at: int) -> tuple[bytes, int]:
    """The string whose opening quote is at `at`, and the position after its closing quote.

    Raises JsonSyntaxError.
    """
    at += 1
    pieces: list[bytes] = []
    while True:
        match = _UNESCAPED.match(text, at)
        end = match.end() if match else at
        pieces.append(text[at:end])
        stop = text[end : end + 1]
        if stop == b'"':
            return b"".join(pieces), end + 1
        if stop != b"\\":
            raise JsonSyntaxError(ESCAPE if stop else QUOTE, end)
        piece, at = _escape(text, end)
        pieces.append(piece)


def _escape(text: bytes, at: int) -> tuple[bytes, int]:
    letter = text[at + 1 : at + 2]
    if letter in _ESCAPES:
        return _ESCAPES[letter], at + 2
    if letter != b"u":
        raise JsonSyntaxError(ESCAPE, at)
    code = _hex4(text, at + 2, at)
    end = at + 6
    if 0xD800 <= code <= 0xDBFF:
        if text[end : end + 2] != b"\\u":
            raise JsonSyntaxError(SURROGATE, at)
        low = _hex4(text, end + 2, at)
        if not 0xDC00 <= low <= 0xDFFF:
            raise JsonSyntaxError(SURROGATE, at)
        code = ((code - 0xD800) << 10 | (low - 0xDC00)) + 0x10000
        end += 6
    # A low surrogate on its own is encoded like any other code point.
    return chr(code).encode("utf-8", "surrogatepass"), end


def _hex4(text: bytes, at: int, escape: int) -> int:
    match = _HEX4.match(text, at)
    if match is None:
        raise JsonSyntaxError(HEX, escape)
    return int(match[0], 16)


def quoted(string: bytes) -> bytes:
    """The string as a JSON literal: quotes, backslashes and control characters are escaped."""
    return b'"' + _SPECIAL.sub(lambda m: _WRITTEN[m[0][0]], string) + b'"'
