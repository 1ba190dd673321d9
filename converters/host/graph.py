"""A GraphDef as plain records, read without TensorFlow."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.message import DecodeError

from jaxrt.converters.host import outputs
from jaxrt.converters.host.protos import message_class
from jaxrt.converters.host.tensorproto import array, dtype_name, shape_tuple
from jaxrt.errors import ModelError


@dataclasses.dataclass(frozen=True, slots=True)
class FunctionRef:
    """A function as an attribute's value; `attrs` bind the placeholders in its body."""

    name: str
    attrs: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class AttrRef:
    """An attribute in a function's body that takes the caller's attribute `name`."""

    name: str


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One op. An attribute that has its default value may be absent."""

    name: str
    op: str
    inputs: tuple[str, ...]
    """Tensors, `node:index`, without control inputs."""
    attrs: Mapping[str, Any]
    """dtype → key of DTYPES; shape → tuple with None, or None; tensor → array; s → bytes;
    i, f, b → int, float, bool; func → FunctionRef; list → tuple of those."""
    controls: tuple[str, ...] = ()
    """Names of the nodes that run before it."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Function:
    """A FunctionDef: argument `a` is the tensor `a:0` in its body."""

    name: str
    inputs: tuple[str, ...]
    """Names of the arguments, in order."""
    outputs: tuple[str, ...]
    """Tensors, `node:index`, in order."""
    nodes: tuple[Node, ...]
    """In topological order."""
    controls: tuple[str, ...] = ()
    """Names of the nodes that run whether or not a result needs them."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """Nodes in topological order, and the functions they may call."""

    nodes: tuple[Node, ...]
    functions: Mapping[str, Function]


def parse(data: bytes, where: str = "the graph") -> Graph:
    """GraphDef bytes → records. Raises ModelError where they are no GraphDef."""
    parsed = message_class("Graph")()
    try:
        parsed.ParseFromString(data)
    except DecodeError:
        raise ModelError(
            f"{where}: {len(data)} bytes are not a GraphDef; export the model again"
        ) from None
    results = {**outputs.RESULTS, **_results(parsed.library)}
    functions = [_function(f, results) for f in parsed.library.function]
    nodes = [_node(n, _attrs(n.attr), None) for n in parsed.node]
    return Graph(topological(nodes), {f.name: f for f in functions})


def canonical(tensor: str) -> str:
    """`x` → `x:0`."""
    return tensor if ":" in tensor else f"{tensor}:0"


def producer(tensor: str) -> str:
    """`x:1` → `x`."""
    return tensor.partition(":")[0]


def topological(nodes: Iterable[Node]) -> tuple[Node, ...]:
    """Every node after what it takes; a TF1 loop is cut at NextIteration."""
    by_name = {node.name: node for node in nodes}
    done: dict[str, Node] = {}
    for start in by_name:
        stack = [start]
        entered: set[str] = set()
        while stack:
            name = stack[-1]
            if name in done or name not in by_name:
                stack.pop()
            elif name in entered:
                done[name] = by_name[stack.pop()]
            else:
                entered.add(name)
                stack += [p for p in _parents(by_name[name]) if p not in entered]
    return tuple(done.values())


def _parents(node: Node) -> list[str]:
    if node.op in ("NextIteration", "RefNextIteration"):
        return []
    return [*map(producer, node.inputs), *node.controls]


def _results(library: Any) -> dict[str, tuple[tuple[str, str], ...]]:
    """Of functions, which a node may call as if they were ops."""
    return {
        f.signature.name: tuple(
            (arg.name, arg.number_attr or arg.type_list_attr) for arg in f.signature.output_arg
        )
        for f in library.function
    }


def _function(proto: Any, results: outputs.Results) -> Function:
    signature = proto.signature
    attrs = {n.name: _attrs(n.attr) for n in proto.node_def}
    names = _Names(
        arguments=frozenset(arg.name for arg in signature.input_arg),
        ops={n.name: n.op for n in proto.node_def},
        attrs=attrs,
        results=results,
    )
    returns = {ret.key: ret.value for ret in proto.ret}
    nodes = [_node(n, attrs[n.name], names) for n in proto.node_def]
    return Function(
        name=signature.name,
        inputs=tuple(arg.name for arg in signature.input_arg),
        outputs=tuple(names.canonical(returns[arg.name]) for arg in signature.output_arg),
        nodes=topological(nodes),
        controls=tuple(ret.value for ret in proto.control_ret),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Names:
    """How a function's body names tensors: `argument`, `node:result:offset`."""

    arguments: frozenset[str]
    ops: Mapping[str, str]
    attrs: Mapping[str, Mapping[str, Any]]
    results: outputs.Results

    def canonical(self, tensor: str) -> str:
        name, *rest = tensor.split(":")
        if name in self.arguments or len(rest) < 2:
            return canonical(tensor)
        attrs, listed = self.attrs[name], self.results.get(self.ops[name], ())
        return f"{name}:{outputs.index(listed, attrs, rest[0], int(rest[1]))}"


def _node(proto: Any, attrs: Mapping[str, Any], names: _Names | None) -> Node:
    data = [name for name in proto.input if not name.startswith("^")]
    arguments = names.arguments if names else frozenset()
    return Node(
        name=proto.name,
        op=proto.op,
        inputs=tuple(names.canonical(name) if names else canonical(name) for name in data),
        attrs=attrs,
        controls=tuple(
            name[1:] for name in proto.input if name.startswith("^") and name[1:] not in arguments
        ),
    )


def _attrs(entries: Any) -> dict[str, Any]:
    return {entry.key: _value(entry.value) for entry in entries}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "list":
        filled = [name for name in _LISTS if getattr(value.list, name)]
        return tuple(_plain(k, v) for k in filled for v in getattr(value.list, k))
    return None if kind is None else _plain(kind, getattr(value, kind))


_LISTS = ("s", "i", "f", "b", "type", "shape", "tensor", "func")


def _plain(kind: str, value: Any) -> Any:
    match kind:
        case "type":
            return dtype_name(value)
        case "shape":
            return shape_tuple(value)
        case "tensor":
            return array(value)
        case "func":
            return FunctionRef(value.name, _attrs(value.attr))
        case "placeholder":
            return AttrRef(value)
    return value
