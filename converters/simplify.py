"""Sizes made visible: nodes that read them from data, where they follow from a shape."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from jaxrt.converters.bodies import Body, copied, fresh, node, pruned
from jaxrt.converters.subgraph import Node, canonical, producer

INT32, INT64 = 3, 9

_PASSING = {"Identity", "StopGradient", "PreventGradient", "Snapshot"}

_Rule = Callable[[Node, dict[str, Node]], Node | None]


def simplified(body: Body) -> Body:
    """The same values, with fewer nodes whose value only a run can tell."""
    body = _without_identities(body)
    nodes = dict(body.nodes)
    for name, original in body.nodes.items():
        rule = _RULES.get(original.op)
        made = rule(original, nodes) if rule else None
        if made is not None:
            nodes[name] = made
    return _without_identities(dataclasses.replace(body, nodes=nodes))


def _without_identities(body: Body) -> Body:
    """Readers read what the Identity does."""
    same: dict[str, str] = {}
    nodes = {}
    for name, original in body.nodes.items():
        made = nodes[name] = copied(original)
        for index, tensor in enumerate(original.input):
            made.input[index] = same.get(canonical(tensor), tensor)
        if original.op in _PASSING:
            same[f"{name}:0"] = canonical(made.input[0])
    results = tuple((alias, same.get(t, t)) for alias, t in body.results)
    return pruned(dataclasses.replace(body, nodes=nodes, results=results))


def constant(nodes: dict[str, Node], tensor: str) -> Any:
    """The value of a Const, also behind Identities, as a numpy array; else None."""
    of = nodes.get(producer(tensor))
    while of is not None and of.op == "Identity":
        of = nodes.get(producer(of.input[0]))
    if of is None or of.op != "Const":
        return None
    return tf.make_ndarray(of.attr["value"].tensor)


def _array_size(of: Node, nodes: dict[str, Node]) -> Node | None:
    """The size of a TensorArray that cannot grow is the size that it was made with."""
    array = nodes.get(producer(of.input[0]))
    if array is None or array.op != "TensorArrayV3" or array.attr["dynamic_size"].b:
        return None
    return node(of.name, "Identity", [array.input[0]], T=("type", INT32))


def sparse_shapes(of: Node) -> range:
    """Outputs that are shapes of sparse matrices with a row for each string in the first input."""
    match of.op:
        case "ParseExample" | "ParseExampleV2":
            count = of.attr["num_sparse" if of.op.endswith("V2") else "Nsparse"].i
            return range(2 * count, 3 * count)
        case "StringSplitV2" | "StringSplit":
            return range(2, 3)
    return range(0)


def _rows_of_sparse(of: Node, nodes: dict[str, Node]) -> Node | None:
    """The first size of the sparse tensors that ParseExample and StringSplit make is the number
    of strings that they were given."""
    name, _, index = canonical(of.input[0]).partition(":")
    source = nodes.get(name)
    if source is None or not is_first_element(of, nodes):
        return None
    if int(index) not in sparse_shapes(source):
        return None
    shape = fresh(f"{of.name}/rows", nodes)
    nodes[shape] = node(shape, "Shape", [source.input[0]], T=("type", 7))
    nodes[shape].attr["out_type"].type = INT64
    made = copied(of)
    made.input[0] = f"{shape}:0"
    return made


def is_first_element(of: Node, nodes: dict[str, Node]) -> bool:
    """Whether a StridedSlice gives the first element of a vector, as a scalar."""
    bounds = [constant(nodes, i) for i in of.input[1:4]]
    if any(b is None for b in bounds) or of.attr["shrink_axis_mask"].i != 1:
        return False
    masks = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask")
    plain = all(of.attr[m].i in ((0, 1) if m == "begin_mask" else (0,)) for m in masks)
    begin, _, stride = bounds
    return plain and np.array_equal(begin, [0]) and np.array_equal(stride, [1])


def _bounded(of: Node, nodes: dict[str, Node]) -> Node | None:
    """`minimum(n, maximum(n, x))` is n: how Keras says that a size is fixed."""
    for high, rest in ((0, 1), (1, 0)):
        inner = nodes.get(producer(of.input[rest]))
        top = constant(nodes, of.input[high])
        if top is None or top.dtype.kind not in "iu" or inner is None or inner.op != "Maximum":
            continue
        for low in inner.input:
            floor = constant(nodes, low)
            if floor is not None and floor.shape == top.shape == () and floor >= top:
                return node(of.name, "Identity", [of.input[high]], T=("type", of.attr["T"].type))
    return None


def _counts(of: Node, nodes: dict[str, Node]) -> Node | None:
    """A sum of ones and zeros, of integers: the same in any order, so any host adds it up."""
    hot = nodes.get(producer(of.input[0]))
    if hot is None or hot.op != "OneHot" or not tf.as_dtype(of.attr["T"].type).is_floating:
        return None
    values = [constant(nodes, i) for i in hot.input[2:4]]
    if any(v is None or v.shape != () for v in values) or [v.item() for v in values] != [1, 0]:
        return None
    ones = copied(hot)
    ones.name, ones.attr["T"].type = fresh(f"{of.name}/ones", nodes), INT32
    nodes[ones.name] = ones
    for index, value in ((2, 1), (3, 0)):
        name = fresh(f"{of.name}/{value}", nodes)
        proto = tf.make_tensor_proto(value, tf.int32)
        nodes[name] = node(name, "Const", dtype=("type", INT32), value=proto)
        ones.input[index] = f"{name}:0"
    total = copied(of)
    total.name, total.attr["T"].type = fresh(f"{of.name}/counts", nodes), INT32
    nodes[total.name] = total
    total.input[0] = f"{ones.name}:0"
    types = {"SrcT": ("type", INT32), "DstT": ("type", of.attr["T"].type)}
    return node(of.name, "Cast", [f"{total.name}:0"], **types)


_RULES: dict[str, _Rule] = {
    "TensorArraySizeV3": _array_size,
    "StridedSlice": _rows_of_sparse,
    "Minimum": _bounded,
    "Sum": _counts,
}
