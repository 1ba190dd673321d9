"""The batching policy: pure, so every case is a table or a property."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrt.buckets import Buckets
from jaxrt.serving.engine.batching import Decision, Line, decide


@dataclasses.dataclass(frozen=True)
class Waits:
    rows: int
    arrival: float = 0.0
    deadline: float | None = None


BUCKETS = Buckets(sizes=(1, 4, 8))


def line(*tasks: Waits, seconds: dict[int, float] | None = None) -> Line[Waits]:
    return Line(tasks=tasks, buckets=BUCKETS, seconds=seconds or {})


def rows(decision: Decision[Waits]) -> list[int]:
    return [task.rows for task in decision.batch]


@pytest.mark.parametrize(
    ("waiting", "batch"),
    [
        ([], []),
        ([1], [1]),
        ([8], [8]),
        ([3, 3, 3], [3, 3]),
        ([5, 4, 3], [5, 3]),
        ([4, 4, 1], [4, 4]),
        ([7, 2, 2, 1], [7, 1]),
        ([1] * 20, [1] * 8),
    ],
)
def test_a_batch_takes_as_many_whole_tasks_as_fit_the_largest_bucket(
    waiting: list[int], batch: list[int]
) -> None:
    tasks = [Waits(n, arrival=i) for i, n in enumerate(waiting)]
    assert rows(decide([line(*tasks)], 100.0, timeout=0.0)) == batch


def test_the_line_with_the_oldest_task_runs_first() -> None:
    young, old = line(Waits(1, arrival=2.0)), line(Waits(2, arrival=1.0), Waits(3, arrival=3.0))
    assert rows(decide([young, old], 5.0, timeout=0.0)) == [2, 3]


def test_an_expired_task_is_answered_and_not_run() -> None:
    late, live = Waits(1, deadline=5.0), Waits(2, deadline=5.1)
    decision = decide([line(late, live)], 5.0, timeout=0.0)
    assert decision.batch == (live,)
    assert decision.expired == (late,)


def test_a_line_of_expired_tasks_gives_way_to_the_next() -> None:
    late, live = Waits(1, deadline=1.0), Waits(1, arrival=3.0)
    decision = decide([line(late), line(live)], 4.0, timeout=0.0)
    assert (decision.batch, decision.expired) == ((live,), (late,))


def test_without_tasks_nothing_is_due() -> None:
    assert decide([], 1.0, timeout=0.0) == Decision()


@pytest.mark.parametrize(
    ("tasks", "now", "batch", "wake"),
    [
        ([Waits(3, arrival=1.0)], 1.5, [], 3.0),
        ([Waits(3, arrival=1.0)], 3.0, [3], None),
        ([Waits(8, arrival=1.0)], 1.5, [8], None),
        ([Waits(5, arrival=1.0), Waits(4, arrival=1.1)], 1.5, [5], None),
        ([Waits(3, arrival=1.0, deadline=2.5)], 1.5, [3], None),
        ([Waits(3, arrival=1.0, deadline=9.0)], 1.5, [], 3.0),
    ],
    ids=["open", "timed out", "full", "nothing more fits", "would expire", "lives longer"],
)
def test_a_timeout_holds_a_batch_open_only_while_waiting_can_help(
    tasks: list[Waits], now: float, batch: list[int], wake: float | None
) -> None:
    decision = decide([line(*tasks)], now, timeout=2.0)
    assert (rows(decision), decision.wake) == (batch, wake)


def test_an_open_batch_does_not_hold_up_a_full_one() -> None:
    decision = decide([line(Waits(1)), line(Waits(8, arrival=0.5))], 1.0, timeout=2.0)
    assert rows(decision) == [8]


def test_the_earliest_open_batch_decides_when_to_look_again() -> None:
    lines = [line(Waits(1, arrival=0.7)), line(Waits(2, arrival=0.2))]
    assert decide(lines, 1.0, timeout=2.0).wake == 2.2


@pytest.mark.parametrize(
    ("waiting", "seconds", "batch"),
    [
        ([1] * 5, {1: 1.0, 4: 4.0, 8: 8.0}, [1] * 4),
        ([1] * 5, {1: 1.0, 4: 1.5, 8: 8.0}, [1] * 4),
        ([1] * 5, {1: 1.0, 4: 1.0, 8: 1.0}, [1] * 5),
        ([1] * 5, {1: 1.0, 4: 4.0}, [1] * 5),
        ([1] * 8, {1: 1.0, 4: 4.0, 8: 8.0}, [1] * 8),
        ([5], {1: 1.0, 4: 4.0, 8: 80.0}, [5]),
        ([3, 3], {1: 9.0, 4: 1.0, 8: 9.0}, [3]),
    ],
    ids=["linear", "knee", "flat", "unknown", "full", "one task is whole", "whole tasks"],
)
def test_padding_is_avoided_where_measured_times_say_it_costs_more(
    waiting: list[int], seconds: dict[int, float], batch: list[int]
) -> None:
    tasks = [Waits(n, arrival=i) for i, n in enumerate(waiting)]
    assert rows(decide([line(*tasks, seconds=seconds)], 9.0, timeout=0.0)) == batch


TASKS = st.lists(
    st.builds(
        Waits,
        rows=st.integers(1, 8),
        arrival=st.floats(0, 10),
        deadline=st.none() | st.floats(0, 20),
    )
)
SECONDS = st.dictionaries(st.sampled_from([1, 4, 8]), st.floats(0.001, 10))


@given(
    queues=st.lists(TASKS, max_size=4),
    now=st.floats(10, 20),
    timeout=st.sampled_from([0.0, 1.0, 30.0]),
    seconds=SECONDS,
)
def test_decisions_keep_their_promises(
    queues: list[list[Waits]], now: float, timeout: float, seconds: dict[int, float]
) -> None:
    ordered = [sorted(tasks, key=lambda t: t.arrival) for tasks in queues]
    decision = decide([line(*tasks, seconds=seconds) for tasks in ordered], now, timeout=timeout)
    live = [[t for t in q if t.deadline is None or t.deadline > now] for q in ordered]
    assert sum(rows(decision)) <= BUCKETS.largest
    assert all(t.deadline is not None and t.deadline <= now for t in decision.expired)
    waiting = [q for q in live if q]
    if decision.batch:
        assert any(decision.batch[0] is q[0] and set(decision.batch) <= set(q) for q in waiting)
    elif waiting:
        assert timeout and decision.wake is not None and decision.wake > now
    if waiting and not timeout:
        assert decision.batch[0].arrival == min(q[0].arrival for q in waiting)
