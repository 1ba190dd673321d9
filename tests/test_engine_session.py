"""A session of batching queues over a fake version: what runs together, and who is told what."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import numpy as np
import pytest

from jaxrt.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)
from jaxrt.serving.engine.batchpool import BatchPool
from jaxrt.serving.engine.parameters import BatchingParameters
from jaxrt.serving.engine.servable import HostTensors
from jaxrt.serving.engine.session import Session
from jaxrt.specs import SignatureSpec, TensorSpec

Array = np.ndarray[Any, Any]
LONG = 30_000_000
"""Microseconds that no test waits for."""


def tensor(name: str) -> TensorSpec:
    return TensorSpec(name=name, dtype="int64", dims=None)


def signature(inputs: Mapping[str, str], outputs: Mapping[str, str]) -> SignatureSpec:
    """Aliases → names in the graph."""
    return SignatureSpec(
        inputs={alias: tensor(name) for alias, name in inputs.items()},
        outputs={alias: tensor(name) for alias, name in outputs.items()},
    )


DOUBLE = {"serving_default": signature({"x": "in:0"}, {"y": "out:0"})}


class Device:
    """Runs signatures as y = 2 x, behind a gate; remembers what it was asked."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.batches: list[list[Any]] = []
        self.signatures: list[str] = []
        self.deadlines: list[float | None] = []
        self.running = self.most = 0
        self.work: Callable[[HostTensors], HostTensors] = lambda x: {"y": x["x"] * 2}

    async def run(self, key: str, inputs: HostTensors, deadline: float | None) -> HostTensors:
        self.batches.append(next(iter(inputs.values())).tolist())
        self.signatures.append(key)
        self.deadlines.append(deadline)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.open.wait()
            return self.work(inputs)
        finally:
            self.running -= 1


class Observer:
    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def accepted(self, rows: int) -> None:
        self.seen.append(("accepted", rows))

    def queued(self, seconds: float) -> None:
        assert seconds >= 0.0
        self.seen.append(("queued",))

    def merged(self, rows: int, padding: int) -> None:
        self.seen.append(("merged", rows, padding))


def x(*values: int) -> Array:
    return np.array(values, np.int64)


def session(
    device: Device,
    signatures: Mapping[str, SignatureSpec] = DOUBLE,
    *,
    threads: int = 1,
    pool: BatchPool | None = None,
    **values: Any,
) -> Session:
    pool = pool or BatchPool(threads=threads)
    return Session(signatures, BatchingParameters(**values), pool, device.run)


def ask(target: Session, *values: int, deadline: float | None = None) -> "asyncio.Task[Any]":
    return asyncio.ensure_future(asked(target, *values, deadline=deadline))


async def asked(target: Session, *values: int, deadline: float | None = None) -> list[int]:
    outputs = await target.predict("serving_default", {"x": x(*values)}, deadline)
    found: list[int] = outputs["y"].tolist()
    return found


