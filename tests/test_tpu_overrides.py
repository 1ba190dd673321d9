"""Sharding as users say it."""

import pytest

from jaxrt.errors import UsageError
from jaxrt.tpu.overrides import Dimension, WeightPolicy, forced, parse_rule

WEIGHTS = {
    "embedding": (1000, 64),
    "dense/kernel": (64, 256),
    "dense/bias": (256,),
    "out/kernel": (256, 64),
    "conv": (3, 3, 64, 32),
}


def _by(dimension: Dimension, **more: int) -> dict[str, tuple[str | None, ...]]:
    return forced(WEIGHTS, [], WeightPolicy(dimension=dimension, min_elements=1, **more))


def test_a_rule_splits_the_weights_it_finds() -> None:
    rules = [parse_rule("embedding=0:model"), parse_rule("kernel$=-1:data")]
    assert forced(WEIGHTS, rules) == {
        "embedding": ("model", None),
        "dense/kernel": (None, "data"),
        "out/kernel": (None, "data"),
    }


def test_the_first_rule_wins_and_none_keeps_whole() -> None:
    rules = [parse_rule("dense=none"), parse_rule("kernel=0:model")]
    found = forced(WEIGHTS, rules)
    assert found["dense/kernel"] == (None, None) and found["dense/bias"] == (None,)
    assert found["out/kernel"] == ("model", None)


@pytest.mark.parametrize(
    "text", ["kernel", "kernel=model", "kernel=0:pipe", "=0:model", "a(=0:model"]
)
def test_a_rule_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--shard"):
        parse_rule(text)


def test_a_rule_without_a_weight_names_some() -> None:
    with pytest.raises(UsageError, match="no weight has such a name; there are embedding"):
        forced(WEIGHTS, [parse_rule("attention=0:model")])


def test_a_dimension_that_is_not_there_is_refused_with_the_shape() -> None:
    with pytest.raises(UsageError, match=r"dense/bias has shape \[256\] and no dimension 1"):
        forced(WEIGHTS, [parse_rule("bias=1:model")])


def test_policies_split_the_dimension_they_are_named_after() -> None:
    assert _by(Dimension.FIRST)["conv"] == ("model", None, None, None)
    assert _by(Dimension.LAST)["conv"] == (None, None, None, "model")
    assert _by(Dimension.LARGEST)["conv"] == (None, None, "model", None)
    assert _by(Dimension.FIXED, fixed=1)["conv"] == (None, "model", None, None)
    alternate = _by(Dimension.ALTERNATE)
    assert alternate["embedding"] == (None, "model")
    assert alternate["dense/kernel"] == ("model", None)
    assert alternate["out/kernel"] == (None, "model")


def test_small_weights_and_those_of_few_dimensions_stay_whole() -> None:
    found = forced(WEIGHTS, [], WeightPolicy(dimension=Dimension.LAST, min_elements=20_000))
    assert [n for n, spec in found.items() if any(spec)] == ["embedding"]
    assert _by(Dimension.LAST)["dense/bias"] == (None,)
    assert _by(Dimension.LAST, min_rank=1)["dense/bias"] == ("model",)
