"""Variables as values: graphs that read variables through handles, rewritten to take tensors."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from jaxrt.converters.bodies import (
    Body,
    Uncuttable,
    copied,
    fresh,
    node,
    pruned,
    read,
    write,
)
from jaxrt.converters.subgraph import Node, canonical

_BRANCHES = {"If", "StatelessIf"}
_CASES = {"Case", "StatelessCase"}
_LOOPS = {"While", "StatelessWhile"}
_CALLS = {"PartitionedCall", "StatefulPartitionedCall"}
_INT32, _BOOL = 3, 10


def by_value(body: Body, variables: Mapping[str, int], library: dict[str, Any]) -> Body:
    """The body, each handle in `variables` (tensor → DataType number) a plain tensor.

    Functions that get one are written again, under new names in `library`. Raises Uncuttable
    for an op that does more with a variable than read it.
    """
    return _Rewriter(library).body(body, variables)


class _Rewriter:
    def __init__(self, library: dict[str, Any]) -> None:
        self._library = library
        self._written: dict[tuple[Any, ...], str] = {}

    def body(self, body: Body, variables: Mapping[str, int]) -> Body:
        known = dict(variables)
        nodes: dict[str, Node] = {}
        for name, original in pruned(body).nodes.items():
            data = [canonical(i) for i in original.input if not i.startswith("^")]
            found = {i: known[t] for i, t in enumerate(data) if t in known}
            made = self._node(original, found, nodes) if found else original
            nodes[name] = made
            # A handle that is passed on is the same value further on.
            known |= {f"{name}:{i}": n for i, n in self._passed(original, found).items()}
        args = tuple((a, known.get(f"{a}:0", number)) for a, number in body.args)
        return pruned(dataclasses.replace(body, nodes=nodes, args=args))

    def _passed(self, original: Node, found: Mapping[int, int]) -> dict[int, int]:
        return dict(found) if original.op in ("Identity", "IdentityN", *_LOOPS) else {}

    def _node(self, original: Node, found: Mapping[int, int], nodes: dict[str, Node]) -> Node:
        rule = getattr(self, f"_{original.op.lower()}", None)
        if original.op in _BRANCHES | _CASES | _LOOPS | _CALLS:
            return self._call(original, found)
        if rule is None or set(found) != {0}:
            if original.op == "IdentityN":
                return _retyped(copied(original), "T", found)
            raise Uncuttable(f"{original.op} does more with a variable than read it.")
        made: Node = rule(original, found[0], nodes)
        return made

    def _identity(self, original: Node, number: int, nodes: dict[str, Node]) -> Node:
        return node(original.name, "Identity", original.input, T=("type", number))

    _readvariableop = _identity

    def _variableshape(self, original: Node, number: int, nodes: dict[str, Node]) -> Node:
        out = original.attr["out_type"].type or _INT32
        made = node(original.name, "Shape", original.input, T=("type", number))
        made.attr["out_type"].type = out
        return made

    def _varisinitializedop(self, original: Node, number: int, nodes: dict[str, Node]) -> Node:
        value = tf.make_tensor_proto(True)
        return node(original.name, "Const", dtype=("type", _BOOL), value=value)

    def _resourcegather(self, original: Node, number: int, nodes: dict[str, Node]) -> Node:
        axis = fresh(f"{original.name}/axis", nodes)
        batch_dims = original.attr["batch_dims"].i
        value = tf.make_tensor_proto(np.int32(batch_dims))
        nodes[axis] = node(axis, "Const", dtype=("type", _INT32), value=value)
        data = [i for i in original.input if not i.startswith("^")]
        return node(
            original.name,
            "GatherV2",
            [*data, f"{axis}:0"],
            Tparams=("type", number),
            Tindices=("type", original.attr["Tindices"].type),
            Taxis=("type", _INT32),
            batch_dims=batch_dims,
        )

    def _resourcegathernd(self, original: Node, number: int, nodes: dict[str, Node]) -> Node:
        return node(
            original.name,
            "GatherNd",
            [i for i in original.input if not i.startswith("^")],
            Tparams=("type", number),
            Tindices=("type", original.attr["Tindices"].type),
        )

    def _call(self, original: Node, found: Mapping[int, int]) -> Node:
        made = copied(original)
        first = 1 if original.op in _BRANCHES | _CASES else 0
        if first and 0 in found:
            raise Uncuttable(f"{original.op} branches on a variable's handle.")
        arguments = {i - first: n for i, n in found.items()}
        for attr in made.attr.values():
            if attr.HasField("func"):
                attr.func.name = self._function(attr.func.name, arguments)
            for function in attr.list.func:
                function.name = self._function(function.name, arguments)
        return _retyped(made, "T" if original.op in _LOOPS else "Tin", arguments)

    def _function(self, name: str, arguments: Mapping[int, int]) -> str:
        key = (name, *sorted(arguments.items()))
        if key not in self._written:
            function = read(self._library[name], self._library)
            variables = {f"{function.args[i][0]}:0": n for i, n in arguments.items()}
            wanted = fresh(f"{name}_by_value", self._library)
            self._written[key] = wanted
            body = self.body(function, variables)
            self._library[wanted] = write(wanted, body, self._library)
        return self._written[key]


def _retyped(made: Node, attr: str, found: Mapping[int, int]) -> Node:
    for index, number in found.items():
        made.attr[attr].list.type[index] = number
    return made
