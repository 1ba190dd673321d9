"""The message of a call, as its bytes come in: five bytes of head, then the message."""

import zlib

from jaxrt.errors import Code, RequestError, Unimplemented
from jaxrt.serving.rpc.answers import ACCEPTED

PREFIX = 5
"""Bytes before a message: whether it is compressed, and its size."""
_IN_PLACE = 1 << 20
"""Bytes from which a message is written where it stays as it comes: joining would copy it."""
_WINDOW_BITS = {"gzip": 31, "deflate": 15}


class TooLarge(RequestError):
    """The message is larger than the server takes."""

    code = Code.RESOURCE_EXHAUSTED


class BadMessage(RequestError):
    """What came is not one message."""

    code = Code.INTERNAL


class Incoming:
    """Collects the one message of a call."""

    __slots__ = ("_limit", "_parts", "_size", "_whole")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._whole: bytearray | None = None

    def add(self, data: bytes) -> None:
        """Raises TooLarge as soon as the head says so, BadMessage for a second message."""
        if self._whole is not None:
            end = self._size + len(data)
            if end > len(self._whole):
                raise BadMessage("more than one message in a call that takes one")
            self._whole[self._size : end] = data
            self._size = end
            return
        known = self._size >= PREFIX
        self._parts.append(data)
        self._size += len(data)
        if not known and self._size >= PREFIX:
            self._begin()

    def _begin(self) -> None:
        start = b"".join(self._parts)
        self._parts = [start]
        size = int.from_bytes(start[1:PREFIX], "big")
        if size > self._limit:
            raise TooLarge(f"SERVER: Received message larger than max ({size} vs. {self._limit})")
        if size >= _IN_PLACE and len(start) <= PREFIX + size:
            self._whole = bytearray(PREFIX + size)
            self._whole[: len(start)] = start
            self._parts.clear()

    def clear(self) -> None:
        """Lets go of what came: whoever took the message has it."""
        self._parts.clear()
        self._whole = None

    def message(self, encoding: str) -> tuple[bytes, int]:
        """The message and where it begins, when all has come; large ones are a bytearray.

        Raises BadMessage, TooLarge, Unimplemented for an unknown encoding.
        """
        data: bytes | bytearray
        if self._whole is not None:
            data = self._whole
        else:
            data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        if self._size < PREFIX or self._size != PREFIX + int.from_bytes(data[1:PREFIX], "big"):
            raise BadMessage(f"{self._size} bytes came, which are not one whole message")
        if data[0] & 1:
            return _inflated(memoryview(data)[PREFIX:], encoding, self._limit), 0
        return data, PREFIX  # type: ignore[return-value]  # what reads it takes either


def _inflated(data: memoryview, encoding: str, limit: int) -> bytes:
    if encoding not in _WINDOW_BITS:
        raise Unimplemented(
            f"messages compressed with {encoding} are not supported, want one of {ACCEPTED}"
        )
    inflater = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        found = inflater.decompress(data, limit)
    except zlib.error as error:
        raise BadMessage(f"the message is not {encoding}: {error}") from None
    if inflater.unconsumed_tail:
        raise TooLarge(f"SERVER: Decompressed message larger than max ({limit})")
    if not inflater.eof:
        raise BadMessage(f"the {encoding} of the message ends too early")
    return found
