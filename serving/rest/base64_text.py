"""Base64 as absl::Base64Unescape takes it."""

import base64
import binascii
import re

_SPACE = b" \t\n\v\f\r"
_TEXT = re.compile(rb"([A-Za-z0-9+/]*+)([=.]*+)")


def decoded(text: bytes) -> bytes | None:
    """The bytes, or None for what absl refuses.

    The standard alphabet only; white space is skipped anywhere; padding, `=` or `.`, is complete or
    left out; bits beyond the last whole byte are dropped.
    """
    if len(text) % 4 == 0 and not text.endswith(b"==="):
        try:  # what strict decoding takes is right, and soon done
            return binascii.a2b_base64(text, strict_mode=True)
        except binascii.Error:
            pass
    match = _TEXT.fullmatch(text.translate(None, _SPACE))
    if match is None or len(match[1]) % 4 == 1:
        return None
    wanted = -len(match[1]) % 4
    if len(match[2]) not in (0, wanted):
        return None
    return base64.b64decode(match[1] + b"=" * wanted)
