"""How weights are held in fewer bits, and the rules that say which are."""

import dataclasses
import enum
import re
from collections.abc import Sequence
from typing import Any

from jaxrt.errors import UsageError
from jaxrt.target import Target

GROUP = 64
"""Weights that share a scale in int4."""

GROUPS = range(8, 4097)


class Scheme(enum.Enum):
    """What becomes of the weights of one layer."""

    FLOAT = "float"
    """Nothing."""
    BF16 = "bf16"
    """Weights rounded to bfloat16."""
    INT8 = "int8"
    """Symmetric weights from -127 to 127, a scale for each output channel or row of a table."""
    INT4 = "int4"
    """Weights from -8 to 7, two a byte, a bfloat16 scale of either sign for each group of terms."""
    W8A8 = "w8a8"
    """Weights as INT8; activations too, by a scale found for each row at each request."""
    FP8 = "fp8"
    """Weights as float8_e4m3fn by channel; activations too where the device multiplies such."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """The scheme of layers whose path has `pattern` in it; of several rules the first holds."""

    pattern: str
    """A regular expression, searched for in the path of the layer."""
    scheme: Scheme
    group: int | None = None
    """Of INT4: terms that share a scale, GROUP by default."""

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise UsageError(
                f"rule {self.pattern!r}: not a regular expression ({error}); quote what is meant "
                "as it is with a backslash"
            ) from error
        if self.group is not None and self.scheme is not Scheme.INT4:
            raise UsageError(f"rule {self.pattern!r}: {self.scheme.value} has no groups; int4 has")
        if self.group is not None and self.group not in GROUPS:
            raise UsageError(
                f"rule {self.pattern!r}: groups of {self.group}, want {GROUPS[0]} to {GROUPS[-1]}"
            )

    def to_json(self) -> dict[str, Any]:
        found = {"pattern": self.pattern, "scheme": self.scheme.value}
        return found if self.group is None else {**found, "group": self.group}

    @classmethod
    def from_json(cls, held: dict[str, Any]) -> "Rule":
        return cls(pattern=held["pattern"], scheme=Scheme(held["scheme"]), group=held.get("group"))


def parse_rule(text: str) -> Rule:
    """`encoder/.*=int8`, `.*=int4:32`; raises UsageError for anything else."""
    pattern, equals, name = text.rpartition("=")
    name, colon, group = name.partition(":")
    known = [scheme.value for scheme in Scheme]
    if not equals or name not in known or (colon and not group.isdecimal()):
        raise UsageError(
            f"compression rule {text!r}: want PATTERN=SCHEME, SCHEME one of {', '.join(known)}, "
            "int4 with the size of its groups as in int4:32"
        )
    return Rule(pattern=pattern, scheme=Scheme(name), group=int(group) if colon else None)


def rule_for(rules: Sequence[Rule], path: str) -> Rule | None:
    """The first that speaks of the layer at `path`."""
    return next((rule for rule in rules if re.search(rule.pattern, path)), None)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Units:
    """What the device's matrix units multiply besides floats."""

    int8: bool = False
    fp8: bool = False


_INT8 = re.compile(r"TPU v[4-6]|NVIDIA|Tesla|GeForce|RTX", re.IGNORECASE)
_FP8 = re.compile(r"TPU ?v?7|H100|H200|GH200|B[123]00|L4\b|L40|RTX (?:4|5|6000 Ada)", re.IGNORECASE)


def units(target: Target) -> Units:
    """By the name that the device gives itself.

    TPU7x has fp8 in place of int8 (cloud.google.com/tpu/docs/tpu7x); XLA widens fp8 on v4 to v6e.
    GPUs have int8 from Turing on, fp8 from Ada and Hopper on (CUDA C++ guide, compute
    capabilities). XLA:CPU multiplies int8 with the instructions for it, by YNNPACK, fp8 in plain
    loops.
    """
    if target.platform == "cpu":
        return Units(int8=True)
    kind = target.device_kind
    return Units(int8=bool(_INT8.search(kind)), fp8=bool(_FP8.search(kind)))


def supported(scheme: Scheme, target: Target) -> str | None:
    """Why a scheme has no sense on a target; None where it has."""
    if scheme is Scheme.W8A8 and not units(target).int8:
        return (
            f"{target.describe()} has no int8 matrix units that XLA uses; take int8, "
            "which holds the same weights"
        )
    if scheme is Scheme.FP8 and not units(target).fp8:
        return f"{target.describe()} has no fp8 matrix units; take int8, of the same size"
    return None
