"""Devices are taken in the order they are asked for, and programs of different ones run at once."""

import threading
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxrt.occupancy import Occupancy
from jaxrt.placed import Place
from jaxrt.replicas import ReplicatedProgram

SECONDS = 10.0


def test_an_idle_place_is_taken_and_given_back() -> None:
    occupancy = Occupancy()
    places = [{0}, {1}]
    with occupancy.one_of(places) as first, occupancy.one_of(places) as second:
        assert (first, second) == (0, 1)
    with occupancy.one_of(places) as again:
        assert again == 0


def test_who_waits_for_a_whole_mesh_is_not_passed_by() -> None:
    occupancy = Occupancy()
    order: list[str] = []
    asked = threading.Event()

    def mesh() -> None:
        asked.set()
        with occupancy.one_of([{0, 1}]):
            order.append("mesh")

    def single() -> None:
        with occupancy.one_of([{1}]):
            order.append("single")

    with occupancy.one_of([{0}]):
        first = threading.Thread(target=mesh)
        first.start()
        assert asked.wait(SECONDS)
        while not occupancy._waiting:
            pass
        second = threading.Thread(target=single)
        second.start()
        second.join(0.05)
        assert order == []  # device 1 is idle, and is the mesh's next
    first.join(SECONDS)
    second.join(SECONDS)
    assert order == ["mesh", "single"]


class Meeting:
    """A program that ends when another one runs at the same time."""

    input_shapes: Mapping[str, tuple[int, ...]] = {"x": (1,)}
    output_shapes = input_shapes

    def __init__(self, barrier: threading.Barrier) -> None:
        self._barrier = barrier
        self.runs = 0

    def run(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        self.runs += 1
        self._barrier.wait(SECONDS)
        return dict(inputs)


def test_the_first_run_is_on_every_replica_and_later_ones_run_at_once() -> None:
    barrier = threading.Barrier(2)
    programs = [Meeting(barrier), Meeting(barrier)]
    place = Place((jax.devices("cpu")[0],))
    replicated = ReplicatedProgram(programs, [place, place], Occupancy())
    replicated._ids = [frozenset({0}), frozenset({1})]
    x = {"x": np.ones(1, np.float32)}
    replicated.run(x)
    assert [program.runs for program in programs] == [1, 1]
    threads = [threading.Thread(target=replicated.run, args=(x,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert [program.runs for program in programs] == [2, 2]
