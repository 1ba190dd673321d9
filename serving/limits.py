"""Limits: what one client may cost before it is refused.

TensorFlow Serving bounds only what a gzip body inflates to; its defaults are kept where a client
may depend on them.
"""

import dataclasses
import sys

MAX_BODY = (1 << 31) - 1
"""Bytes: as large as a message of TensorFlow Serving's gRPC interface may be."""

MAX_INFLATED = 100 << 20
"""Bytes: TensorFlow Serving's kMaxUncompressedBytes."""

MAX_HEAD = 1 << 20
"""Bytes of a request line and headers, or of any other part that is no body."""

IDLE_SECONDS = 50
"""Without a byte from a client that owes some, or to one that is owed some: libevent's default."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """All but `inflated` are the HTTP layer's."""

    body: int = MAX_BODY
    """Bytes as they come, so before they are inflated."""
    inflated: int = MAX_INFLATED
    head: int = MAX_HEAD
    idle_seconds: float = IDLE_SECONDS


def unlimited_if_zero(size: int) -> int:
    """How flags write that there is no limit."""
    return size or sys.maxsize
