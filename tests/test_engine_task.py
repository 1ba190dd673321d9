"""How requests become tasks, and which tasks may meet in a batch."""

import asyncio
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from jaxrt.serving.engine.lane import Lane
from jaxrt.serving.engine.servable import HostTensors, Rows
from jaxrt.serving.engine.task import Task, Ticket, cut


class Program:
    input_shapes: Mapping[str, tuple[int, ...]] = {}
    output_shapes: Mapping[str, tuple[int, ...]] = {}

    def run(self, inputs: HostTensors) -> HostTensors:
        return inputs


LANE = Lane(title="s", rows=Rows.INDEPENDENT, programs={4: Program()}, shared=frozenset({"k"}))


def tasks(k: np.ndarray[Any, Any], sizes: list[int]) -> list[Task]:
    rows = sum(sizes)
    inputs = {"x": np.arange(rows), "k": k}
    loop = asyncio.new_event_loop()
    try:
        ticket = Ticket(loop.create_future(), len(sizes))
    finally:
        loop.close()
    return cut(LANE, inputs, rows, arrival=0.0, deadline=None, ticket=ticket, sizes=sizes)


def test_a_cut_slices_rows_and_leaves_shared_inputs_whole() -> None:
    k = np.zeros(7)
    first, second = tasks(k, [4, 2])
    assert first.inputs["x"].tolist() == [0, 1, 2, 3] and second.inputs["x"].tolist() == [4, 5]
    assert first.inputs["k"] is k and second.inputs["k"] is k
    assert first.group == second.group
    assert (first.part, second.part) == (0, 1)


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        (np.array(1.0), np.array(1.0), True),
        (np.array(1.0), np.array(2.0), False),
        (np.array(np.nan), np.array(np.nan), True),
        (np.array(0.0), np.array(-0.0), False),
        (np.array([b"en"], object), np.array([b"en"], object), True),
        (np.array([b"en"], object), np.array([b"de"], object), False),
        (np.zeros(10_000), np.zeros(10_000), False),
        (np.zeros(10_000), np.ones(10_000), False),
    ],
    ids=["equal", "other", "nan", "sign", "strings", "other strings", "large", "other large"],
)
def test_strangers_meet_only_with_equal_and_small_shared_inputs(
    one: np.ndarray[Any, Any], other: np.ndarray[Any, Any], meet: bool
) -> None:
    assert (tasks(one, [1])[0].group == tasks(other, [1])[0].group) is meet


def test_the_answer_is_whole_when_the_last_part_is_here_in_any_order() -> None:
    loop = asyncio.new_event_loop()
    ticket = Ticket(loop.create_future(), 3)
    assert ticket.deliver(2, {"y": np.array([5])}) is None
    assert ticket.deliver(0, {"y": np.array([1, 2])}) is None
    assert ticket.deliver(0, {"y": np.array([1, 2])}) is None  # run again after a failed batch
    whole = ticket.deliver(1, {"y": np.array([3, 4])})
    assert whole is not None and whole["y"].tolist() == [1, 2, 3, 4, 5]
    loop.close()
