"""The scheduler with real threads and a real event loop; programs are numpy behind gates."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrt.errors import DeadlineExceeded, Internal, InvalidArgument, Unavailable
from jaxrt.serving.engine.lane import Lane, alone
from jaxrt.serving.engine.scheduler import Scheduler
from jaxrt.serving.engine.servable import HostTensors, Rows

Array = np.ndarray[Any, Any]


class Device:
    """What the fake programs share: a gate before each run, and a log of what ran."""

    def __init__(self, *, gated: bool = False) -> None:
        self.gate = threading.Semaphore(0 if gated else 10_000)
        self.started = 0
        self.ran: list[list[int]] = []
        self.threads: set[int] = set()


class Program:
    """[n, 1] → y = 10 x; raises on a row of `poison`."""

    def __init__(self, device: Device, rows: int, *, error: BaseException | None = None) -> None:
        self.device = device
        self.rows = rows
        self.error = error
        self.poison = -1

    @property
    def input_shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {"x": (self.rows, 1)}

    @property
    def output_shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {"y": (self.rows, 1)}

    def run(self, inputs: HostTensors) -> HostTensors:
        self.device.started += 1
        assert self.device.gate.acquire(timeout=20)
        x = inputs["x"]
        assert x.shape == (self.rows, 1)
        self.device.ran.append(x[:, 0].tolist())
        self.device.threads.add(threading.get_ident())
        if self.error is not None:
            raise self.error
        if (x == self.poison).any():
            raise ValueError("a poisoned row")
        return {"y": x * 10}


def batched(device: Device, sizes: tuple[int, ...] = (1, 4, 8)) -> Lane:
    programs = {n: Program(device, n) for n in sizes}
    return Lane(title="signature s", rows=Rows.INDEPENDENT, programs=programs)


def x(*values: int) -> dict[str, Array]:
    return {"x": np.array(values, np.int64).reshape(-1, 1)}


def ask(
    scheduler: Scheduler, lane: Lane, *values: int, deadline: float | None = None
) -> "asyncio.Task[HostTensors]":
    request = scheduler.submit(lane, x(*values), rows=len(values), deadline=deadline)
    return asyncio.ensure_future(request)


def values(outputs: HostTensors) -> list[int]:
    found: list[int] = outputs["y"][:, 0].tolist()
    return found


async def until(condition: Callable[[], bool]) -> None:
    """Waits for what another thread does; the limit is for a broken scheduler only."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "waited 20 s in vain"
        await asyncio.sleep(0.0005)


async def busy(scheduler: Scheduler, device: Device, lane: Lane) -> "asyncio.Task[HostTensors]":
    """Occupies a gated device with one request of row 0."""
    before = device.started
    first = ask(scheduler, lane, 0)
    await until(lambda: device.started > before)
    return first


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 60))


async def ended(scheduler: Scheduler, device: Device) -> None:
    device.gate.release(10_000)
    assert await scheduler.drain(20)


def test_a_lone_request_on_an_idle_device_runs_at_once_in_the_smallest_bucket() -> None:
    async def scenario() -> None:
        device = Device()
        scheduler = Scheduler()
        assert values(await ask(scheduler, batched(device), 7)) == [70]
        assert device.ran == [[7]]
        await ended(scheduler, device)

    run(scenario)


def test_requests_pile_up_while_the_device_is_busy_and_share_the_next_batch() -> None:
    async def scenario() -> None:
        device, scheduler = Device(gated=True), Scheduler()
        lane = batched(device)
        first = await busy(scheduler, device, lane)
        others = [ask(scheduler, lane, 1), ask(scheduler, lane, 2, 3), ask(scheduler, lane, 4, 5)]
        await asyncio.sleep(0)
        device.gate.release(2)
        answers = await asyncio.gather(first, *others)
        assert [values(a) for a in answers] == [[0], [10], [20, 30], [40, 50]]
        assert device.ran == [[0], [1, 2, 3, 4, 5, 1, 1, 1]]
        assert len(device.threads) == 1 and threading.get_ident() not in device.threads
        seen = scheduler.metrics.snapshot()
        assert (seen.batches, seen.rows, seen.padding_rows) == (2, 6, 3)
        assert seen.queue_seconds.count == 4 and seen.run_seconds.count == 2
        await ended(scheduler, device)

    run(scenario)


