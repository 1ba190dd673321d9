"""The application: health pages and the REST API, wired."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from jaxrt.serving.engine.servable import Models
from jaxrt.serving.front import Front
from jaxrt.serving.limits import MAX_INFLATED
from jaxrt.serving.monitoring.calls import Calls
from jaxrt.serving.monitoring.page import Page
from jaxrt.serving.rest.routes import RestApi
from jaxrt.serving.v2.routes import V2Api

TIMEOUT_MS = 30_000
"""TF Serving's default of --rest_api_timeout_in_ms."""


class _Everything(BaseRoute):
    """Every HTTP request, whatever its path: a path pattern would miss encoded line breaks."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return (Match.FULL if scope["type"] == "http" else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def build_app(
    models: Models,
    *,
    unready: Callable[[], Sequence[str]] = tuple,
    clock: Callable[[], float] = time.monotonic,
    timeout_ms: int = TIMEOUT_MS,
    cors: bool = False,
    check_method_name: bool = False,
    max_inflated: int = MAX_INFLATED,
    strict_integers: bool = False,
    calls: Calls | None = None,
    page: Page | None = None,
    lifespan: Callable[[Starlette], AbstractAsyncContextManager[Any]] | None = None,
) -> Starlette:
    """GET /healthz, GET /readyz, TF Serving's API under /v1/ and KServe's v2 protocol under /v2.

    `unready` names what /readyz is waiting for; it is asked only while `models.ready()` is false.
    `page` shows what `calls` and others have counted. The other arguments are RestApi's, and
    Starlette's `lifespan`. The APIs are `state.api`, for a
    server that can do without ASGI's messages.
    """

    async def healthz(_: Request) -> PlainTextResponse:
        return PlainTextResponse("ok")

    async def readyz(_: Request) -> PlainTextResponse:
        if models.ready():
            return PlainTextResponse("ok")
        names = ", ".join(unready())
        return PlainTextResponse(f"not ready: {names}" if names else "not ready", status_code=503)

    rest = RestApi(
        models,
        clock=clock,
        timeout_ms=timeout_ms,
        cors=cors,
        check_method_name=check_method_name,
        max_inflated=max_inflated,
        strict_integers=strict_integers,
        calls=calls,
    )
    v2 = V2Api(models, clock=clock, timeout_ms=timeout_ms, calls=calls)
    api = Front(rest, v2, page)
    routes = [Route("/healthz", healthz), Route("/readyz", readyz), _Everything(api)]
    app = Starlette(routes=routes, lifespan=lifespan)
    app.state.api = api
    return app
