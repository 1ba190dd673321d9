"""What the user wants of compression: schemes, rules, budget, and what matters more."""

import dataclasses
import enum
import re
from typing import Any

from jaxrt.compression.budget import DEFAULT, Budget
from jaxrt.compression.calibration import Source
from jaxrt.compression.schemes import Rule, Scheme, rule_for, supported
from jaxrt.target import Target


class Goal(enum.Enum):
    """What decides where two things cannot be had at once."""

    SIZE = "size"
    """The fewest bytes, though a program gets slower."""
    THROUGHPUT = "throughput"
    LATENCY = "latency"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """`to_json` is part of the cache's key and of the manifest."""

    scheme: Scheme | None = None
    """Of layers that no rule speaks of; None: what suits the target, within the budget."""
    rules: tuple[Rule, ...] = ()
    budget: Budget = Budget()
    """As given."""
    goal: Goal = Goal.THROUGHPUT
    prune: float = 0.0
    """Share of the channels of each group that may go, the weakest first; dead ones always do."""
    calibration: Source | None = None
    """None: what the SavedModel brings along, else made-up inputs."""

    @property
    def limit(self) -> Budget:
        """The budget that holds: a scheme that was asked for by name has none unless given."""
        return self.budget if self.budget.is_given or self.scheme is not None else DEFAULT

    @property
    def slower_is_fine(self) -> bool:
        """Whether a program may get slower to get smaller."""
        return self.goal is Goal.SIZE

    def schemes(self, layer: str, target: Target) -> tuple[Scheme, ...]:
        """What the layer may become, apart from FLOAT: the gentlest first."""
        if (rule := rule_for(self.rules, layer)) is not None:
            return () if rule.scheme is Scheme.FLOAT else (rule.scheme,)
        match self.scheme:
            case Scheme.FLOAT:
                return ()
            case Scheme.INT4:
                return (Scheme.INT8, Scheme.INT4) if self.limit.is_given else (Scheme.INT4,)
            case None:
                return _automatic(self.goal, target)
            case scheme:
                return (scheme,)

    def exactly(self, layer: str, scheme: Scheme) -> Rule:
        """The rule that gives this layer that scheme."""
        said = rule_for(self.rules, layer)
        group = said.group if said is not None and scheme is Scheme.INT4 else None
        return Rule(pattern=f"^{re.escape(layer)}$", scheme=scheme, group=group)

    def is_forced(self, layer: str) -> bool:
        """Whether a rule says what becomes of it, whatever the budget."""
        return rule_for(self.rules, layer) is not None

    def to_json(self) -> dict[str, Any]:
        return {
            "scheme": "auto" if self.scheme is None else self.scheme.value,
            "rules": [rule.to_json() for rule in self.rules],
            "budget": self.limit.to_json(),
            "goal": self.goal.value,
            "prune": self.prune,
            "calibration": self.calibration and [self.calibration.said, self.calibration.sha256],
        }


def _automatic(goal: Goal, target: Target) -> tuple[Scheme, ...]:
    if goal is Goal.SIZE:
        return (Scheme.INT8, Scheme.INT4)
    if supported(Scheme.W8A8, target) is None:
        return (Scheme.W8A8,)
    return (Scheme.INT8,)
