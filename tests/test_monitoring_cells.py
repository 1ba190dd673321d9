"""Numbers that outlive their process and that others read."""

import mmap
import os
from collections.abc import Iterator

import pytest

from jaxrt.serving.monitoring import cells, families
from jaxrt.serving.monitoring.cells import SIZE, Cells, read
from jaxrt.serving.monitoring.registry import Registry


@pytest.fixture
def descriptor() -> Iterator[int]:
    found = cells.shared()
    yield found
    os.close(found)


def test_another_mapping_of_the_memory_sees_every_number(descriptor: int) -> None:
    mine = Cells(descriptor)
    mine.series("a", ("x", 'q"\n'), 3)[1] = 2.5
    mine.series("b", (), 1)[0] = 7
    with mmap.mmap(descriptor, SIZE, access=mmap.ACCESS_READ) as theirs:
        assert read(theirs) == {("a", ("x", 'q"\n')): [0, 2.5, 0], ("b", ()): [7]}


def test_who_takes_the_memory_over_goes_on_where_the_counters_stood(descriptor: int) -> None:
    first = Registry(Cells(descriptor))
    first.counter(families.REQUEST_COUNT, "m", "OK").add(41)
    first.gauge(families.IN_FLIGHT, "m", "1").set(3)
    second = Registry(Cells(descriptor))
    second.counter(families.REQUEST_COUNT, "m", "OK").add()
    second.counter(families.REQUEST_COUNT, "n", "OK").add(5)
    assert read(second.cells.memory) == {
        (families.REQUEST_COUNT.name, ("m", "OK")): [42],
        (families.IN_FLIGHT.name, ("m", "1")): [0],
        (families.REQUEST_COUNT.name, ("n", "OK")): [5],
    }


def test_a_forgotten_series_is_listed_no_more_and_starts_from_zero_again() -> None:
    found = Cells()
    old = found.series("a", ("1",), 2)
    old[0] = 1
    found.series("a", ("2",), 2)[0] = 2
    found.forget([("a", ("1",))])
    old[0] += 1  # a late writer
    assert read(found.memory) == {("a", ("2",)): [2, 0]}
    assert found.series("a", ("1",), 2).tolist() == [0, 0]
    assert read(found.memory) == {("a", ("2",)): [2, 0], ("a", ("1",)): [0, 0]}


def test_versions_that_come_and_go_for_years_never_run_out_of_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cells, "SIZE", cells._START + 8 * 100)
    found = Cells()
    for version in range(50):
        found.series("a", (str(version),), 30)[0] = version
        found.forget([("a", (str(version - 1),))])
    assert {key: numbers[0] for key, numbers in read(found.memory).items()} == {("a", ("49",)): 49}


def test_without_room_what_is_new_is_not_counted_and_nothing_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cells, "SIZE", cells._START + 8 * 10)
    found = Cells()
    found.series("a", ("1",), 8)[0] = 1
    for name in "bc":
        found.series(name, ("1",), 8)[0] = 1
    assert list(read(found.memory)) == [("a", ("1",))]
    assert [record.getMessage() for record in caplog.records] == [
        "no room for more metrics: b('1',) is not counted, nor what is new"
    ]


def test_an_index_longer_than_its_room_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Cells()
    found.series("a", ("1",), 1)
    monkeypatch.setattr(cells, "_INDEX", len('["a", ["1"], 0000000, 1]') + 10)
    found.series("b", ("1",), 1)[0] = 1
    assert list(read(found.memory)) == [("a", ("1",))]
