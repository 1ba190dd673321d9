"""Base64 as absl::Base64Unescape takes it."""

import base64
import re

_SPACE = b" \t\n\v\f\r"
_TEXT = re.compile(rb"([A-Za-z0-9+/]*+)([=.]*+)")


def decoded(text: bytes) -> bytes | None:
    """The bytes, or None for what absl refuses.

    The standard alphabet only; white space is skipped anywhere; padding, `=` or `.`, is complete or
    left out; bits beyond the last whole byte are dropped.
    """
    match = _TEXT.fullmatch(text.translate(None, _SPACE))
    if match is None or len(match[1]) % 4 == 1:
        return None
    wanted = -len(match[1]) % 4
    if len(match[2]) not in (0, wanted):
        return None
    return base64.b64decode(match[1] + b"=" * wanted)
