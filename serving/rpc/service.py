"""The gRPC side of a server, wired: services over models, on sockets bound before."""

import contextlib
import dataclasses
import os
import socket
import ssl
import time
from collections.abc import Callable, Sequence

from jaxrt.errors import UsageError
from jaxrt.serving.engine.reload import Reload
from jaxrt.serving.engine.servable import Models
from jaxrt.serving.monitoring.calls import Calls
from jaxrt.serving.rpc.arguments import Arguments
from jaxrt.serving.rpc.health import Health
from jaxrt.serving.rpc.increases import Totals
from jaxrt.serving.rpc.methods import Methods
from jaxrt.serving.rpc.modelservice import ModelService
from jaxrt.serving.rpc.predictions import PredictionService
from jaxrt.serving.rpc.server import Server


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What the flags say of gRPC."""

    arguments: Arguments = Arguments()
    tls: ssl.SSLContext | None = None
    health: bool = False
    """--enable_grpc_healthcheck_service."""
    content: bool = False
    """--enable_serialization_as_tensor_content."""
    check_method_name: bool = False
    """--enable_signature_method_name_check."""


class GrpcService:
    """Opens when the models are ready, stops with the HTTP server beside it."""

    def __init__(
        self,
        models: Models,
        sockets: Sequence[socket.socket],
        options: Options,
        *,
        calls: Calls,
        reload: Reload | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sockets = sockets
        predictions = PredictionService(
            models,
            calls=calls,
            content=options.content,
            check_method_name=options.check_method_name,
            clock=clock,
        )
        service = ModelService(models, reload=reload, counters=Totals(calls))
        unary = predictions.methods() | service.methods()
        self._health = Health()
        if options.health:
            methods = Methods(unary | self._health.unary(), self._health.streaming())
        else:
            methods = Methods(unary, {})
        self._server = Server(methods, arguments=options.arguments, tls=options.tls, clock=clock)

    async def open(self) -> None:
        """Raises UsageError when a port was taken since it was bound."""
        try:
            await self._server.listen(self._sockets)
        except OSError as error:
            raise UsageError(f"--port: {error.strerror}; pass another --port") from None

    async def stop(self, grace: float) -> bool:
        """As Server.stop; those who watch the health are told."""
        self._health.stop()
        for sock in self._sockets:
            if sock.family == socket.AF_UNIX:
                with contextlib.suppress(OSError):
                    os.unlink(sock.getsockname())
        return await self._server.stop(grace)
