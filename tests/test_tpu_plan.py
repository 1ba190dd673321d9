"""Plans: right at every one, with the exchanges they say, and refused when nothing fits."""

import dataclasses
import functools
from typing import Any

import mesh_programs
import pytest

from jaxrt.errors import DeviceError
from jaxrt.tpu.plan import Plan, plans
from jaxrt.tpu.topology import parse

run = functools.cache(mesh_programs.run)
CASES = [(name, slice_) for name in mesh_programs.CASES for slice_ in ("v5e:2x2", "v5e:2x4")]


@pytest.mark.parametrize(("name", "slice_"), CASES)
def test_every_plan_gives_the_numbers_of_one_device(name: str, slice_: str) -> None:
    found = run(name, slice_)
    assert len(found) >= 5
    for line in found:
        assert line["error"] < 2e-5, line
        assert line["held"] == pytest.approx(line["share"], rel=0.01), line


@pytest.mark.parametrize(
    ("name", "scheme"), [("encoder", "int8"), ("encoder", "int4"), ("tables", "int8")]
)
def test_weights_in_few_bits_give_the_numbers_of_one_device(name: str, scheme: str) -> None:
    found = mesh_programs.run(name, "v5e:2x2", scheme)
    assert {line["mesh"] for line in found} == {"2×2", "1×4"}
    for line in found:
        assert line["error"] < 2e-5, line
        assert line["held"] == pytest.approx(line["share"], rel=0.01), line
    assert min(line["share"] for line in found) < 0.3


@pytest.mark.parametrize("slice_", ["v5e:2x2", "v5e:2x4"])
def test_a_batch_split_exchanges_nothing(slice_: str) -> None:
    for name in mesh_programs.CASES:
        line = _one(run(name, slice_), "batch split")
        assert line["compiled"] == {} and line["expected"] == {}, name


def test_an_encoder_layer_takes_two_all_reduces_when_its_products_are_split() -> None:
    for line in run("encoder", "v5e:2x2"):
        if line["mesh"] == "1×4" and line["label"].startswith("tensor"):
            outside = 1  # the look-up of words
            kinds = dict(line["compiled"])
            assert kinds.pop("all-reduce") <= 2 * mesh_programs.LAYERS + outside
            assert sum(kinds.values()) <= outside, line
            assert line["share"] < 0.27


def test_the_exchanges_of_an_encoder_are_those_foretold() -> None:
    for line in run("encoder", "v5e:2x4"):
        if line["label"] != "fully sharded weights":
            assert line["compiled"] == line["expected"], line


def test_the_latest_of_what_is_fully_sharded_is_all_weights() -> None:
    for name in mesh_programs.CASES:
        line = _one(run(name, "v5e:2x4"), "fully sharded weights")
        assert line["share"] < 0.4, name


def _one(lines: list[dict[str, Any]], label: str) -> dict[str, Any]:
    (found,) = [line for line in lines if line["label"] == label]
    return found


def _planned(name: str, topology: str, batch: int = 16) -> list[Plan]:
    return plans(mesh_programs.program(name, batch), parse(topology), bf16=True)


def test_one_device_has_one_plan() -> None:
    (plan,) = _planned("encoder", "v5e:1x1")
    assert not plan.collectives
    assert all(axis is None for spec in plan.weights.values() for axis in spec)


def test_a_batch_that_does_not_divide_stays_whole() -> None:
    for plan in _planned("encoder", "v5e:2x2", batch=3):
        assert not plan.batch_split


def test_pairs_of_products_are_split_by_columns_then_rows() -> None:
    plan = next(
        p for p in _planned("encoder", "v5e:2x2") if p.mesh.model == 4 and "tensor" in p.label
    )
    for n in range(mesh_programs.LAYERS):
        assert plan.weights[f"{n}/query"] == (None, "model", None)
        assert plan.weights[f"{n}/query/bias"] == ("model", None)
        assert plan.weights[f"{n}/out"] == ("model", None, None)
        assert plan.weights[f"{n}/up"] == (None, "model")
        assert plan.weights[f"{n}/down"] == ("model", None)
        assert plan.weights[f"{n}/down/bias"] == (None,)


@pytest.mark.parametrize(
    ("rows", "labels"),
    [(20_000, {"tables by rows", "tables by columns"}), (20_001, {"tables by columns"})],
)
def test_a_label_says_how_tables_came_to_be_split(rows: int, labels: set[str]) -> None:
    sizes = {f"table{n}": (rows, 16) for n in range(4)}
    found = plans(mesh_programs.larger("tables", sizes), parse("v5e:2x2"), bf16=True)
    split = [plan for plan in found if any(plan.weights["table0"])]
    ways = {plan.label.removeprefix("tensor parallel, ") for plan in split}
    assert ways - {"fully sharded weights"} == labels
    assert not any("tables" in plan.label for plan in found if plan not in split)


def test_a_program_without_tables_has_no_label_that_names_them() -> None:
    labels = {plan.label for plan in _planned("images", "v5e:2x2")}
    assert labels == {"batch split", "tensor parallel", "weights whole", "fully sharded weights"}


def test_what_does_not_fit_says_by_how_much() -> None:
    small = parse("v5e:2x2")
    chip = dataclasses.replace(small.chip, memory_bytes=4 << 20)
    with pytest.raises(DeviceError, match="GiB more than .* here"):
        plans(mesh_programs.program("encoder"), dataclasses.replace(small, chip=chip), bf16=True)


def test_plans_come_fastest_first() -> None:
    seconds = [plan.estimate.seconds for plan in _planned("encoder", "v5e:2x4")]
    assert seconds == sorted(seconds)
