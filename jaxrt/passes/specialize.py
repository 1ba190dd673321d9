"""Programs for one value of a scalar bool such as `is_training`: its branches are decided here."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxrt.passes.jaxprs import ClosedJaxpr, bind, close, nested
from jaxrt.passes.rewrite import CALLS, evaluate, prune, traced_like
from jaxrt.passes.rows_control import scan_counts
from jaxrt.passes.simplify import simplify
from jaxrt.program import Program

LIMIT = 2
"""Inputs that programs are made for: each doubles their number."""

_FOLDED = frozenset(
    {
        "add",
        "and",
        "broadcast_in_dim",
        "clamp",
        "convert_element_type",
        "copy",
        "copy_p",
        "eq",
        "ge",
        "gt",
        "le",
        "lt",
        "max",
        "min",
        "mul",
        "ne",
        "not",
        "or",
        "reshape",
        "select_n",
        "squeeze",
        "sub",
        "xor",
    }
)
"""Evaluated where one bool or whole number comes out of known ones: exact on every platform."""


def choices(programs: Sequence[Program]) -> tuple[Mapping[str, bool], ...]:
    """The values that programs of their own pay for, False first; one empty mapping where none.

    An input pays where a branch disappears from one of `programs` (one signature at several
    shapes) once the input is known. One that is only computed with does not.
    """
    names = dict.fromkeys(name for program in programs for name in _flags(program))
    paying = [name for name in names if any(_pays(program, name) for program in programs)][:LIMIT]
    values = itertools.product((False, True), repeat=len(paying))
    return tuple(dict(zip(paying, row, strict=True)) for row in values)


def specialize(program: Program, values: Mapping[str, bool]) -> Program:
    """The program with inputs fixed at `values`, decided branches and dead code left out.

    Takes the same inputs, and ignores those that are fixed. Names that it has not are ignored.
    """
    fixed = {name: value for name, value in values.items() if name in program.input_names}
    if not fixed:
        return program
    closed = program.jaxpr
    known: list[np.ndarray[Any, Any] | None] = [None] * len(program.weight_names)
    known += [np.asarray(fixed[n]) if n in fixed else None for n in program.input_names]
    with jax.enable_x64(True):
        decided = prune(_traced(closed, known))
    return simplify(dataclasses.replace(program, jaxpr=decided))


def _flags(program: Program) -> Iterator[str]:
    """Inputs that are one bool."""
    for name, aval in zip(program.input_names, program.input_avals, strict=True):
        if aval.shape == () and aval.dtype == np.bool_:
            yield name


def _pays(program: Program, name: str) -> bool:
    if name not in _flags(program):
        return False
    before = _branches(program.jaxpr)
    return before > 0 and any(
        _branches(specialize(program, {name: value}).jaxpr) < before for value in (False, True)
    )


def _branches(closed: ClosedJaxpr) -> int:
    """Conditionals, those of nested jaxprs included."""
    return sum(
        (eqn.primitive.name == "cond") + sum(_branches(inner) for inner in nested(eqn))
        for eqn in closed.jaxpr.eqns
    )


def _traced(closed: ClosedJaxpr, known: Sequence[Any]) -> ClosedJaxpr:
    """`closed` again, where arguments with a value in `known` have it; same arguments, same types.

    What it calls is inlined.
    """

    def function(*arguments: Any) -> list[Any]:
        given = [a if k is None else k for a, k in zip(arguments, known, strict=True)]
        return evaluate(closed, given, _apply)

    return traced_like(closed, function)


def _apply(eqn: Any, operands: list[Any]) -> list[Any]:
    name = eqn.primitive.name
    if name in CALLS:
        return evaluate(close(eqn.params[CALLS[name]]), operands, _apply)
    if name == "cond" and _is_known(operands[0]):
        branches = eqn.params["branches"]
        chosen = min(max(int(operands[0]), 0), len(branches) - 1)  # as lax.cond clamps it
        return evaluate(close(branches[chosen]), operands[1:], _apply)
    if (decided := _decided(eqn, operands)) is not None:
        return [decided]
    params = dict(eqn.params)
    if name in _NESTING and any(_is_known(x) for x in operands):
        params |= _NESTING[name](eqn, operands)
    return bind(eqn.primitive, operands, params)


def _is_known(value: Any) -> bool:
    """One bool or whole number that is there."""
    return isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind in "biu"


def _decided(eqn: Any, operands: Sequence[Any]) -> Any:
    """The result of an equation that what is known decides; None where it does not."""
    name = eqn.primitive.name
    if name == "select_n" and _is_known(operands[0]):
        return operands[1 + int(operands[0].reshape(()))]
    if name not in _FOLDED:
        return None
    result = eqn.outvars[0].aval
    if result.size != 1 or result.dtype.kind not in "biu":
        return None
    if all(_is_known(x) for x in operands):
        with jax.ensure_compile_time_eval():
            return np.asarray(bind(eqn.primitive, operands, eqn.params)[0])
    if name in ("and", "or") and result.dtype == np.bool_:
        decisive = name == "or"
        if any(_is_known(x) and bool(x) == decisive for x in operands):
            return np.full(result.shape, decisive)
    return None


def _cond(eqn: Any, operands: Sequence[Any]) -> dict[str, Any]:
    known = _values(operands[1:])
    return {"branches": tuple(_traced(close(b), known) for b in eqn.params["branches"])}


def _while(eqn: Any, operands: Sequence[Any]) -> dict[str, Any]:
    params = eqn.params
    conditions, constants = params["cond_nconsts"], params["body_nconsts"]
    known = _values(operands)
    start = conditions + constants
    carried = _invariant(params["body_jaxpr"], constants, known[start:])
    return {
        "cond_jaxpr": _traced(close(params["cond_jaxpr"]), [*known[:conditions], *carried]),
        "body_jaxpr": _traced(close(params["body_jaxpr"]), [*known[conditions:start], *carried]),
    }


def _scan(eqn: Any, operands: Sequence[Any]) -> dict[str, Any]:
    constants, count = scan_counts(eqn)
    known, body = _values(operands), close(eqn.params["jaxpr"])
    carried = _invariant(body, constants, known[constants : constants + count])
    scanned = [None] * (len(operands) - constants - count)
    return {"jaxpr": _traced(body, [*known[:constants], *carried, *scanned])}


_NESTING = {"cond": _cond, "while": _while, "scan": _scan}


def _values(operands: Sequence[Any]) -> list[Any]:
    return [x if _is_known(x) else None for x in operands]


def _invariant(body: Any, constants: int, initial: Sequence[Any]) -> list[Any]:
    """`initial` where the body hands the value on as it is: it is the same in every turn."""
    jaxpr = close(body).jaxpr
    pairs = zip(jaxpr.invars[constants:], jaxpr.outvars, initial, strict=False)
    return [value if given is handed else None for given, handed, value in pairs]
