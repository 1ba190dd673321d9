"""The wiring: health, readiness, lifespan, and the API behind everything else."""

import contextlib
import http.client
import json
from collections.abc import AsyncIterator

import pytest
from rest_server import Echo, FakeModels, echo_signature, serving
from starlette.applications import Starlette

from jaxrt.serving.app import build_app

ECHO = Echo(name="m", version=1, signatures={"serving_default": echo_signature(x="int32")})


def get(address: tuple[str, int], path: str, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection(*address, timeout=30)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_the_server_is_alive_before_it_is_ready() -> None:
    models = FakeModels(servables=[ECHO], is_ready=False)
    with serving(build_app(models, unready=lambda: ["m", "n"])) as server:
        assert get(server, "/healthz") == (200, "ok")
        assert get(server, "/readyz") == (503, "not ready: m, n")
        models.is_ready = True
        assert get(server, "/readyz") == (200, "ok")


def test_readiness_needs_no_names() -> None:
    with serving(build_app(FakeModels(servables=[], is_ready=False))) as server:
        assert get(server, "/readyz") == (503, "not ready")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("POST", "/healthz", 404),
        ("GET", "/healthz/", 404),
        ("GET", "/docs", 404),
        ("GET", "/v1/models/m", 200),
        ("GET", "/v1/models/m%0A", 404),
        ("GET", "/v1/models/", 400),
    ],
)
def test_every_other_path_is_the_apis(method: str, path: str, status: int) -> None:
    with serving(build_app(FakeModels(servables=[ECHO]))) as server:
        got, body = get(server, path, method)
    assert got == status
    assert json.loads(body) if path.startswith("/v1/") else body.startswith("<HTML>")


def test_the_lifespan_surrounds_the_server() -> None:
    events = []

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        events.append("start")
        yield
        events.append("stop")

    with serving(build_app(FakeModels(servables=[]), lifespan=lifespan)) as server:
        assert get(server, "/healthz")[0] == 200
        assert events == ["start"]
    assert events == ["start", "stop"]
