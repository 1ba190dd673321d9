"""The queue of batches: what shares one, what is refused, and when a batch is due."""

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrt.errors import InvalidArgument, Unavailable
from jaxrt.serving.engine.batchqueue import Batch, BatchQueue, Part
from jaxrt.serving.engine.parameters import BatchingParameters
from jaxrt.serving.engine.servable import HostTensors
from jaxrt.serving.engine.task import Ticket


async def never(_: HostTensors, __: float | None) -> HostTensors:
    raise AssertionError("a queue runs nothing")


def queue(**values: Any) -> BatchQueue:
    return BatchQueue(BatchingParameters(**values), never)


def add(target: BatchQueue, rows: int, now: float = 0.0) -> list[Part]:
    """One request, as a session would put it in."""
    future: asyncio.Future[HostTensors] = asyncio.Future(loop=_LOOP)
    sizes = target.cut(rows)
    ticket = Ticket(future, len(sizes))
    parts = [
        Part(
            tensors={"x": np.zeros(size)},
            rows=size,
            arrival=now,
            deadline=None,
            ticket=ticket,
            number=number,
        )
        for number, size in enumerate(sizes)
    ]
    for part in parts:
        target.add(part, now)
    return parts


@pytest.fixture(autouse=True)
def loop() -> Any:
    """Futures belong to a loop, which here runs nothing."""
    global _LOOP
    _LOOP = asyncio.new_event_loop()
    yield
    _LOOP.close()


_LOOP: asyncio.AbstractEventLoop


def rows(batch: Batch | None) -> list[int]:
    assert batch is not None
    assert batch.rows == sum(part.rows for part in batch.parts)
    return [part.rows for part in batch.parts]


def test_without_a_timeout_a_batch_is_due_at_once() -> None:
    target = queue(max_batch_size=4)
    assert target.take(0.0) is None
    assert target.due() is None
    add(target, 1)
    add(target, 2)
    assert rows(target.take(0.0)) == [1, 2]
    assert not target
    assert target.take(0.0) is None


def test_an_open_batch_waits_for_its_timeout_from_its_first_part_on() -> None:
    target = queue(max_batch_size=4, batch_timeout_micros=1000)
    add(target, 1, now=10.0)
    add(target, 1, now=10.0009)
    assert target.due() == pytest.approx(10.001)
    assert target.take(10.0009) is None
    assert rows(target.take(10.0011)) == [1, 1]
    add(target, 1, now=11.0)
    assert target.due() == pytest.approx(11.001)


def test_a_full_batch_waits_for_nobody() -> None:
    target = queue(max_batch_size=4, batch_timeout_micros=10**9)
    add(target, 3)
    assert target.take(1.0) is None
    add(target, 1)
    assert rows(target.take(1.0)) == [3, 1]


def test_a_request_that_does_not_fit_closes_the_batch_before_it() -> None:
    target = queue(max_batch_size=4, batch_timeout_micros=10**9)
    add(target, 3)
    add(target, 2)
    assert target.batches == 2
    assert rows(target.take(0.0)) == [3]
    assert target.take(0.0) is None
    add(target, 1)
    add(target, 1)
    assert rows(target.take(0.0)) == [2, 1, 1]


def test_a_draining_queue_holds_nothing_open() -> None:
    target = queue(max_batch_size=4, batch_timeout_micros=10**9)
    add(target, 1)
    target.draining = True
    assert rows(target.take(0.0)) == [1]


def test_a_request_larger_than_the_limit_is_invalid() -> None:
    target = queue(max_batch_size=4, allowed_batch_sizes=(2, 4))
    with pytest.raises(InvalidArgument) as caught:
        target.cut(5)
    assert str(caught.value) == "Task size 5 is larger than maximum input batch size 4"


def test_a_full_queue_is_unavailable() -> None:
    target = queue(max_batch_size=4, max_enqueued_batches=2, batch_timeout_micros=10**9)
    add(target, 3)
    add(target, 3)
    with pytest.raises(Unavailable) as caught:
        add(target, 2)
    assert str(caught.value) == (
        "The batch scheduling queue to which this task was submitted is full; currently 2 batches "
        "enqueued and max_enqueued_batches is 2"
    )
    add(target, 1)  # what fits the open batch is still welcome
    assert rows(target.take(0.0)) == [3]
    add(target, 4)
    assert target.batches == 2


