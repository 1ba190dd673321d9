"""The gRPC port, when another process opens it between the server's bind and its start."""

import asyncio
import socket
from collections.abc import Iterator

import pytest
import uvloop
from rest_server import FakeModels

from jaxrt.errors import UsageError
from jaxrt.serving import server
from jaxrt.serving.monitoring.calls import Calls
from jaxrt.serving.rpc.service import GrpcService, Options


@pytest.fixture
def late() -> Iterator[socket.socket]:
    """A bound socket whose port another one has opened since."""
    with (
        server.bind("127.0.0.1", 0) as ours,
        server.bind("127.0.0.1", ours.getsockname()[1]) as theirs,
    ):
        theirs.listen()
        yield ours


def _service(sock: socket.socket, *, needed: bool) -> GrpcService:
    return GrpcService(FakeModels(servables=[]), [sock], Options(), calls=Calls(), needed=needed)


def test_a_port_that_was_asked_for_is_an_error(late: socket.socket) -> None:
    with (
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        pytest.raises(UsageError, match=r"--port: address already in use; pass another --port"),
    ):
        runner.run(_service(late, needed=True).open())


def test_a_default_port_stays_closed(late: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    async def whole() -> bool:
        service = _service(late, needed=False)
        await service.open()
        return await service.stop(1)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(whole())
    assert "in use; pass another --port: it stays closed" in caplog.text
