"""Signatures become lists of shapes to compile."""

import pytest

from jaxrt.buckets import Buckets
from jaxrt.converters.planning import Plan, ShapeRule, of_stage, parse_rule, plan
from jaxrt.errors import UsageError
from jaxrt.specs import Dim, SignatureSpec, TensorSpec


def spec(**inputs: tuple[int, ...] | None) -> SignatureSpec:
    return SignatureSpec(
        inputs={
            alias: TensorSpec(
                name=f"{alias}:0",
                dtype="int32",
                dims=None if shape is None else tuple(Dim(d) for d in shape),
            )
            for alias, shape in inputs.items()
        },
        outputs={},
    )


def shapes(found: Plan) -> list[dict[str, tuple[int, ...]]]:
    return [dict(p.shapes) for p in found.programs]


BUCKETS = Buckets(sizes=(1, 8))


def test_every_bucket_of_a_known_inner_shape_is_planned() -> None:
    found = plan("s", spec(x=(-1, 4)), buckets=BUCKETS)
    assert shapes(found) == [{"x": (1, 4)}, {"x": (8, 4)}]
    assert [p.batch for p in found.programs] == [1, 8]


def test_a_scalar_beside_a_batch_keeps_its_shape() -> None:
    found = plan("s", spec(x=(-1, 4), k=()), buckets=Buckets(sizes=(2,)))
    assert shapes(found) == [{"x": (2, 4), "k": ()}]


def test_a_signature_without_batch_dimension_has_one_program() -> None:
    found = plan("s", spec(x=(3,), k=()), buckets=BUCKETS)
    assert shapes(found) == [{"x": (3,), "k": ()}]
    assert found.programs[0].batch is None


def test_unknown_inner_dimensions_are_named_with_the_flag() -> None:
    found = plan("s", spec(ids=(-1, -1), mask=(-1, -1)), buckets=BUCKETS)
    assert not found.programs
    assert found.unplanned is not None
    assert "ids[?,?], mask[?,?] have unknown dimensions" in found.unplanned
    assert "--shape ids,mask=SIZE" in found.unplanned


@pytest.mark.parametrize("text", ["ids,mask=4,6", "*=4,6"])
def test_tied_inputs_share_their_sizes(text: str) -> None:
    found = plan(
        "s",
        spec(ids=(-1, -1), mask=(-1, -1)),
        buckets=Buckets(sizes=(2,)),
        rules=[parse_rule(text)],
    )
    assert shapes(found) == [{"ids": (2, 4), "mask": (2, 4)}, {"ids": (2, 6), "mask": (2, 6)}]


def test_one_rule_is_taken_for_all_open_inputs_and_says_so() -> None:
    found = plan(
        "s",
        spec(ids=(-1, -1), mask=(-1, -1)),
        buckets=Buckets(sizes=(2,)),
        rules=[parse_rule("ids=4")],
    )
    assert shapes(found) == [{"ids": (2, 4), "mask": (2, 4)}]
    assert "mask taken to share the sizes of ids" in found.notes[0]


def test_rules_of_different_length_are_multiplied() -> None:
    found = plan(
        "s",
        spec(a=(-1, -1), b=(-1, -1)),
        buckets=Buckets(sizes=(1,)),
        rules=[parse_rule("a=2,3"), parse_rule("s:b=5")],
    )
    assert shapes(found) == [{"a": (1, 2), "b": (1, 5)}, {"a": (1, 3), "b": (1, 5)}]


def test_several_unknown_dimensions_take_one_size_each_or_one_for_all() -> None:
    image = spec(image=(-1, -1, -1, 3))
    found = plan("s", image, buckets=Buckets(sizes=(1,)), rules=[parse_rule("image=48x64,32")])
    assert shapes(found) == [{"image": (1, 48, 64, 3)}, {"image": (1, 32, 32, 3)}]
    with pytest.raises(UsageError, match="has 2 unknown dimensions beyond the batch, 3 sizes"):
        plan("s", image, buckets=BUCKETS, rules=[parse_rule("image=1x2x3")])


def test_unknown_rank_takes_the_sizes_as_the_inner_shape() -> None:
    found = plan("s", spec(x=None), buckets=Buckets(sizes=(2,)), rules=[parse_rule("x=3x4")])
    assert shapes(found) == [{"x": (2, 3, 4)}]


def test_unknown_rank_is_guessed_as_one_number_a_row_or_else_a_scalar() -> None:
    found = plan("s", spec(x=(-1, 4), k=None), buckets=Buckets(sizes=(2,)))
    assert shapes(found) == [{"x": (2, 4), "k": (2,)}]
    assert found.otherwise is not None
    assert shapes(found.otherwise) == [{"x": (2, 4), "k": ()}]
    assert found.otherwise.programs[0].shared == {"k"}
    assert dict(found.otherwise.programs[0].rebatch(5).shapes) == {"x": (5, 4), "k": ()}


def test_observed_shapes_become_planned_ones_for_every_bucket() -> None:
    found = plan("s", spec(x=(-1, -1)), buckets=BUCKETS, observed=[{"x": (3, 7)}, {"y": (1,)}])
    assert shapes(found) == [{"x": (1, 7)}, {"x": (8, 7)}]


@pytest.mark.parametrize("text", ["ids", "=3", "ids=", "ids=a", "ids=3,x", "ids=-1"])
def test_a_rule_that_does_not_parse_says_what_is_wanted(text: str) -> None:
    with pytest.raises(UsageError, match=r"want NAME\[,NAME...\]=SIZE"):
        parse_rule(text)


def test_a_rule_parses() -> None:
    assert parse_rule("a,b=64,128x2") == ShapeRule(names=("a", "b"), sizes=((64,), (128, 2)))


def test_a_stage_has_the_sizes_that_its_signatures_inputs_have() -> None:
    whole = plan(
        "s",
        spec(words=(-1, -1), image=(-1, 28), scale=()),
        buckets=BUCKETS,
        rules=[parse_rule("words=4,7")],
    )
    stage = spec(ids=(-1, -1, 3), image=(-1, 28), scale=())
    found = of_stage(stage, {"ids": (None, ("words", 1), None)}, whole)
    assert shapes(found) == [
        {"ids": (n, size, 3), "image": (n, 28), "scale": ()} for size in (4, 7) for n in (1, 8)
    ]
    assert [p.batch for p in found.programs] == [1, 8, 1, 8]
    assert all(p.shared == {"scale"} for p in found.programs)


def test_a_stage_that_sees_no_rows_is_planned_once_a_size() -> None:
    whole = plan("s", spec(words=(-1, -1)), buckets=BUCKETS, rules=[parse_rule("words=4,7")])
    found = of_stage(spec(table=(5, -1)), {"table": (None, ("words", 1))}, whole)
    assert shapes(found) == [{"table": (5, 4)}, {"table": (5, 7)}]
    assert [p.batch for p in found.programs] == [None, None]


def test_a_stage_of_a_signature_that_nobody_planned_is_not_planned() -> None:
    whole = plan("s", spec(words=(-1, -1)), buckets=BUCKETS)
    found = of_stage(spec(ids=(-1, -1)), {"ids": (None, ("words", 1))}, whole)
    assert not found.programs
    assert found.unplanned == whole.unplanned
