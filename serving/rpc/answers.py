"""The header blocks of answers, and the text of a status in them.

Nothing is Huffman coded, and one block alone changes the client's table: the first start of an
answer puts two headers there that all later ones refer to.
"""

from collections.abc import Sequence

from jaxrt.errors import Code
from jaxrt.serving.rpc.encode import Chunk

Chunks = Sequence[Chunk]

MESSAGE_LIMIT = 1024
"""Bytes of a status message (model_servers/grpc_status_util.cc of TensorFlow Serving)."""
_CUT = b"...TRUNCATED"

_STATUS_200 = b"\x88"
_SAFE = frozenset(range(0x20, 0x7F)) - {ord("%")}
_ESCAPED = [bytes((code,)) if code in _SAFE else b"%%%02X" % code for code in range(256)]


def _length(size: int) -> bytes:
    """An integer with a prefix of seven bits."""
    if size < 0x7F:
        return bytes((size,))
    size -= 0x7F
    digits = bytearray(b"\x7f")
    while size >= 0x80:
        digits.append(size & 0x7F | 0x80)
        size >>= 7
    digits.append(size)
    return bytes(digits)


def literal(name: bytes, value: bytes, kind: bytes = b"\x00") -> bytes:
    """A header by its letters; `kind` 0x40 puts it into the client's table."""
    return kind + _length(len(name)) + name + _length(len(value)) + value


_CONTENT_TYPE = (b"content-type", b"application/grpc")
ACCEPTED = "identity, deflate, gzip"
_ACCEPT = (b"grpc-accept-encoding", ACCEPTED.encode())

START = _STATUS_200 + literal(*_CONTENT_TYPE) + literal(*_ACCEPT)
"""Of an answer with a message; leaves the client's table alone."""
FIRST_START = _STATUS_200 + literal(*_CONTENT_TYPE, b"\x40") + literal(*_ACCEPT, b"\x40")
LATER_START = _STATUS_200 + b"\xbf\xbe"
"""The newest two entries of the table: 62 and 63."""
EMPTY_TABLE = b"\x20"
"""For a client whose table is to be smaller than 4096 bytes."""

OK = literal(b"grpc-status", b"0")


def trailers(code: Code, message: str) -> bytes:
    """After the messages of an answer."""
    if code is Code.OK:
        return OK
    text = message.encode("utf-8", "surrogateescape")
    if len(text) > MESSAGE_LIMIT:
        text = text[:MESSAGE_LIMIT] + _CUT
    escaped = b"".join(map(_ESCAPED.__getitem__, text))
    block = literal(b"grpc-status", str(code.value).encode())
    return block + literal(b"grpc-message", escaped) if escaped else block


def only(code: Code, message: str) -> bytes:
    """An answer without messages: start and trailers at once."""
    return START + trailers(code, message)


def refusal(status: int) -> bytes:
    """The answer to what is not gRPC."""
    # 0x08: the name of entry 8 of the static table, `:status`, with a value by its letters.
    text = str(status).encode()
    return b"\x08" + _length(len(text)) + text
