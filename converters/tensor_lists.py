"""TF1's TensorArrays as lists: values that flow through loops and branches, no resources.

A resource ties a loop to the place where it was made, and XLA wants to know its elements' shape
before it has seen one. Reading an element that nobody wrote gives zeros here, and is an error of
TensorFlow's in the original.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_shape_pb2

from jaxrt.converters.bodies import Body, Uncuttable, copied, fresh, node, pruned, read, write
from jaxrt.converters.simplify import constant
from jaxrt.converters.subgraph import Node, canonical, producer

_INT32, _VARIANT = 3, 21
_LOOPS = {"While", "StatelessWhile"}
_BRANCHING = {"If", "StatelessIf", "Case", "StatelessCase"}
_HANDLE, _FLOW = "handle", "flow"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Array:
    """What is known of a TensorArray where its handle or its flow is read."""

    side: str
    dtype: int
    shape: bytes
    """TensorShapeProto of an element."""
    dynamic: bool
    size: str
    """The tensor that says how many elements it is made for; empty in functions."""


def with_lists(body: Body, library: dict[str, Any]) -> Body:
    """The same values; the body as it is where it has no TensorArray that this knows how to turn.

    Functions that get one are written again, under new names in `library`.
    """
    if not any(n.op == "TensorArrayV3" for n in body.nodes.values()):
        return body
    functions = dict(library)
    try:
        found, _ = _Rewriter(functions).body(body, {})
    except Uncuttable:
        return body  # a host runs it as it is
    library.update(functions)
    return found


class _Rewriter:
    def __init__(self, library: dict[str, Any]) -> None:
        self._library = library
        self._written: dict[tuple[Any, ...], tuple[str, dict[int, _Array]]] = {}

    def body(self, body: Body, given: Mapping[str, _Array]) -> tuple[Body, dict[int, _Array]]:
        """The rewritten body, and which of its results are arrays. `given` are arguments."""
        known = dict(given)
        nodes: dict[str, Node] = {}
        renamed: dict[str, str] = {}
        for name, original in body.nodes.items():
            made = copied(original)
            for index, tensor in enumerate(original.input):
                if not tensor.startswith("^"):
                    made.input[index] = renamed.get(canonical(tensor), tensor)
            found = {
                i: known[canonical(t)] for i, t in enumerate(made.input) if canonical(t) in known
            }
            if original.op == "TensorArrayV3":
                self._reserve(made, nodes, renamed, known)
            elif original.op in _OPS and _FLOW in {a.side for a in found.values()}:
                array = next(a for a in found.values() if a.side == _FLOW)
                nodes[name] = _OPS[original.op](made, array, nodes)
                if nodes[name].op in _FLOWING:
                    known[f"{name}:0"] = array
            elif found:
                nodes[name] = self._passing(made, found, known)
            else:
                nodes[name] = made
        args = tuple((a, _number(known.get(f"{a}:0"), n)) for a, n in body.args)
        results = tuple((n, renamed.get(t, t)) for n, t in body.results)
        arrays = {i: known[t] for i, (_, t) in enumerate(results) if t in known}
        made_body = dataclasses.replace(body, nodes=nodes, args=args, results=results)
        return pruned(made_body), arrays

    def _reserve(
        self,
        of: Node,
        nodes: dict[str, Node],
        renamed: dict[str, str],
        known: dict[str, _Array],
    ) -> None:
        attrs = of.attr
        array = _Array(
            side=_FLOW,
            dtype=attrs["dtype"].type,
            shape=attrs["element_shape"].shape.SerializeToString(deterministic=True),
            dynamic=attrs["dynamic_size"].b,
            size=canonical(of.input[0]),
        )
        reserved = node(
            fresh(f"{of.name}/list", nodes),
            "TensorListReserve",
            [_shape(of.name, array, nodes), of.input[0]],
            element_dtype=("type", array.dtype),
            shape_type=("type", _INT32),
        )
        nodes[reserved.name] = reserved
        handle = _const(f"{of.name}/handle", np.int32(0), nodes)  # nothing reads its value
        renamed[f"{of.name}:0"], renamed[f"{of.name}:1"] = handle, f"{reserved.name}:0"
        known[handle] = dataclasses.replace(array, side=_HANDLE)
        known[f"{reserved.name}:0"] = array

    def _passing(self, of: Node, found: Mapping[int, _Array], known: dict[str, _Array]) -> Node:
        """A node that hands arrays on: to functions, or as they are."""
        match of.op:
            case "Identity":
                of.attr["T"].type = _number(found[0], 0)
                known[f"{of.name}:0"] = found[0]
            case op if op in _LOOPS | _BRANCHING:
                self._call(of, found, known)
            case _:
                raise Uncuttable(f"{of.op} reads a TensorArray.")
        return of

    def _call(self, of: Node, found: Mapping[int, _Array], known: dict[str, _Array]) -> None:
        first = 1 if of.op in _BRANCHING else 0
        given = {i - first: dataclasses.replace(a, size="") for i, a in found.items()}
        listed = of.attr["Tin" if first else "T"].list
        for index, array in given.items():
            listed.type[index] = _number(array, 0)
        results: list[dict[int, _Array]] = []
        for attr in of.attr.values():
            for called in [*([attr.func] if attr.HasField("func") else []), *attr.list.func]:
                called.name, arrays = self._function(called.name, given)
                results.append(arrays)
        if not first:
            results = [dict(found)]  # a loop gives as many elements as it takes
        elif any(r != results[0] for r in results):
            raise Uncuttable("Branches give different TensorArrays.")
        for index, array in results[0].items():
            if first:
                of.attr["Tout"].list.type[index] = _number(array, 0)
            known[f"{of.name}:{index}"] = array

    def _function(self, name: str, given: Mapping[int, _Array]) -> tuple[str, dict[int, _Array]]:
        key = (name, *sorted((i, dataclasses.astuple(a)) for i, a in given.items()))
        if key not in self._written:
            function = read(self._library[name], self._library)
            arrays = {f"{function.args[i][0]}:0": a for i, a in given.items()}
            body, results = self.body(function, arrays)
            wanted = fresh(f"{name}_of_lists", self._library)
            self._library[wanted] = write(wanted, body, self._library)
            self._written[key] = (wanted, results)
        return self._written[key]


def _number(array: _Array | None, number: int) -> int:
    if array is None:
        return number
    return _INT32 if array.side == _HANDLE else _VARIANT


def _const(wanted: str, value: Any, nodes: dict[str, Node]) -> str:
    name = fresh(wanted, nodes)
    proto = tf.make_tensor_proto(np.asarray(value, np.int32))
    nodes[name] = node(name, "Const", dtype=("type", _INT32), value=proto)
    return f"{name}:0"


def _shape(name: str, array: _Array, nodes: dict[str, Node]) -> str:
    proto = tensor_shape_pb2.TensorShapeProto.FromString(array.shape)
    value: Any = -1 if proto.unknown_rank else [d.size for d in proto.dim]
    return _const(f"{name}/element_shape", np.asarray(value, np.int32), nodes)


def _read(of: Node, array: _Array, nodes: dict[str, Node]) -> Node:
    inputs = [of.input[2], of.input[1], _shape(of.name, array, nodes)]
    return node(of.name, "TensorListGetItem", inputs, element_dtype=("type", array.dtype))


def _write(of: Node, array: _Array, nodes: dict[str, Node]) -> Node:
    return node(
        of.name,
        "TensorListSetItem",
        [of.input[3], of.input[1], of.input[2]],
        element_dtype=("type", array.dtype),
        resize_if_index_out_of_bounds=array.dynamic,
    )


def _scatter(of: Node, array: _Array, nodes: dict[str, Node]) -> Node:
    _check_all(of, array, nodes)
    return node(
        of.name,
        "TensorListFromTensor",
        [of.input[2], _shape(of.name, array, nodes)],
        element_dtype=("type", array.dtype),
        shape_type=("type", _INT32),
    )


def _gather(of: Node, array: _Array, nodes: dict[str, Node]) -> Node:
    _check_all(of, array, nodes)
    narrower = dataclasses.replace(
        array, shape=of.attr["element_shape"].shape.SerializeToString(deterministic=True)
    )
    return node(
        of.name,
        "TensorListStack",
        [of.input[2], _shape(of.name, narrower, nodes)],
        element_dtype=("type", array.dtype),
        num_elements=-1,
    )


def _size(of: Node, array: _Array, nodes: dict[str, Node]) -> Node:
    return node(of.name, "TensorListLength", [of.input[1]])


def _check_all(of: Node, array: _Array, nodes: Mapping[str, Node]) -> None:
    """Raises Uncuttable unless the indices are those of all elements, in their order."""
    indices = nodes.get(producer(of.input[1]))
    if indices is not None and indices.op == "Range":
        start, delta = (constant(dict(nodes), indices.input[i]) for i in (0, 2))
        limit = _behind(indices.input[1], nodes)
        source = nodes.get(producer(limit))
        counted = source is not None and source.op in ("TensorListLength", "StridedSlice")
        if start == 0 and delta == 1 and (counted or limit == _behind(array.size, nodes)):
            return
    raise Uncuttable(f"{of.op} takes some elements only.")


def _behind(tensor: str, nodes: Mapping[str, Node]) -> str:
    while (of := nodes.get(producer(tensor))) is not None and of.op == "Identity":
        tensor = canonical(of.input[0])
    return tensor


_OPS: dict[str, Callable[[Node, _Array, dict[str, Node]], Node]] = {
    "TensorArrayReadV3": _read,
    "TensorArrayWriteV3": _write,
    "TensorArrayScatterV3": _scatter,
    "TensorArrayGatherV3": _gather,
    "TensorArraySizeV3": _size,
}
_FLOWING = {"TensorListSetItem", "TensorListFromTensor"}
