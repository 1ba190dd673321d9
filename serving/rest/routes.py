"""The REST API: /v1/... and the pages of the HTTP layer around it, in and out as bytes.

`RestApi.answer` is the whole of it; calling the object is its ASGI form.
"""

import asyncio
import functools
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from starlette.types import Receive, Scope, Send

from jaxrt.errors import Cancelled, Code, InvalidArgument, RequestError
from jaxrt.serving.answer import Answer, Begun, Headers, Reply
from jaxrt.serving.asgi import path_of, respond
from jaxrt.serving.engine.servable import HostTensors, Models, Servable
from jaxrt.serving.limits import MAX_INFLATED
from jaxrt.serving.monitoring.calls import Calls
from jaxrt.serving.rest import classification, decode, encode, regression
from jaxrt.serving.rest.body import inflated
from jaxrt.serving.rest.errors import HTTP_STATUS, error_body, html_page
from jaxrt.serving.rest.examples import examples, fed
from jaxrt.serving.rest.json_reader import parse
from jaxrt.serving.rest.metadata import metadata_body
from jaxrt.serving.rest.status import status_body
from jaxrt.serving.rest.tensors import STRICT, WRAPPING
from jaxrt.serving.rest.urls import Target, Verb, is_api, is_legal, parse_target
from jaxrt.specs import SignatureSpec, TensorSpec

T = TypeVar("T")

OFF_LOOP = 256 << 10
"""Bodies of more bytes are read and written in a thread: about 1 ms of the event loop's time."""

_ENTRYPOINT = "REST"
_OK = Code.OK  # an enum's members are found slowly

_METHODS = frozenset(("GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"))
_JSON = b"application/json"
_HTML = b"text/html"
_LIBEVENT_DEFAULT = b"text/html; charset=ISO-8859-1"
_CORS = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"POST, GET"),
    (b"access-control-allow-headers", b"Content-Type"),
)

_log = logging.getLogger(__name__)


def _found(method: str, path: bytes) -> tuple[Target, str]:
    """What a request is about, and the name its API is counted under."""
    target = parse_target(method, path)
    reads = target.verb in (Verb.STATUS, Verb.METADATA)
    return target, "" if reads else target.verb.value


# A server is asked for few paths, again and again. Errors are not kept, nor is what is too long.
_known = functools.lru_cache(maxsize=1024)(_found)
_REMEMBERED = 512
"""Bytes of a path."""