def run(scenario: Callable[[Device], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        await asyncio.wait_for(scenario(Device()), 20)

    asyncio.run(main())


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.001)


async def error_of(request: Awaitable[Any]) -> Exception:
    with pytest.raises(Exception) as caught:
        await request
    assert isinstance(caught.value, Exception)
    return caught.value


def test_requests_of_one_turn_of_the_loop_share_a_batch() -> None:
    async def scenario(device: Device) -> None:
        target = session(device, max_batch_size=8)
        found = await asyncio.gather(*[asked(target, n, n + 1) for n in (1, 5, 9)])
        assert found == [[2, 4], [10, 12], [18, 20]]
        assert device.batches == [[1, 2, 5, 6, 9, 10]]

    run(scenario)


def test_a_batch_is_padded_to_an_allowed_size_with_the_last_requests_first_row() -> None:
    async def scenario(device: Device) -> None:
        target = session(device, max_batch_size=8, allowed_batch_sizes=(4, 8))
        first, second = await asyncio.gather(asked(target, 1), asked(target, 2, 3))
        assert first + second == [2, 4, 6]
        assert device.batches == [[1, 2, 3, 2]]

    run(scenario)


def test_a_batch_stays_open_for_its_timeout_and_not_when_it_is_full() -> None:
    async def scenario(device: Device) -> None:
        target = session(device, max_batch_size=2, batch_timeout_micros=20_000)
        started = time.monotonic()
        assert await asked(target, 1) == [2]
        assert time.monotonic() - started >= 0.02
        late = session(device, max_batch_size=2, batch_timeout_micros=LONG)
        first = ask(late, 1)
        await asyncio.sleep(0.01)
        assert not first.done()
        assert await asked(late, 2) == [4]
        assert await first == [2]
        assert device.batches == [[1], [1, 2]]

    run(scenario)


def test_a_request_that_is_too_large_is_refused_and_nobody_else() -> None:
    async def scenario(device: Device) -> None:
        target = session(device, max_batch_size=4)
        good, bad = ask(target, 1), ask(target, 1, 2, 3, 4, 5)
        error = await error_of(bad)
        assert isinstance(error, InvalidArgument)
        assert str(error) == "Task size 5 is larger than maximum input batch size 4"
        assert await good == [2]

    run(scenario)


def test_a_full_queue_refuses_until_a_thread_took_a_batch() -> None:
    async def scenario(device: Device) -> None:
        device.open.clear()
        target = session(device, max_batch_size=2, max_enqueued_batches=1)
        first = ask(target, 1, 2)
        await until(lambda: device.running == 1)
        second = ask(target, 3, 4)
        await asyncio.sleep(0)
        error = await error_of(asked(target, 5))
        assert isinstance(error, Unavailable)
        assert str(error) == (
            "The batch scheduling queue to which this task was submitted is full; currently 1 "
            "batches enqueued and max_enqueued_batches is 1"
        )
        device.open.set()
        assert [await first, await second] == [[2, 4], [6, 8]]
        assert await asked(target, 5) == [10]

    run(scenario)


def test_free_threads_are_woken_before_a_request_is_refused() -> None:
    async def scenario(device: Device) -> None:
        target = session(device, threads=3, max_batch_size=1, max_enqueued_batches=1)
        found = await asyncio.gather(*(asked(target, n) for n in range(3)))
        assert found == [[0], [2], [4]]

    run(scenario)


def test_all_requests_of_a_batch_that_missed_their_deadlines_are_exhausted() -> None:
    async def scenario(device: Device) -> None:
        device.open.clear()
        target = session(device, max_batch_size=4)
        first = ask(target, 1)
        await until(lambda: device.running == 1)
        soon = time.monotonic() + 0.01
        late = [ask(target, 2, deadline=soon), ask(target, 3, deadline=soon)]
        await asyncio.sleep(0.02)
        device.open.set()
        for request in late:
            error = await error_of(request)
            assert isinstance(error, ResourceExhausted)
            assert str(error) == "Run() timeout exceeded while waiting in batching queue"
        assert await first == [2]
        assert device.batches == [[1]]

    run(scenario)


def test_a_request_past_its_deadline_is_answered_with_others_that_are_not() -> None:
    async def scenario(device: Device) -> None:
        device.open.clear()
        target = session(device, max_batch_size=4)
        first = ask(target, 1)
        await until(lambda: device.running == 1)
        now = time.monotonic()
        requests = [ask(target, 2, deadline=now + 0.01), ask(target, 3, deadline=now + 60)]
        requests.append(ask(target, 4, deadline=now + 30))
        await asyncio.sleep(0.02)
        device.open.set()
        assert [await r for r in (first, *requests)] == [[2], [4], [6], [8]]
        assert device.deadlines == [None, now + 60]

    run(scenario)


def test_a_batch_with_a_request_without_a_deadline_has_none() -> None:
    async def scenario(device: Device) -> None:
        target = session(device, max_batch_size=4)
        await asyncio.gather(asked(target, 1, deadline=time.monotonic() + 9), asked(target, 2))
        assert device.deadlines == [None]

    run(scenario)


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (InvalidArgument("bad row"), InvalidArgument),
        (DeadlineExceeded("too slow"), DeadlineExceeded),
        (ValueError("boom"), Internal),
    ],
)
def test_an_error_is_that_of_every_request_of_the_batch(
    raised: Exception, told: type[Exception]
) -> None:
    def fail(_: HostTensors) -> HostTensors:
        raise raised

    async def scenario(device: Device) -> None:
        device.work = fail
        target = session(device, max_batch_size=4)
        errors = [await error_of(r) for r in [ask(target, 1), ask(target, 2)]]
        assert [type(error) for error in errors] == [told, told]
        assert errors[0] is not errors[1]
        assert all(str(raised) in str(error) for error in errors)
        assert device.batches == [[1, 2]]
        device.work = lambda inputs: {"y": inputs["x"]}
        assert await asked(target, 3) == [3]

    run(scenario)


