"""What depends on weights alone leaves the request path: computed once, stored, given to programs.

`split` cuts a program in two: `prepare` maps original weights to prepared ones, `apply` maps those
and the inputs to the outputs. The cut carries as few bytes as possible (never more than the
weights it replaces, but for values up to `SMALL`), and among equals lies as late as possible: what
only grows a weight, such as a broadcast, stays in `apply`, where XLA fuses it.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal, jaxpr_as_fun

from jaxrt.passes.jaxprs import RANDOM, ClosedJaxpr, close, nested, variables
from jaxrt.passes.mincut import latest_cut
from jaxrt.passes.provenance import Provenance, of_array
from jaxrt.program import Program

Array = np.ndarray[Any, Any]

SMALL = 4096
"""Bytes: a value up to this may always be carried, though it be larger than its source."""

PINNED = "prepare"
"""`checkpoint_name(x, PINNED)` is carried at any size: a pass that grows a weight to save time."""

HELD = "held"
"""`checkpoint_name(x, HELD)` is carried too, and passes take it for an input: it is in few bits,
and what is computed from it takes more memory, so that none of that is carried, however small."""

VIEWS = frozenset({"reshape", "squeeze", "expand_dims", "broadcast_in_dim"})
"""Free in XLA: done in `apply`, so that an unchanged weight keeps its name and is not copied."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """A program in two: `prepare` runs once per set of weights, `apply` per request.

    `apply.weight_names` are `prepared_names` and names of original weights it takes unchanged.
    """

    prepare: ClosedJaxpr
    """Maps the weights `prepare_names` to the arrays `prepared_names`, in their orders."""
    prepare_names: tuple[str, ...]
    prepared_names: tuple[str, ...]
    apply: Program

    @property
    def needed(self) -> tuple[str, ...]:
        """The original weights something depends on, computed with or passed through."""
        prepared = set(self.prepared_names)
        passed = [n for n in self.apply.weight_names if n not in prepared]
        return tuple(dict.fromkeys([*self.prepare_names, *passed]))


def primitives(jaxpr: Any) -> Iterator[str]:
    """The names of all primitives of a jaxpr, those of nested ones included."""
    for eqn in close(jaxpr).jaxpr.eqns:
        yield eqn.primitive.name
        for body in nested(eqn):
            yield from primitives(body)


def _is_pure(eqn: Any) -> bool:
    inner = (name for body in nested(eqn) for name in primitives(body))
    return not eqn.effects and not any(n in RANDOM for n in (eqn.primitive.name, *inner))


class _Known:
    """The part of a jaxpr that needs no input, and which of it rests on weights."""

    def __init__(self, program: Program) -> None:
        closed = program.jaxpr
        self.jaxpr = closed.jaxpr
        count = len(program.weight_names)
        self.weights = dict(zip(self.jaxpr.invars[:count], program.weight_names, strict=True))
        self.consts = dict(zip(self.jaxpr.constvars, closed.consts, strict=True))
        self.makers: dict[Any, Any] = {}
        """Variable → the known equation that makes it."""
        self.rests: dict[Any, frozenset[Any]] = {v: frozenset({v}) for v in self.weights}
        """Known variable → the weights under it; empty for constants."""
        self.rests |= dict.fromkeys(self.consts, frozenset())
        leaves = {v: f"weight {name}" for v, name in self.weights.items()}
        leaves |= {v: of_array(c) for v, c in self.consts.items()}
        self.provenance = Provenance(leaves)
        self.rest: list[Any] = []
        """The equations that need an input, or may not be moved."""
        for eqn in self.jaxpr.eqns:
            self._take(eqn)

    def _take(self, eqn: Any) -> None:
        operands = variables(eqn.invars)
        is_known = all(v in self.rests and not self._is_held(v) for v in operands)
        if not is_known or not _is_pure(eqn):
            self.rest.append(eqn)
            return
        self.provenance.add(eqn)
        under = frozenset().union(*(self.rests[v] for v in operands))
        for var in eqn.outvars:
            self.rests[var] = under
            self.makers[var] = eqn

    def _is_held(self, var: Any) -> bool:
        eqn = self.makers.get(var)
        return eqn is not None and eqn.primitive.name == "name" and eqn.params["name"] == HELD

    def wanted(self) -> list[Any]:
        """Known variables that the rest, or the outputs, take."""
        uses = [v for eqn in self.rest for v in variables(eqn.invars)]
        found = dict.fromkeys([*uses, *variables(self.jaxpr.outvars)])
        return [v for v in found if v in self.rests]


def _cost(known: _Known, var: Any) -> float:
    eqn = known.makers.get(var)
    if eqn is not None and eqn.primitive.name == "name" and eqn.params["name"] in (PINNED, HELD):
        return 0
    size = int(np.prod(var.aval.shape, dtype=np.int64)) * var.aval.dtype.itemsize
    return 0 if size <= SMALL else size


def _carried(known: _Known) -> set[Any]:
    """The known variables that cross from prepare to apply."""
    resting = [v for v in known.rests if known.rests[v]]
    feeds = [
        (operand, var)
        for var in resting
        if var in known.makers
        for operand in variables(known.makers[var].invars)
        if known.rests[operand]
    ]
    wanted = [v for v in known.wanted() if known.rests[v]]
    cut: set[Any] = set(
        latest_cut({v: _cost(known, v) for v in resting}, feeds, list(known.weights), wanted)
    )
    return {_behind_views(known, v) for v in cut}


def _behind_views(known: _Known, var: Any) -> Any:
    """The value that `var` is a view of."""
    while (eqn := known.makers.get(var)) and eqn.primitive.name in VIEWS:
        source = eqn.invars[0]
        if isinstance(source, Literal) or not known.rests[source]:
            break
        var = source
    return var


def _sunk(known: _Known, carried: set[Any]) -> list[Any]:
    """The known equations that apply repeats, in order: from what is carried to its wants."""
    found: dict[int, Any] = {}
    queue = known.wanted()
    seen: set[Any] = set()
    while queue:
        var = queue.pop()
        if var in seen or var in carried or var not in known.makers:
            continue
        seen.add(var)
        eqn = known.makers[var]
        found[id(eqn)] = eqn
        queue += variables(eqn.invars)
    return [eqn for eqn in known.jaxpr.eqns if id(eqn) in found]


def _names(known: _Known, carried: set[Any]) -> dict[Any, str]:
    """Carried variable → name: a weight's own, or by what it was computed from."""
    order = {v: i for i, v in enumerate(known.weights)}
    out = {}
    for var in carried:
        if var in known.weights:
            out[var] = known.weights[var]
        else:
            first = min(known.rests[var], key=order.__getitem__)
            out[var] = f"{known.weights[first]}~{known.provenance.of(var)[:16]}"
    return out


