"""grpc.health.v1.Health: whether the server takes calls.

https://github.com/grpc/grpc/blob/master/doc/health-checking.md, with the services that TensorFlow
Serving names.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from jaxrt.errors import NotFound
from jaxrt.serving.rpc.encode import Chunk
from jaxrt.serving.rpc.messages import message
from jaxrt.serving.rpc.methods import Streaming, Unary
from jaxrt.serving.rpc.wire import parsed

SERVICES = ("", "ModelService", "PredictionService")
"""The first is the server as a whole."""
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3


class Health:
    """SERVING from the opening of the port until the server stops, as TensorFlow Serving says."""

    def __init__(self) -> None:
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        self._stopping.set()

    async def check(self, data: bytes, at: int, deadline: float | None) -> Sequence[Chunk]:
        service = _service(data, at)
        if service not in SERVICES:
            raise NotFound("service name unknown")
        return [_response(self._status)]

    async def watch(self, data: bytes, at: int) -> AsyncIterator[Sequence[Chunk]]:
        if _service(data, at) not in SERVICES:
            yield [_response(SERVICE_UNKNOWN)]  # it may be known one day: the call goes on
        else:
            yield [_response(self._status)]
        await self._stopping.wait()
        yield [_response(NOT_SERVING)]

    @property
    def _status(self) -> int:
        return NOT_SERVING if self._stopping.is_set() else SERVING

    def unary(self) -> dict[bytes, Unary]:
        return {b"/grpc.health.v1.Health/Check": self.check}

    def streaming(self) -> dict[bytes, Streaming]:
        return {b"/grpc.health.v1.Health/Watch": self.watch}


def _service(data: bytes, at: int) -> str:
    request: Any = parsed(message("HealthCheckRequest").FromString, bytes(memoryview(data)[at:]))
    return str(request.service)


def _response(status: int) -> bytes:
    serialized: bytes = message("HealthCheckResponse")(status=status).SerializeToString()
    return serialized
