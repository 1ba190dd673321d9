"""Heads of requests that have come before, by their bytes.

Clients send the same head again and again, with at most another length in it. One that is known
byte by byte was read before, and says the same again.
"""

from typing import Any, NamedTuple

from jaxrt.serving.answer import Direct, Headers

LONGEST = 1024
"""Bytes of a head that is kept; those with tokens and cookies are longer, and often new."""

MOST = 4096
"""Heads that are kept."""


class Head(NamedTuple):
    """Of a request that is whole when so many bytes have followed, and keeps its connection."""

    about: Any
    """What `Direct.begin` wants of it."""
    length: int
    method: str
    path: bytes
    headers: Headers


class Heads:
    """Those of one server. Used from its event loop."""

    def __init__(self, api: Direct) -> None:
        self.api = api
        self._known: dict[bytes, Head] = {}

    def find(self, data: bytes) -> tuple[Head, bytes] | None:
        """The head and the body, if the data are one request whose head is known."""
        end = data.find(b"\r\n\r\n", 0, LONGEST) + 4
        head = self._known.get(data[:end])
        if head is None or len(data) - end != head.length:
            return None
        return head, data[end:]

    def learn(
        self, data: bytes, method: str, path: bytes, headers: Headers, body: bytes, about: Any
    ) -> None:
        """The data were read as this, from their first byte to their last."""
        end = data.find(b"\r\n\r\n", 0, LONGEST) + 4
        length = str(len(body)).encode()
        if end < 4 or data[end:] != body or (b"content-length", length) not in headers:
            return
        if len(self._known) >= MOST:
            self._known.clear()
        self._known[data[:end]] = Head(about, len(body), method, path, tuple(headers))
