"""The seam between HTTP/2 and the services: what answers a call, by its path."""

import dataclasses
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from jaxrt.serving.rpc.encode import Chunk

Message = bytes | bytearray


class Unary(Protocol):
    """One message in, one out."""

    async def __call__(self, data: bytes, at: int, deadline: float | None) -> Sequence[Chunk]:
        """`data[at:]` is the request, `deadline` an instant of the clock of `Servable.predict`.

        Cancelled when the client hangs up. Raises RequestError leaves and wire.Malformed.
        """


class Streaming(Protocol):
    """One message in, many out, until it ends or the client hangs up."""

    def __call__(self, data: bytes, at: int) -> AsyncIterator[Sequence[Chunk]]: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Methods:
    """By path: `/package.Service/Method`."""

    unary: Mapping[bytes, Unary]
    streaming: Mapping[bytes, Streaming]

    def __contains__(self, path: bytes) -> bool:
        return path in self.unary or path in self.streaming
