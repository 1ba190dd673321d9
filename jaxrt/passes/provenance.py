"""Names for computed values by what they were computed from: equal computations, equal names."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import Jaxpr, Literal

from jaxrt.passes.jaxprs import ClosedJaxpr, close, is_jaxpr, literal

IGNORED = frozenset({"sharding", "out_sharding", "debug_info", "name"})


def digest(*parts: str | bytes) -> str:
    """SHA-256 of parts, each preceded by its length."""
    found = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        found.update(len(raw).to_bytes(8, "little"))
        found.update(raw)
    return found.hexdigest()


def of_array(array: Any) -> str:
    """By dtype, shape and elements."""
    host = np.asarray(array)
    return digest(str(host.dtype), str(host.shape), np.ascontiguousarray(host).tobytes())


class Provenance:
    """Digests of the variables of one jaxpr: of leaves as given, of results by their equation."""

    def __init__(self, leaves: Mapping[Any, str]) -> None:
        self._known: dict[Any, str] = dict(leaves)

    def of(self, atom: Any) -> str:
        if isinstance(atom, Literal):
            return of_array(literal(atom))
        return self._known[atom]

    def add(self, eqn: Any) -> None:
        """Digests the results of an equation whose operands are known."""
        text = digest(
            eqn.primitive.name,
            *(f"{k}={_spell(v)}" for k, v in sorted(eqn.params.items()) if k not in IGNORED),
            *(self.of(v) for v in eqn.invars),
        )
        for i, var in enumerate(eqn.outvars):
            self._known[var] = digest(text, str(i))


def of_jaxpr(jaxpr: Jaxpr, consts: Sequence[Any]) -> str:
    """By what a jaxpr computes from its arguments, whatever its variables are called."""
    leaves = {v: f"argument {i} {v.aval}" for i, v in enumerate(jaxpr.invars)}
    leaves |= {v: of_array(c) for v, c in zip(jaxpr.constvars, consts, strict=True)}
    known = Provenance(leaves)
    for eqn in jaxpr.eqns:
        known.add(eqn)
    return digest(*(known.of(v) for v in jaxpr.outvars))


def of_closed(closed: ClosedJaxpr) -> str | None:
    """By what it computes and the types of all its arguments; None where it has effects.

    Random draws count as equal, so that two programs of equal digests may differ in them.
    """
    if closed.jaxpr.effects:
        return None
    types = (f"{a.dtype}{a.shape}" for a in closed.in_avals)
    return digest(of_jaxpr(closed.jaxpr, closed.consts), *types)


def _spell(value: Any) -> str:
    if is_jaxpr(value):
        closed = close(value)
        return of_jaxpr(closed.jaxpr, closed.consts)
    if isinstance(value, (np.ndarray, jax.Array)):
        return of_array(value)
    if isinstance(value, (tuple, list)):
        return "(" + ",".join(_spell(v) for v in value) + ")"
    if isinstance(value, Callable):  # type: ignore[arg-type]
        return str(getattr(value, "__qualname__", type(value).__qualname__))
    # A default repr holds an address, which is another one in every process.
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))
