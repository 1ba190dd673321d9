"""Bytes as code points and back, as ICU's converters do for TensorFlow."""

import re
from collections.abc import Iterator, Sequence

CODECS = {
    "utf8": "utf-8",
    "utf16be": "utf-16-be",
    "utf32be": "utf-32-be",
}
"""Names of encodings without `-` and `_`, in small letters → Python's codecs of the same rules."""

REPLACEMENT = 0xFFFD
_LONE = re.compile("[\ud800-\udfff]")


def codec(name: bytes) -> str | None:
    """Python's codec for ICU's name of an encoding; None: not known to be the same."""
    return CODECS.get(name.decode(errors="replace").lower().replace("-", "").replace("_", ""))


def decoded(value: bytes, codec: str) -> Iterator[tuple[int, int, bool]]:
    """Code points, how many bytes each took, and whether they were malformed (U+FFFD then)."""
    at = 0
    while at < len(value):
        try:
            good, error = value[at:].decode(codec), None
        except UnicodeDecodeError as found:
            good, error = value[at : at + found.start].decode(codec), found
        for letter in good:
            yield ord(letter), len(letter.encode(codec)), False
        if error is None:
            return
        yield REPLACEMENT, error.end - error.start, True
        at += error.end


def encoded(points: Sequence[int], codec: str) -> bytes:
    """By way of UTF-16, as ICU's strings are: surrogates find each other."""
    units = "".join(map(chr, points)).encode("utf-16-be", "surrogatepass")
    if codec == "utf-16-be":
        return units
    text = units.decode("utf-16-be", "surrogatepass")
    if codec == "utf-8":
        text = _LONE.sub("\ufffd", text)
    return text.encode(codec, "surrogatepass")
