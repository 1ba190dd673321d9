"""Which values of a program depend on its weights and constants alone."""

from typing import Any

from jaxrt.passes.jaxprs import RANDOM, nested, variables
from jaxrt.passes.prepare import HELD, primitives
from jaxrt.program import Program


def fixed(program: Program) -> frozenset[Any]:
    """The top-level variables that are the same at every request and may be computed once.

    Random draws are not, and what is computed from weights in few bits is to stay so.
    """
    jaxpr = program.jaxpr.jaxpr
    found = {*jaxpr.constvars, *jaxpr.invars[: len(program.weight_names)]}
    for eqn in jaxpr.eqns:
        if all(v in found for v in variables(eqn.invars)) and _is_pure(eqn):
            found.update(eqn.outvars)
    return frozenset(found)


def _is_pure(eqn: Any) -> bool:
    names = {eqn.primitive.name, *(n for body in nested(eqn) for n in primitives(body))}
    is_held = eqn.primitive.name == "name" and eqn.params["name"] == HELD
    return not eqn.effects and not names & RANDOM and not is_held
