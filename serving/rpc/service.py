"""The gRPC side of a server, wired: services over models, on sockets bound before."""

import contextlib
import dataclasses
import logging
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
from jaxrt.serving.rpc.server import BACKLOG, Server

log = logging.getLogger("jaxrt.serving")


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
        needed: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`needed`: a port that another process took meanwhile is an error, not a warning."""
        self._sockets = sockets
        self._needed = needed
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
        """Raises UsageError when a port that is needed was taken since it was bound."""
        await self._server.listen([sock for sock in self._sockets if self._listens(sock)])

    def _listens(self, sock: socket.socket) -> bool:
        try:
            # Not left to the event loop, which would close what it cannot open.
            sock.listen(BACKLOG)
        except OSError as error:
            # Two sockets may bind one port (SO_REUSEADDR) as long as neither listens.
            text = f"--port: {(error.strerror or str(error)).lower()}; pass another --port"
            if self._needed:
                raise UsageError(text) from None
            log.warning("%s: it stays closed", text)
            return False
        return True

    async def stop(self, grace: float) -> bool:
        """As Server.stop; those who watch the health are told."""
        self._health.stop()
        for sock in self._sockets:
            if sock.family == socket.AF_UNIX:
                with contextlib.suppress(OSError):
                    os.unlink(sock.getsockname())
        return await self._server.stop(grace)
