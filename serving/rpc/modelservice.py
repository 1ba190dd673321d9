"""tensorflow.serving.ModelService: the states of versions, and a new set of models."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from google.protobuf.message import DecodeError

from jaxrt.errors import Code, InvalidArgument, RequestError, Unimplemented, UsageError
from jaxrt.serving import config
from jaxrt.serving.engine.reload import Reload
from jaxrt.serving.engine.servable import Models
from jaxrt.serving.rpc import modelspec
from jaxrt.serving.rpc.encode import Chunk
from jaxrt.serving.rpc.messages import STATES, message
from jaxrt.serving.rpc.methods import Unary
from jaxrt.serving.rpc.wire import Malformed, parsed

_log = logging.getLogger("jaxrt.serving")


class Counters(Protocol):
    """The numbers that a reload may ask the increase of."""

    def totals(self, names: Sequence[str]) -> Mapping[str, int]:
        """Name of a counter, as TensorFlow Serving has it → the sum of its series; known ones."""


class ModelService:
    """The service over `models`; without `reload` the set of models stays as it is."""

    def __init__(
        self, models: Models, *, reload: Reload | None = None, counters: Counters | None = None
    ) -> None:
        self._models = models
        self._reload = reload
        self._counters = counters

    async def get_model_status(
        self, data: bytes, at: int, deadline: float | None
    ) -> Sequence[Chunk]:
        request = _read("GetModelStatusRequest", data, at)
        if not request.HasField("model_spec"):
            raise InvalidArgument("Missing ModelSpec")
        asked = modelspec.read(request.model_spec.SerializeToString())
        answer = message("GetModelStatusResponse")()
        for status in self._models.status(asked.name, asked.version):
            listed = answer.model_version_status.add()
            listed.version = status.version
            listed.state = STATES[status.state]
            listed.status.error_code = status.code.value
            listed.status.error_message = _text(status.message)
        return [answer.SerializeToString()]

    async def reload_config(self, data: bytes, at: int, deadline: float | None) -> Sequence[Chunk]:
        request = _read("ReloadConfigRequest", data, at)
        names = list(request.metric_names)
        before = self._totals(names)
        try:
            await self._replace(b"".join(request.config))
        except RequestError as error:
            _log.error("ReloadConfig failed: %s", error)
            raise
        after = self._totals(names)
        answer = message("ReloadConfigResponse")()
        answer.status.error_code = Code.OK.value
        for name in names:
            increase = after.get(name, 0) - before.get(name, 0)
            answer.metric.add(name=name, int64_value_increase=increase)
        return [answer.SerializeToString()]

    async def _replace(self, serialized: bytes) -> None:
        if self._reload is None:
            raise Unimplemented(
                "the models of this server are fixed; start it with --model_config_file"
            )
        try:
            models = config.from_bytes(serialized)
        except DecodeError as error:
            raise Malformed(str(error)) from None
        except UsageError as error:
            raise InvalidArgument(str(error)) from None
        for model in models:
            _log.info("reload: model %s at %s", model.name, model.base_path)
        await self._reload.reload(models)

    def _totals(self, names: Sequence[str]) -> Mapping[str, int]:
        return {} if self._counters is None or not names else self._counters.totals(names)

    def methods(self) -> dict[bytes, Unary]:
        """By path."""
        service = b"/tensorflow.serving.ModelService/"
        return {
            service + b"GetModelStatus": self.get_model_status,
            service + b"HandleReloadConfigRequest": self.reload_config,
        }


def _read(name: str, data: bytes, at: int) -> Any:
    return parsed(message(name).FromString, bytes(memoryview(data)[at:]))


def _text(said: str) -> str:
    """As a protobuf string takes it."""
    return said.encode("utf-8", "replace").decode()
