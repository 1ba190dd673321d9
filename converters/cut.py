"""Which node runs in which stage: as few stages as there can be, as few bytes between them."""

import collections
import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from jaxrt.converters.bodies import Uncuttable
from jaxrt.converters.placement import Place

_HOST_WORK = 0.25
"""What a byte that the host computes costs, in bytes that cross: the device wins a tie."""
_MIXING = 1e9
"""What it costs, in bytes, that a device mixes rows: its batches then hold one request."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A graph without its constants. Stages count from 0; even ones run on the host."""

    order: Sequence[str]
    places: Mapping[str, Place]
    reads: Mapping[str, Sequence[str]]
    """Node → tensors it reads, of other nodes and of inputs."""
    cost: Callable[[str], float]
    """Bytes of a row of a tensor; math.inf where it cannot cross."""
    results: Sequence[str]
    """Tensors that the host reads in the end."""
    mixing: frozenset[str]
    """Nodes that make one thing of all rows: on a device they would count padding in."""
    heavy: frozenset[str]
    """Nodes of either side that are worth a device where nothing is that must be there."""

    def sources(self, node: str) -> Iterable[str]:
        for tensor in self.reads[node]:
            name = tensor.partition(":")[0]
            if name in self.places:
                yield name


def phases(problem: Problem) -> dict[str, int]:
    """Node → stage. Raises Uncuttable where something would cross that cannot."""
    places = _decided(problem)
    fixed = _earliest(problem, places)
    if not fixed:
        return dict.fromkeys(problem.order, 0)
    first, last = min(fixed.values()), max(fixed.values())
    fixed = _gathers(problem, places, fixed, first, last)
    for stage in range(first, last):
        for node in _before(problem, fixed, stage, first, last):
            fixed.setdefault(node, stage)
    return {node: fixed.get(node, last) for node in problem.order}


def _decided(problem: Problem) -> dict[str, Place]:
    """Where nothing needs a device for sure, the next best does."""
    places = dict(problem.places)
    if Place.DEVICE in places.values():
        return places
    gathers = {n for n, p in places.items() if p is Place.GATHER}
    for node in gathers or problem.heavy - _before_host(problem):
        places[node] = Place.DEVICE
    return places


def _before_host(problem: Problem) -> set[str]:
    """Nodes that one on the host needs."""
    found: set[str] = set()
    for node in reversed(problem.order):
        if node in found or problem.places[node] is Place.HOST:
            found |= set(problem.sources(node))
    return found


def _earliest(problem: Problem, places: Mapping[str, Place]) -> dict[str, int]:
    """Nodes whose side is given → their stage."""
    found: dict[str, int] = {}
    for node in problem.order:
        stage = max((found[s] for s in problem.sources(node)), default=0)
        match places[node]:
            case Place.HOST:
                stage += stage % 2
            case Place.DEVICE:
                stage += 1 - stage % 2
        found[node] = stage
    sided = (Place.HOST, Place.DEVICE)
    return {node: stage for node, stage in found.items() if places[node] in sided}


def _gathers(
    problem: Problem,
    places: Mapping[str, Place],
    fixed: Mapping[str, int],
    first: int,
    last: int,
) -> dict[str, int]:
    """Small gathers join a stage on the device that is there anyway."""
    found = dict(fixed)
    for node in problem.order:
        if places[node] is Place.GATHER:
            low, high = _range(problem, found, first, last)
            stage = low[node] + 1 - low[node] % 2
            if stage <= high[node]:
                found[node] = stage
    return found


def _range(
    problem: Problem, fixed: Mapping[str, int], first: int, last: int
) -> tuple[dict[str, int], dict[str, int]]:
    """The first and the last stage that each node can run in."""
    low: dict[str, int] = {}
    for node in problem.order:
        stages = [low[s] for s in problem.sources(node)]
        low[node] = fixed.get(node, max(stages, default=first))
    high = {node: fixed.get(node, last) for node in problem.order}
    for node in reversed(problem.order):
        for source in problem.sources(node):
            high[source] = min(high[source], high[node])
    return low, high


