"""The front: all the HTTP APIs of a server, by path."""

from starlette.types import Receive, Scope, Send

from jaxrt.serving.answer import Answer, Headers
from jaxrt.serving.asgi import respond
from jaxrt.serving.rest.routes import RestApi
from jaxrt.serving.v2.routes import V2Api, is_v2


class Front:
    """KServe's protocol under /v2, TensorFlow Serving's everywhere else; also as ASGI."""

    def __init__(self, rest: RestApi, v2: V2Api) -> None:
        self._rest = rest
        self._v2 = v2

    async def answer(self, method: str, path: bytes, headers: Headers, body: bytes) -> Answer:
        if is_v2(path):
            return await self._v2.answer(method, path, headers, body)
        return await self._rest.answer(method, path, headers, body)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if is_v2(scope["raw_path"]):
            await respond(self._v2, scope, receive, send)
        else:
            await self._rest(scope, receive, send)
