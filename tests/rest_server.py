"""A server on a real socket whose models echo their inputs: what the REST tests talk to."""

import asyncio
import contextlib
import dataclasses
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

import uvicorn
from by_predict import ByPredict
from starlette.types import ASGIApp

from jaxrt.errors import InvalidArgument, NotFound
from jaxrt.serving.engine.servable import HostTensors, Servable, State, VersionStatus
from jaxrt.specs import Dim, SignatureSpec, TensorSpec


def spec(dtype: str, name: str = "t:0") -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, dims=(Dim(-1),))


def echo_signature(**dtypes: str) -> SignatureSpec:
    """Every input is an output of the same name."""
    specs = {name: spec(dtype) for name, dtype in dtypes.items()}
    return SignatureSpec(inputs=specs, outputs=specs, method_name="tensorflow/serving/predict")


Work = Callable[[HostTensors, float | None], "HostTensors | asyncio.Future[HostTensors]"]


@dataclasses.dataclass(kw_only=True)
class Echo(ByPredict):
    """A servable whose outputs are its inputs, or what `work` makes of them."""

    name: str
    version: int
    signatures: Mapping[str, SignatureSpec]
    work: Work | None = None
    cancelled: threading.Event = dataclasses.field(default_factory=threading.Event)
    started: threading.Event = dataclasses.field(default_factory=threading.Event)

    async def predict(
        self, signature: str, inputs: HostTensors, *, deadline: float | None
    ) -> HostTensors:
        self.started.set()
        if self.work is None:
            return inputs
        try:
            outputs = self.work(inputs, deadline)
            return await outputs if isinstance(outputs, asyncio.Future) else outputs
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@dataclasses.dataclass(kw_only=True)
class FakeModels:
    """Models of one version each, the label `stable` on all of them."""

    servables: Sequence[Echo]
    is_ready: bool = True

    def get(self, name: str, *, version: int | None = None, label: str | None = None) -> Servable:
        if label not in (None, "stable"):
            raise InvalidArgument(f"Unrecognized servable version label: {label}")
        for servable in self.servables:
            if servable.name == name and version in (None, servable.version):
                return servable
        which = f"Latest({name})" if version is None else f"Specific({name}, {version})"
        raise NotFound(f"Servable not found for request: {which}")

    def status(self, name: str, version: int | None = None) -> Sequence[VersionStatus]:
        versions = [s.version for s in self.servables if s.name == name]
        if not versions:
            raise NotFound(f"Could not find any versions of model {name}")
        return [VersionStatus(version=v, state=State.AVAILABLE) for v in versions]

    def ready(self) -> bool:
        return self.is_ready


@contextlib.contextmanager
def serving(app: ASGIApp) -> Iterator[tuple[str, int]]:
    """Runs the app under uvicorn in a thread; yields its host and port."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield "127.0.0.1", listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def infer(address: tuple[str, int], target: str, body: bytes) -> tuple[int, bytes]:
    """POST /v1/models/`target`: the status and the body of the answer, which is JSON."""
    connection = http.client.HTTPConnection(*address, timeout=30)
    try:
        connection.request("POST", "/v1/models/" + target, body)
        response = connection.getresponse()
        assert response.headers["content-type"] == "application/json"
        return response.status, response.read()
    finally:
        connection.close()


def inference_error(address: tuple[str, int], target: str, body: bytes) -> tuple[int, str]:
    """The status and the message of an answer that holds nothing but an error."""
    status, answer = infer(address, target, body)
    found = json.loads(answer)
    assert list(found) == ["error"]
    return status, found["error"]