def test_strangers_of_different_programs_share_nothing_and_go_by_arrival() -> None:
    async def scenario() -> None:
        device, scheduler = Device(gated=True), Scheduler()
        one, two, lone = batched(device), batched(device), alone("l", Program(device, 2))
        first = await busy(scheduler, device, one)
        later = [
            ask(scheduler, two, 1),
            asyncio.ensure_future(scheduler.submit(lone, x(2, 3))),
            ask(scheduler, one, 4),
            asyncio.ensure_future(scheduler.submit(lone, x(5, 6))),
            ask(scheduler, two, 7),
        ]
        await asyncio.sleep(0)
        device.gate.release(9)
        await asyncio.gather(first, *later)
        assert device.ran == [[0], [1, 7, 1, 1], [2, 3], [4], [5, 6]]
        await ended(scheduler, device)

    run(scenario)


def test_a_request_above_the_largest_bucket_is_split_and_put_together_again() -> None:
    async def scenario() -> None:
        device, scheduler = Device(), Scheduler()
        answer = await ask(scheduler, batched(device), *range(19))
        assert values(answer) == [10 * i for i in range(19)]
        assert [len(batch) for batch in device.ran] == [8, 8, 4]
        await ended(scheduler, device)

    run(scenario)


def test_a_cancelled_request_that_has_not_started_never_runs() -> None:
    async def scenario() -> None:
        device, scheduler = Device(gated=True), Scheduler()
        lane = batched(device)
        first = await busy(scheduler, device, lane)
        gone, stays = ask(scheduler, lane, 1), ask(scheduler, lane, 2)
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        device.gate.release(2)
        await asyncio.gather(first, stays)
        assert device.ran == [[0], [2]]
        assert scheduler.metrics.snapshot().cancelled == 1
        await ended(scheduler, device)

    run(scenario)


def test_cancelling_a_running_request_discards_its_result_and_no_other() -> None:
    async def scenario() -> None:
        device, scheduler = Device(gated=True), Scheduler()
        lane = batched(device)
        running = await busy(scheduler, device, lane)
        waiting = ask(scheduler, lane, 1)
        await asyncio.sleep(0)
        running.cancel()
        device.gate.release(2)
        with pytest.raises(asyncio.CancelledError):
            await running
        assert values(await waiting) == [10]
        await ended(scheduler, device)

    run(scenario)


def test_cancelling_a_split_request_drops_the_parts_that_wait() -> None:
    async def scenario() -> None:
        device, scheduler = Device(gated=True), Scheduler()
        lane = batched(device)
        large = ask(scheduler, lane, *range(20))
        await until(lambda: device.started == 1)
        large.cancel()
        with pytest.raises(asyncio.CancelledError):
            await large
        await ended(scheduler, device)
        assert [len(batch) for batch in device.ran] == [8]

    run(scenario)


def test_a_request_whose_deadline_passed_in_the_queue_is_answered_without_running() -> None:
    async def scenario() -> None:
        now = [100.0]
        device, scheduler = Device(gated=True), Scheduler(clock=lambda: now[0])
        lane = batched(device)
        first = await busy(scheduler, device, lane)
        late = ask(scheduler, lane, 1, deadline=200.0)
        live = ask(scheduler, lane, 2, deadline=400.0)
        await asyncio.sleep(0)
        now[0] = 300.0
        device.gate.release(2)
        with pytest.raises(DeadlineExceeded, match="signature s: the deadline passed"):
            await late
        assert values(await live) == [20]
        await first
        assert device.ran == [[0], [2]]
        assert scheduler.metrics.snapshot().expired == 1
        await ended(scheduler, device)

    run(scenario)


def test_a_deadline_is_kept_although_the_device_is_busy_or_runs_the_request() -> None:
    async def scenario() -> None:
        device, scheduler = Device(gated=True), Scheduler()
        lane = batched(device)
        running = ask(scheduler, lane, 0, deadline=time.monotonic() + 0.05)
        await until(lambda: device.started == 1)
        waiting = ask(scheduler, lane, 1, deadline=time.monotonic() + 0.01)
        for late in (running, waiting):
            with pytest.raises(DeadlineExceeded):
                await late
        await ended(scheduler, device)
        assert device.ran == [[0]]

    run(scenario)


