"""Schemes and the rules that say which layers have them."""

import pytest

from jaxrt.compression.schemes import Rule, Scheme, parse_rule, rule_for, supported
from jaxrt.errors import UsageError
from jaxrt.target import Target


def _target(platform: str, kind: str) -> Target:
    return Target(platform=platform, device_kind=kind, num_devices=1, fingerprint="", features="")


def test_rules_are_read_and_survive_json() -> None:
    rule = parse_rule("a=b/.*=int4:32")
    assert rule == Rule(pattern="a=b/.*", scheme=Scheme.INT4, group=32)
    assert Rule.from_json(rule.to_json()) == rule
    assert Rule.from_json(parse_rule("x=int8").to_json()) == parse_rule("x=int8")


def test_the_first_rule_whose_pattern_is_found_holds() -> None:
    rules = [parse_rule("^head=float"), parse_rule("kernel=int8")]
    assert [rule_for(rules, path) for path in ("head/kernel", "a/kernel", "bias")] == [*rules, None]


@pytest.mark.parametrize("text", ["int8", "x=int5", "x=int8:32", "x=int4:", "x=int4:3", "(=int8"])
def test_other_rules_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"rule"):
        parse_rule(text)


@pytest.mark.parametrize(
    ("platform", "kind", "int8", "fp8"),
    [
        ("cpu", "cpu", True, False),
        ("tpu", "TPU v5 lite", True, False),
        ("tpu", "TPU7x", False, True),
        ("cuda", "Tesla T4", True, False),
        ("cuda", "NVIDIA A100-SXM4-80GB", True, False),
        ("cuda", "NVIDIA L4", True, True),
        ("cuda", "NVIDIA H100 80GB HBM3", True, True),
    ],
)
def test_schemes_suit_the_units_of_devices(platform: str, kind: str, int8: bool, fp8: bool) -> None:
    target = _target(platform, kind)
    assert (supported(Scheme.W8A8, target) is None) == int8
    assert (supported(Scheme.FP8, target) is None) == fp8
    assert supported(Scheme.INT8, target) is supported(Scheme.INT4, target) is None
