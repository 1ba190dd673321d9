"""tensorflow.serving.PredictionService: its methods, each bytes in and bytes out."""

import asyncio
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, TypeVar

from jaxrt.errors import Code, InvalidArgument, RequestError
from jaxrt.serving.engine.servable import HostTensors, Models
from jaxrt.serving.monitoring.calls import Calls
from jaxrt.serving.rest import classification, regression
from jaxrt.serving.rest.examples import fed
from jaxrt.serving.rpc import inference, metadata, modelspec, prediction
from jaxrt.serving.rpc.encode import Chunk
from jaxrt.serving.rpc.messages import message
from jaxrt.serving.rpc.methods import Unary
from jaxrt.serving.rpc.modelspec import ModelSpec
from jaxrt.serving.rpc.wire import delimited, parsed
from jaxrt.specs import SignatureSpec

T = TypeVar("T")

OFF_LOOP = 256 << 10
"""Messages of more bytes are read and written in a thread: about 1 ms of the event loop's time."""
GRPC = "GRPC"
"""How calls are counted: the entrypoint."""


class PredictionService:
    """The service over `models`.

    `content` (--enable_serialization_as_tensor_content) is how tensors are answered;
    `check_method_name` is --enable_signature_method_name_check.
    """

    def __init__(
        self,
        models: Models,
        *,
        calls: Calls,
        content: bool = False,
        check_method_name: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._models = models
        self._calls = calls
        self._content = content
        self._check_method_name = check_method_name
        self._clock = clock

    async def predict(self, data: bytes, at: int, deadline: float | None) -> Sequence[Chunk]:
        started = self._clock()
        request = prediction.read(data, at)
        name = "" if request.spec is None else request.spec.name
        try:
            answer = await self._predict(request, len(data), deadline)
        except RequestError as error:
            self._calls.finished(name, error.code, "Predict", GRPC, 0.0)
            raise
        self._calls.finished(name, Code.OK, "Predict", GRPC, self._clock() - started)
        return answer

    async def _predict(
        self, request: prediction.Request, size: int, deadline: float | None
    ) -> Sequence[Chunk]:
        asked = _given(request.spec)
        servable = modelspec.servable(self._models, asked)
        spec = prediction.signature(
            asked, servable.signatures, check_method_name=self._check_method_name
        )
        inputs = await _apart(size, prediction.inputs, request, spec)
        aliases = prediction.outputs(request, spec)
        started = self._clock()
        outputs = await servable.predict(asked.signature, inputs, deadline=deadline)
        self._calls.ran(asked.name, "Predict", self._clock() - started)
        answered = modelspec.write(asked.name, asked.signature, servable.version)
        size = sum(outputs[alias].nbytes for alias in aliases)
        return await _apart(size, self._response, outputs, aliases, spec, answered)

    def _response(
        self, outputs: HostTensors, aliases: Sequence[str], spec: SignatureSpec, answered: bytes
    ) -> Sequence[Chunk]:
        return prediction.response(outputs, aliases, spec, answered, content=self._content)

    def infer(self, api: ModuleType) -> Unary:
        """Classify or Regress."""
        label = "Regress" if api is regression else "Classify"

        async def method(data: bytes, at: int, deadline: float | None) -> Sequence[Chunk]:
            started = self._clock()
            request = _read("InferenceRequest", data, at)
            name = request.model_spec.name
            try:
                answer = await self._infer(api, label, request, deadline)
            except RequestError as error:
                self._calls.finished(name, error.code, label, GRPC, 0.0)
                raise
            self._calls.finished(name, Code.OK, label, GRPC, self._clock() - started)
            return answer

        return method

    async def _infer(
        self, api: ModuleType, label: str, request: Any, deadline: float | None
    ) -> Sequence[Chunk]:
        asked = _spec(request)
        servable = modelspec.servable(self._models, asked)
        spec = inference.signature(
            asked, servable.signatures, "No signature was found with the name: "
        )
        api.check(spec, self._check_method_name)
        examples = inference.examples(request.input)
        started = self._clock()
        outputs = await servable.predict(asked.signature, fed(spec, examples), deadline=deadline)
        self._calls.ran(asked.name, label, self._clock() - started)
        found = await _apart(_bytes(outputs), inference.result, api, outputs, spec, len(examples))
        answered = modelspec.write(asked.name, asked.signature, servable.version)
        return [delimited(1, found), delimited(2, answered)]

    async def multi_inference(
        self, data: bytes, at: int, deadline: float | None
    ) -> Sequence[Chunk]:
        request = _read("MultiInferenceRequest", data, at)
        listed = [
            (modelspec.read(task.model_spec.SerializeToString()), task.method_name)
            for task in request.tasks
        ]
        servable = modelspec.servable(self._models, listed[0][0] if listed else ModelSpec())
        tasks = inference.tasks(
            listed, servable.signatures, check_method_name=self._check_method_name
        )
        examples = inference.examples(request.input)
        ran = await asyncio.gather(
            *(
                servable.predict(asked.signature, fed(spec, examples), deadline=deadline)
                for asked, _, spec in tasks
            )
        )
        self._calls.examples(listed[0][0].name, len(examples))
        answer = b""
        for (asked, api, spec), outputs in zip(tasks, ran, strict=True):
            found = await _apart(
                _bytes(outputs), inference.result, api, outputs, spec, len(examples)
            )
            answered = modelspec.write(asked.name, asked.signature, servable.version)
            field = 3 if api is regression else 2
            answer += delimited(1, delimited(1, answered) + delimited(field, found))
        return [answer]

    async def get_model_metadata(
        self, data: bytes, at: int, deadline: float | None
    ) -> Sequence[Chunk]:
        request = _read("GetModelMetadataRequest", data, at)
        asked = _spec(request)
        metadata.check(list(request.metadata_field))
        return [metadata.response(modelspec.servable(self._models, asked))]

    def methods(self) -> dict[bytes, Unary]:
        """By path."""
        named: dict[str, Unary] = {
            "Predict": self.predict,
            "Classify": self.infer(classification),
            "Regress": self.infer(regression),
            "MultiInference": self.multi_inference,
            "GetModelMetadata": self.get_model_metadata,
        }
        service = "/tensorflow.serving.PredictionService/"
        return {f"{service}{name}".encode(): method for name, method in named.items()}


def _given(spec: ModelSpec | None) -> ModelSpec:
    if spec is None:
        raise InvalidArgument("Missing ModelSpec")
    return spec


def _spec(request: Any) -> ModelSpec:
    """Of a request that the protobuf runtime has read."""
    if not request.HasField("model_spec"):
        raise InvalidArgument("Missing ModelSpec")
    return modelspec.read(request.model_spec.SerializeToString())


def _read(name: str, data: bytes, at: int) -> Any:
    return parsed(message(name).FromString, bytes(memoryview(data)[at:]))


def _bytes(outputs: HostTensors) -> int:
    return sum(array.nbytes for array in outputs.values())


async def _apart(size: int, work: Callable[..., T], *arguments: Any) -> T:
    """The result of the work on `size` bytes, in a thread if that takes long."""
    if size <= OFF_LOOP:
        return work(*arguments)
    return await asyncio.get_running_loop().run_in_executor(None, work, *arguments)
