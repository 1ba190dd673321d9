"""Shapes of all tensors of a flat graph at a batch size, as TensorFlow itself infers them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import graph_pb2
from tensorflow.python.framework import versions

from jaxrt.converters.bodies import Body, Library, Uncuttable, copied, fresh, node, read
from jaxrt.converters.flat import RESOURCE, Flat
from jaxrt.converters.savedmodel import first_line
from jaxrt.converters.simplify import constant, sparse_shapes
from jaxrt.converters.subgraph import Node, callees, canonical, producer
from jaxrt.specs import SignatureSpec

Shape = tuple[int | None, ...] | None
"""None for what is unknown."""

ROWS = "rows"
"""The argument that stands for the number of rows of a request; int32[]."""

_LOOPS = {"While", "StatelessWhile"}
_CALLS = {*_LOOPS, "If", "StatelessIf", "Case", "StatelessCase"}
_ROUNDS = 12
"""Shapes behind loops are found one loop after another."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Inferred:
    """`shapes` by tensor; `inner` the same within the functions of loops and branches."""

    shapes: Mapping[str, Shape]
    inner: Mapping[str, "Inferred"]
    """Node → its body's (a loop's) or its first branch's."""


def infer(flat: Flat, inputs: Mapping[str, Shape], rows: int) -> Inferred:
    """`inputs`: alias → shape. Raises Uncuttable where TensorFlow says that shapes do not fit."""
    given = {flat.inputs[alias]: shape for alias, shape in inputs.items()}
    given |= {name: w.parameter.shape for name, w in flat.weights.items()}
    body = flat.body
    if ROWS in dict(body.args):
        count = node(ROWS, "Const", dtype=("type", 3), value=tf.make_tensor_proto(np.int32(rows)))
        args = tuple((a, n) for a, n in body.args if a != ROWS)
        body = dataclasses.replace(body, args=args, nodes={ROWS: count, **body.nodes})
    return infer_body(body, given, flat.library)


def input_shapes(spec: SignatureSpec, rows: int, inner: int | None) -> dict[str, Shape]:
    """Alias → shape, `rows` for unknown first dimensions and `inner` for the other unknown."""
    found: dict[str, Shape] = {}
    for alias, tensor in spec.inputs.items():
        shape = tensor.shape
        if shape is None:
            found[alias] = None
            continue
        sizes = [(rows if i == 0 else inner) if n is None else n for i, n in enumerate(shape)]
        found[alias] = tuple(sizes)
    return found


Marks = Mapping[tuple[str, int], int]
"""A size for each dimension that inputs leave open beside the rows: (alias, axis) → size."""


def marked_shapes(spec: SignatureSpec, rows: int, marks: Marks) -> dict[str, Shape]:
    """Alias → shape, `rows` for unknown first dimensions and `marks` for the other unknown."""
    found: dict[str, Shape] = {}
    for alias, tensor in spec.inputs.items():
        shape = tensor.shape
        if shape is not None:
            pairs = enumerate(shape)
            shape = tuple((marks[alias, i] if i else rows) if n is None else n for i, n in pairs)
        found[alias] = shape
    return found


def infer_body(
    body: Body,
    given: Mapping[str, Shape],
    library: Library,
    elements: Mapping[str, Shape] | None = None,
) -> Inferred:
    """`given`: argument → shape; `elements`: argument → shape of the elements of the list it is."""
    nodes = {name: copied(n) for name, n in body.nodes.items()}
    inner: dict[str, Inferred] = {}
    for of in nodes.values():
        if of.op in _CALLS and "output_shapes" in of.attr:
            # They were inferred for any batch size: less is known in them than here.
            del of.attr["output_shapes"].list.shape[:]
            of.attr["output_shapes"].list.SetInParent()
    _stand_in(nodes)
    _fix_items(nodes, elements or {})
    for _ in range(_ROUNDS):
        graph = _imported(body, nodes, given, library)
        shapes = _read(graph, body, nodes)
        if not _improve(body, nodes, graph, shapes, library, inner):
            return Inferred(shapes=shapes, inner=inner)
    return Inferred(shapes=shapes, inner=inner)


def _stand_in(nodes: dict[str, Node]) -> None:
    """Lookups by ops of the same shapes: TensorFlow infers none from a table it cannot see."""
    for name, of in list(nodes.items()):
        if of.op == "LookupTableFindV2":
            keys, default = of.input[1:3]
            shape = fresh(f"{name}/shape", nodes)
            nodes[shape] = node(shape, "Shape", [keys], T=("type", of.attr["Tin"].type))
            inputs = [default, f"{shape}:0"]
            nodes[name] = node(name, "BroadcastTo", inputs, T=("type", of.attr["Tout"].type))
    sized: dict[str, str] = {}
    for of in list(nodes.values()):
        for index in sparse_shapes(of):
            sized[f"{of.name}:{index}"] = _sparse_shape(of, index, nodes)
    for of in nodes.values():
        for index, tensor in enumerate(of.input):
            # The nodes that take a size out of the shape read it as it is.
            if of.name not in sized.values() and not of.name.endswith(_SIZE):
                of.input[index] = sized.get(canonical(tensor), tensor)


