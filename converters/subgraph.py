"""The part of a TensorFlow graph that a signature's outputs depend on, its dead branches cut."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from jaxrt.converters.opnames import CHANGES, PLAIN

Node = Any
"""A NodeDef of tensorflow/core/framework/node_def.proto."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Subgraph:
    """Nodes and functions; `resolve` renames the tensors of the original graph."""

    nodes: Mapping[str, Node]
    """By name, inputs rewritten; parents of fed tensors are absent."""
    feeds: tuple[str, ...]
    """Canonical names (`x:0`), in the order given; a name may come twice."""
    fetches: tuple[str, ...]
    """Canonical names of the tensors that give the outputs, in the order given."""
    functions: Mapping[str, Any]
    """FunctionDefs that the nodes call, directly or not, by name."""
    bodies: Mapping[str, tuple[Node, ...]]
    """The nodes of each function that its results and its control results depend on."""

    @property
    def ops(self) -> tuple[str, ...]:
        return tuple(sorted({node.op for node in self.walk()} - set(self.functions)))

    @property
    def counts(self) -> dict[str, int]:
        """Op → nodes of it; constants, aliases and calls of functions are left out."""
        calls = {"PartitionedCall", "StatefulPartitionedCall", *self.functions}
        quiet = {"Const", "Identity", "Placeholder", *calls}
        found = Counter(node.op for node in self.walk())
        return {op: found[op] for op in sorted(found.keys() - quiet)}

    def walk(self) -> Iterator[Node]:
        """The nodes, and those of all functions."""
        yield from self.nodes.values()
        for body in self.bodies.values():
            yield from body


def canonical(tensor: str) -> str:
    """`x` → `x:0`; `^x` stays: a control edge."""
    return tensor if ":" in tensor or tensor.startswith("^") else f"{tensor}:0"


def producer(tensor: str) -> str:
    """`x:1`, `^x` → `x`."""
    return tensor.removeprefix("^").partition(":")[0]


def reach(
    graph: Any, feeds: Sequence[str], fetches: Sequence[str], *, control: bool = False
) -> Subgraph:
    """What `fetches` need of a GraphDef when `feeds` are given.

    Control edges are kept where they order a change of a variable, the only effect that answers
    show. The others tie outputs to asserts, which XLA ignores anyway and whose messages TF1
    guards with Switch and Merge, which it does not have: `control` keeps them too. A Switch whose
    predicate is constant goes, its dead branch with it. Raises ValueError when a tensor has no
    node.
    """
    fed = tuple(canonical(name) for name in feeds)
    cutter = _Cutter(graph, frozenset(fed), control)
    wanted = tuple(cutter.resolve(canonical(name)) for name in fetches)
    nodes: dict[str, Node] = {}
    stack = [producer(name) for name in wanted if name not in cutter.fed]
    while stack:
        name = stack.pop()
        if name in nodes:
            continue
        nodes[name] = cutter.rewritten(name)
        stack += [producer(i) for i in nodes[name].input if i not in cutter.fed]
    library = {f.signature.name: f for f in graph.library.function}
    bodies = _called(nodes.values(), library)
    return Subgraph(
        nodes=nodes,
        feeds=fed,
        fetches=wanted,
        functions={name: library[name] for name in bodies},
        bodies=bodies,
    )


