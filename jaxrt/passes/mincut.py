"""The cheapest set of values to carry from one side of a graph to the other, as late as can be."""

import collections
from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

Node = TypeVar("Node", bound=Hashable)
Edges = dict[Hashable, dict[Hashable, float]]

INFINITE = float("inf")


def latest_cut(
    costs: Mapping[Node, float],
    feeds: Iterable[tuple[Node, Node]],
    sources: Iterable[Node],
    sinks: Iterable[Node],
) -> set[Node]:
    """The nodes of least total cost that every way from a source to a sink passes through.

    `costs` has every node; `feeds` are directed pairs. Among cuts of equal cost it is the one
    nearest the sinks. Dinic's algorithm over nodes split in two.
    """
    graph: Edges = collections.defaultdict(dict)

    def connect(a: Hashable, b: Hashable, capacity: float) -> None:
        graph[a][b] = graph[a].get(b, 0) + capacity
        graph[b].setdefault(a, 0)

    for node, cost in costs.items():
        connect((node, "in"), (node, "out"), cost)
    for a, b in feeds:
        connect((a, "out"), (b, "in"), INFINITE)
    for node in sources:
        connect("source", (node, "in"), INFINITE)
    for node in sinks:
        connect((node, "out"), "sink", INFINITE)
    while levels := _levels(graph):
        _block(graph, levels)
    late = _reaching_sink(graph)
    return {n for n in costs if (n, "out") in late and (n, "in") not in late}


def _levels(graph: Edges) -> dict[Hashable, int] | None:
    """Distance from the source over open edges; None once the sink is out of reach."""
    found: dict[Hashable, int] = {"source": 0}
    queue = collections.deque(["source"] if "source" in graph else [])
    while queue:
        node: Hashable = queue.popleft()
        for other, capacity in graph[node].items():
            if capacity > 0 and other not in found:
                found[other] = found[node] + 1
                queue.append(other)  # type: ignore[arg-type]
    return found if "sink" in found else None


def _block(graph: Edges, levels: Mapping[Hashable, int]) -> None:
    """Sends flow along shortest ways until each has a full edge."""
    rest = {node: list(graph[node]) for node in levels}
    path: list[Hashable] = ["source"]
    while path:
        node = path[-1]
        if node == "sink":
            _send(graph, path)
            path = ["source"]
            continue
        options = rest[node]
        while options and not (
            graph[node][options[-1]] > 0 and levels.get(options[-1], -1) == levels[node] + 1
        ):
            options.pop()
        if options:
            path.append(options[-1])
        else:
            path.pop()
            if path:
                rest[path[-1]].pop()


def _send(graph: Edges, path: list[Hashable]) -> None:
    steps = list(zip(path, path[1:], strict=False))
    amount = min(graph[a][b] for a, b in steps)
    for a, b in steps:
        graph[a][b] -= amount
        graph[b][a] += amount


def _reaching_sink(graph: Edges) -> set[Hashable]:
    """Nodes from which the sink can still be reached over open edges."""
    found: set[Hashable] = {"sink"}
    queue: collections.deque[Hashable] = collections.deque(found)
    while queue:
        node = queue.popleft()
        for other in list(graph[node]):
            if other not in found and graph[other].get(node, 0) > 0:
                found.add(other)
                queue.append(other)
    return found
