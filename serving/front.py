"""The front: all the HTTP APIs of a server, by path."""

from typing import Any

from starlette.types import Receive, Scope, Send

from jaxrt.serving.answer import Answer, Begun, Headers, Reply
from jaxrt.serving.asgi import path_of, respond
from jaxrt.serving.monitoring.page import Page
from jaxrt.serving.rest.routes import RestApi
from jaxrt.serving.v2.routes import V2Api, is_v2


class Front:
    """Monitoring's page, KServe's protocol under /v2, TensorFlow Serving's everywhere else.

    Also as ASGI.
    """

    def __init__(self, rest: RestApi, v2: V2Api, page: Page | None = None) -> None:
        self._page = page
        self._rest = rest
        self._v2 = v2

    async def answer(self, method: str, path: bytes, headers: Headers, body: bytes) -> Answer:
        if self._page is not None and self._page.is_asked(method, path):
            return await self._page.answer(path)
        if is_v2(path):
            return await self._v2.answer(method, path, headers, body)
        return await self._rest.answer(method, path, headers, body)

    def about(self, method: str, path: bytes, headers: Headers) -> Any | None:
        """As Direct says."""
        if is_v2(path) or (self._page is not None and self._page.is_asked(method, path)):
            return None
        return self._rest.about(method, path, headers)

    def begin(self, about: Any, body: bytes, reply: Reply) -> Begun | None:
        """As Direct says."""
        return self._rest.begin(about, body, reply)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._page is not None and self._page.is_asked(scope["method"], path_of(scope)):
            await respond(self, scope, receive, send)
        elif is_v2(scope["raw_path"]):
            await respond(self._v2, scope, receive, send)
        else:
            await self._rest(scope, receive, send)
