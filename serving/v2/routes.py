"""The protocol's endpoints, in and out as bytes.

GET /v2, /v2/health/live, /v2/health/ready, /v2/models/M[/versions/V][/ready] and POST
/v2/models/M[/versions/V]/infer. Errors are `{"error": "..."}`.
"""

import asyncio
import logging
import re
import urllib.parse
from collections.abc import Callable
from typing import Any, TypeVar

import orjson

from jaxrt import __version__
from jaxrt.errors import Code, InvalidArgument, NotFound, RequestError
from jaxrt.serving.answer import Answer, Headers
from jaxrt.serving.engine.servable import Models, Servable
from jaxrt.serving.monitoring.calls import Calls
from jaxrt.serving.rest.errors import HTTP_STATUS
from jaxrt.serving.v2.datatypes import NAMES
from jaxrt.serving.v2.request import inputs, parse
from jaxrt.serving.v2.response import response
from jaxrt.specs import SignatureSpec, TensorSpec

T = TypeVar("T")

DEFAULT_SIGNATURE = "serving_default"
OFF_LOOP = 256 << 10
"""Bodies of more bytes are read and written in a thread."""

_MODEL = re.compile(r"/v2/models/([^/]+)(?:/versions/([0-9]{1,18}))?(/ready|/infer)?")
_JSON_LENGTH = b"inference-header-content-length"

_log = logging.getLogger(__name__)


def is_v2(path: bytes) -> bool:
    return path.startswith((b"/v2/", b"/v2?")) or path == b"/v2"


class V2Api:
    """KServe's v2 protocol over `models`; `timeout_ms`, `clock` and `calls` as in RestApi.

    Inferences are counted, probes are not.
    """

    def __init__(
        self,
        models: Models,
        *,
        clock: Callable[[], float],
        timeout_ms: int,
        calls: Calls | None = None,
    ) -> None:
        self._models = models
        self._clock = clock
        self._timeout = timeout_ms / 1000 if timeout_ms > 0 else None
        self._calls = calls or Calls()

    async def answer(self, method: str, path: bytes, headers: Headers, body: bytes) -> Answer:
        """Never raises; cancelling it drops the prediction."""
        try:
            return await self._answer(method, path.decode("latin-1"), dict(headers), body)
        except RequestError as error:
            return _json(HTTP_STATUS[error.code], {"error": _printable(str(error))})
        except Exception:
            _log.exception("%s %s", method, path.decode("latin-1"))
            return _json(500, {"error": "internal error: see the log of the server"})

    async def _answer(
        self, method: str, path: str, headers: dict[bytes, bytes], body: bytes
    ) -> Answer:
        path = path.partition("?")[0].rstrip("/")
        match = _MODEL.fullmatch(path)
        if match and method == ("POST" if match[3] == "/infer" else "GET"):
            name = urllib.parse.unquote(match[1])
            version = int(match[2]) if match[2] else None
            if match[3] == "/infer":
                return await self._counted(name, version, headers, body)
            return self._about(name, version, match[3] == "/ready")
        if method == "GET" and path == "/v2":
            extensions = ["binary_tensor_data"]
            return _json(200, {"name": "jaxrt", "version": __version__, "extensions": extensions})
        if method == "GET" and path == "/v2/health/live":
            return _json(200, {"live": True})
        if method == "GET" and path == "/v2/health/ready":
            ready = self._models.ready()
            return _json(200 if ready else 503, {"ready": ready})
        raise NotFound(f"{method} {path}: no such endpoint")

    def _about(self, name: str, version: int | None, ready: bool) -> Answer:
        servable = self._models.get(name, version=version)
        if ready:
            return _json(200, {"name": name, "ready": True})
        spec = servable.signatures.get(DEFAULT_SIGNATURE)
        return _json(
            200,
            {
                "name": name,
                "versions": [str(status.version) for status in self._models.status(name)],
                "platform": "jaxrt",
                "inputs": _tensors(spec.inputs) if spec else [],
                "outputs": _tensors(spec.outputs) if spec else [],
            },
        )

    async def _counted(
        self, name: str, version: int | None, headers: dict[bytes, bytes], body: bytes
    ) -> Answer:
        started = self._clock()
        code = Code.INTERNAL
        try:
            servable = self._models.get(name, version=version)
            answer = await self._infer(servable, headers, body)
            code = Code.OK
            return answer
        except RequestError as error:
            code = error.code
            raise
        except asyncio.CancelledError:
            code = Code.CANCELLED
            raise
        finally:
            self._calls.finished(name, code, "infer", "V2", self._clock() - started)

    async def _infer(self, servable: Servable, headers: dict[bytes, bytes], body: bytes) -> Answer:
        if b"content-encoding" in headers:
            raise InvalidArgument("Content-Encoding: want the body as it is")
        started = self._clock()
        request = await _apart(len(body), parse, body, _json_length(headers), DEFAULT_SIGNATURE)
        spec: SignatureSpec | None = servable.signatures.get(request.signature)
        if spec is None:
            known = ", ".join(sorted(servable.signatures))
            raise InvalidArgument(f"signature {request.signature!r}: unknown, want one of {known}")
        tensors = await _apart(len(body), inputs, request, spec)
        ready = self._clock()
        deadline = None if self._timeout is None else ready + self._timeout
        outputs = await servable.predict(request.signature, tensors, deadline=deadline)
        ran = self._clock()
        size = sum(array.nbytes for array in outputs.values())
        text, raw = await _apart(
            size, response, request, outputs, spec, servable.name, servable.version
        )
        self._calls.served(
            servable.name,
            servable.version,
            "Predict",
            ready - started,
            ran - ready,
            self._clock() - ran,
        )
        if not raw:
            return _answer(200, b"application/json", text)
        length = (b"inference-header-content-length", str(len(text)).encode())
        return _answer(200, b"application/octet-stream", text + raw, length)


def _json_length(headers: dict[bytes, bytes]) -> int | None:
    text = headers.get(_JSON_LENGTH)
    if text is None:
        return None
    if not text.isdigit():
        raise InvalidArgument(f"Inference-Header-Content-Length: {text!r} is no number of bytes")
    return int(text)


def _tensors(specs: Any) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "datatype": NAMES.get(spec.dtype, spec.dtype),
            "shape": _shape(spec),
        }
        for name, spec in specs.items()
    ]


def _shape(spec: TensorSpec) -> list[int]:
    return [-1 if size is None else size for size in spec.shape or ()]


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _json(status: int, content: Any) -> Answer:
    return _answer(status, b"application/json", orjson.dumps(content))


def _answer(status: int, content_type: bytes, body: bytes, *extra: tuple[bytes, bytes]) -> Answer:
    length = str(len(body)).encode()
    headers = ((b"content-type", content_type), (b"content-length", length), *extra)
    return Answer(status, headers, body)


async def _apart(size: int, work: Callable[..., T], *arguments: Any) -> T:
    if size <= OFF_LOOP:
        return work(*arguments)
    return await asyncio.get_running_loop().run_in_executor(None, work, *arguments)
