"""TF1's `cond` (Switch and Merge) as functional If ops."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrt.converters.bodies import (
    Body,
    Uncuttable,
    copied,
    fresh,
    node,
    pruned,
    topological,
    write,
)
from jaxrt.converters.loops import redirect
from jaxrt.converters.subgraph import Node, canonical, producer

_Context = frozenset[tuple[str, int]]
"""Predicate and its value: under which a node runs at all."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Join:
    """A Merge of the two sides of one predicate."""

    name: str
    predicate: str
    sides: tuple[str, str]
    """Tensors when the predicate is false and when it is true."""
    context: _Context


def functional_branches(body: Body, library: dict[str, Any]) -> Body:
    """The same graph without Switch and Merge. It has no frame any more.

    Raises Uncuttable for a Merge that joins more than the two sides of a predicate.
    """
    if not any(n.op in ("Switch", "Merge") for n in body.nodes.values()):
        return body
    nodes = {name: copied(n) for name, n in body.nodes.items()}
    results = dict(body.results)
    while True:
        starts = [producer(t) for t in results.values()] + list(body.control)
        contexts, joins, passed = _contexts(nodes, topological(nodes, starts))
        if passed:
            renamed = passed
        elif joins:
            deepest = max(len(j.context) for j in joins)
            first = next(j for j in joins if len(j.context) == deepest)
            group = _group(first, joins, nodes)
            made = _branch(group, dataclasses.replace(body, nodes=nodes), contexts, library)
            nodes[made.name] = made
            renamed = {f"{j.name}:0": f"{made.name}:{i}" for i, j in enumerate(group)}
        else:
            break
        for gone in renamed:
            del nodes[producer(gone)]
        redirect(nodes.values(), renamed)
        results = {n: renamed.get(t, t) for n, t in results.items()}
    return pruned(dataclasses.replace(body, nodes=nodes, results=tuple(results.items())))


def _contexts(
    nodes: Mapping[str, Node], order: Sequence[str]
) -> tuple[dict[str, _Context], list[_Join], dict[str, str]]:
    """Node → context, the Merges, and Merges of which one side can never be."""
    contexts: dict[str, _Context] = {}
    joins, passed = [], {}
    for name in order:
        of = nodes[name]
        inputs = [_context(i, nodes, contexts) for i in of.input]
        if of.op != "Merge":
            contexts[name] = frozenset().union(*inputs)
            continue
        data = [canonical(i) for i in of.input if not i.startswith("^")]
        sides = [c for i, c in zip(of.input, inputs, strict=True) if not i.startswith("^")]
        if len(data) != 2:
            raise Uncuttable(f"{name} merges {len(data)} tensors, want two.")
        possible = [i for i, c in enumerate(sides) if not _contradicts(c)]
        if len(possible) == 1:
            passed[f"{name}:0"] = data[possible[0]]
            contexts[name] = sides[possible[0]]
            continue
        join = _join(name, data, sides)
        contexts[name] = join.context
        joins.append(join)
    return contexts, joins, passed


def _context(tensor: str, nodes: Mapping[str, Node], contexts: Mapping[str, _Context]) -> _Context:
    source = nodes.get(producer(tensor))
    if source is None:  # an argument
        return frozenset()
    known = contexts[source.name]
    if source.op != "Switch" or tensor.startswith("^"):
        return known
    return known | {(_root(source.input[1], nodes), int(canonical(tensor).rpartition(":")[2]))}


def _root(tensor: str, nodes: Mapping[str, Node]) -> str:
    """The predicate behind its Identities: `cond` makes one for each use."""
    tensor = canonical(tensor)
    while (source := nodes.get(producer(tensor))) is not None and source.op == "Identity":
        tensor = canonical(source.input[0])
    return tensor


def _contradicts(context: _Context) -> bool:
    return any((predicate, 1 - side) in context for predicate, side in context)


