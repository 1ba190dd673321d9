"""FunctionDefs as plain graphs, and back: the two ways in which TensorFlow names a tensor."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tensorflow.core.framework import function_pb2, node_def_pb2
from tensorflow.python.framework import op_def_registry

from jaxrt.converters.subgraph import Node, callees, canonical, producer

Library = Mapping[str, Any]
"""FunctionDefs by name."""

REF = 100
"""A reference dtype's number is its base's and this."""


class Uncuttable(Exception):
    """The graph has something that nobody here can reason about; the text is one sentence."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Body:
    """A graph with arguments and results; tensors are named as in a GraphDef (`x:0`).

    An argument `a` is the tensor `a:0`, of no node.
    """

    args: tuple[tuple[str, int], ...]
    """Name and DataType number."""
    nodes: Mapping[str, Node]
    results: tuple[tuple[str, str], ...]
    """Name and tensor."""
    control: tuple[str, ...] = ()
    """Nodes that run whether anything reads them or not."""

    def dtype(self, tensor: str, library: Library) -> int:
        args = dict(self.args)
        name = producer(tensor)
        return args[name] if name in args else dtype(self.nodes, tensor, library)


def node(name: str, op: str, inputs: Iterable[str] = (), **attrs: Any) -> Node:
    """A NodeDef. Attributes by their type: int, bool, bytes, a list of dtypes, or an AttrValue
    field by a pair (`("type", 1)`)."""
    made = node_def_pb2.NodeDef(name=name, op=op, input=list(inputs))
    for key, value in attrs.items():
        attr = made.attr[key]
        match value:
            case ("types", numbers):
                attr.list.type.extend(numbers)
                attr.list.SetInParent()
            case ("shapes", ()):
                attr.list.SetInParent()
            case ("func", called):
                attr.func.name = called
            case ("type", number):
                attr.type = number
            case bool():
                attr.b = value
            case int():
                attr.i = value
            case bytes():
                attr.s = value
            case _:
                attr.tensor.CopyFrom(value)
    return made


def copied(original: Node) -> Node:
    made = node_def_pb2.NodeDef()
    made.CopyFrom(original)
    return made


def outputs(of: Node, library: Library) -> list[tuple[str, int]]:
    """Each output as a FunctionDef names it (`values:0`), with its DataType number."""
    return _arguments(of, library, lambda definition: definition.output_arg)


def input_dtypes(of: Node, library: Library) -> list[int]:
    """DataType numbers of the data inputs."""
    return [number for _, number in _arguments(of, library, lambda d: d.input_arg)]


def dtype(nodes: Mapping[str, Node], tensor: str, library: Library) -> int:
    """DataType number of a tensor, never that of a reference."""
    name, _, index = canonical(tensor).partition(":")
    number = outputs(nodes[name], library)[int(index)][1]
    return number - REF if number > REF else number


def _arguments(of: Node, library: Library, side: Any) -> list[tuple[str, int]]:
    definition = op_def_registry.get(of.op)
    if definition is None:
        if of.op not in library:
            raise Uncuttable(f"TensorFlow knows no op {of.op}.")
        definition = library[of.op].signature
    found: list[tuple[str, int]] = []
    for argument in side(definition):
        if argument.type_list_attr:
            numbers = list(of.attr[argument.type_list_attr].list.type)
        else:
            number = of.attr[argument.type_attr].type if argument.type_attr else argument.type
            count = of.attr[argument.number_attr].i if argument.number_attr else 1
            numbers = [number] * count
        found += [(f"{argument.name}:{i}", n) for i, n in enumerate(numbers)]
    return found


