"""A gRPC server on a real socket whose models echo their inputs, and calls of it."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import grpc
import numpy as np
from rest_server import Echo, FakeModels, echo_signature

from jaxrt.serving import server
from jaxrt.serving.engine.reload import Reload
from jaxrt.serving.engine.servable import Models
from jaxrt.serving.monitoring.calls import Calls
from jaxrt.serving.rpc import encode
from jaxrt.serving.rpc.datatypes import BY_NAME
from jaxrt.serving.rpc.messages import message
from jaxrt.serving.rpc.service import GrpcService, Options

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
PREDICTIONS, MODELS = "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"
HEALTH = "grpc.health.v1.Health"


def echo(name: str = "m", **dtypes: str) -> Echo:
    """Version 7, one signature, of one float32 `x` where nothing is said."""
    signature = echo_signature(**(dtypes or {"x": "float32"}))
    return Echo(name=name, version=7, signatures={"serving_default": signature})


class Running:
    """A server in a thread of its own."""

    def __init__(self, address: str, loop: asyncio.AbstractEventLoop, service: GrpcService) -> None:
        self.address = address
        self.port = int(address.rpartition(":")[2]) if ":" in address else 0
        self._loop = loop
        self._service = service

    def do(self, work: Callable[[GrpcService], Awaitable[Any]]) -> Any:
        """What the work gives, which runs on the server's loop."""
        return asyncio.run_coroutine_threadsafe(_awaited(work, self._service), self._loop).result(
            30
        )


async def _awaited(work: Callable[[GrpcService], Awaitable[Any]], service: GrpcService) -> Any:
    return await work(service)


@contextlib.contextmanager
def serving(
    models: Models | None = None,
    options: Options | None = None,
    *,
    calls: Calls | None = None,
    reload: Reload | None = None,
    path: str = "",
) -> Iterator[Running]:
    """`path`: of a UNIX socket, instead of a port."""
    sock = server.bind_path(path) if path else server.bind("127.0.0.1", 0)
    loop = asyncio.new_event_loop()
    service = GrpcService(
        models or FakeModels(servables=[echo()]),
        [sock],
        options or Options(),
        calls=calls or Calls(),
        reload=reload,
    )
    loop.run_until_complete(service.open())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    address = f"unix:{path}" if path else f"127.0.0.1:{sock.getsockname()[1]}"
    try:
        yield Running(address.removeprefix("unix:") if path else address, loop, service)
    finally:
        asyncio.run_coroutine_threadsafe(service.stop(5), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def call(
    address: str, method: str, request: Any, answer: str, service: str = PREDICTIONS, **given: Any
) -> Any:
    """One unary call on a channel of its own; the answer as the message `answer`."""
    with grpc.insecure_channel(address, options=UNLIMITED) as channel:
        return stub(channel, method, answer, service)(request, timeout=30, **given)


def stub(channel: Any, method: str, answer: str, service: str = PREDICTIONS) -> Any:
    return channel.unary_unary(
        f"/{service}/{method}",
        request_serializer=lambda request: request.SerializeToString(),
        response_deserializer=message(answer).FromString,
    )


def failure(address: str, method: str, request: Any, service: str = PREDICTIONS) -> tuple[str, str]:
    """Code and text of a call that fails."""
    try:
        call(address, method, request, "PredictResponse", service)
    except grpc.RpcError as error:
        return error.code().name, error.details()
    raise AssertionError(f"{method} was answered")


def tensor(array: np.ndarray[Any, Any], dtype: str = "float32", *, content: bool = False) -> Any:
    """A TensorProto message."""
    return message("TensorProto").FromString(
        b"".join(encode.tensor(array, BY_NAME[dtype], content=content))
    )


def predict_request(name: str = "m", signature: str = "", **inputs: Any) -> Any:
    request = message("PredictRequest")()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    for alias, value in inputs.items():
        given = tensor(value) if isinstance(value, np.ndarray) else value
        request.inputs[alias].CopyFrom(given)
    return request


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)
