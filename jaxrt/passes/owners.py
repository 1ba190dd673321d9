"""Which weights the operands of equations are made of: of weights alone, not of any input.

Loops are looked into: what a body takes as a constant, or hands on unchanged, is what it was
outside; a slice of what a scan runs over is of that weight.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jax.extend.core import Literal

from jaxrt.passes.jaxprs import RANDOM, ClosedJaxpr, close, nested
from jaxrt.passes.rows_control import scan_counts

Names = frozenset[str]
NONE: Names = frozenset()


def owners(closed: ClosedJaxpr, weights: Sequence[str]) -> dict[int, tuple[Names, ...]]:
    """Equation, by its id, bodies' included → for each operand the weights it is made of.

    No names: it depends on an input, or on no weight. The first arguments of the jaxpr are the
    `weights`; calls are inlined before.
    """
    found: dict[int, tuple[Names, ...]] = {}
    known = {v: frozenset({n}) for v, n in zip(closed.jaxpr.invars, weights, strict=False)}
    _walk(closed.jaxpr, known | dict.fromkeys(closed.jaxpr.constvars, NONE), found)
    return found


def _walk(jaxpr: Any, known: dict[Any, Names], found: dict[int, tuple[Names, ...]]) -> None:
    for eqn in jaxpr.eqns:
        operands = [_of(known, atom) for atom in eqn.invars]
        found[id(eqn)] = tuple(names or NONE for names in operands)
        if None not in operands and not _is_opaque(eqn):
            known |= dict.fromkeys(eqn.outvars, NONE.union(*filter(None, operands)))
        for body, atoms in _bodies(eqn):
            outside = zip(body.invars, (_of(known, atom) for atom in atoms), strict=True)
            inner = {variable: names for variable, names in outside if names is not None}
            _walk(body, inner | dict.fromkeys(body.constvars, NONE), found)


def _of(known: Mapping[Any, Names], atom: Any) -> Names | None:
    """None: it depends on an input."""
    return NONE if isinstance(atom, Literal) else known.get(atom)


def _is_opaque(eqn: Any) -> bool:
    return bool(eqn.effects) or eqn.primitive.name in RANDOM or any(True for _ in nested(eqn))


def _bodies(eqn: Any) -> Iterator[tuple[Any, list[Any]]]:
    """Each jaxpr of a loop or branch, with what its arguments are outside; None: nothing known."""
    params, atoms = eqn.params, list(eqn.invars)
    match eqn.primitive.name:
        case "cond":
            for branch in params["branches"]:
                yield close(branch).jaxpr, atoms[1:]
        case "scan":
            body, (first, count) = close(params["jaxpr"]).jaxpr, scan_counts(eqn)
            last = first + count
            carried = _kept(body, first, atoms[first:last])
            yield body, [*atoms[:first], *carried, *atoms[last:]]
        case "while":
            test, body = close(params["cond_jaxpr"]).jaxpr, close(params["body_jaxpr"]).jaxpr
            split, end = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
            carried = _kept(body, end - split, atoms[end:])
            yield test, [*atoms[:split], *carried]
            yield body, [*atoms[split:end], *carried]


def _kept(body: Any, first: int, start: Sequence[Any]) -> list[Any]:
    """The initial values that every round hands on as they are, None for the others."""
    return [
        atom if body.outvars[n] is body.invars[first + n] else None for n, atom in enumerate(start)
    ]
