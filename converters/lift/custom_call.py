"""Custom calls, by their target: what has a meaning on every platform; the rest is refused."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from jax import Array, lax

from jaxrt.converters.lift import module
from jaxrt.converters.lift.evaluator import IGNORED_ATTRS, RULES, Scope, Value, rule
from jaxrt.converters.lift.module import Operation


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """One custom call, its settings already read."""

    config: dict[str, Any]
    """Of `mhlo.backend_config` or `mhlo.attributes`; empty where there is none."""
    text: str
    """`backend_config`, where that is a string."""
    types: tuple[module.Type, ...]
    """Of the results; of the elements where the only result is a tuple."""
    called: tuple[str, ...]
    """Names of functions."""
    scope: Scope | None

    @property
    def avals(self) -> tuple[module.Aval, ...]:
        assert all(isinstance(t, module.Aval) for t in self.types)
        return tuple(t for t in self.types if isinstance(t, module.Aval))


Target = Callable[..., Sequence[Value]]
"""`target(call, *operands)` → one value per result."""
Refusal = Callable[[Call], str | None]

TARGETS: dict[str, tuple[Target, Refusal | None]] = {}


def target(*names: str, check: Refusal | None = None) -> Callable[[Target], Target]:
    """Registers what custom calls of these names mean; `check` says what of one is not known."""

    def register(function: Target) -> Target:
        for name in names:
            if name in TARGETS:
                raise ValueError(f"custom call {name} already means {TARGETS[name][0].__name__}")
            TARGETS[name] = (function, check)
        return function

    return register


def _read(op: Operation, scope: Scope | None) -> Call:
    plain = op.attrs.get("backend_config", "")
    config = op.attrs.get("mhlo.backend_config", op.attrs.get("mhlo.attributes", {}))
    if isinstance(plain, dict):
        plain, config = "", plain
    types = op.types
    if len(types) == 1 and isinstance(types[0], tuple):
        types = types[0]
    called = tuple(str(name) for name in op.attrs.get("called_computations", ()))
    return Call(config, plain, types, called, scope)


_DIALECTS = ("chlo.", "mhlo.", "stablehlo.")


def _as_op(op: Operation) -> Operation | None:
    """An op that had no place in the version of StableHLO written, under its own name again."""
    name = op.attrs["call_target_name"]
    if not name.startswith(_DIALECTS) or name not in RULES:
        return None
    return dataclasses.replace(op, name=name, attrs=_read(op, None).config)


def _refused(op: Operation) -> str | None:
    name = op.attrs["call_target_name"]
    if (plain := _as_op(op)) is not None:
        entry = RULES[name]
        unknown = sorted(set(plain.attrs) - entry.attrs - IGNORED_ATTRS)
        return f"@{name} with {', '.join(unknown)}" if unknown else None
    if name not in TARGETS:
        return f"@{name}"
    check = TARGETS[name][1]
    reason = None if check is None else check(_read(op, None))
    return None if reason is None else f"@{name} {reason}"


@rule(
    "stablehlo.custom_call",
    "call_target_name",
    "backend_config",
    "mhlo.backend_config",
    "mhlo.attributes",
    "mhlo.version",
    "called_computations",
    "api_version",
    "has_side_effect",
    "custom_call_schedule",
    # Layouts are how the values lie in memory, aliases where: neither changes a value.
    "operand_layouts",
    "result_layouts",
    "output_operand_aliases",
    "sdy.sharding_rule",
    "sdy.has_unreduced_axes",
    "mhlo.sharding_rule",
    scope=True,
    check=_refused,
)
def custom_call(op: Operation, scope: Scope, *operands: Value) -> Value:
    if (plain := _as_op(op)) is not None:
        entry = RULES[plain.name]
        return entry.rule(plain, *([scope] if entry.wants_scope else []), *operands)
    function, _ = TARGETS[op.attrs["call_target_name"]]
    results = list(function(_read(op, scope), *operands))
    is_tuple = len(op.types) == 1 and isinstance(op.types[0], tuple)
    return tuple(results) if is_tuple else results


@target(
    "Sharding",
    "SPMDFullToShardShape",
    "SPMDShardToFullShape",
    "LayoutConstraint",
    "annotate_device_placement",
    "MoveToHost",
    "MoveToDevice",
    "PinToDevice",
    "PinToDeviceSram",
    "Unpin",
    "xla.sdy.FuncResultSharding",
    "xla.sdy.GlobalToLocalShape",
    "xla.sdy.LocalToGlobalShape",
    "xla.sdy.PropagationBarrier",
    "xla.sdy.ShardingGroup",
)
def identity(call: Call, *operands: Value) -> Sequence[Value]:
    """Where a value lives, on one device: nothing to do. Types that differ fail the evaluator."""
    return operands[: len(call.types)]


@target("AllocateBuffer", "CreateBuffer")
def empty(call: Call) -> Sequence[Array]:
    """Undefined content: zeros, so that a run can be repeated."""
    return [lax.full(aval.shape, 0, aval.dtype) for aval in call.avals]