def test_shapes_that_differ_fail_the_whole_batch_and_padding_saves_it() -> None:
    async def scenario(device: Device) -> None:
        short, long = np.ones((1, 2), np.int64), np.ones((1, 3), np.int64)

        async def both(target: Session) -> list[Any]:
            requests = [target.predict("serving_default", {"x": a}, None) for a in (short, long)]
            return await asyncio.gather(*requests, return_exceptions=True)

        errors = await both(session(device, max_batch_size=4))
        assert [type(error) for error in errors] == [FailedPrecondition] * 2
        assert "Tensors with name 'in:0' from different tasks" in str(errors[0])
        found = await both(session(device, max_batch_size=4, pad_variable_length_inputs=True))
        assert [outputs["y"].tolist() for outputs in found] == [[[2, 2, 2]], [[2, 2, 2]]]

    run(scenario)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (np.int64(3), "Batched output tensor has 0 dimensions"),
        (
            np.zeros(5, np.int64),
            "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension "
            "sizes of the input tensors",
        ),
    ],
)
def test_outputs_that_are_not_rows_fail_the_batch(output: Array, message: str) -> None:
    async def scenario(device: Device) -> None:
        device.work = lambda _: {"y": np.asarray(output)}
        error = await error_of(asked(session(device, max_batch_size=4), 1, 2))
        assert isinstance(error, FailedPrecondition)
        assert str(error) == message

    run(scenario)


def test_a_split_request_is_answered_whole() -> None:
    async def scenario(device: Device) -> None:
        target = session(
            device,
            max_batch_size=10,
            enable_large_batch_splitting=True,
            max_execution_batch_size=4,
            threads=2,
        )
        device.open.clear()
        small, large = ask(target, 1), ask(target, *range(10, 19))
        await until(lambda: device.running == 2)
        device.open.set()
        assert await small == [2]
        assert await large == [2 * n for n in range(10, 19)]
        assert device.batches == [[1, 10, 11, 12], [13, 14, 15, 16], [17, 18]]
        assert device.most == 2

    run(scenario)


def test_a_failed_part_takes_the_rest_of_its_request_out_of_the_queue() -> None:
    def fail(_: HostTensors) -> HostTensors:
        raise InvalidArgument("bad row")

    async def scenario(device: Device) -> None:
        device.work = fail
        target = session(
            device,
            max_batch_size=10,
            enable_large_batch_splitting=True,
            max_execution_batch_size=2,
            batch_timeout_micros=LONG,
        )
        assert str(await error_of(asked(target, 1, 2, 3))) == "bad row"
        device.work = lambda inputs: {"y": inputs["x"]}
        assert await asked(target, 8, 9) == [8, 9]
        assert device.batches == [[1, 2], [8, 9]]

    run(scenario)


def test_a_client_that_leaves_takes_its_rows_along() -> None:
    async def scenario(device: Device) -> None:
        target = session(device, max_batch_size=2, batch_timeout_micros=LONG)
        gone = ask(target, 1)
        await asyncio.sleep(0.005)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert await asked(target, 2, 3) == [4, 6]
        assert device.batches == [[2, 3]]

    run(scenario)


def test_a_client_that_leaves_a_running_batch_harms_nobody() -> None:
    async def scenario(device: Device) -> None:
        device.open.clear()
        target = session(device, max_batch_size=4)
        gone, stays = ask(target, 1), ask(target, 2)
        await until(lambda: device.running == 1)
        gone.cancel()
        await asyncio.sleep(0)
        device.open.set()
        assert await stays == [4]
        assert await asked(target, 3) == [6]

    run(scenario)


def test_threads_are_shared_and_queues_take_turns() -> None:
    async def scenario(device: Device) -> None:
        device.open.clear()
        pool = BatchPool(threads=1)
        one = session(device, pool=pool, max_batch_size=1)
        other = session(device, pool=pool, max_batch_size=1)
        requests = [ask(one, n) for n in (1, 2, 3)] + [ask(other, n) for n in (10, 20)]
        await until(lambda: device.running == 1)
        device.open.set()
        await asyncio.gather(*requests)
        assert device.batches == [[1], [10], [2], [20], [3]]
        assert device.most == 1

    run(scenario)