def _before(
    problem: Problem, fixed: Mapping[str, int], stage: int, first: int, last: int
) -> list[str]:
    """Nodes that run in `stage` or before it: a minimum cut."""
    low, high = _range(problem, fixed, first, last)
    network = _Network()
    host_first = stage % 2 == 0
    readers: dict[str, list[str]] = {}
    for node in problem.order:
        for tensor in problem.reads[node]:
            readers.setdefault(tensor, []).append(node)
    for tensor in problem.results:
        readers.setdefault(tensor, []).append("<answer>")

    def vertex(node: str) -> str:
        if node == "<answer>":
            return _SINK
        if high[node] <= stage:
            return _SOURCE
        return _SINK if low[node] > stage else node

    for node in problem.order:
        for source in problem.sources(node):
            network.edge(vertex(node), vertex(source), math.inf)
        if vertex(node) == node:
            work = 0.01 + _HOST_WORK * max(
                (problem.cost(t) for t in problem.reads[node] if problem.cost(t) < math.inf),
                default=0.0,
            )
            host, device = (node, _SINK), (_SOURCE, node)
            if not host_first:
                host, device = device, host
            if node in problem.mixing:
                network.edge(*device, _MIXING)
            else:
                network.edge(*host, work)
    for tensor, found in readers.items():
        source = tensor.partition(":")[0]
        moves = _moves(source, problem, fixed, stage)
        if not moves:
            continue
        start = vertex(source) if source in problem.places else _SOURCE
        crossing = f"{tensor} crosses"
        network.edge(start, crossing, problem.cost(tensor))
        # What cannot cross is answered from the host that computes it.
        kept = stage % 2 == 0 and problem.cost(tensor) == math.inf
        for reader in found:
            if not _stays(source, reader, fixed) and not (kept and reader == "<answer>"):
                network.edge(crossing, vertex(reader), math.inf)
    reached = network.source_side()
    return [n for n in problem.order if vertex(n) in reached]


def _moves(source: str, problem: Problem, fixed: Mapping[str, int], stage: int) -> bool:
    """Whether a tensor read after `stage` is on the other side only."""
    if source not in problem.places:  # an input: the host has it
        return stage % 2 == 0
    return source not in fixed or fixed[source] % 2 == stage % 2


def _stays(source: str, reader: str, fixed: Mapping[str, int]) -> bool:
    """Whether a tensor is read on the side that it is on, however much later."""
    return source in fixed and reader in fixed and fixed[source] % 2 == fixed[reader] % 2


_SOURCE, _SINK = "<before>", "<after>"


class _Network:
    """A flow network; its minimum cut."""

    def __init__(self) -> None:
        self._room: dict[str, dict[str, float]] = collections.defaultdict(dict)

    def edge(self, start: str, end: str, room: float) -> None:
        if start != end:
            self._room[start][end] = self._room[start].get(end, 0.0) + room
            self._room[end].setdefault(start, 0.0)

    def source_side(self) -> set[str]:
        """Vertices before the cut. Raises Uncuttable where the cut would cost the infinite."""
        while path := self._path():
            flow = min(self._room[a][b] for a, b in path)
            if flow == math.inf:
                names = [end for _, end in path if end.endswith(" crosses")]
                what = names[0].removesuffix(" crosses") if names else "Something"
                raise Uncuttable(f"{what} would have to cross between host and device, and cannot.")
            for a, b in path:
                self._room[a][b] -= flow
                self._room[b][a] += flow
        return self._reached()[0]

    def _reached(self) -> tuple[set[str], dict[str, str]]:
        before: dict[str, str] = {}
        seen = {_SOURCE}
        queue = collections.deque([_SOURCE])
        while queue:
            vertex = queue.popleft()
            for following, room in self._room[vertex].items():
                if room > 1e-9 and following not in seen:
                    seen.add(following)
                    before[following] = vertex
                    queue.append(following)
        return seen, before

    def _path(self) -> list[tuple[str, str]]:
        seen, before = self._reached()
        if _SINK not in seen:
            return []
        path = []
        vertex = _SINK
        while vertex != _SOURCE:
            path.append((before[vertex], vertex))
            vertex = before[vertex]
        return path
