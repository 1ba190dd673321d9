"""What users say of sharding themselves: `--shard REGEX=DIM:AXIS`, and the runtime's policies."""

import dataclasses
import enum
import re
from collections.abc import Mapping, Sequence

from jaxrt.errors import UsageError
from jaxrt.mesh import DATA, MODEL, Spec
from jaxrt.tpu.layout import whole

_RULE = re.compile(r"(?P<names>.+)=(?:(?P<dim>-?[0-9]+):(?P<axis>[a-z]+)|(?P<none>none))")


class Dimension(enum.Enum):
    """Which dimension of every weight is split: the optimized TensorFlow runtime's policies.

    google/orbax, converter_options_v2.proto, its sharding options.
    """

    FIXED = "fixed"
    """The one that is given."""
    FIRST = "first"
    LAST = "last"
    ALTERNATE = "alternate"
    """The last of the first weight, the first of the second, and so on."""
    LARGEST = "largest"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WeightPolicy:
    """Splits every weight alike, whatever is computed with it."""

    dimension: Dimension
    fixed: int = 0
    """For FIXED; from the end when negative."""
    min_rank: int = 2
    """Weights of fewer dimensions stay whole."""
    min_elements: int = 1 << 16
    """Smaller ones stay whole."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One `--shard`: weights whose names it finds, and how they are split."""

    names: re.Pattern[str]
    dimension: int | None
    """None: they stay whole. Negative: counted from the end."""
    axis: str = MODEL


def parse_rule(text: str) -> Rule:
    """`dense.*/kernel=1:model`, `embedding=0:model`, `bias=none`; raises UsageError."""
    found = _RULE.fullmatch(text)
    if found is None or found["axis"] not in (None, DATA, MODEL):
        raise UsageError(
            f"--shard {text!r}: want REGEX=DIMENSION:AXIS with axis {MODEL} or {DATA}, or "
            "REGEX=none; for example --shard 'embedding=0:model'"
        )
    try:
        names = re.compile(found["names"])
    except re.error as error:
        raise UsageError(f"--shard {text!r}: no regular expression: {error}") from None
    if found["none"]:
        return Rule(names=names, dimension=None)
    return Rule(names=names, dimension=int(found["dim"]), axis=found["axis"])


def forced(
    weights: Mapping[str, tuple[int, ...]],
    rules: Sequence[Rule],
    policy: WeightPolicy | None = None,
) -> dict[str, Spec]:
    """Weight → layout, for those that a rule or the policy decides; the first rule that fits wins.

    Raises UsageError for a rule that finds no weight, or a dimension that one does not have.
    """
    made: dict[str, Spec] = _by_policy(weights, policy) if policy is not None else {}
    used = set()
    for name, shape in weights.items():
        rule = next((r for r in rules if r.names.search(name)), None)
        if rule is None:
            continue
        used.add(rule.names.pattern)
        made[name] = _of_rule(name, shape, rule)
    for rule in rules:
        if not any(rule.names.search(name) for name in weights):
            raise UsageError(
                f"--shard {rule.names.pattern!r}: no weight has such a name; there are "
                f"{', '.join(list(weights)[:5])}"
            )
    return made


def _of_rule(name: str, shape: tuple[int, ...], rule: Rule) -> Spec:
    if rule.dimension is None:
        return whole(len(shape))
    if not -len(shape) <= rule.dimension < len(shape):
        raise UsageError(
            f"--shard {rule.names.pattern!r}: weight {name} has shape {list(shape)} and no "
            f"dimension {rule.dimension}"
        )
    return _split(shape, rule.dimension % len(shape), rule.axis)


def _by_policy(weights: Mapping[str, tuple[int, ...]], policy: WeightPolicy) -> dict[str, Spec]:
    made = {}
    count = 0
    for name, shape in weights.items():
        elements = 1
        for size in shape:
            elements *= size
        if len(shape) < policy.min_rank or elements < policy.min_elements:
            made[name] = whole(len(shape))
            continue
        made[name] = _split(shape, _dimension(shape, policy, count), MODEL)
        count += 1
    return made


def _dimension(shape: tuple[int, ...], policy: WeightPolicy, count: int) -> int:
    match policy.dimension:
        case Dimension.FIXED:
            return min(max(policy.fixed, -len(shape)), len(shape) - 1) % len(shape)
        case Dimension.FIRST:
            return 0
        case Dimension.LAST:
            return len(shape) - 1
        case Dimension.ALTERNATE:
            return 0 if count % 2 else len(shape) - 1
        case Dimension.LARGEST:
            return max(range(len(shape)), key=lambda d: shape[d])


def _split(shape: tuple[int, ...], dimension: int, axis: str) -> Spec:
    return tuple(axis if d == dimension else None for d in range(len(shape)))