def test_signatures_that_feed_and_fetch_the_same_tensors_share_a_queue() -> None:
    signatures = {
        "a": signature({"x": "in:0"}, {"y": "out:0"}),
        "b": signature({"u": "in:0"}, {"v": "out:0"}),
        "c": signature({"x": "in:0"}, {"y": "other:0"}),
    }

    async def scenario(device: Device) -> None:
        target = session(device, signatures, max_batch_size=8)
        a, b, c = await asyncio.gather(
            target.predict("a", {"x": x(1)}, None),
            target.predict("b", {"u": x(2)}, None),
            target.predict("c", {"x": x(3)}, None),
        )
        assert (a["y"].tolist(), b["v"].tolist(), c["y"].tolist()) == ([2], [4], [6])
        assert device.batches == [[1, 2], [3]]
        assert device.signatures == ["a", "c"]

    run(scenario)


def test_aliases_of_one_tensor_each_get_their_value() -> None:
    signatures = {"s": signature({"x": "in:0"}, {"y": "out:0", "z": "out:0"})}

    async def scenario(device: Device) -> None:
        device.work = lambda inputs: {"y": inputs["x"], "z": inputs["x"] + 1}
        found = await session(device, signatures).predict("s", {"x": x(1)}, None)
        assert {alias: value.tolist() for alias, value in found.items()} == {"y": [1], "z": [2]}

    run(scenario)


def test_inputs_that_cannot_be_batched_are_refused() -> None:
    signatures = {"s": signature({"a": "a:0", "b": "b:0"}, {"y": "y:0"}), "t": signature({}, {})}

    async def scenario(device: Device) -> None:
        target = session(device, signatures)
        scalar = await error_of(target.predict("s", {"a": x(1), "b": np.int64(1)}, None))  # type: ignore[dict-item]
        assert str(scalar) == "Batching Run() input tensors must have at least one dimension"
        uneven = await error_of(target.predict("s", {"a": x(1), "b": x(1, 2)}, None))
        assert str(uneven) == "Batching Run() input tensors must have equal 0th-dimension size"
        none = await error_of(target.predict("t", {}, None))
        assert str(none) == "Batching Run() must have at least one input tensor"
        assert not device.batches

    run(scenario)


def test_a_request_without_rows_waits_for_no_batch() -> None:
    async def scenario(device: Device) -> None:
        target = session(device, max_batch_size=4, batch_timeout_micros=LONG)
        assert await asked(target) == []

    run(scenario)


def test_a_drained_session_runs_what_waits_at_once() -> None:
    async def scenario(device: Device) -> None:
        target = session(device, max_batch_size=4, batch_timeout_micros=LONG)
        request = ask(target, 1)
        await asyncio.sleep(0.005)
        assert not device.batches
        target.drain()
        assert await request == [2]

    run(scenario)


def test_large_batches_are_merged_off_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    from jaxrt.serving.engine import merging

    threads: list[int] = []
    merge = merging.merge

    def seen(*arguments: Any, **options: Any) -> HostTensors:
        threads.append(threading.get_ident())
        return merge(*arguments, **options)

    monkeypatch.setattr(merging, "merge", seen)

    async def scenario(device: Device) -> None:
        target = session(device, max_batch_size=100_000)
        await asked(target, 1)
        outputs = await target.predict("serving_default", {"x": np.zeros(50_000, np.int64)}, None)
        assert outputs["y"].shape == (50_000,)
        assert threads[0] == threading.get_ident() != threads[1]

    run(scenario)


def test_the_observer_sees_what_tensorflow_serving_counts() -> None:
    signatures = {"s": signature({"a": "a:0", "b": "b:0"}, {"y": "y:0"})}

    async def scenario(device: Device) -> None:
        device.work = lambda inputs: {"y": inputs["a"]}
        observer = Observer()
        pool = BatchPool(threads=1, observer=observer)
        target = session(device, signatures, pool=pool, max_batch_size=4, allowed_batch_sizes=(4,))
        await target.predict("s", {"a": x(1, 2), "b": x(3, 4)}, None)
        assert observer.seen == [
            ("accepted", 2),
            ("accepted", 2),
            ("queued",),
            ("merged", 4, 2),
        ]
        await error_of(target.predict("s", {"a": x(1, 2), "b": x(3)}, None))
        assert len(observer.seen) == 4

    run(scenario)


def test_a_pool_wants_a_thread() -> None:
    with pytest.raises(ValueError, match="num_batch_threads must be positive; was 0"):
        BatchPool(threads=0)
