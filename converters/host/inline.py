"""Function calls replaced by the bodies they call."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from jaxrt.converters.host.graph import AttrRef, Function, FunctionRef, Node, producer
from jaxrt.errors import ModelError

CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall", "TPUPartitionedCall"})

DEPTH = 100
"""Calls within calls; more is recursion, whose end only a run can find."""


def inline(nodes: Iterable[Node], functions: Mapping[str, Function]) -> tuple[Node, ...]:
    """The nodes, calls replaced: the body of `call` is `call/...`, its results an IdentityN.

    Raises ModelError where functions call each other without end, or one is not there.
    """
    return tuple(_inlined(nodes, functions, 0))


def called(node: Node, functions: Mapping[str, Function]) -> FunctionRef | None:
    """The function that a node only calls."""
    if node.op in functions:
        return FunctionRef(node.op, node.attrs)
    if node.op not in CALLS:
        return None
    reference = node.attrs["f"]
    assert isinstance(reference, FunctionRef)
    return reference


def _inlined(nodes: Iterable[Node], functions: Mapping[str, Function], depth: int) -> list[Node]:
    found: list[Node] = []
    for node in nodes:
        reference = called(node, functions)
        if reference is None:
            found.append(node)
            continue
        if depth > DEPTH:
            raise ModelError(
                f"node {node.name!r}: calls nested more than {DEPTH} deep; inline the recursion"
            )
        found += _body(node, bound(reference, functions), functions, depth)
    return found


def _body(
    call: Node, function: Function, functions: Mapping[str, Function], depth: int
) -> list[Node]:
    prefix = f"{call.name}/"
    arguments = {
        f"{name}:0": tensor for name, tensor in zip(function.inputs, call.inputs, strict=True)
    }

    def rename(tensor: str) -> str:
        return arguments.get(tensor, prefix + tensor)

    body = [
        dataclasses.replace(
            node,
            name=prefix + node.name,
            inputs=tuple(map(rename, node.inputs)),
            controls=(*(prefix + name for name in node.controls), *call.controls),
        )
        for node in function.nodes
    ]
    results = Node(
        name=call.name,
        op="IdentityN",
        inputs=tuple(map(rename, function.outputs)),
        attrs={},
        controls=(*(prefix + producer(name) for name in function.controls), *call.controls),
    )
    return [*_inlined(body, functions, depth + 1), results]


def bound(reference: FunctionRef, functions: Mapping[str, Function]) -> Function:
    """The function with the reference's attributes in place of its placeholders."""
    if reference.name not in functions:
        raise ModelError(
            f"function {reference.name!r} is called and not in the graph; export the model again"
        )
    function = functions[reference.name]
    nodes = tuple(
        dataclasses.replace(
            node, attrs={name: _bind(v, reference.attrs) for name, v in node.attrs.items()}
        )
        if any(isinstance(v, AttrRef) for v in node.attrs.values())
        else node
        for node in function.nodes
    )
    return dataclasses.replace(function, nodes=nodes)


def _bind(value: Any, attrs: Mapping[str, Any]) -> Any:
    return attrs[value.name] if isinstance(value, AttrRef) else value
