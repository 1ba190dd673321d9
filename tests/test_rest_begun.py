"""Predictions that are begun: they answer and count as those that are waited for."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from test_engine_version import Program, spec

from jaxrt.serving.answer import Answer
from jaxrt.serving.engine.manager import Manager
from jaxrt.serving.engine.scheduler import Scheduler
from jaxrt.serving.engine.servable import HostTensors, Rows, SignaturePrograms
from jaxrt.serving.engine.version import Version
from jaxrt.serving.engine.warmup import warm
from jaxrt.serving.monitoring import families
from jaxrt.serving.monitoring.calls import Calls
from jaxrt.serving.rest.routes import OFF_LOOP, RestApi

PATH = b"/v1/models/m:predict"
BODY = b'{"signature_name": "s", "instances": [[1, 2]]}'
DOUBLED = b'{\n    "predictions": [[2.0, 4.0]\n    ]\n}'


class Wide(Program):
    """Answers that are too long to be written on the event loop."""

    def run(self, inputs: HostTensors) -> HostTensors:
        return {"y": np.zeros((len(inputs["x"]), OFF_LOOP // 10), np.float32)}


class Broken(Program):
    """Raises on a 7."""

    def run(self, inputs: HostTensors) -> HostTensors:
        if (inputs["x"] == 7).any():
            raise ValueError("a bug")
        return super().run(inputs)


class World:
    """One model whose program of [1, 2] runs on the event loop."""

    def __init__(self, program: type[Program] = Program) -> None:
        self.calls = Calls()
        self.program = program({"x": (1, 2)})
        self.scheduler = Scheduler(quick_seconds=10.0)
        signature = SignaturePrograms(spec=spec("x"), programs=[(self.program, Rows.INDEPENDENT)])
        self.version = Version(
            name="m", version=1, signatures={"s": signature}, scheduler=self.scheduler,
            calls=self.calls,
        )  # fmt: skip
        self.manager = Manager(schedulers=[self.scheduler])
        self.manager.add(self.version)
        self.api = RestApi(
            self.manager, clock=time.monotonic, timeout_ms=30_000, cors=True, calls=self.calls
        )

    def begin(self, body: bytes = BODY) -> "tuple[Any, asyncio.Future[Answer]]":
        about = self.api.about("POST", PATH, [])
        assert about is not None
        answer = asyncio.get_running_loop().create_future()
        return self.api.begin(about, body, answer.set_result), answer

    def counted(self, code: str) -> int:
        return self.calls.registry.counter(families.REQUEST_COUNT, "m", code).value


def run(scenario: Callable[[World], Coroutine[Any, Any, None]], world: World) -> None:
    async def whole() -> None:
        await warm(world.version)
        await scenario(world)
        assert await world.manager.drain(20)

    asyncio.run(asyncio.wait_for(whole(), 60))


def test_what_was_begun_answers_in_a_later_turn_as_what_was_waited_for() -> None:
    async def scenario(world: World) -> None:
        begun, answer = world.begin()
        assert begun is not None
        assert not answer.done()
        found = await answer
        assert found.body == DOUBLED
        assert found == await world.api.answer("POST", PATH, [], BODY)
        assert world.counted("OK") == 2
        runs = world.calls.registry.histogram(
            families.RUNTIME_LATENCY, "m", "Predict", "JAX"
        ).snapshot()
        assert runs.count == 2

    run(scenario, World())


def test_one_that_is_cancelled_is_counted_and_gets_no_answer() -> None:
    async def scenario(world: World) -> None:
        ran = len(world.program.batches)
        begun, answer = world.begin()
        begun.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not answer.done()
        assert world.counted("CANCELLED") == 1
        assert world.version.metrics.cancelled.value == 1
        assert len(world.program.batches) == ran
        await asyncio.wait_for(world.version.idle(), 20)

    run(scenario, World())


def test_a_long_answer_is_written_off_the_loop() -> None:
    async def scenario(world: World) -> None:
        begun, answer = world.begin()
        assert len((await answer).body) > OFF_LOOP / 2
        begun, answer = world.begin()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        begun.cancel()  # while it is written
        assert world.counted("CANCELLED") == 1
        await asyncio.sleep(0.05)
        assert not answer.done()

    run(scenario, World(Wide))


def test_a_program_that_fails_is_a_500_with_the_headers_of_every_answer() -> None:
    async def scenario(world: World) -> None:
        body = BODY.replace(b"1", b"7")
        _, answer = world.begin(body)
        found = await answer
        assert found == await world.api.answer("POST", PATH, [], body)
        assert found.status == 500
        assert (b"access-control-allow-origin", b"*") in found.headers
        assert world.counted("INTERNAL") == 2

    run(scenario, World(Broken))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"instances": [[1, 2]]}',
        BODY.replace(b"[1, 2]", b'["a", 2]'),
        BODY.replace(b"[1, 2]", b"[1, 2, 3]"),
        BODY.replace(b"[[1, 2]]", b"[[1, 2], [3, 4]]"),
        BODY.replace(b"[[1, 2]]", b" " * OFF_LOOP + b"[[1, 2]]"),
    ],
)
def test_what_is_wrong_or_out_of_the_ordinary_is_not_begun_and_not_counted(body: bytes) -> None:
    async def scenario(world: World) -> None:
        begun, answer = world.begin(body)
        assert begun is None
        await asyncio.sleep(0)
        assert not answer.done()
        assert (
            world.calls.registry.cells.known().count((families.REQUEST_COUNT.name, ("m", "OK")))
            == 0
        )

    run(scenario, World())


def test_a_server_that_drains_begins_nothing() -> None:
    async def scenario(world: World) -> None:
        assert await world.version.drain(1)
        assert world.begin()[0] is None
        assert (await world.api.answer("POST", PATH, [], BODY)).status == 503

    run(scenario, World())


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", b"/v1/models/m", []),
        ("POST", b"/v1/models/m:classify", []),
        ("POST", b"/v1/models/m", []),
        ("POST", b"/v1/models/" + b"m" * 600 + b":predict", []),
        ("POST", PATH, [(b"content-encoding", b"gzip")]),
        ("POST", PATH, [(b"expect", b"something")]),
    ],
)
def test_other_requests_all_go_the_long_way(
    method: str, path: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    api = RestApi(Manager(), clock=time.monotonic, timeout_ms=0, cors=False)
    assert api.about(method, path, headers) is None
