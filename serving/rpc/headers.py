"""What the headers of a call say, out of HPACK (RFC 7541) and gRPC's own grammar.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
"""

import dataclasses
from collections.abc import Iterable

from hpack import Decoder
from hpack.exceptions import HPACKError, OversizedHeaderListError

from jaxrt.serving.rpc.frames import ConnectionFault, Fault

MAX_HEADERS = 64 << 10
"""Bytes of the headers of a call."""
_KNOWN = 256
"""Header blocks remembered; a client sends the same few again and again."""
_TIMEOUT_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_GRPC = b"application/grpc"


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    """The beginning of a call."""

    path: bytes
    """`/package.Service/Method`."""
    timeout: float | None = None
    """Seconds; None: no deadline."""
    encoding: str = "identity"
    """Of the message, in lower case."""
    http_status: int = 200
    """Another one where the request is not gRPC: it is the whole answer."""


class HeaderReader:
    """The decoder of one connection: header blocks in the order in which they came."""

    def __init__(self) -> None:
        self._decoder = Decoder(max_header_list_size=MAX_HEADERS)
        self._known: dict[bytes, Head | None] = {}

    def read(self, block: bytes) -> Head | None:
        """None for headers that do not begin a request. Raises ConnectionFault."""
        # Bytes 0x81..0xfe are each one entry of the tables, and leave the tables as they are.
        plain = bool(block) and min(block) > 0x80 and max(block) < 0xFF
        if plain and block in self._known:
            return self._known[block]
        try:
            head = _head(self._decoder.decode(block, raw=True))
        except OversizedHeaderListError as error:
            raise ConnectionFault(Fault.ENHANCE_YOUR_CALM, str(error)) from None
        except HPACKError as error:
            raise ConnectionFault(Fault.COMPRESSION_ERROR, str(error)) from None
        if not plain or len(self._known) >= _KNOWN:
            self._known.clear()  # the tables may have changed
        if plain:
            self._known[block] = head
        return head


def _head(headers: Iterable[tuple[bytes, bytes]]) -> Head | None:
    found = dict(headers)
    method, path = found.get(b":method"), found.get(b":path")
    if method is None or path is None:
        return None
    if method != b"POST":
        return Head(path, http_status=405)
    kind = found.get(b"content-type", b"")
    if not kind.startswith(_GRPC) or kind[len(_GRPC) :][:1] not in (b"", b"+", b";"):
        return Head(path, http_status=415)
    return Head(
        path,
        timeout=timeout(found.get(b"grpc-timeout", b"")),
        encoding=found.get(b"grpc-encoding", b"identity").decode("latin-1").lower(),
    )


def timeout(value: bytes) -> float | None:
    """Seconds of a grpc-timeout; None for none, and for what is not in the form of one."""
    digits, unit = value[:-1], value[-1:].decode("latin-1")
    if unit not in _TIMEOUT_UNITS or not digits.isdigit() or len(digits) > 8:
        return None
    return int(digits) * _TIMEOUT_UNITS[unit]
