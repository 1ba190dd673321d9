"""The body of a request: collected, and inflated if it is gzip."""

import zlib

from starlette.types import Receive

from jaxrt.serving.limits import MAX_INFLATED

_GZIP = 31  # zlib's window bits for a gzip header and trailer


class Disconnected(Exception):
    """The client hung up before the request was complete."""


async def read_body(receive: Receive) -> bytes:
    """The whole body. Raises Disconnected."""
    chunks = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def inflated(body: bytes, limit: int = MAX_INFLATED) -> bytes:
    """The content of one gzip member; b"" for anything else, as TF Serving takes it."""
    stream = zlib.decompressobj(_GZIP)
    try:
        content = stream.decompress(body, limit)
        # The end of the stream may need one more call although no byte is left to give.
        if not stream.eof and stream.decompress(stream.unconsumed_tail, 1):
            return b""
    except zlib.error:
        return b""
    return content if stream.eof and not stream.unused_data else b""