def read(function: Any, library: Library) -> Body:
    """A FunctionDef's graph, its unread nodes left out.

    Raises Uncuttable for a function whose dtypes are its caller's to choose.
    """
    by_name = {n.name: n for n in function.node_def}
    renamed = {a.name: f"{a.name}:0" for a in function.signature.input_arg}
    for name, original in by_name.items():
        for index, (output, _) in enumerate(outputs(original, library)):
            renamed[f"{name}:{output}"] = f"{name}:{index}"
            if output.endswith(":0"):
                renamed.setdefault(f"{name}:{output[:-2]}", f"{name}:{index}")
    nodes = {}
    for name, original in by_name.items():
        if any(value.WhichOneof("value") == "placeholder" for value in original.attr.values()):
            raise Uncuttable(f"The function {function.signature.name} is a template.")
        made = nodes[name] = copied(original)
        plain(made)
        data = [i for i in made.input if not i.startswith("^")]
        control = [i for i in made.input if i.startswith("^")]
        del made.input[:]
        made.input.extend([renamed[i] for i in data])
        made.input.extend(i for i in control if producer(i) in by_name)
    results = [(a.name, renamed[function.ret[a.name]]) for a in function.signature.output_arg]
    control = [c for c in function.control_ret.values() if c in by_name]
    body = Body(
        args=tuple((a.name, a.type) for a in function.signature.input_arg),
        nodes=nodes,
        results=tuple(results),
        control=tuple(dict.fromkeys(control)),
    )
    return pruned(body)


def plain(made: Node) -> None:
    """Drops what a node says of places and neighbours that it may lose."""
    for name in ("_output_shapes", "_class", "_gradient_op_type", "_read_only_resource_inputs"):
        made.attr.pop(name, None)
    made.device = ""


def pruned(body: Body) -> Body:
    """The body without nodes that neither results nor effects need; in topological order."""
    starts = [producer(t) for _, t in body.results] + list(body.control)
    order = topological(body.nodes, starts)
    return dataclasses.replace(body, nodes={name: body.nodes[name] for name in order})


def topological(nodes: Mapping[str, Node], starts: Sequence[str]) -> list[str]:
    """Names of the nodes that `starts` need, producers first but for the back edges of loops."""
    order: dict[str, None] = {}
    entered: set[str] = set()
    stack = [(name, False) for name in reversed(starts) if name in nodes]
    while stack:
        name, done = stack.pop()
        if done:
            order[name] = None
            continue
        if name in entered:
            continue
        entered.add(name)
        stack.append((name, True))
        needed = [producer(i) for i in nodes[name].input]
        stack += [(n, False) for n in reversed(needed) if n in nodes and n not in entered]
    return list(order)


def write(name: str, body: Body, library: Library) -> Any:
    """The FunctionDef of a body; the inverse of `read`."""
    function = function_pb2.FunctionDef()
    function.signature.name = name
    renamed = {f"{a}:0": a for a, _ in body.args}
    for key, original in body.nodes.items():
        for index, (output, _) in enumerate(outputs(original, library)):
            renamed[f"{key}:{index}"] = f"{key}:{output}"
    for argument, number in body.args:
        function.signature.input_arg.add(name=argument, type=number)
    for result, tensor in body.results:
        number = body.dtype(tensor, library)
        function.signature.output_arg.add(name=result, type=number)
        function.ret[result] = renamed[tensor]
    for original in body.nodes.values():
        made = function.node_def.add()
        made.CopyFrom(original)
        del made.input[:]
        made.input.extend(i if i.startswith("^") else renamed[canonical(i)] for i in original.input)
    for control in body.control:
        function.signature.control_output.append(control)
        function.control_ret[control] = control
    if any(_is_stateful(n, library) for n in body.nodes.values()):
        function.signature.is_stateful = True
    return function


def _is_stateful(of: Node, library: Library) -> bool:
    definition = op_def_registry.get(of.op)
    return bool((library[of.op].signature if definition is None else definition).is_stateful)


def fresh(wanted: str, taken: Any) -> str:
    """`wanted`, or with a number behind it, so that it is not in `taken`."""
    name, count = wanted, 0
    while name in taken:
        count += 1
        name = f"{wanted}_{count}"
    return name


def called_functions(nodes: Any, library: Library) -> list[str]:
    """Names of the functions that nodes call, directly or not."""
    found: dict[str, None] = {}
    stack = list(nodes)
    while stack:
        for name in callees(stack.pop()):
            if name in library and name not in found:
                found[name] = None
                stack += library[name].node_def
    return list(found)