def test_a_deadline_in_the_past_is_refused_at_the_door() -> None:
    async def scenario() -> None:
        device, scheduler = Device(), Scheduler()
        with pytest.raises(DeadlineExceeded):
            await ask(scheduler, batched(device), 1, deadline=time.monotonic() - 1)
        await ended(scheduler, device)
        assert device.ran == []

    run(scenario)


def test_a_full_queue_refuses_with_its_size_and_limit() -> None:
    async def scenario() -> None:
        device, scheduler = Device(gated=True), Scheduler(max_enqueued_batches=2)
        lane = batched(device, sizes=(1, 4))
        first = await busy(scheduler, device, lane)
        kept = [ask(scheduler, lane, 1, 2, 3), ask(scheduler, lane, 4, 5)]
        fits = ask(scheduler, lane, 6, 7, 8)  # fills the second batch
        await asyncio.sleep(0)
        with pytest.raises(
            Unavailable,
            match="The batch scheduling queue to which this task was submitted is full; currently "
            "2 batches enqueued and max_enqueued_batches is 2",
        ):
            await ask(scheduler, lane, 9)
        unbounded = asyncio.ensure_future(scheduler.submit(lane, x(9), bounded=False))
        await asyncio.sleep(0)
        device.gate.release(10)
        answers = await asyncio.gather(first, *kept, fits, unbounded)
        assert values(answers[-1]) == [90]
        assert values(await ask(scheduler, lane, 3)) == [30]
        assert scheduler.metrics.snapshot().rejected == 1
        await ended(scheduler, device)

    run(scenario)


def test_cancelled_requests_make_room_in_the_queue() -> None:
    async def scenario() -> None:
        device, scheduler = Device(gated=True), Scheduler(max_enqueued_batches=1)
        lane = batched(device, sizes=(1,))
        first = await busy(scheduler, device, lane)
        gone = ask(scheduler, lane, 1)
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        stays = ask(scheduler, lane, 2)
        await asyncio.sleep(0)
        device.gate.release(2)
        assert values(await stays) == [20]
        await first
        await ended(scheduler, device)

    run(scenario)


def test_a_request_larger_than_the_whole_queue_may_have_it_when_it_is_empty() -> None:
    async def scenario() -> None:
        device, scheduler = Device(), Scheduler(max_enqueued_batches=2)
        lane = batched(device, sizes=(2,))
        assert len(values(await ask(scheduler, lane, *range(9)))) == 9
        await ended(scheduler, device)

    run(scenario)


def test_one_bad_request_fails_alone() -> None:
    async def scenario() -> None:
        device, scheduler = Device(gated=True), Scheduler()
        lane = batched(device)
        for program in lane.programs.values():
            assert isinstance(program, Program)
            program.poison = 13
        first = await busy(scheduler, device, lane)
        good, bad, also = (ask(scheduler, lane, n) for n in (1, 13, 2))
        await asyncio.sleep(0)
        device.gate.release(10)
        assert values(await good) == [10]
        assert values(await also) == [20]
        with pytest.raises(Internal, match="signature s: the program failed: ValueError: a poi"):
            await bad
        await first
        assert device.ran == [[0], [1, 13, 2, 1], [1], [13], [2]]
        assert scheduler.metrics.snapshot().retried_tasks == 3
        await ended(scheduler, device)

    run(scenario)


def test_one_bad_part_fails_its_request_and_leaves_the_stranger_beside_it() -> None:
    async def scenario() -> None:
        device, scheduler = Device(gated=True), Scheduler()
        lane = batched(device, sizes=(1, 4))
        for program in lane.programs.values():
            assert isinstance(program, Program)
            program.poison = 4
        first = await busy(scheduler, device, lane)
        large, other = ask(scheduler, lane, 1, 2, 3, 5, 4), ask(scheduler, lane, 6)
        await asyncio.sleep(0)
        device.gate.release(10)
        with pytest.raises(Internal):
            await large
        assert values(await other) == [60]
        await first
        await ended(scheduler, device)

    run(scenario)


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (InvalidArgument("no such row"), InvalidArgument),
        (RuntimeError("XLA says no"), Internal),
        (SystemExit(3), Internal),
    ],
)
def test_an_error_reaches_the_caller_and_the_thread_lives_on(
    error: BaseException, wanted: type[Exception]
) -> None:
    async def scenario() -> None:
        device, scheduler = Device(), Scheduler()
        broken = alone("signature b", Program(device, 1, error=error))
        with pytest.raises(wanted):
            await scheduler.submit(broken, x(1))
        assert values(await ask(scheduler, batched(device), 2)) == [20]
        await ended(scheduler, device)

    run(scenario)