def _join(name: str, data: Sequence[str], contexts: Sequence[_Context]) -> _Join:
    first, second = contexts
    opposed = [(p, side) for p, side in first if (p, 1 - side) in second]
    if len(opposed) != 1:
        raise Uncuttable(f"{name} merges tensors of no common predicate.")
    ((predicate, side),) = opposed
    outer = first - {(predicate, side)}
    if outer != second - {(predicate, 1 - side)}:
        raise Uncuttable(f"{name} merges tensors of different branches.")
    return _Join(
        name=name,
        predicate=predicate,
        sides=(data[0], data[1]) if side == 0 else (data[1], data[0]),
        context=outer,
    )


def _group(first: _Join, joins: Sequence[_Join], nodes: Mapping[str, Node]) -> list[_Join]:
    """Joins that one If may give: of one predicate, none of which needs another."""
    alike = [j for j in joins if (j.predicate, j.context) == (first.predicate, first.context)]
    names = {j.name for j in alike}
    found = []
    for join in alike:
        needed = set(topological(nodes, [producer(i) for i in nodes[join.name].input]))
        if not needed & (names - {join.name}):
            found.append(join)
    return found


def _branch(
    group: Sequence[_Join], body: Body, contexts: Mapping[str, _Context], library: dict[str, Any]
) -> Node:
    predicate = group[0].predicate
    captured: dict[str, str] = {}  # tensor outside → argument
    inner = [
        _side(predicate, side, [j.sides[side] for j in group], body, contexts, captured)
        for side in (0, 1)
    ]
    args = tuple((name, body.dtype(t, library)) for t, name in captured.items())
    types: list[int] = []
    names = []
    for kind, (nodes, results) in zip(("else", "then"), inner, strict=True):
        part = Body(args=args, nodes=nodes, results=results)
        types = [part.dtype(t, library) for _, t in results]
        names.append(fresh(f"{group[0].name}/{kind}".replace("/", "_"), library))
        library[names[-1]] = write(names[-1], pruned(part), library)
    return node(
        fresh(f"{group[0].name}/functional", body.nodes),
        "If",
        [predicate, *captured],
        Tcond=("type", 10),
        Tin=("types", [number for _, number in args]),
        Tout=("types", types),
        else_branch=("func", names[0]),
        then_branch=("func", names[1]),
        output_shapes=("shapes", ()),
    )


def _side(
    predicate: str,
    side: int,
    wanted: Sequence[str],
    body: Body,
    contexts: Mapping[str, _Context],
    captured: dict[str, str],
) -> tuple[dict[str, Node], tuple[tuple[str, str], ...]]:
    """The nodes of one branch, and its results. What it reads from outside is added to
    `captured`."""
    nodes, found, stack = body.nodes, dict[str, Node](), [producer(t) for t in wanted]

    def inside(name: str) -> bool:
        return name in nodes and (predicate, side) in contexts[name] and not ends(name)

    def ends(name: str) -> bool:
        source = nodes[name]
        return source.op == "Switch" and _root(source.input[1], nodes) == predicate

    def argument(tensor: str) -> str:
        source = nodes.get(producer(tensor))
        if source is not None and source.op == "Switch" and ends(source.name):
            tensor = canonical(source.input[0])
        name = captured.setdefault(tensor, f"a{len(captured)}")
        return f"{name}:0"

    while stack:
        name = stack.pop()
        if name in found or not inside(name):
            continue
        made = found[name] = copied(nodes[name])
        kept = []
        for i in nodes[name].input:
            if inside(producer(i)):
                kept.append(i if i.startswith("^") else canonical(i))
                stack.append(producer(i))
            elif not i.startswith("^"):
                kept.append(argument(canonical(i)))
        del made.input[:]
        made.input.extend(kept)
    results = [t if inside(producer(t)) else argument(t) for t in wanted]
    return found, tuple((f"r{i}", t) for i, t in enumerate(results))
