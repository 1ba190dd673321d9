"""What is loaded and unloaded next, given what is aspired, what is there, and the time."""

import dataclasses

import pytest

from jaxrt.serving.engine import lifecycle
from jaxrt.serving.engine.lifecycle import Entry, Load, Phase, Retries, Unload

RETRIES = Retries(count=2, seconds=60.0)


def entries(*found: Entry) -> dict[int, Entry]:
    return {entry.version: entry for entry in found}


def entry(version: int, phase: Phase, aspired: bool = True, **more: object) -> Entry:
    made = Entry(version=version, place=f"/m/{version}", phase=phase, aspired=aspired)
    return dataclasses.replace(made, **more)  # type: ignore[arg-type]


def places(*versions: int) -> dict[int, str]:
    return {version: f"/m/{version}" for version in versions}


def test_of_several_new_versions_the_highest_is_loaded_first() -> None:
    found = lifecycle.aspire({}, places(1, 10, 2))
    assert lifecycle.next_action(found.values(), 0.0) == Load(10)


def test_an_old_version_serves_until_a_new_one_does() -> None:
    old = entries(entry(1, Phase.AVAILABLE), entry(2, Phase.AVAILABLE))
    found = lifecycle.aspire(old, places(3))
    assert lifecycle.next_action(found.values(), 0.0) == Load(3)
    found[3] = lifecycle.begun(found[3], "files")
    assert lifecycle.next_action(found.values(), 0.0) is None
    found[3] = dataclasses.replace(found[3], phase=Phase.AVAILABLE)
    assert lifecycle.next_action(found.values(), 0.0) == Unload(1)
    found[1] = dataclasses.replace(found[1], phase=Phase.UNLOADING)
    assert lifecycle.next_action(found.values(), 0.0) == Unload(2)


def test_unloading_goes_before_loading() -> None:
    found = [
        entry(1, Phase.AVAILABLE, aspired=False),
        entry(2, Phase.AVAILABLE),
        entry(3, Phase.NEW),
    ]
    assert lifecycle.next_action(found, 0.0) == Unload(1)


def test_the_old_version_stays_when_the_new_one_fails() -> None:
    found = [entry(1, Phase.AVAILABLE, aspired=False), entry(2, Phase.FAILED)]
    assert lifecycle.next_action(found, 1e9) is None


def test_when_nothing_is_wanted_everything_goes_lowest_first() -> None:
    found = lifecycle.aspire(entries(entry(4, Phase.AVAILABLE), entry(3, Phase.AVAILABLE)), {})
    assert lifecycle.next_action(found.values(), 0.0) == Unload(3)


@pytest.mark.parametrize("phase", [Phase.NEW, Phase.PAUSED])
def test_a_version_that_waits_is_dropped_when_it_is_no_longer_wanted(phase: Phase) -> None:
    found = lifecycle.aspire(entries(entry(1, phase)), {})
    assert found[1].phase is Phase.GONE and not found[1].aspired


def test_a_load_under_way_goes_on_when_its_version_is_no_longer_wanted() -> None:
    found = lifecycle.aspire(entries(entry(1, Phase.LOADING)), {})
    assert found[1].phase is Phase.LOADING
    assert lifecycle.failed(found[1], 0.0, RETRIES).phase is Phase.FAILED


def test_a_failed_load_is_tried_again_after_the_interval_and_then_given_up() -> None:
    found = entry(1, Phase.LOADING)
    for number in (1, 2):
        found = lifecycle.failed(found, 100.0, RETRIES)
        assert (found.phase, found.failures, found.due) == (Phase.PAUSED, number, 160.0)
        assert lifecycle.next_action([found], 159.9) is None
        assert lifecycle.next_due([found], 159.9) == 160.0
        assert lifecycle.next_action([found], 160.0) == Load(1)
        found = lifecycle.begun(found, None)
    found = lifecycle.failed(found, 100.0, RETRIES)
    assert found.phase is Phase.FAILED
    assert lifecycle.next_action([found], 1e9) is None
    assert lifecycle.next_due([found], 0.0) is None


def test_a_negative_interval_is_none() -> None:
    found = lifecycle.failed(entry(1, Phase.LOADING), 100.0, Retries(count=1, seconds=-1e-6))
    assert lifecycle.next_action([found], 100.0) == Load(1)


def test_what_cannot_succeed_is_not_tried_again() -> None:
    found = lifecycle.failed(entry(1, Phase.LOADING), 0.0, RETRIES, hopeless=True)
    assert found.phase is Phase.FAILED


def test_a_version_that_was_given_up_is_tried_again_when_it_went_and_came_back() -> None:
    given_up = entries(entry(1, Phase.FAILED, failures=3))
    assert lifecycle.aspire(given_up, places(1))[1].phase is Phase.FAILED
    gone = lifecycle.aspire(given_up, {})
    assert gone[1].phase is Phase.FAILED
    back = lifecycle.aspire(gone, places(1))
    assert (back[1].phase, back[1].failures) == (Phase.NEW, 0)


@pytest.mark.parametrize("phase", [Phase.PAUSED, Phase.FAILED])
def test_a_version_whose_files_changed_since_its_load_failed_is_new_again(phase: Phase) -> None:
    found = entry(1, phase, seen="half", failures=3, due=1e9)
    assert lifecycle.looked_at(found, "half") is found
    changed = lifecycle.looked_at(found, "whole")
    assert (changed.phase, changed.failures) == (Phase.NEW, 0)
    assert lifecycle.next_action([changed], 0.0) == Load(1)


def test_the_files_of_a_version_nobody_wants_do_not_matter() -> None:
    found = entry(1, Phase.FAILED, aspired=False, seen="half")
    assert lifecycle.looked_at(found, "whole") is found


def test_failures_are_counted_from_the_last_change_of_the_files() -> None:
    found = entry(1, Phase.PAUSED, seen="half", failures=2)
    assert lifecycle.begun(found, "half").failures == 2
    assert lifecycle.begun(found, "whole").failures == 0


def test_a_version_that_is_being_written_is_postponed_without_a_failure() -> None:
    found = lifecycle.postponed(entry(1, Phase.LOADING), 5.0)
    assert (found.phase, found.failures, found.due) == (Phase.NEW, 0, 5.0)
    assert lifecycle.next_action([found], 4.9) is None
    assert lifecycle.next_due([found], 4.0) == 5.0


def test_a_version_that_is_wanted_again_while_it_unloads_is_loaded_after_that() -> None:
    found = lifecycle.aspire(entries(entry(1, Phase.UNLOADING, aspired=False)), places(1))
    assert found[1].phase is Phase.UNLOADING
    assert lifecycle.next_action(found.values(), 0.0) is None
    assert lifecycle.unloaded(found[1]).phase is Phase.NEW
    assert lifecycle.unloaded(entry(1, Phase.UNLOADING, aspired=False)).phase is Phase.GONE


def test_an_old_version_that_is_wanted_again_stays() -> None:
    found = lifecycle.aspire(entries(entry(1, Phase.AVAILABLE, aspired=False)), places(1))
    assert found[1].aspired and lifecycle.next_action(found.values(), 0.0) is None


def test_settled_means_that_there_is_something_and_all_of_it_was_tried() -> None:
    assert not lifecycle.settled([])
    assert not lifecycle.settled([entry(1, Phase.AVAILABLE, aspired=False)])
    assert not lifecycle.settled([entry(1, Phase.AVAILABLE), entry(2, Phase.PAUSED)])
    assert lifecycle.settled([entry(1, Phase.AVAILABLE), entry(2, Phase.FAILED)])
