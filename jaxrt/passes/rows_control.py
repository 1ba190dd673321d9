"""Row rules of loops, branches and calls: what decides them must be the same for every row."""

from collections.abc import Callable, Sequence
from typing import Any

from jaxrt.passes import layout
from jaxrt.passes.jaxprs import close
from jaxrt.passes.layout import Mix, Value
from jaxrt.passes.rows_walk import Site, describe, rule, sees_mixed

MAX_ROUNDS = 64
"""Each round a carried value can only lose knowledge, a factor at a time: real loops need few."""


def _settled(
    site: Site, carry: Sequence[Value], step: Callable[[Sequence[Value]], Sequence[Value]]
) -> list[Value]:
    """The layouts a loop's carried values have before every round."""
    found = list(carry)
    for _ in range(MAX_ROUNDS):
        joined = [layout.join(a, b) for a, b in zip(found, step(found), strict=True)]
        if joined == found:
            return found
        found = [_named(site, v) for v in joined]
    raise Mix("carries values whose layout does not settle")


def _named(site: Site, value: Value) -> Value:
    if value.mixed and not value.mixed.startswith("`"):
        return Value(mixed=f"{describe(site.eqn)} {value.mixed} from round to round")
    return value


def _decides(value: Value, what: str) -> None:
    if value.mixed:
        raise Mix(f"{value.mixed}, and that decides {what}")
    if value.rows_axis is not None:
        raise Mix(f"lets a row decide {what}")


@rule("while")
@sees_mixed
def while_loop(site: Site, *values: Value) -> Sequence[Value]:
    params, run = site.params, site.analysis.closed
    split = params["cond_nconsts"]
    end = split + params["body_nconsts"]
    cond_consts, body_consts = values[:split], values[split:end]

    def step(carry: Sequence[Value]) -> Sequence[Value]:
        (going,) = run(params["cond_jaxpr"], [*cond_consts, *carry])
        _decides(going, "how often a loop runs")
        return run(params["body_jaxpr"], [*body_consts, *carry])

    return _settled(site, values[end:], step)


@rule("scan")
@sees_mixed
def scan(site: Site, *values: Value) -> Sequence[Value]:
    params = site.params
    split, count = scan_counts(site.eqn)
    end = split + count
    consts, xs = values[:split], [_sliced(site, v) for v in values[end:]]

    def body(carry: Sequence[Value]) -> list[Value]:
        return site.analysis.closed(params["jaxpr"], [*consts, *carry, *xs])

    carry = _settled(site, values[split:end], lambda c: body(c)[:count])
    ys = body(carry)[count:]
    length = params["length"]
    stacked = [
        v if v.mixed else Value(axes=(layout.varies(length), *map(layout.settle, v.axes)))
        for v in ys
    ]
    return [*carry, *stacked]


def scan_counts(eqn: Any) -> tuple[int, int]:
    """(constants, carried values) of a scan; the other operands are walked along axis 0."""
    # Parameters say it in one way up to jax 0.10 and in another since: ranks say it in all.
    body = eqn.params["jaxpr"].jaxpr
    ranks = [[len(v.aval.shape) for v in vs] for vs in (eqn.invars, body.invars)]
    walked = sum(a != b for a, b in zip(*ranks, strict=True))
    ranks = [[len(v.aval.shape) for v in vs] for vs in (eqn.outvars, body.outvars)]
    carried = sum(a == b for a, b in zip(*ranks, strict=True))
    return len(eqn.invars) - walked - carried, carried


def _sliced(site: Site, value: Value) -> Value:
    """One step of a scanned operand."""
    if value.mixed:
        return value
    if layout.has_rows(value.axes[0]):
        return Value(mixed=f"{describe(site.eqn)} walks over the rows of the batch")
    counted = value.counts is not None and value.counts[0] == 0
    affine = (1, 0) if counted else value.affine
    return Value(axes=value.axes[1:], const=value.const, affine=affine)


@rule("cond")
@sees_mixed
def cond(site: Site, index: Value, *values: Value) -> Sequence[Value]:
    _decides(index, "which branch runs")
    outs: list[Value] | None = None
    for branch in site.params["branches"]:
        found = site.analysis.closed(branch, values)
        outs = (
            found
            if outs is None
            else [_named(site, layout.join(a, b)) for a, b in zip(outs, found, strict=True)]
        )
    assert outs is not None
    return outs


@rule(
    "jit",
    "pjit",
    "closed_call",
    "core_closed_call",
    "call",
    "core_call",
    "remat",
    "remat2",
    "checkpoint",
    "custom_jvp_call",
    "custom_vjp_call",
    "custom_vjp_call_jaxpr",
    "eval_jaxpr",
    "composite",
)
@sees_mixed
def call(site: Site, *values: Value) -> Sequence[Value]:
    return site.analysis.closed(close(called(site.params)), values)


def called(params: Any) -> Any:
    """The jaxpr a call-like equation runs."""
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if name in params:
            return params[name]
    raise Mix("calls what cannot be read")
