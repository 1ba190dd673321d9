"""HTTP/2 frames (RFC 9113): their numbers, and the ones a server writes."""

import enum
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD = struct.Struct(">IBI")
"""Length (24 bits) and type, flags, stream."""
HEAD_SIZE = 9
MAX_WINDOW = (1 << 31) - 1
DEFAULT_WINDOW = 65_535
DEFAULT_FRAME = 16_384
LARGEST_FRAME = (1 << 24) - 1

END_STREAM = ACK = 0x1
END_HEADERS, PADDED, PRIORITIZED = 0x4, 0x8, 0x20


class Kind(enum.IntEnum):
    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Setting(enum.IntEnum):
    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class Fault(enum.IntEnum):
    """Error codes of RST_STREAM and GOAWAY."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class ConnectionFault(Exception):
    """The other side broke the protocol: the connection ends with this code."""

    def __init__(self, code: Fault, text: str) -> None:
        super().__init__(text)
        self.code = code


def frame(kind: Kind, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return HEAD.pack(len(payload) << 8 | kind, flags, stream) + payload


def settings(values: dict[Setting, int]) -> bytes:
    pairs = (struct.pack(">HI", name, value) for name, value in values.items())
    return frame(Kind.SETTINGS, 0, 0, b"".join(pairs))


def window_update(stream: int, size: int) -> bytes:
    return frame(Kind.WINDOW_UPDATE, 0, stream, size.to_bytes(4, "big"))


def reset(stream: int, code: Fault) -> bytes:
    return frame(Kind.RST_STREAM, 0, stream, int(code).to_bytes(4, "big"))


def goaway(last: int, code: Fault, text: str = "") -> bytes:
    return frame(Kind.GOAWAY, 0, 0, struct.pack(">II", last, code) + text.encode())


def unpadded(flags: int, payload: bytes) -> bytes:
    """The payload without its padding. Raises ConnectionFault when the padding is longer."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(Fault.PROTOCOL_ERROR, "padding is longer than its frame")
    return payload[1 : len(payload) - payload[0]]


def pairs(payload: bytes) -> list[tuple[int, int]]:
    """Of a SETTINGS frame: identifier, value."""
    if len(payload) % 6:
        raise ConnectionFault(Fault.FRAME_SIZE_ERROR, "SETTINGS of a size that is no multiple of 6")
    return list(struct.iter_unpack(">HI", payload))
