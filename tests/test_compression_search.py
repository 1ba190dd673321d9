"""Errors, budgets, and the order in which layers are compressed."""

import math
from collections.abc import Mapping

import numpy as np
import pytest

from jaxrt.compression import budget, search
from jaxrt.compression.budget import Budget
from jaxrt.compression.errors import errors
from jaxrt.compression.search import Option
from jaxrt.errors import UsageError


def scores(*rows: list[float]) -> dict[str, np.ndarray]:
    return {"scores": np.array(rows, np.float32)}


def option(layer: str, scheme: str, saved: int, error: float) -> Option[str]:
    return Option(layer=layer, scheme=scheme, saved=saved, error=error)


def test_errors_are_summed_up_over_batches() -> None:
    (found,) = errors(
        [
            (scores([3, 4.5]), scores([3, 4])),
            (scores([1, 0], [0, 0]), scores([0, 1], [0, 0])),
        ]
    )
    assert found.max_error == 1.0
    assert found.rms == pytest.approx(math.sqrt((0.25 + 2) / (25 + 1)))
    assert (found.agreement, found.judged) == (2 / 3, 3)
    assert found.sqnr == pytest.approx(-20 * math.log10(found.rms))


def test_classes_agree_or_not_and_have_no_noise() -> None:
    got, want = {"best": np.array([1, 2, 9])}, {"best": np.array([1, 2, 3])}
    (found,) = errors([(got, want)])
    assert (found.rms, found.agreement) == (0.0, 2 / 3)


def test_one_number_a_row_names_no_class() -> None:
    (found,) = errors([({"y": np.ones((4, 1), np.float32)}, {"y": np.ones((4, 1), np.float32)})])
    assert (found.agreement, found.rms, found.sqnr) == (None, 0.0, math.inf)


def test_infinities_that_only_one_side_has_are_an_infinite_error() -> None:
    (found,) = errors([(scores([math.inf, 1]), scores([2, 1]))])
    assert found.rms == math.inf
    assert Budget(max_error=0.5).broken([found]) == "output 'scores': error inf"
    (same,) = errors([(scores([math.inf, math.nan]), scores([math.inf, math.nan]))])
    assert same.rms == 0.0


def test_a_budget_says_which_output_breaks_it() -> None:
    (found,) = errors([(scores([3, 4.5]), scores([3, 4]))])
    assert Budget(max_error=0.1).holds([found])
    assert Budget(max_error=0.099).broken([found]) == "output 'scores': error 10 %"
    assert Budget(min_agreement=1.0).holds([found])
    assert str(Budget(max_error=0.005, min_agreement=0.999)) == "error ≤ 0.5 %, agreement ≥ 99.9 %"


@pytest.mark.parametrize(("text", "wanted"), [("0.5%", 0.005), ("0.005", 0.005), ("100%", 1.0)])
def test_shares_are_per_cent_or_numbers(text: str, wanted: float) -> None:
    assert budget.share("--max-error", text) == pytest.approx(wanted)


@pytest.mark.parametrize("text", ["half", "-1%", "101%", "2", "nan", "%", ""])
def test_other_shares_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(UsageError, match="--max-error .*want a share from 0% to 100%"):
        budget.share("--max-error", text)


def test_layers_that_cost_the_least_error_for_their_bytes_come_first() -> None:
    order = search.steps(
        [
            option("sensitive", "int8", 100, 0.1),
            option("large", "int8", 1000, 0.01),
            option("small", "int8", 10, 0.01),
        ]
    )
    assert [o.layer for o in order] == ["large", "small", "sensitive"]


def test_a_layer_goes_to_fewer_bits_after_it_went_to_more() -> None:
    order = search.steps([option("a", "int4", 175, 0.08), option("a", "int8", 150, 0.01)])
    assert [o.scheme for o in order] == ["int8", "int4"]
    assert search.chosen(order) == {"a": "int4"}
    assert search.saved(order) == 175


def test_a_scheme_that_another_one_beats_is_left_out() -> None:
    order = search.steps([option("a", "int4", 175, 0.01), option("a", "int8", 150, 0.02)])
    assert [o.scheme for o in order] == ["int4"]


def test_the_longest_beginning_within_the_budget_is_found_by_halving() -> None:
    order = search.steps([option(f"layer{i:02}", "int8", 100, 0.001 * (i + 1)) for i in range(64)])
    asked: list[int] = []

    def holds(chosen: Mapping[str, str]) -> bool:
        asked.append(len(chosen))
        return len(chosen) <= 37

    assert len(search.largest(order, holds)) == 37
    assert asked[0] == 64 and len(asked) <= 8
    assert search.largest(order, lambda chosen: False) == []
    assert search.largest(order, lambda chosen: True) == order