class RestApi:
    """TF Serving's REST API over `models`.

    `timeout_ms` (`--rest_api_timeout_in_ms`) bounds a prediction, 0 or less means no limit; `clock`
    is the one of the deadlines that `Servable.predict` takes; `cors` adds the three CORS headers to
    every answer but the HTML pages; `check_method_name` (`--enable_signature_method_name_check`)
    makes classify and regress look at it; a gzip body of more than `max_inflated` bytes is taken
    for an empty one; `strict_integers` refuses integers that TF Serving cuts to 8 or 16 bits. A
    client that hangs up cancels its prediction. Every request but those for the HTML pages is
    counted in `calls`.
    """

    def __init__(
        self,
        models: Models,
        *,
        clock: Callable[[], float],
        timeout_ms: int,
        cors: bool,
        check_method_name: bool = False,
        max_inflated: int = MAX_INFLATED,
        strict_integers: bool = False,
        calls: Calls | None = None,
    ) -> None:
        self._models = models
        self._clock = clock
        self._timeout = timeout_ms / 1000 if timeout_ms > 0 else None
        self._cors = cors
        self._check_method_name = check_method_name
        self._max_inflated = max_inflated
        self._kinds = STRICT if strict_integers else WRAPPING
        self._calls = calls or Calls()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        page = _page(scope["method"], path_of(scope), scope["headers"])
        # The page may be what tells the client not to send its body.
        await respond(self, scope, receive, send, read=page is None)

    async def answer(self, method: str, path: bytes, headers: Headers, body: bytes) -> Answer:
        """To a request for `path`, as it was sent, `?query` included; header names in lower case.

        Never raises; cancelling it drops the prediction.
        """
        page = _page(method, path, headers)
        if page is not None:
            return _answer(page, _HTML, html_page(page))
        started = self._clock()
        extra = _CORS if self._cors else ()
        model = api = ""
        code = _OK
        try:
            if method == "OPTIONS":
                code, answer = _preflight(headers, extra)
                return answer
            find = _known if len(path) <= _REMEMBERED else _found
            target, api = find(method, path)
            model = target.model
            found = await self._respond(target, headers, body)
            answer = _answer(200, _JSON, found, extra)
        except RequestError as error:
            code, answer = _refusal(error, extra)
        except asyncio.CancelledError:
            code = Code.CANCELLED
            raise
        except Exception:
            _log.exception("%s %s", method, path.decode("latin-1"))
            code, answer = _fault(extra)
        finally:
            self._calls.finished(model, code, api, _ENTRYPOINT, self._clock() - started)
        return answer

    def about(self, method: str, path: bytes, headers: Headers) -> Target | None:
        """As Direct says: predictions."""
        if len(path) > _REMEMBERED or _page(method, path, headers) is not None:
            return None
        if any(name == b"content-encoding" for name, _ in headers):
            return None
        try:
            target, _ = _known(method, path)
        except RequestError:
            return None
        return target if target.verb is Verb.PREDICT else None

    def begin(self, about: Target, body: bytes, reply: Reply) -> Begun | None:
        """As Direct says."""
        if len(body) > OFF_LOOP:
            return None
        started = self._clock()
        try:
            servable = self._servable(about)
            if not servable.startable:
                return None
            request = parse(body)
            name, spec = decode.signature(request, servable.signatures)
            if name not in servable.startable:
                return None
            form, inputs = decode.inputs(request, spec, self._kinds)
            ready = self._clock()
            deadline = None if self._timeout is None else ready + self._timeout
            write = encode.rows if form is decode.Format.ROW else encode.columns
            call = _Call(self, about, servable, spec, write, started, ready, reply)
            call.begun = servable.start(name, inputs, deadline=deadline, told=call.told)
        except Exception:
            return None  # `answer` finds the same, and says it
        return call if call.begun is not None else None

    async def _respond(self, target: Target, headers: Headers, body: bytes) -> bytes:
        match target.verb:
            case Verb.STATUS:
                # The label is ignored: all versions are listed.
                return status_body(self._models.status(target.model, target.version))
            case Verb.METADATA:
                return metadata_body(self._servable(target))
        for name, value in headers:
            if name == b"content-encoding" and b"gzip" in value:
                body = await _in_thread(inflated, body, self._max_inflated)
                break
        if target.verb is Verb.PREDICT:
            return await self._predict(target, body)
        return await self._infer(target, body)

    def _servable(self, target: Target) -> Servable:
        return self._models.get(target.model, version=target.version, label=target.label)

    async def _predict(self, target: Target, body: bytes) -> bytes:
        started = self._clock()
        request = await _apart(len(body), parse, body)
        decode.signature_name(request)  # its type is checked before the model is looked up
        servable = self._servable(target)
        name, spec = decode.signature(request, servable.signatures)
        form, inputs = await _apart(len(body), decode.inputs, request, spec, self._kinds)
        ready = self._clock()
        outputs = await self._run(servable, name, inputs)
        ran = self._clock()
        write = encode.rows if form is decode.Format.ROW else encode.columns
        found = await _apart(encode.encoded_size(outputs), write, outputs, spec.outputs)
        self._count(servable, "Predict", started, ready, ran)
        return found

    async def _infer(self, target: Target, body: bytes) -> bytes:
        """Classify and regress: all of the body is read before the model is looked up."""
        api = classification if target.verb is Verb.CLASSIFY else regression
        started = self._clock()
        request = await _apart(len(body), parse, body)
        name = decode.signature_name(request) or decode.DEFAULT_SIGNATURE
        serialized = await _apart(len(body), examples, request)
        servable = self._servable(target)
        if name not in servable.signatures:
            raise InvalidArgument(f"No signature was found with the name: {name}")
        spec = servable.signatures[name]
        api.check(spec, self._check_method_name)
        inputs = fed(spec, serialized)
        ready = self._clock()
        outputs = await self._run(servable, name, inputs)
        ran = self._clock()
        size = encode.encoded_size(outputs)
        found: bytes = await _apart(size, api.body, outputs, spec, len(serialized))
        label = "Classify" if target.verb is Verb.CLASSIFY else "Regress"
        self._count(servable, label, started, ready, ran)
        return found

    def _count(
        self, servable: Servable, api: str, started: float, ready: float, ran: float
    ) -> None:
        """A prediction that was written just now; the other three are instants before that."""
        parse, run, encode = ready - started, ran - ready, self._clock() - ran
        self._calls.served(servable.name, servable.version, api, parse, run, encode)

    async def _run(self, servable: Servable, signature: str, inputs: HostTensors) -> HostTensors:
        deadline = None if self._timeout is None else self._clock() + self._timeout
        try:
            return await servable.predict(signature, inputs, deadline=deadline)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise Cancelled("the server dropped the request") from None