def split(program: Program) -> Split:
    """Cuts a program between what depends on weights alone and what depends on the inputs.

    Equations with effects or random results stay in apply; loops and branches move whole. Names of
    prepared weights depend on the computation alone, so buckets share them.
    """
    known = _Known(program)
    carried = _carried(known)
    names = _names(known, carried)
    unique = {name: var for var, name in sorted(names.items(), key=lambda item: item[1])}
    same = {var: unique[name] for var, name in names.items()}
    order = {v: i for i, v in enumerate([*known.weights, *known.makers])}
    crossing = sorted(unique.values(), key=order.__getitem__)
    computed = [v for v in crossing if v not in known.weights]
    prepare, sources = _prepare(known, computed)
    return Split(
        prepare=prepare,
        prepare_names=sources,
        prepared_names=tuple(names[v] for v in computed),
        apply=dataclasses.replace(
            program,
            jaxpr=_apply(program, known, carried, same, crossing),
            weight_names=tuple(names[v] for v in crossing),
        ),
    )


def _prepare(known: _Known, computed: Sequence[Any]) -> tuple[ClosedJaxpr, tuple[str, ...]]:
    """The jaxpr that computes `computed`, and the weights it takes."""
    needed: set[Any] = set(computed)
    eqns = []
    for eqn in reversed(known.jaxpr.eqns):
        if any(v in needed and v in known.makers for v in eqn.outvars):
            eqns.append(eqn)
            needed.update(variables(eqn.invars))
    weights = [v for v in known.weights if v in needed]
    closed = _closed(known, weights, eqns[::-1], computed)
    return closed, tuple(known.weights[v] for v in weights)


def _apply(
    program: Program,
    known: _Known,
    carried: set[Any],
    same: Mapping[Any, Any],
    crossing: Sequence[Any],
) -> ClosedJaxpr:
    def renamed(atoms: Sequence[Any]) -> list[Any]:
        return [a if isinstance(a, Literal) else same.get(a, a) for a in atoms]

    ours = {id(eqn) for eqn in [*_sunk(known, carried), *known.rest]}
    eqns = [eqn.replace(invars=renamed(eqn.invars)) for eqn in known.jaxpr.eqns if id(eqn) in ours]
    bound = {v for v in crossing if v in known.makers}
    eqns = [_without(eqn, bound) for eqn in eqns]
    inputs = known.jaxpr.invars[len(program.weight_names) :]
    return _closed(known, [*crossing, *inputs], eqns, renamed(known.jaxpr.outvars))


def _without(eqn: Any, bound: set[Any]) -> Any:
    """An equation of several results, one of them carried: apply must not bind that one again."""
    if not any(v in bound for v in eqn.outvars):
        return eqn
    fresh = [type(v)(v.aval) if v in bound else v for v in eqn.outvars]
    return eqn.replace(outvars=fresh)


def _closed(
    known: _Known, invars: Sequence[Any], eqns: Sequence[Any], outvars: Sequence[Any]
) -> ClosedJaxpr:
    used = {v for eqn in eqns for v in variables(eqn.invars)} | set(variables(outvars))
    consts = {v: c for v, c in known.consts.items() if v in used}
    jaxpr = known.jaxpr.replace(
        constvars=list(consts),
        invars=list(invars),
        outvars=list(outvars),
        eqns=list(eqns),
        effects=set().union(*(eqn.effects for eqn in eqns)),
    )
    return ClosedJaxpr(jaxpr, list(consts.values()))


def run_prepare(split: Split, weights: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays `split.apply` takes, by name, from the originals `split.needed`, on the CPU.

    Weights that pass through are the same objects, not copies.
    """
    out = {n: weights[n] for n in split.apply.weight_names if n in weights}
    if split.prepared_names:
        cpu = jax.local_devices(backend="cpu")[0]
        with jax.enable_x64(True), jax.default_device(cpu):
            run = jax.jit(jaxpr_as_fun(split.prepare))
            arrays = run(*(weights[n] for n in split.prepare_names))
        out |= {n: np.asarray(a) for n, a in zip(split.prepared_names, arrays, strict=True)}
    return {n: out[n] for n in split.apply.weight_names}


def dedupe(arrays: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, str]]:
    """(stored name → array, name → stored name): arrays equal in every bit are stored once."""
    first: dict[str, str] = {}
    stored = {}
    for name, array in arrays.items():
        found = hashlib.sha256(f"{array.dtype.str} {array.dtype.name} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        stored[name] = first.setdefault(found.hexdigest(), name)
    return {name: arrays[name] for name in first.values()}, stored
