"""The ports that `jaxrt serve` answers on, bound at start and opened when the models are ready."""

import dataclasses
import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from jaxrt.cli.settings import Settings
from jaxrt.errors import UsageError
from jaxrt.serving import server
from jaxrt.serving.workers import Post

log = logging.getLogger("jaxrt.serving")


@dataclasses.dataclass(frozen=True, slots=True)
class Ports:
    """Bound sockets, not listening yet; at least one."""

    rest: socket.socket | None
    grpc: tuple[socket.socket, ...]

    def where(self, model: str) -> str:
        """What a client may ask, for the log."""
        found = []
        if self.rest is not None:
            found.append(f"POST http://localhost:{_number(self.rest)}/v1/models/{model}:predict")
        for sock in self.grpc:
            if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                continue  # another process opened the port first
            path = sock.family == socket.AF_UNIX
            found.append(f"gRPC {sock.getsockname()}" if path else f"gRPC port {_number(sock)}")
        return ", ".join(found)


def _number(sock: socket.socket) -> int:
    number: int = sock.getsockname()[1]
    return number


@contextmanager
def bound(settings: Settings, post: Post | None) -> Iterator[Ports]:
    """The sockets of the flags; closed at the end. `post` is a worker's, with its REST socket.

    Raises UsageError when a port that was asked for is taken, or none is open.
    """
    with ExitStack() as stack:
        rest: socket.socket | None = None
        if post is not None:
            rest = stack.enter_context(socket.socket(fileno=post.socket))
        elif _same(settings):
            log.error("--rest_api_port is the --port of gRPC: REST stays closed; pass another port")
        elif sock := _bind(settings, "rest_api_port", settings.rest_api_port):
            rest = stack.enter_context(sock)
        grpc = []
        if sock := _bind(settings, "port", settings.port, shared=post is not None):
            grpc.append(stack.enter_context(sock))
        if settings.grpc_socket_path:
            grpc.append(stack.enter_context(server.bind_path(settings.grpc_socket_path)))
        if rest is None and not grpc:
            raise UsageError("no port is open: pass --port 8500 or --rest_api_port 8501")
        yield Ports(rest, tuple(grpc))


def _same(settings: Settings) -> bool:
    """TensorFlow Serving's rule for one number for both."""
    return bool(settings.port) and settings.port == settings.rest_api_port


def _bind(
    settings: Settings, flag: str, port: int | None, *, shared: bool = False
) -> socket.socket | None:
    if port is None:
        return None
    try:
        return server.bind(settings.rest_api_host, port, shared=shared, flag=f"--{flag}")
    except UsageError as error:
        if flag in settings.given:
            raise
        log.warning("%s: it stays closed", error)
        return None


def reserve(settings: Settings) -> socket.socket | None:
    """Keeps the gRPC port for workers, each of which binds it: it is not shared with strangers.

    Raises UsageError when it is taken, or workers could not share what the flags ask for.
    """
    if settings.grpc_socket_path:
        raise UsageError(
            "--grpc_socket_path: several processes cannot share it; pass --num-workers 1 or --port"
        )
    if settings.port == 0:
        raise UsageError("--port auto: processes have to share a number; pass one, or 0 for none")
    probe = _bind(settings, "port", settings.port)
    if probe is None:
        return None
    probe.close()
    return _bind(settings, "port", settings.port, shared=True)
