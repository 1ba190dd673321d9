"""Variables that a signature's answers depend on, and changes of variables that nobody can see."""

from collections.abc import Iterable, Mapping

from jaxrt.converters.opnames import CHANGES, VARIABLES
from jaxrt.converters.subgraph import Node, Subgraph, callees, canonical, producer

_BRANCHING = {"If", "StatelessIf", "Case", "StatelessCase"}
"""Calls whose first input is the predicate, which is no argument."""


def variables(part: Subgraph) -> set[str]:
    """Names of the variable nodes from which data flow into the outputs."""
    used = _used(part)
    wanted = [producer(t) for t in part.fetches]
    found = _behind(wanted, {n.name: n for n in part.nodes.values()}, used)
    return {n for n in found if n in part.nodes and part.nodes[n].op in VARIABLES}


def has_visible_change(part: Subgraph) -> bool:
    """Whether an op that changes a variable passes data on to the outputs."""
    used = _used(part)
    nodes = {n.name: n for n in part.nodes.values()}
    seen = _behind([producer(t) for t in part.fetches], nodes, used)
    bodies = [{n.name: n for n in body} for body in part.bodies.values()]
    results = [[producer(t) for t in f.ret.values()] for f in part.functions.values()]
    inside = [
        body[name]
        for body, wanted in zip(bodies, results, strict=True)
        for name in _behind(wanted, body, used)
        if name in body
    ]
    return any(CHANGES.match(n.op) for n in [*(nodes[s] for s in seen if s in nodes), *inside])


def _used(part: Subgraph) -> dict[str, set[int]]:
    """Function → its arguments from which data flow into its results."""
    used: dict[str, set[int]] = {name: set() for name in part.functions}
    growing = True
    while growing:  # functions may call one another: until nothing new is found
        before = sum(map(len, used.values()))
        for name, function in part.functions.items():
            body = {n.name: n for n in part.bodies[name]}
            found = _behind([producer(t) for t in function.ret.values()], body, used)
            arguments = [a.name for a in function.signature.input_arg]
            used[name] = {i for i, argument in enumerate(arguments) if argument in found}
        growing = sum(map(len, used.values())) > before
    return used


def _behind(
    wanted: Iterable[str], nodes: Mapping[str, Node], used: Mapping[str, set[int]]
) -> set[str]:
    """Names of nodes and arguments from which data flow into the wanted ones."""
    found: set[str] = set()
    stack = list(wanted)
    while stack:
        name = stack.pop()
        if name not in found:
            found.add(name)
            stack += _sources(nodes[name], used) if name in nodes else []
    return found


def _sources(node: Node, used: Mapping[str, set[int]]) -> list[str]:
    data = [producer(canonical(i)) for i in node.input if not i.startswith("^")]
    called = [name for name in callees(node) if name in used]
    if not called:
        return data
    first = 1 if node.op in _BRANCHING else 0
    read = {first + i for name in called for i in used[name]} | set(range(first))
    return [source for i, source in enumerate(data) if i in read]
