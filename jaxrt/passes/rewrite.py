"""The one rewriting evaluator: a table of rules, primitive → replacement, applied to a jaxpr.

A rule is `rule(site, *operands)` and returns the replacement's value (a sequence for several), or
None to leave the equation as it is. It may write with `jax.lax` freely; `site.maker` tells which
equation made an operand, `site.emit` binds a primitive so that later rules can see it made.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.extend.core import Literal, Primitive

from jaxrt.passes.jaxprs import ClosedJaxpr, bind, close, is_jaxpr, literal, variables

Rule = Callable[..., Any]
Rules = Mapping[str, Rule]

CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_closed_call": "call_jaxpr",
    "call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
    "eval_jaxpr": "jaxpr",
    "composite": "jaxpr",
}
"""Primitive → the parameter with the jaxpr it calls. Nothing is differentiated: all are inlined."""


@dataclasses.dataclass(frozen=True, slots=True)
class Made:
    """The equation that made a value."""

    name: str
    params: Mapping[str, Any]
    operands: tuple[Any, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Site:
    """One equation, as a rule sees it."""

    eqn: Any
    _trail: "_Trail"

    @property
    def params(self) -> Mapping[str, Any]:
        params: Mapping[str, Any] = self.eqn.params
        return params

    @property
    def avals(self) -> list[Any]:
        """Of the results."""
        return [v.aval for v in self.eqn.outvars]

    def maker(self, value: Any) -> Made | None:
        """How `value` was made in the new jaxpr; None for arguments and for what rules wrote."""
        return self._trail.maker(value)

    def emit(self, primitive: Primitive, *operands: Any, **params: Any) -> Any:
        """Binds a primitive of one result."""
        return self._trail.bind(primitive, operands, params)[0]


class _Trail:
    """Which equation made which traced value."""

    def __init__(self) -> None:
        # The value is kept too, so that no other object gets its id.
        self._made: dict[int, tuple[Made, Any]] = {}

    def maker(self, value: Any) -> Made | None:
        found = self._made.get(id(value))
        return found[0] if found else None

    def bind(
        self, primitive: Primitive, operands: Sequence[Any], params: Mapping[str, Any]
    ) -> list[Any]:
        outs = bind(primitive, operands, params)
        made = Made(primitive.name, params, tuple(operands))
        if not primitive.multiple_results:
            self._made[id(outs[0])] = (made, outs[0])
        return outs


def rewrite(closed: ClosedJaxpr, rules: Rules) -> ClosedJaxpr:
    """Applies `rules` once, in order; calls are inlined, bodies of loops and branches rewritten.

    Types of arguments and results stay; what nothing depends on any more is dropped.
    Raises ValueError where a rule gives a value of another type.
    """

    def function(*arguments: Any) -> list[Any]:
        return _run(closed, arguments, rules, _Trail())

    with jax.enable_x64(True):
        return prune(traced_like(closed, function))


def inline(closed: ClosedJaxpr) -> ClosedJaxpr:
    """The same program without calls."""
    return rewrite(closed, {})


def traced_like(closed: ClosedJaxpr, function: Callable[..., list[Any]]) -> ClosedJaxpr:
    """`function` of the same arguments, weak types included."""
    avals = [
        jax.ShapeDtypeStruct(a.shape, a.dtype, weak_type=getattr(a, "weak_type", False))
        for a in closed.in_avals
    ]
    found: ClosedJaxpr = jax.make_jaxpr(function)(*avals)
    return found


def evaluate(
    closed: ClosedJaxpr, arguments: Sequence[Any], apply: Callable[[Any, list[Any]], list[Any]]
) -> list[Any]:
    """The results, where `apply` gives those of an equation and its operands; names are kept."""
    jaxpr = closed.jaxpr
    env: dict[Any, Any] = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    env.update(zip(jaxpr.invars, arguments, strict=True))

    def read(atom: Any) -> Any:
        return literal(atom) if isinstance(atom, Literal) else env[atom]

    for eqn in jaxpr.eqns:
        scope = str(eqn.source_info.name_stack)
        with jax.named_scope(scope) if scope else contextlib.nullcontext():
            outs = apply(eqn, [read(v) for v in eqn.invars])
        env.update(zip(eqn.outvars, outs, strict=True))
    return [read(v) for v in jaxpr.outvars]


def _run(closed: ClosedJaxpr, arguments: Sequence[Any], rules: Rules, trail: _Trail) -> list[Any]:
    def apply(eqn: Any, operands: list[Any]) -> list[Any]:
        outs = _apply(eqn, operands, rules, trail)
        _check(eqn, outs)
        return outs

    return evaluate(closed, arguments, apply)


def _apply(eqn: Any, operands: list[Any], rules: Rules, trail: _Trail) -> list[Any]:
    name = eqn.primitive.name
    if name in rules:
        out = rules[name](Site(eqn, trail), *operands)
        if out is not None:
            return list(out) if isinstance(out, (list, tuple)) else [out]
    if name in CALLS:
        return _run(close(eqn.params[CALLS[name]]), operands, rules, trail)
    params = dict(eqn.params)
    if name in ("while", "scan", "cond"):
        params = {key: _nested(value, rules) for key, value in params.items()}
    return trail.bind(eqn.primitive, operands, params)


def _nested(value: Any, rules: Rules) -> Any:
    if is_jaxpr(value):
        return rewrite(close(value), rules)
    if isinstance(value, tuple) and value and all(is_jaxpr(v) for v in value):
        return tuple(rewrite(close(v), rules) for v in value)
    return value


def _check(eqn: Any, outs: Sequence[Any]) -> None:
    for var, out in zip(eqn.outvars, outs, strict=True):
        wanted, found = (var.aval, jax.typeof(out))
        if (wanted.shape, wanted.dtype) != (found.shape, found.dtype):
            raise ValueError(
                f"rule of {eqn.primitive.name}: gave {found.str_short()}, want {wanted.str_short()}"
            )


def prune(closed: ClosedJaxpr) -> ClosedJaxpr:
    """Without the equations and constants that neither a result nor an effect needs."""
    jaxpr = closed.jaxpr
    needed = set(variables(jaxpr.outvars))
    kept = []
    for eqn in reversed(jaxpr.eqns):
        if eqn.effects or any(v in needed for v in eqn.outvars):
            kept.append(eqn)
            needed.update(variables(eqn.invars))
    consts = [(v, c) for v, c in zip(jaxpr.constvars, closed.consts, strict=True) if v in needed]
    if len(kept) == len(jaxpr.eqns) and len(consts) == len(jaxpr.constvars):
        return closed
    trimmed = jaxpr.replace(eqns=kept[::-1], constvars=[v for v, _ in consts])
    return ClosedJaxpr(trimmed, [c for _, c in consts])