def test_drain_refuses_new_requests_and_finishes_the_accepted_ones() -> None:
    async def scenario() -> None:
        device, scheduler = Device(gated=True), Scheduler(batch_timeout_micros=60_000_000)
        lane = batched(device, sizes=(2,))
        running = ask(scheduler, lane, 0, 1)
        await until(lambda: device.started == 1)
        held = ask(scheduler, lane, 2)  # its batch is open for a minute, but not while draining
        await asyncio.sleep(0)
        drained = asyncio.ensure_future(scheduler.drain(20))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="signature s: the server is shutting down"):
            await ask(scheduler, lane, 3)
        device.gate.release(2)
        assert [values(a) for a in await asyncio.gather(running, held)] == [[0, 10], [20]]
        assert await drained
        assert await scheduler.drain(0)

    run(scenario)


def test_what_is_unfinished_after_the_grace_period_fails_with_unavailable() -> None:
    async def scenario() -> None:
        device, scheduler = Device(gated=True), Scheduler()
        lane = batched(device)
        running = await busy(scheduler, device, lane)
        waiting = ask(scheduler, lane, 1)
        await asyncio.sleep(0)
        assert not await scheduler.drain(0.01)
        for unfinished in (running, waiting):
            with pytest.raises(Unavailable, match="shut down before the request was done"):
                await unfinished
        device.gate.release(2)
        assert await scheduler.drain(20)
        assert device.ran == [[0]]

    run(scenario)


def test_a_batch_timeout_holds_requests_until_the_batch_is_full() -> None:
    async def scenario() -> None:
        device, scheduler = Device(), Scheduler(batch_timeout_micros=60_000_000)
        lane = batched(device, sizes=(1, 4))
        early = ask(scheduler, lane, 1)
        await asyncio.sleep(0.01)
        assert device.ran == []
        late = ask(scheduler, lane, 2, 3, 4)
        assert [values(a) for a in await asyncio.gather(early, late)] == [[10], [20, 30, 40]]
        assert device.ran == [[1, 2, 3, 4]]
        await ended(scheduler, device)

    run(scenario)


def test_a_batch_timeout_that_ends_lets_a_partial_batch_go() -> None:
    async def scenario() -> None:
        device, scheduler = Device(), Scheduler(batch_timeout_micros=1000)
        assert values(await ask(scheduler, batched(device), 1)) == [10]
        await ended(scheduler, device)

    run(scenario)


@pytest.mark.parametrize(
    "arguments", [{"max_enqueued_batches": 0}, {"batch_timeout_micros": -1}, {"threads": 0}]
)
def test_limits_that_make_no_sense_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="want at least 1, 0 and 1"):
        Scheduler(**arguments)  # type: ignore[arg-type]


def test_several_threads_run_batches_at_once_and_all_end() -> None:
    async def scenario() -> None:
        device = Device(gated=True)
        scheduler = Scheduler(threads=2)
        lanes = [alone("m", Program(device, 1)) for _ in range(3)]
        asked = [
            asyncio.create_task(scheduler.submit(lane, {"x": np.full((1, 1), i)}))
            for i, lane in enumerate(lanes)
        ]
        while device.started < 2:
            await asyncio.sleep(0.001)
        device.gate.release(3)
        assert [int(a["y"][0, 0]) for a in await asyncio.gather(*asked)] == [0, 10, 20]
        assert len(device.threads) == 2
        assert await scheduler.drain(20)

    run(scenario)


