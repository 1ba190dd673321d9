"""Whether row i of what a host graph gives depends on row i of what it takes, and on nothing else.

Each tensor gets a kind, from the kinds of what it is computed from. A proof: what no rule covers
is Unknown, and a graph whose results are not all Rows is not rowwise.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxrt.converters.host.graph import Graph, Node, canonical
from jaxrt.converters.host.inline import inline
from jaxrt.converters.host.plan import needed
from jaxrt.converters.host.rules import OPS
from jaxrt.errors import JaxrtError

Array = np.ndarray[Any, Any]

BATCH = "batch"
"""A size: the number of rows."""

Part = int | str | None
"""A size: known, BATCH, or None: one that the batch does not change."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """Does not depend on the rows, nor on how many there are."""

    value: Any = None
    """None: not known here."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rows:
    """[batch, ...]: row i depends on row i."""

    dims: tuple[int | None, ...] | None
    """After the batch; None for a size not known here, or for an unknown rank."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sizes:
    """Whole numbers made of sizes, BATCH among them."""

    parts: tuple[Part, ...]
    scalar: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Pieces:
    """[pieces, ...]: what a row was cut into, row after row; how many depends on the row."""

    cut: str
    """Names the cut: pieces of one cut stand beside each other."""
    dims: tuple[int | None, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Places:
    """[pieces, 2] int64: the row of each piece, and its number in the row."""

    cut: str


@dataclasses.dataclass(frozen=True, slots=True)
class Extent:
    """[2] int64: the number of rows, and the most pieces of any: depends on all rows."""

    cut: str


@dataclasses.dataclass(frozen=True, slots=True)
class Unknown:
    """Anything."""


Kind = Shared | Rows | Sizes | Pieces | Places | Extent | Unknown
KindRule = Callable[..., Kind | tuple[Kind, ...]]

RULES: dict[str, KindRule] = {}
"""Op → function of (node, *kinds), in jaxrt.converters.host.rowwise_rules."""


def rows(*names: str) -> Callable[[KindRule], KindRule]:
    """Register how the ops `names` pass on kinds; called where some input is not Shared."""

    def register(rule: KindRule) -> KindRule:
        for name in names:
            if name in RULES:
                raise ValueError(f"op {name!r} already has a rule, {RULES[name].__qualname__}")
            RULES[name] = rule
        return rule

    return register


def is_rowwise(
    graph: Graph, inputs: Sequence[str], outputs: Sequence[str], tables: Sequence[str]
) -> bool:
    """Of tensors; all inputs have rows. `tables` are nodes whose contents are given.

    Ranks are those of the placeholders. An input whose rank is not known may only go through ops
    that look at one element at a time.
    """
    shapes = {f"{node.name}:0": node.attrs.get("shape") for node in graph.nodes}
    kinds: dict[str, Kind] = {}
    for name in map(canonical, inputs):
        shape = shapes.get(name)
        if shape == ():
            return False  # a scalar has no rows
        kinds[name] = Rows(None if shape is None else tuple(shape[1:]))
    flat = inline(graph.nodes, graph.functions)
    for node in needed(flat, set(kinds), outputs, dict.fromkeys(tables)):
        _pass_on(node, kinds, tables)
    return all(isinstance(kinds.get(canonical(name)), Rows) for name in outputs)


def _pass_on(node: Node, kinds: dict[str, Kind], tables: Sequence[str]) -> None:
    given = [kinds.get(tensor, Unknown()) for tensor in node.inputs]
    found: tuple[Kind, ...] = (Shared(),) if node.name in tables else _kinds(node, given)
    for i, kind in enumerate(found):
        kinds.setdefault(f"{node.name}:{i}", kind)


def _kinds(node: Node, given: Sequence[Kind]) -> tuple[Kind, ...]:
    rule = OPS.get(node.op)
    if rule is None or not rule.pure or any(isinstance(kind, Unknown) for kind in given):
        return (Unknown(),) * RESULTS
    node = dataclasses.replace(node, attrs={**rule.defaults, **node.attrs})
    if all(isinstance(kind, Shared) for kind in given):
        return _shared(node, [kind for kind in given if isinstance(kind, Shared)])
    special = RULES.get(node.op)
    if special is not None:
        found = special(node, *given)
    elif rule.rowwise is True:
        found = elementwise(given)
    else:
        return (Unknown(),) * RESULTS
    return found if isinstance(found, tuple) else (found,)


RESULTS = 64
"""More results than an op without a rule here is read for."""

_SMALL = 10_000
"""Elements; what is larger needs no value here."""


def _shared(node: Node, given: Sequence[Shared]) -> tuple[Kind, ...]:
    """Computed where all is known."""
    values = [kind.value for kind in given]
    if any(not isinstance(v, np.ndarray) or v.size > _SMALL for v in values):
        return (Shared(),) * RESULTS
    try:
        with np.errstate(all="ignore"):
            found = OPS[node.op].run(node, *values)
    except (JaxrtError, TypeError, KeyError):  # or a function, which only a plan can call
        return (Shared(),) * RESULTS
    results = found if isinstance(found, tuple) else (found,)
    return tuple(Shared(np.asarray(v) if isinstance(v, np.generic) else v) for v in results)


def elementwise(given: Sequence[Kind]) -> Kind:
    """Broadcast against each other: rows must meet rows, and nothing else meets them."""
    pieces = [kind for kind in given if isinstance(kind, Pieces)]
    rows_ = [kind for kind in given if isinstance(kind, Rows)]
    shared = [kind for kind in given if isinstance(kind, Shared)]
    if len(rows_) + len(shared) + len(pieces) != len(given) or (rows_ and pieces):
        return Unknown()
    dims = [kind.dims for kind in pieces] + [kind.dims for kind in rows_]
    if len(given) == 1:
        return given[0]
    if None in dims:
        single = len(dims) == 1 and all(_rank(kind) == 0 for kind in shared)
        return (
            given[next(i for i, k in enumerate(given) if k not in shared)] if single else Unknown()
        )
    rank = len(dims[0] or ()) + 1
    if any(len(d or ()) + 1 != rank for d in dims):
        return Unknown()
    if not all(_below(kind, rank) for kind in shared):
        return Unknown()
    merged = _merged([d or () for d in dims], shared)
    if pieces:
        return Pieces(pieces[0].cut, merged) if len({p.cut for p in pieces}) == 1 else Unknown()
    return Rows(merged)


def _rank(kind: Shared) -> int | None:
    return kind.value.ndim if isinstance(kind.value, np.ndarray) else None


def _below(kind: Shared, rank: int) -> bool:
    """Whether it broadcasts along the rows."""
    found = _rank(kind)
    return found is not None and (found < rank or (found == rank and kind.value.shape[0] == 1))


def _merged(
    dims: Sequence[tuple[int | None, ...]], shared: Sequence[Shared]
) -> tuple[int | None, ...]:
    """Sizes after broadcasting, where they are known."""
    count = len(dims[0])
    every = [*dims]
    for kind in shared:
        shape = kind.value.shape[-count:] if count else ()
        every.append((1,) * (count - len(shape)) + tuple(shape))
    found: list[int | None] = []
    for sizes in zip(*every, strict=True):
        large = {n for n in sizes if n not in (None, 1)}
        found.append(large.pop() if len(large) == 1 else None if None in sizes else 1)
    return tuple(found)