class _Cutter:
    """Follows tensors to what computes them once constant predicates are folded."""

    def __init__(self, graph: Any, fed: frozenset[str], control: bool) -> None:
        self._control = control
        self.nodes: dict[str, Node] = {node.name: node for node in graph.node}
        self.fed = fed
        library = {f.signature.name: f for f in graph.library.function}
        self._affected = _affected(self.nodes, library, fed)
        self._dead: dict[str, bool] = {}
        self._predicates: dict[str, bool | None] = {}

    def node(self, name: str) -> Node:
        try:
            return self.nodes[name]
        except KeyError:
            raise ValueError(f"the graph has no node {name!r}") from None

    def resolve(self, tensor: str) -> str:
        """The tensor itself, or the one that a folded Switch or Merge would pass on."""
        seen: set[str] = set()
        while tensor not in self.fed and not tensor.startswith("^") and tensor not in seen:
            seen.add(tensor)
            node = self.node(producer(tensor))
            op = PLAIN.get(node.op, node.op)
            if op == "Switch" and self.predicate(canonical(node.input[1])) is not None:
                tensor = canonical(node.input[0])
            elif op == "Merge" and tensor.endswith(":0") and self._lone(node) is not None:
                tensor = canonical(str(self._lone(node)))
            else:
                break
        return tensor

    def _lone(self, merge: Node) -> str | None:
        """The only live input, where a Merge has dead ones."""
        data = [i for i in merge.input if not i.startswith("^")]
        live = [i for i in data if not self.dead(canonical(i))]
        return live[0] if len(live) == 1 and len(data) > 1 else None

    def predicate(self, tensor: str) -> bool | None:
        """The value of a boolean tensor that no feed and no variable can change."""
        if tensor not in self._predicates:
            self._predicates[tensor] = None  # a loop's predicate depends on itself
            self._predicates[tensor] = self._fold(tensor)
        return self._predicates[tensor]

    def _fold(self, tensor: str) -> bool | None:
        if tensor in self.fed:
            return None
        node = self.node(producer(tensor))
        match node.op:
            case "IsVariableInitialized" | "VarIsInitializedOp":
                return True  # nothing is served before its variables are restored
            case "Const":
                return _boolean(node.attr["value"].tensor)
            case "Identity" | "StopGradient" | "PlaceholderWithDefault":
                return self.predicate(canonical(node.input[0]))
            case "Switch":
                return self.predicate(canonical(node.input[0]))
            case "LogicalNot":
                value = self.predicate(canonical(node.input[0]))
                return None if value is None else not value
            case "LogicalAnd" | "LogicalOr":
                values = {self.predicate(canonical(i)) for i in node.input[:2]}
                decisive: bool = node.op == "LogicalOr"
                if decisive in values:
                    return decisive
                return None if None in values else not decisive
        return None

    def dead(self, tensor: str) -> bool:
        """Whether no run can compute the tensor (or, for `^x`, run the node)."""
        if tensor in self.fed:
            return False
        name = producer(tensor)
        if self._untaken(tensor):
            return True
        stack, order = [name], []  # no recursion: graphs are thousands of nodes deep
        while stack:
            top = stack.pop()
            if top in self._dead:
                continue
            self._dead[top] = False  # so that a loop ends: what only feeds itself is live
            order.append(top)
            stack += [producer(i) for i in self.node(top).input if canonical(i) not in self.fed]
        changed = True
        while changed:
            changed = False
            for top in order[::-1]:
                if not self._dead[top] and self._starved(self.node(top)):
                    self._dead[top] = changed = True
        return self._dead[name]

    def _untaken(self, tensor: str) -> bool:
        """Whether the tensor is the side of a Switch that a constant predicate never takes."""
        node = self.node(producer(tensor))
        if tensor.startswith("^") or PLAIN.get(node.op, node.op) != "Switch":
            return False
        value = self.predicate(canonical(node.input[1]))
        return value is not None and tensor.endswith(":1") != value

    def _starved(self, node: Node) -> bool:
        inputs = [canonical(i) for i in node.input]
        dead = [i not in self.fed and (self._untaken(i) or self._dead[producer(i)]) for i in inputs]
        if PLAIN.get(node.op, node.op) == "Merge":
            data = [d for i, d in zip(inputs, dead, strict=True) if not i.startswith("^")]
            return bool(data) and all(data)
        return any(dead)

    def rewritten(self, name: str) -> Node:
        """A copy of the node with folded inputs, plain ops, and no edge from an Assert."""
        node = type(self.node(name))()
        node.CopyFrom(self.node(name))
        node.op = PLAIN.get(node.op) or node.op
        # An import checks these: shapes that were declared, neighbours that may be cut away.
        for name in ("_output_shapes", "_class"):
            node.attr.pop(name, None)
        node.device = ""
        data = [self.resolve(canonical(i)) for i in node.input if not i.startswith("^")]
        control = [i for i in node.input if i.startswith("^") and self._orders(i)]
        del node.input[:]
        node.input.extend([*data, *dict.fromkeys(control)])
        return node

    def _orders(self, edge: str) -> bool:
        if not self._control:
            return producer(edge) in self._affected
        return canonical(producer(edge)) not in self.fed and not self.dead(edge)


def _affected(
    nodes: Mapping[str, Node], library: Mapping[str, Any], fed: frozenset[str]
) -> set[str]:
    """Names of the nodes that change a variable, and of all that depend on one of them."""
    consumers: dict[str, list[str]] = {}
    for node in nodes.values():
        for name in node.input:
            if canonical(name) not in fed:
                consumers.setdefault(producer(name), []).append(node.name)
    found: set[str] = set()
    stack = [name for name, node in nodes.items() if _changes(node, library)]
    while stack:
        name = stack.pop()
        if name not in found:
            found.add(name)
            stack += consumers.get(name, [])
    return found


def _changes(node: Node, library: Mapping[str, Any]) -> bool:
    inner = (n for body in _called([node], library).values() for n in body)
    return bool(CHANGES.match(node.op)) or any(CHANGES.match(n.op) for n in inner)


def _boolean(tensor: Any) -> bool | None:
    if tensor.dtype != 10 or tensor.tensor_shape.dim:  # DT_BOOL, a scalar
        return None
    if tensor.tensor_content:
        return bool(tensor.tensor_content != b"\0")
    return bool(tensor.bool_val) and bool(tensor.bool_val[0])


def _called(nodes: Iterable[Node], library: Mapping[str, Any]) -> dict[str, tuple[Node, ...]]:
    """Function → the live nodes of its body, for all functions called directly or not."""
    found: dict[str, tuple[Node, ...]] = {}
    stack = list(nodes)
    while stack:
        for name in callees(stack.pop()):
            if name in library and name not in found:
                found[name] = _live(library[name])
                stack += found[name]
    return found


def _live(function: Any) -> tuple[Node, ...]:
    """TensorFlow prunes a body before it runs or compiles it; unread ops are common."""
    by_name = {node.name: node for node in function.node_def}
    stack = [producer(t) for t in (*function.ret.values(), *function.control_ret.values())]
    found: dict[str, Node] = {}
    while stack:
        name = stack.pop()
        if name in by_name and name not in found:
            found[name] = by_name[name]
            stack += [producer(i) for i in by_name[name].input]
    return tuple(found.values())


def callees(node: Node) -> list[str]:
    """Names of the functions that a node may call."""
    names = [node.op]
    for value in node.attr.values():
        names += [value.func.name] if value.HasField("func") else []
        names += [func.name for func in value.list.func]
    return names