class _Call:
    """A prediction that was begun."""

    __slots__ = (
        "_about", "_api", "_ran", "_ready", "_reply", "_servable", "_spec", "_started", "_write",
        "begun",
    )  # fmt: skip

    def __init__(
        self, api: RestApi, about: Target, servable: Servable, spec: SignatureSpec,
        write: Callable[[HostTensors, Mapping[str, TensorSpec]], bytes],
        started: float, ready: float, reply: Reply,
    ) -> None:  # fmt: skip
        self._api = api
        self._about = about
        self._servable = servable
        self._spec = spec
        self._write = write
        self._started = started
        self._ready = ready
        self._reply = reply
        self.begun: Begun | None = None

    def told(self, found: HostTensors | Exception) -> None:
        self._ran = self._api._clock()
        if isinstance(found, Exception):
            self._answer(found)
        elif encode.encoded_size(found) <= OFF_LOOP:
            try:
                self._answer(self._write(found, self._spec.outputs))
            except Exception as error:
                self._answer(error)
        else:
            self.begun = written = asyncio.ensure_future(
                _in_thread(self._write, found, self._spec.outputs)
            )
            written.add_done_callback(self._written)

    def cancel(self) -> None:
        assert self.begun is not None
        self.begun.cancel()
        self._finished(Code.CANCELLED)

    def _written(self, written: asyncio.Future[bytes]) -> None:
        if not written.cancelled():
            self._answer(written.exception() or written.result())

    def _answer(self, found: bytes | BaseException) -> None:
        api = self._api
        extra = _CORS if api._cors else ()
        if isinstance(found, bytes):
            api._count(self._servable, "Predict", self._started, self._ready, self._ran)
            code, answer = _OK, _answer(200, _JSON, found, extra)
        elif isinstance(found, RequestError):
            code, answer = _refusal(found, extra)
        else:
            _log.error("prediction of %s", self._about.model, exc_info=found)
            code, answer = _fault(extra)
        self._finished(code)
        self._reply(answer)

    def _finished(self, code: Code) -> None:
        seconds = self._api._clock() - self._started
        self._api._calls.finished(self._about.model, code, "predict", _ENTRYPOINT, seconds)


_Extra = Iterable[tuple[bytes, bytes]]


def _refusal(error: RequestError, extra: _Extra) -> tuple[Code, Answer]:
    return error.code, _answer(HTTP_STATUS[error.code], _JSON, error_body(str(error)), extra)


def _fault(extra: _Extra) -> tuple[Code, Answer]:
    text = error_body("Internal error: see the log of the server")
    return Code.INTERNAL, _answer(500, _JSON, text, extra)


def _preflight(headers: Headers, extra: Iterable[tuple[bytes, bytes]]) -> tuple[Code, Answer]:
    origin = dict(headers).get(b"origin", b"")
    if b"http://" in origin or b"https://" in origin:
        return _OK, _answer(200, _LIBEVENT_DEFAULT, b"", extra)
    return Code.INVALID_ARGUMENT, _answer(400, _LIBEVENT_DEFAULT, b"", extra)


def _page(method: str, path: bytes, headers: Headers) -> int | None:
    """The status of the HTML page that the HTTP layer answers with, None if it does not."""
    known = _known_page if len(path) <= _REMEMBERED else _page_of_path
    page = known(method, path)
    if page in (None, 404):
        for name, value in headers:
            if name == b"expect" and value.lower() != b"100-continue":
                return 417
    return page


def _page_of_path(method: str, path: bytes) -> int | None:
    if not is_legal(path):
        return 400
    if method not in _METHODS:
        return 501
    return None if is_api(path) else 404


_known_page = functools.lru_cache(maxsize=1024)(_page_of_path)


def _answer(
    status: int,
    content_type: bytes,
    body: bytes,
    extra: Iterable[tuple[bytes, bytes]] = (),
) -> Answer:
    length = str(len(body)).encode()
    headers = ((b"content-type", content_type), (b"content-length", length), *extra)
    return Answer(status, headers, body)


async def _in_thread(work: Callable[..., T], *arguments: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, work, *arguments)


async def _apart(size: int, work: Callable[..., T], *arguments: Any) -> T:
    """The result of the work on `size` bytes, in a thread if that takes long."""
    if size <= OFF_LOOP:
        return work(*arguments)
    return await _in_thread(work, *arguments)