_SIZE = "/known_size"


def _sparse_shape(of: Node, index: int, nodes: dict[str, Node]) -> str:
    """The shape of a sparse matrix, its rows as many as the strings that it was made of."""

    def add(wanted: str, op: str, inputs: list[str], **attrs: Any) -> str:
        name = fresh(f"{of.name}/{wanted}_{index}{_SIZE}", nodes)
        nodes[name] = node(name, op, inputs, **attrs)
        return f"{name}:0"

    def element(tensor: str, at: int) -> str:
        bounds = [
            add(f"{at}{i}", "Const", [], dtype=("type", 3), value=tf.make_tensor_proto([n], 3))
            for i, n in enumerate((at, at + 1, 1))
        ]
        inputs = [tensor, *bounds]
        types = {"T": ("type", 9), "Index": ("type", 3)}
        return add(f"size{at}", "StridedSlice", inputs, shrink_axis_mask=1, **types)

    shape = add("rows", "Shape", [of.input[0]], T=("type", 7), out_type=("type", 9))
    sizes = [element(shape, 0), element(f"{of.name}:{index}", 1)]
    return add("shape", "Pack", sizes, T=("type", 9), N=2, axis=0)


def _imported(
    body: Body, nodes: Mapping[str, Node], given: Mapping[str, Shape], library: Library
) -> Any:
    definition = graph_pb2.GraphDef()
    definition.versions.producer = versions.GRAPH_DEF_VERSION
    definition.library.function.extend(library.values())
    for name, number in body.args:
        definition.node.add().CopyFrom(placeholder(name, number, given.get(name)))
    definition.node.extend(nodes.values())
    graph = tf.Graph()
    try:
        with graph.as_default():
            tf.graph_util.import_graph_def(definition, name="")
    except Exception as error:  # ValueError and whatever else the importer raises
        raise Uncuttable(f"TensorFlow does not take the flat graph: {first_line(error)}") from error
    return graph


def placeholder(name: str, number: int, shape: Shape) -> Node:
    made = node(name, "Placeholder", dtype=("type", number))
    if shape is None or number == RESOURCE:
        made.attr["shape"].shape.unknown_rank = True
        return made
    made.attr["shape"].shape.SetInParent()
    for size in shape:
        made.attr["shape"].shape.dim.add(size=-1 if size is None else size)
    return made


def _read(graph: Any, body: Body, nodes: Mapping[str, Node]) -> dict[str, Shape]:
    found: dict[str, Shape] = {}
    for name in (*nodes, *(a for a, _ in body.args)):
        for tensor in graph.get_operation_by_name(name).outputs:
            rank = tensor.shape.rank
            found[tensor.name] = None if rank is None else tuple(tensor.shape.as_list())
    return found


def _improve(
    body: Body,
    nodes: dict[str, Node],
    graph: Any,
    shapes: Mapping[str, Shape],
    library: Library,
    inner: dict[str, Inferred],
) -> bool:
    """Writes what is known of loops, branches and lists into the nodes. False: nothing new."""
    before = {name: n.SerializeToString(deterministic=True) for name, n in nodes.items()}
    for of in list(nodes.values()):
        if of.op in _CALLS:
            found = _called_shapes(of, nodes, shapes, library, inner)
            attr = of.attr["output_shapes"].list
            del attr.shape[:]
            attr.shape.extend(tf.TensorShape(s).as_proto() for s in found)
        elif of.op == "TensorListStack":
            _fix_stack(nodes, of, graph, library, inner)
        elif of.op == "RaggedTensorToTensor":
            _fix_rows(nodes, of, graph)
        elif of.op == "TensorArrayGatherV3":
            shape = _element_shape(nodes, of.input[2], library, inner)
            if shape is not None:
                of.attr["element_shape"].shape.CopyFrom(tf.TensorShape(shape).as_proto())
    after = {name: n.SerializeToString(deterministic=True) for name, n in nodes.items()}
    return before != after


def _fix_items(nodes: dict[str, Node], elements: Mapping[str, Shape]) -> None:
    """Items of a list that came in have the shape of its elements."""
    for of in list(nodes.values()):
        shape = elements.get(producer(of.input[0])) if of.op == "TensorListGetItem" else None
        if shape is not None and None not in shape:
            value = tf.make_tensor_proto(np.asarray(shape, np.int32))
            of.input[2] = _constant(nodes, f"{of.name}/element", 3, value)


def _elements(of: Node, nodes: Mapping[str, Node], shapes: Mapping[str, Shape]) -> list[Shape]:
    """Of the lists among a node's inputs."""
    found: list[Shape] = []
    for tensor in of.input:
        source = nodes.get(producer(tensor))
        stacked = None
        if source is not None and source.op == "TensorListFromTensor":
            stacked = shapes.get(canonical(source.input[0]))
        found.append(None if stacked is None else stacked[1:])
    return found