def test_a_queue_of_no_batches_has_one() -> None:
    target = queue(max_batch_size=4, max_enqueued_batches=0)
    add(target, 3)
    with pytest.raises(Unavailable, match="currently 1 batches enqueued and .* is 1$"):
        add(target, 2)


SPLIT = {"max_batch_size": 10, "enable_large_batch_splitting": True, "max_execution_batch_size": 4}


def test_a_large_request_fills_the_open_batch_and_goes_on_in_others() -> None:
    target = queue(**SPLIT, batch_timeout_micros=10**9)
    add(target, 1)
    assert [part.rows for part in add(target, 10)] == [3, 4, 3]
    assert rows(target.take(0.0)) == [1, 3]
    assert rows(target.take(0.0)) == [4]
    assert target.take(0.0) is None
    add(target, 1)
    assert rows(target.take(0.0)) == [3, 1]


def test_a_full_open_batch_gives_a_split_request_no_part() -> None:
    target = queue(**SPLIT)
    add(target, 4)
    assert [part.rows for part in add(target, 8)] == [4, 4]
    assert [rows(target.take(0.0)) for _ in range(3)] == [[4], [4], [4]]


def test_a_request_above_the_input_limit_is_not_split() -> None:
    with pytest.raises(InvalidArgument) as caught:
        queue(**SPLIT).cut(11)
    assert str(caught.value) == "Task size 11 is larger than maximum input batch size 10"


def test_splitting_counts_the_rows_that_are_left() -> None:
    target = queue(**SPLIT, max_enqueued_batches=2)
    add(target, 3)
    with pytest.raises(Unavailable) as caught:
        target.cut(6)
    assert str(caught.value) == (
        "The batch scheduling queue to which this task was submitted is full; task size is 6 but "
        "scheduling capacity is only 5 (num_enqueued_batches=1, max_enqueued_batches=2, "
        "open_batch_size=3, max_execution_batch_size=4)"
    )
    add(target, 5)
    with pytest.raises(Unavailable, match="task size is 1 but scheduling capacity is only 0 "):
        target.cut(1)


def test_without_an_execution_limit_requests_are_split_at_the_batch_size() -> None:
    target = queue(max_batch_size=4, enable_large_batch_splitting=True)
    add(target, 3)
    assert [part.rows for part in add(target, 4)] == [1, 3]


def test_what_is_discarded_leaves_room_and_no_empty_batch() -> None:
    target = queue(max_batch_size=4, max_enqueued_batches=3, batch_timeout_micros=10**9)
    (first,) = add(target, 3, now=1.0)
    (second,) = add(target, 3, now=2.0)
    (third,) = add(target, 1, now=3.0)
    target.discard(first)
    assert target.batches == 1
    target.discard(second)
    assert target.due() == pytest.approx(1002.0)
    target.discard(third)
    target.discard(third)
    assert not target
    add(target, 1, now=9.0)
    assert target.due() == pytest.approx(1009.0)


@given(
    sizes=st.lists(st.integers(1, 12), max_size=30),
    limit=st.integers(1, 12),
    splitting=st.booleans(),
    taken=st.lists(st.booleans(), min_size=30, max_size=30),
)
def test_every_row_runs_once_in_order_and_no_batch_is_too_large(
    sizes: list[int], limit: int, splitting: bool, taken: list[bool]
) -> None:
    target = queue(
        max_batch_size=12 if splitting else limit,
        enable_large_batch_splitting=splitting,
        max_execution_batch_size=limit,
        max_enqueued_batches=100,
    )
    accepted: list[Part] = []
    ran: list[Part] = []
    for size, take in zip(sizes, taken, strict=False):
        if splitting or size <= limit:
            accepted += add(target, size)
        if take and (batch := target.take(0.0)) is not None:
            ran += batch.parts
            assert batch.rows <= limit
    while (batch := target.take(0.0)) is not None:
        ran += batch.parts
        assert batch.rows <= limit
    assert ran == accepted
    assert not target