def test_a_flexible_lane_is_never_padded_and_keeps_inner_shapes_apart() -> None:
    class Flexible(Program):
        def run(self, inputs: HostTensors) -> HostTensors:
            assert self.device.gate.acquire(timeout=20)
            self.device.ran.append(list(inputs["x"].shape))
            return {"y": inputs["x"] * 10}

    async def scenario() -> None:
        device = Device(gated=True)
        scheduler = Scheduler()
        program = Flexible(device, 64)

        def ask(rows: int, inner: int) -> asyncio.Task[HostTensors]:
            lane = Lane(
                title="m",
                rows=Rows.INDEPENDENT,
                programs={64: program},
                flexible=True,
                inner=(inner,),
            )
            x = np.full((rows, inner), rows)
            return asyncio.create_task(scheduler.submit(lane, {"x": x}, rows=rows))

        asked = [ask(1, 1), ask(2, 1), ask(3, 1), ask(4, 2)]
        await asyncio.sleep(0.05)
        device.gate.release(4)
        answers = await asyncio.gather(*asked)
        assert [a["y"].shape for a in answers] == [(1, 1), (2, 1), (3, 1), (4, 2)]
        assert [int(a["y"][0, 0]) for a in answers] == [10, 20, 30, 40]
        assert sum(rows for rows, inner in device.ran if inner == 1) == 6
        assert [4, 2] in device.ran
        assert await scheduler.drain(20)

    run(scenario)


REQUEST = st.tuples(st.just("ask"), st.integers(1, 20))
STEP = st.tuples(st.just("step"), st.integers(1, 3))
CANCEL = st.tuples(st.just("cancel"), st.integers(0, 30))


@settings(max_examples=60, deadline=None)
@given(
    actions=st.lists(REQUEST | STEP | CANCEL, max_size=30),
    sizes=st.sampled_from([(1, 4, 8), (3,), (8,)]),
)
def test_every_request_gets_exactly_its_own_rows(
    actions: list[tuple[str, int]], sizes: tuple[int, ...]
) -> None:
    async def scenario() -> None:
        device, scheduler = Device(gated=True), Scheduler()
        lane = batched(device, sizes)
        asked: list[tuple[list[int], Awaitable[HostTensors]]] = []
        cancelled = set()
        for kind, n in actions:
            if kind == "ask":
                rows = [1000 * len(asked) + i for i in range(n)]
                asked.append((rows, ask(scheduler, lane, *rows)))
            elif kind == "step":
                device.gate.release(n)
            elif asked:
                request = asked[n % len(asked)][1]
                assert isinstance(request, asyncio.Task)
                if request.cancel():
                    cancelled.add(n % len(asked))
            await asyncio.sleep(0)
        device.gate.release(10_000)
        answers = await asyncio.gather(*(a for _, a in asked), return_exceptions=True)
        for i, ((rows, _), answer) in enumerate(zip(asked, answers, strict=True)):
            if isinstance(answer, BaseException):
                assert isinstance(answer, asyncio.CancelledError) and i in cancelled
            else:
                assert values(answer) == [10 * row for row in rows]
        assert await scheduler.drain(20)
        seen = scheduler.metrics.snapshot()
        assert seen.rows + seen.padding_rows == sum(len(batch) for batch in device.ran)

    run(scenario)


@pytest.mark.parametrize(
    ("widths", "most", "together"),
    [
        ({1: 2}, 2, 2),
        ({1: 2}, 1, 1),
        ({}, 2, 1),
        ({4: 2}, 2, 1),  # a batch of one row has not been found to gain
    ],
)
def test_batches_run_side_by_side_where_their_bucket_gains_by_it(
    widths: dict[int, int], most: int, together: int
) -> None:
    async def scenario() -> None:
        device, scheduler = Device(gated=True), Scheduler(most=most)
        lane = batched(device)
        lane.at_once.update(widths)
        first = await busy(scheduler, device, lane)
        second = ask(scheduler, lane, 1)
        await until(lambda: device.started == together)
        await asyncio.sleep(0.05)  # for the thread that may not
        assert device.started == together
        device.gate.release(2)
        assert [values(a) for a in await asyncio.gather(first, second)] == [[0], [10]]
        await ended(scheduler, device)

    run(scenario)


def test_a_batch_that_runs_alone_starts_beside_none_and_none_beside_it() -> None:
    async def scenario() -> None:
        device, scheduler = Device(gated=True), Scheduler(most=2)
        wide, alone_ = batched(device), batched(device)
        wide.at_once[1] = 2
        first = await busy(scheduler, device, wide)
        second, third = ask(scheduler, alone_, 1), ask(scheduler, wide, 2)
        for running in (1, 2, 3):
            await asyncio.sleep(0.05)
            assert device.started == running
            device.gate.release(1)
        assert [values(a) for a in await asyncio.gather(first, second, third)] == [[0], [10], [20]]
        assert device.ran == [[0], [1], [2]]
        await ended(scheduler, device)

    run(scenario)
