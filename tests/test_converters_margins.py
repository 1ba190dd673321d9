"""Answers of compressed programs are held to the error that was recorded, times a margin."""

import math
from typing import Any

import numpy as np
import pytest

from jaxrt.converters import check
from jaxrt.converters.margins import MARGIN, Recorded, margins


def output(name: str, **changed: Any) -> dict[str, Any]:
    return {
        "output": name, "max_error": 0.1, "rms": 0.01, "agreement": None, "judged": 0, **changed
    }  # fmt: skip


def report(**changed: Any) -> dict[str, Any]:
    return {
        "layers": [{"scheme": "int8"}],
        "pruned": None,
        "dropped": None,
        "outputs": {"f": [output("y"), output("z", rms=0.02)]},
        **changed,
    }


def recorded(**changed: Any) -> Recorded:
    return Recorded.of(output("y", **changed))


def test_each_output_has_the_worse_of_what_was_recorded_of_it() -> None:
    found = margins(report(), {"f": [output("y", rms=0.05)]})
    assert found is not None
    assert {name: one.rms for name, one in found.of("f", ["y", "z"]).items()} == {
        "y": 0.05, "z": 0.02,
    }  # fmt: skip
    assert found.of("g", ["w"])["w"].rms == 0.05  # nobody could try it: as the worst


def test_what_is_not_compressed_has_no_margin() -> None:
    assert margins(None, {}) is None
    assert margins(report(layers=[{"scheme": "float"}]), {}) is None
    assert margins(report(dropped="slower"), {}) is None


def test_what_is_pruned_alone_has_the_margin_of_that() -> None:
    pruned = {"error": output("y", rms=0.03)}
    found = margins(report(dropped="slower", pruned=pruned), {})
    assert found is not None and found.of("f", ["y"])["y"].rms == 0.03
    exact = margins(report(layers=[], pruned={"error": None}), {})
    assert exact is None


@pytest.mark.parametrize(("times", "right"), [(0.9 * MARGIN, True), (1.1 * MARGIN, False)])
def test_floats_are_held_to_the_relative_error_of_all_values(times: float, right: bool) -> None:
    want = np.linspace(1, 2, 100, dtype=np.float32)
    allowed = check.Allowed().compressed({"y": recorded()})
    got = (want * (1 + 0.01 * times)).astype(np.float32)
    (found,) = check.compare({"y": got}, {"y": want}, allowed)
    assert found.ok is right
    said = "ok" if right else "past the tolerance"
    assert found.verdict.startswith(f"{said}; compressed: allowed 3 % RMS, found ")


def test_where_zeros_were_wanted_the_largest_error_counts() -> None:
    want = np.zeros(4, np.float32)
    allowed = check.Allowed().compressed({"y": recorded(rms=math.inf, max_error=0.1)})
    for wrong, right in ((0.29, True), (0.31, False)):
        (found,) = check.compare({"y": want + np.float32(wrong)}, {"y": want}, allowed)
        assert found.ok is right and found.relative_rms == math.inf


@pytest.mark.parametrize("kind", ["int64", "O"])
def test_whole_numbers_and_strings_may_differ_as_often_as_recorded(kind: str) -> None:
    want = np.array([b"%d" % i if kind == "O" else i for i in range(100)], kind)
    allowed = check.Allowed().compressed({"y": recorded(rms=0, agreement=0.98, judged=50)})
    for count, right in ((0, True), (6, True), (7, False)):
        got = want.copy()
        got[:count] = got[-1]
        (found,) = check.compare({"y": got}, {"y": want}, allowed)
        assert found.ok is right and found.differing == count
    assert found.verdict == "7 of 100 differ, 6 may: compressed"


def test_what_is_nan_is_never_right() -> None:
    want = np.ones(2, np.float32)
    allowed = check.Allowed().compressed({"y": recorded()})
    (found,) = check.compare({"y": np.full(2, np.nan, np.float32)}, {"y": want}, allowed)
    assert not found.ok


def test_errors_on_random_inputs_can_be_recorded_too() -> None:
    want = {"y": np.ones(2, np.float32), "n": np.array([1, 2])}
    got = {"y": np.array([1, 1.1], np.float32), "n": np.array([1, 3])}
    floats, counts = (each.recorded for each in check.compare(got, want))
    assert floats.rms == pytest.approx(0.0707, rel=1e-2) and floats.agreement is None
    assert (counts.rms, counts.max_error, counts.agreement, counts.judged) == (0, 0, 0.5, 2)
