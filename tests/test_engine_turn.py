"""Quick programs on the event loop."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from jaxrt.errors import DeadlineExceeded, Internal, Unavailable
from jaxrt.serving.engine.lane import Lane
from jaxrt.serving.engine.scheduler import Scheduler
from jaxrt.serving.engine.servable import HostTensors, Rows
from jaxrt.serving.engine.turn import quick

LIMIT = 0.001


class Program:
    """[n, 1] → y = 10 x; raises on a row of 13."""

    def __init__(self, rows: int, log: list[tuple[int, list[int]]]) -> None:
        self.input_shapes = self.output_shapes = {"x": (rows, 1)}
        self.log = log

    def run(self, inputs: HostTensors) -> HostTensors:
        x = inputs["x"]
        assert x.shape == self.input_shapes["x"]
        self.log.append((threading.get_ident(), x[:, 0].tolist()))
        if (x == 13).any():
            raise ValueError("unlucky")
        return {"y": x * 10}


class World:
    """A scheduler with one lane of the buckets 1, 4, 8; `ran` says where and what."""

    def __init__(self, seconds: dict[int, float], **limits: Any) -> None:
        self.ran: list[tuple[int, list[int]]] = []
        self.now = 0.0
        self.scheduler = Scheduler(quick_seconds=LIMIT, clock=lambda: self.now, **limits)
        self.lane = Lane(
            title="signature s",
            rows=Rows.INDEPENDENT,
            programs={n: Program(n, self.ran) for n in (1, 4, 8)},
            seconds=seconds,
        )

    def ask(self, *values: int, deadline: float | None = None) -> "asyncio.Task[HostTensors]":
        x = np.array(values, np.int64).reshape(-1, 1)
        work = self.scheduler.submit(self.lane, {"x": x}, rows=len(values), deadline=deadline)
        return asyncio.ensure_future(work)

    @property
    def batches(self) -> list[list[int]]:
        return [rows for _, rows in self.ran]

    @property
    def here(self) -> list[bool]:
        return [thread == threading.get_ident() for thread, _ in self.ran]


ALL_QUICK = {1: LIMIT, 4: LIMIT, 8: LIMIT}


def run(scenario: Callable[[World], Coroutine[Any, Any, None]], world: World) -> None:
    async def whole() -> None:
        await scenario(world)
        assert await world.scheduler.drain(20)

    asyncio.run(asyncio.wait_for(whole(), 60))


def values(outputs: HostTensors) -> list[int]:
    found: list[int] = outputs["y"][:, 0].tolist()
    return found


def test_requests_of_one_turn_share_a_batch_on_the_loop() -> None:
    async def scenario(world: World) -> None:
        tasks = [world.ask(1), world.ask(2, 3), world.ask(4)]
        assert [values(await task) for task in tasks] == [[10], [20, 30], [40]]
        assert world.batches == [[1, 2, 3, 4]]
        assert values(await world.ask(5)) == [50]
        assert world.batches[1:] == [[5]]
        assert all(world.here)

    run(scenario, World(ALL_QUICK))


def test_more_than_the_largest_quick_bucket_runs_in_several_turns() -> None:
    async def scenario(world: World) -> None:
        tasks = [world.ask(n) for n in range(6)]
        between = asyncio.ensure_future(asyncio.sleep(0))
        assert [values(await task) for task in tasks] == [[n * 10] for n in range(6)]
        assert between.done()
        assert world.batches == [[0, 1, 2, 3], [4, 5, 4, 4]]
        assert all(world.here)

    run(scenario, World({1: LIMIT / 2, 4: LIMIT, 8: 2 * LIMIT}))


def test_a_request_that_needs_a_slow_bucket_goes_to_the_devices_thread() -> None:
    async def scenario(world: World) -> None:
        assert values(await world.ask(*range(5))) == [0, 10, 20, 30, 40]
        assert values(await world.ask(7)) == [70]
        assert world.here == [False, True]

    run(scenario, World({1: LIMIT / 2, 4: LIMIT, 8: 2 * LIMIT}))


@pytest.mark.parametrize(
    ("seconds", "limits"),
    [
        ({}, {}),
        ({1: 0.0, 4: 0.0}, {}),
        ({1: 2 * LIMIT, 4: 2 * LIMIT, 8: 2 * LIMIT}, {}),
        (ALL_QUICK, {"batch_timeout_micros": 1}),
    ],
)
def test_what_is_slow_unmeasured_or_held_open_stays_on_its_thread(
    seconds: dict[int, float], limits: dict[str, int]
) -> None:
    async def scenario(world: World) -> None:
        answer = world.ask(*range(8))
        assert values(await answer) == [n * 10 for n in range(8)]
        assert world.here == [False]

    run(scenario, World(seconds, **limits))


def test_a_bad_request_fails_alone() -> None:
    async def scenario(world: World) -> None:
        good, bad = world.ask(1), world.ask(13)
        assert values(await good) == [10]
        with pytest.raises(Internal, match="unlucky"):
            await bad

    run(scenario, World(ALL_QUICK))


def test_a_cancelled_request_never_runs_and_a_late_one_is_told() -> None:
    async def scenario(world: World) -> None:
        cancelled, late, good = world.ask(1), world.ask(2, deadline=5.0), world.ask(3)
        await asyncio.sleep(0)  # all are in the queue, and the turn comes next
        cancelled.cancel()
        world.now = 6.0
        assert values(await good) == [30]
        with pytest.raises(DeadlineExceeded):
            await late
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert world.batches[-1] == [3]

    run(scenario, World(ALL_QUICK))


def test_a_drain_finishes_what_was_accepted_and_refuses_the_rest() -> None:
    async def scenario(world: World) -> None:
        accepted = world.ask(1)
        await asyncio.sleep(0)
        assert await world.scheduler.drain(20)
        assert values(await accepted) == [10]
        with pytest.raises(Unavailable):
            await world.ask(2)

    run(scenario, World(ALL_QUICK))


def test_only_measured_buckets_below_the_limit_are_quick() -> None:
    world = World({1: 0.5, 8: 3.0})
    lane = quick(world.lane, 1.0)
    assert lane is not None and lane.buckets.sizes == (1,)
    assert quick(world.lane, 0.1) is None


class Sleeper(Program):
    """As long as its largest row says, by the world's clock."""

    def __init__(self, world: World) -> None:
        super().__init__(1, world.ran)
        self._world = world

    def run(self, inputs: HostTensors) -> HostTensors:
        self._world.now += float(inputs["x"].max())
        return super().run(inputs)


def test_a_lane_whose_requests_take_long_leaves_the_loop_for_good() -> None:
    async def scenario(world: World) -> None:
        for value in (0, 1, 0, 0):
            await world.ask(value)
        assert world.batches == [[0], [1], [0], [0]]
        assert world.here == [True, True, False, False]

    world = World({})
    world.lane = Lane(
        title="signature s",
        rows=Rows.INDEPENDENT,
        programs={1: Sleeper(world)},
        seconds={1: 0.0},
    )
    run(scenario, world)