def _called_shapes(
    of: Node,
    nodes: Mapping[str, Node],
    shapes: Mapping[str, Shape],
    library: Library,
    inner: dict[str, Inferred],
) -> list[Shape]:
    given = [shapes.get(canonical(i)) for i in of.input]
    if of.op not in _LOOPS:
        results = []
        for name in callees(of)[1:]:
            function = read(library[name], library)
            args = [a for a, _ in function.args]
            found = infer_body(function, dict(zip(args, given[1:], strict=True)), library)
            inner.setdefault(of.name, found)
            results.append([found.shapes[t] for _, t in function.results])
        return [_common(column) for column in zip(*results, strict=True)]
    function = read(library[of.attr["body"].func.name], library)
    args = [a for a, _ in function.args]
    elements = dict(zip(args, _elements(of, nodes, shapes), strict=True))
    while True:  # a size that an iteration changes is unknown: at most as often as there are sizes
        found = infer_body(function, dict(zip(args, given, strict=True)), library, elements)
        following = [found.shapes[t] for _, t in function.results]
        merged = [_common(pair) for pair in zip(given, following, strict=True)]
        if merged == given:
            inner[of.name] = found
            return merged
        given = merged


def _common(shapes: Sequence[Shape]) -> Shape:
    """What is known of all."""
    first = shapes[0]
    if first is None or any(s is None or len(s) != len(first) for s in shapes):
        return None
    columns = zip(*(s for s in shapes if s is not None), strict=True)
    return tuple(c[0] if len(set(c)) == 1 else None for c in columns)


def _list_length(
    nodes: Mapping[str, Node], handle: str, graph: Any, library: Library
) -> int | None:
    """Elements of a list that a loop fills, as many as were reserved before."""
    name, _, index = canonical(handle).partition(":")
    of = nodes.get(name)
    if of is None:
        return None
    if of.op in _LOOPS:
        function = read(library[of.attr["body"].func.name], library)
        argument = f"{function.args[int(index)][0]}:0"
        tensor = function.results[int(index)][1]
        while tensor != argument:
            inside = function.nodes.get(producer(tensor))
            if inside is None or inside.op not in ("TensorListSetItem", "Identity"):
                return None
            if inside.attr["resize_if_index_out_of_bounds"].b:
                return None
            tensor = canonical(inside.input[0])
        return _list_length(nodes, of.input[int(index)], graph, library)
    if of.op == "TensorListReserve":
        return _value(graph, of.input[1])
    return None


def _value(graph: Any, tensor: str) -> int | None:
    """Of a scalar size, where TensorFlow's inference knows it."""
    with graph.as_default():
        size = graph.get_tensor_by_name(canonical(tensor))
        found = tf.fill(tf.stack([size]), False).shape
    return None if found.rank is None else found[0]


def _fix_rows(nodes: dict[str, Node], of: Node, graph: Any) -> None:
    """A ragged tensor has as many rows as its first partition says."""
    wanted = constant(nodes, of.input[0])
    kinds = of.attr["row_partition_types"].list.s
    if wanted is None or wanted.ndim != 1 or wanted[0] >= 0 or kinds[0] != b"FIRST_DIM_SIZE":
        return
    rows = _value(graph, of.input[3])
    if rows is not None:
        sized = wanted.copy()
        sized[0] = rows
        number = of.attr["Tshape"].type
        value = tf.make_tensor_proto(sized)
        of.input[0] = _constant(nodes, f"{of.name}/sized", number, value)


def _fix_stack(
    nodes: dict[str, Node],
    of: Node,
    graph: Any,
    library: Library,
    inner: Mapping[str, Inferred],
) -> None:
    """A list has as many elements as were reserved, each of the shape that a loop writes."""
    if of.attr["num_elements"].i <= 0:
        count = _list_length(nodes, of.input[0], graph, library)
        if count is not None:
            of.attr["num_elements"].i = count
    stacked = graph.get_tensor_by_name(f"{of.name}:0").shape
    if stacked.rank is None or not stacked[1:].is_fully_defined():
        shape = _element_shape(nodes, of.input[0], library, inner)
        if shape is not None and None not in shape:
            value = tf.make_tensor_proto(np.asarray(shape, np.int32))
            of.input[1] = _constant(nodes, f"{of.name}/element", 3, value)
            of.attr["shape_type"].type = 3


def _constant(nodes: dict[str, Node], wanted: str, number: int, value: Any) -> str:
    name = fresh(wanted, nodes)
    nodes[name] = node(name, "Const", dtype=("type", number), value=value)
    return f"{name}:0"


def _element_shape(
    nodes: Mapping[str, Node], written: str, library: Library, inner: Mapping[str, Inferred]
) -> Shape:
    """Of the elements that a loop writes to the list or the TensorArray that it gives."""
    name, _, index = canonical(written).partition(":")
    loop = nodes.get(name)
    if loop is None or loop.op not in _LOOPS or name not in inner:
        return None
    function = read(library[loop.attr["body"].func.name], library)
    write = function.nodes.get(producer(function.results[int(index)][1]))
    while write is not None and write.op == "Identity":
        write = function.nodes.get(producer(write.input[0]))
    if write is None or write.op not in ("TensorArrayWriteV3", "TensorListSetItem"):
        return None
    return inner[name].shapes[canonical(write.input[2])]
