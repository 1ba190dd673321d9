"""Warm-up requests: those that a version brings along are answered before clients' are.

The rules are those of servables/tensorflow/saved_model_warmup.cc and saved_model_warmup_util.cc of
TensorFlow Serving: what fails to run fails the load. Model name and version of a request do not
count, its signature does.
"""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxrt import warmups
from jaxrt.errors import Code, InvalidArgument, ModelError, RequestError, Unavailable, Unimplemented
from jaxrt.serving.engine.fallback import NoProgram
from jaxrt.serving.engine.servable import HostTensors, Servable
from jaxrt.serving.rest import classification, regression
from jaxrt.serving.rest.examples import fed
from jaxrt.serving.rpc import inference, modelspec, prediction
from jaxrt.serving.rpc.messages import message
from jaxrt.serving.rpc.modelspec import ModelSpec
from jaxrt.serving.rpc.wire import Malformed, parsed
from jaxrt.tfrecord import NotATFRecord
from jaxrt.warmups import Kind, Request

log = logging.getLogger("jaxrt.serving")


class DataLoss(RequestError):
    """The warm-up file is no TFRecord."""

    code = Code.DATA_LOSS


PATIENCE = 600
"""Tries at a request while the queue is full of clients' requests to other versions."""
PAUSE = 0.1
"""Seconds between them."""


async def replay(
    servable: Servable, directory: Path, *, iterations: int = 1, check_method_name: bool = False
) -> int:
    """Answers each request of the version in `directory`, so many times; gives their number.

    A request that this server would refuse whoever sends it (a signature or a shape that was not
    compiled) is logged and left out: TensorFlow Serving would serve the rest too.
    `check_method_name` is --enable_signature_method_name_check. Raises RequestError leaves: what
    the file or a request deserves there.
    """
    requests = warmups.requests(directory)
    answer = _Answer(servable, check_method_name)
    count = 0
    # Checksums of images take a while: not on the event loop.
    while (request := await asyncio.to_thread(_next, requests)) is not None:
        for _ in range(max(1, iterations)):
            await answer.to(request)
        count += 1
    return count


def _next(requests: Iterator[Request]) -> Request | None:
    try:
        return next(requests, None)
    except NotATFRecord as error:
        raise DataLoss(str(error)) from None
    except warmups.NotReplayed as error:
        raise Unimplemented(str(error)) from None
    except ModelError as error:
        raise InvalidArgument(str(error)) from None


class _Answer:
    """Answers requests as the gRPC services do, and keeps no answer."""

    def __init__(self, servable: Servable, check_method_name: bool) -> None:
        self._servable = servable
        self._check = check_method_name

    async def to(self, request: Request) -> None:
        try:
            match request.kind:
                case Kind.PREDICT:
                    await self._predict(request)
                case Kind.CLASSIFY:
                    await self._infer(request, classification)
                case Kind.REGRESS:
                    await self._infer(request, regression)
                case Kind.MULTI_INFERENCE:
                    await self._multi_inference(request)
        except Malformed:
            unreadable = warmups.unreadable(request.where, len(request.serialized))
            raise InvalidArgument(str(unreadable)) from None
        except _Refused as refused:
            log.warning("%s: not replayed, clients would get: %s", request.where, refused.__cause__)
        except RequestError as error:
            raise type(error)(f"{error} ({request.where})") from error

    async def _predict(self, request: Request) -> None:
        asked = prediction.read(request.serialized, 0)
        name = asked.spec or ModelSpec()
        spec = prediction.signature(name, self._servable.signatures, check_method_name=self._check)
        inputs = await asyncio.to_thread(prediction.inputs, asked, spec)
        prediction.outputs(asked, spec)
        await self._run(name.signature, inputs)

    async def _infer(self, request: Request, api: ModuleType) -> None:
        asked = _read("InferenceRequest", request)
        name = modelspec.read(asked.model_spec.SerializeToString())
        spec = inference.signature(
            name, self._servable.signatures, "No signature was found with the name: "
        )
        api.check(spec, self._check)
        examples = inference.examples(asked.input)
        outputs = await self._run(name.signature, fed(spec, examples))
        inference.result(api, outputs, spec, len(examples))

    async def _multi_inference(self, request: Request) -> None:
        asked = _read("MultiInferenceRequest", request)
        listed = [
            (modelspec.read(task.model_spec.SerializeToString()), task.method_name)
            for task in asked.tasks
        ]
        tasks = inference.tasks(listed, self._servable.signatures, check_method_name=self._check)
        examples = inference.examples(asked.input)
        for name, api, spec in tasks:
            outputs = await self._run(name.signature, fed(spec, examples))
            inference.result(api, outputs, spec, len(examples))

    async def _run(self, signature: str, inputs: HostTensors) -> HostTensors:
        for _ in range(PATIENCE):
            try:
                return await self._servable.predict(signature, inputs, deadline=None)
            except (NoProgram, Unimplemented) as error:
                raise _Refused from error
            except Unavailable:
                await asyncio.sleep(PAUSE)
        return await self._servable.predict(signature, inputs, deadline=None)


class _Refused(Exception):
    """Not compiled; the cause says what."""


def _read(name: str, request: Request) -> Any:
    return parsed(message(name).FromString, request.serialized)
