"""Errors, budgets, and the order in which layers are compressed."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from jaxrt.compression import budget, search
from jaxrt.compression.budget import Budget
from jaxrt.compression.errors import errors
from jaxrt.compression.search import Option
from jaxrt.errors import UsageError


def scores(*rows: list[float]) -> dict[str, np.ndarray]:
    return {"scores": np.array(rows, np.float32)}


def option(layer: str, scheme: str, gain: float, error: float) -> Option[str]:
    return Option(layer=layer, scheme=scheme, gain=gain, error=error)


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
    assert Budget(min_agreement=0.99).unlimited([found]) == ["y"]
    assert Budget(min_agreement=0.99, max_error=0.1).unlimited([found]) == []


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
    assert search.predicted(order) == pytest.approx([0, 0.01**2, 0.08**2])


def test_a_scheme_that_another_one_beats_is_left_out() -> None:
    order = search.steps([option("a", "int4", 175, 0.01), option("a", "int8", 150, 0.02)])
    assert [o.scheme for o in order] == ["int4"]


def layers(count: int) -> list[Option[str]]:
    """Of equal errors."""
    return search.steps([option(f"layer{i:02}", "int8", 100, 0.001) for i in range(count)])


def asked(used: Callable[[int], float]) -> tuple[Callable[[int], float], list[int]]:
    counts: list[int] = []

    def noted(count: int) -> float:
        counts.append(count)
        return used(count)

    return noted, counts


@pytest.mark.parametrize("allowed", [3.2, 37.4, 63.5])
def test_the_budget_is_used_up_after_few_tries(allowed: float) -> None:
    used, counts = asked(lambda count: math.sqrt(count / allowed))
    found = search.closest(layers(64), used, tries=6)
    assert counts[0] == 64 and len(counts) <= 4
    assert search.CLOSE**2 * allowed - 1 <= found <= allowed


@pytest.mark.parametrize("edge", [0, 1, 37, 62, 63])
def test_errors_that_do_not_add_up_as_predicted_take_more_tries(edge: int) -> None:
    used, counts = asked(lambda count: 0.1 if count <= edge else 30.0)
    assert search.closest(layers(64), used, tries=30) == edge
    assert len(counts) <= 20


def test_a_search_starts_where_it_is_told_and_goes_both_ways() -> None:
    used, counts = asked(lambda count: math.sqrt(count / 40))
    assert search.closest(layers(64), used, tries=4, start=20) in range(33, 41)
    assert counts[0] == 20
    assert search.closest(layers(64), used, tries=4, start=50) in range(33, 41)
    assert search.closest(layers(64), used, tries=4, start=20, bad=(21, 1.5)) == 20


def test_a_search_without_a_choice_within_the_budget_takes_none() -> None:
    used, counts = asked(lambda count: math.inf)
    assert search.closest(layers(64), used, tries=5) == 0
    assert len(counts) == 5 and search.closest([], used, tries=5) == 0
    assert search.closest(layers(64), lambda count: 0.0, tries=5) == 64


def test_a_budget_of_nothing_leaves_what_float32_rounds() -> None:
    exact, turned = scores([3, 4]), scores([3, 4 + 1e-6], [1, 1 + 1e-7])
    (found,) = errors([(exact, exact)])
    assert Budget(max_error=0.0, min_agreement=1.0).used([found]) == 0.0
    (rounded,) = errors([(turned, scores([3, 4], [1 + 1e-7, 1]))])
    assert Budget(max_error=0.0).used([rounded]) < 1 and Budget(max_error=0.0).holds([rounded])
    strict = Budget(min_agreement=1.0)
    assert strict.used([rounded]) > 1000
    assert strict.used([rounded], own={"scores": rounded}) == 1.0  # a tie as it is


def test_the_worst_output_says_how_much_of_a_budget_is_used() -> None:
    found = errors([(scores([3, 4.5]), scores([3, 4]))])
    assert Budget(max_error=0.2).used(found) == pytest.approx(0.5)
    assert Budget(max_error=0.2, min_agreement=0.9).used(found) == pytest.approx(0.5)
    assert Budget().used(found) == 0.0


def test_one_row_of_a_few_may_turn_where_that_is_spared() -> None:
    got = np.eye(4, dtype=np.float32)[np.arange(27) % 4]
    want = got.copy()
    want[0] = want[0, ::-1]
    (found,) = errors([({"y": got}, {"y": want})])
    spared = Budget(min_agreement=0.99, spare_rows=1)
    assert spared.holds([found]) and spared.used([found]) == 1.0
    assert not Budget(min_agreement=0.99).holds([found])
    assert str(spared) == "agreement ≥ 99 % or all rows but 1"


def test_answers_of_another_shape_are_as_wrong_as_can_be() -> None:
    (found,) = errors([({"y": np.ones((3, 2), np.float32)}, {"y": np.ones((4, 2), np.float32)})])
    assert (found.rms, found.agreement, found.judged) == (math.inf, 0.0, 4)
    (ids,) = errors([({"y": np.ones(3, np.int32)}, {"y": np.ones(4, np.int32)})])
    assert (ids.rms, ids.agreement) == (0.0, 0.0)


def test_every_position_of_a_sequence_names_a_class() -> None:
    want = np.eye(4, dtype=np.float32)[np.arange(12) % 4].reshape(3, 4, 4)
    got = want.copy()
    got[0, 0] = got[0, 0, ::-1]
    (found,) = errors([({"y": got}, {"y": want})])
    assert (found.agreement, found.judged) == (11 / 12, 12)


def test_strings_agree_or_not() -> None:
    got, want = np.array([b"cat", b"dog"], object), np.array([b"cat", b"cow"], object)
    (found,) = errors([({"label": got}, {"label": want})])
    assert (found.rms, found.agreement, found.judged) == (0.0, 0.5, 2)
    assert Budget(min_agreement=0.9).broken([found]) == "output 'label': agreement 50 %"
