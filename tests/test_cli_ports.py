import logging
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from jaxrt.cli import ports
from jaxrt.cli.settings import Settings
from jaxrt.errors import UsageError


def settings(**given: Any) -> Settings:
    chosen: dict[str, Any] = {"port": None, "rest_api_port": None, "grpc_socket_path": None}
    chosen |= {"rest_api_host": "127.0.0.1", "given": frozenset(given)}
    return cast(Settings, SimpleNamespace(**(chosen | given)))


@pytest.fixture
def busy() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


def test_both_ports_and_a_unix_socket_are_bound(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with ports.bound(settings(port=0, rest_api_port=0, grpc_socket_path=path), None) as found:
        assert found.rest is not None
        assert [sock.family for sock in found.grpc] == [socket.AF_INET, socket.AF_UNIX]
        assert "gRPC" not in found.where("m")  # none is open
        for sock in found.grpc:
            sock.listen()
        where = found.where("m")
    assert "/v1/models/m:predict, gRPC port " in where
    assert where.endswith(f"gRPC {path}")


def test_a_port_that_was_asked_for_has_to_be_free(busy: int) -> None:
    with (
        pytest.raises(UsageError, match=r"in use; stop what uses it or pass another --port$"),
        ports.bound(settings(port=busy, rest_api_port=0), None),
    ):
        pass


def test_a_default_port_that_is_taken_stays_closed(
    busy: int, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = settings(port=busy, rest_api_port=0, given=frozenset({"rest_api_port"}))
    with ports.bound(chosen, None) as found:
        assert found.grpc == ()
    assert "it stays closed" in caplog.text
    with (
        pytest.raises(UsageError, match="no port is open"),
        ports.bound(settings(port=busy, given=frozenset()), None),
    ):
        pass


def test_one_number_for_both_is_grpcs(caplog: pytest.LogCaptureFixture, busy: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        number = probe.getsockname()[1]
    with (
        caplog.at_level(logging.ERROR),
        ports.bound(settings(port=number, rest_api_port=number), None) as found,
    ):
        assert found.rest is None
        assert len(found.grpc) == 1
    assert "REST stays closed" in caplog.text


def test_workers_share_a_number_and_nothing_else(busy: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--grpc_socket_path"):
        ports.reserve(settings(grpc_socket_path=str(tmp_path / "s")))
    with pytest.raises(UsageError, match="--port auto"):
        ports.reserve(settings(port=0))
    with pytest.raises(UsageError, match="in use"):
        ports.reserve(settings(port=busy))
    assert ports.reserve(settings()) is None


def test_a_path_where_a_server_listens_is_left_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen()
        with (
            pytest.raises(UsageError, match="another server listens there"),
            ports.bound(settings(grpc_socket_path=path), None),
        ):
            pass
    with ports.bound(settings(grpc_socket_path=path), None) as found:
        assert len(found.grpc) == 1
