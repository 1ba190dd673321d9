"""Sizes of tensors that are known but for the rows, computed from the rows alone.

So the shape of a tensor on one side need not cross to the other, nor the tensor for its shape.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from jaxrt.converters.bodies import Body, Uncuttable, copied, fresh, node, pruned
from jaxrt.converters.flat import Flat
from jaxrt.converters.placement import Sizes
from jaxrt.converters.shapes_tf import ROWS, infer, input_shapes, marked_shapes
from jaxrt.converters.simplify import is_first_element
from jaxrt.converters.subgraph import Node, canonical, producer
from jaxrt.specs import Dim, SignatureSpec

INT32, INT64 = 3, 9
_RANKS: dict[str, tuple[Dim, ...]] = {
    "ParseExample": (Dim(-1),),
    "ParseExampleV2": (Dim(-1),),
    "If": (),
    "StatelessIf": (),
}
"""Op → what its first input must be: serialized Examples, a predicate."""
_TWO = (8, 5)
"""Numbers of rows at which shapes are compared."""
_FILLED = (8, 64, 256)
"""What stands for the other unknown sizes; the first that TensorFlow takes."""
_STEP = 16
"""Between the sizes that stand for dimensions which may differ."""


def ranked(flat: Flat, spec: SignatureSpec) -> SignatureSpec:
    """The signature, inputs of unknown rank with the one that their reader wants."""
    known: dict[str, tuple[Dim, ...]] = {}
    for of in flat.body.nodes.values():
        if of.op in _RANKS:
            known[producer(of.input[0])] = _RANKS[of.op]
    inputs = {
        alias: dataclasses.replace(tensor, dims=known.get(flat.inputs[alias], tensor.dims))
        if tensor.dims is None
        else tensor
        for alias, tensor in spec.inputs.items()
    }
    return dataclasses.replace(spec, inputs=inputs)


def sized(flat: Flat, spec: SignatureSpec, *, open_sizes: bool = True) -> Sizes:
    """`open_sizes`: the sizes that the signature leaves open beside the rows may be those of what
    crosses. Raises Uncuttable where TensorFlow says that shapes do not fit."""
    first, second = (infer(flat, input_shapes(spec, rows, None), rows) for rows in _TWO)
    dims = [
        (alias, axis)
        for alias, tensor in spec.inputs.items()
        for axis, size in enumerate(tensor.shape or ())
        if axis and size is None
    ]
    known = Sizes(rows=_TWO, first=first, second=second, filled=first)
    for inner in _FILLED if dims else ():
        for step in (_STEP, 0):  # all of one size where TensorFlow wants that
            low = {dim: inner + step * i for i, dim in enumerate(dims)}
            high = {dim: 2 * inner + step * (i + len(dims)) for i, dim in enumerate(dims)}
            try:
                filled = infer(flat, marked_shapes(spec, _TWO[0], low), _TWO[0])
                known = dataclasses.replace(known, filled=filled, inner=inner)
                again = infer(flat, marked_shapes(spec, _TWO[0], high), _TWO[0])
            except Uncuttable:
                continue
            marked = {(low[dim], high[dim]): dim for dim in reversed(dims)} if open_sizes else {}
            return dataclasses.replace(known, again=again, marks=marked)
    return known


def with_rows(flat: Flat, sizes: Sizes) -> Flat:
    """The flat graph, `Shape` and its like rewritten where the shape is known but for rows.

    All inputs that have rows must have as many: the flat graph takes no others any more.
    """
    nodes: dict[str, Node] = {}
    renamed: dict[str, str] = {}
    for name, of in flat.body.nodes.items():
        made = copied(of)
        del made.input[:]
        made.input.extend(renamed.get(canonical(i), i) for i in of.input)
        nodes[name] = made
        if (counted := _counted_rows(of, nodes, sizes)) is not None:
            renamed[f"{name}:0"] = counted
        for index, tensor in enumerate(_measured(of)):
            shape = sizes.crossing(canonical(tensor))
            if shape is not None:
                found = _written(f"{name}/{index}" if index else name, of, shape, nodes)
                renamed[f"{name}:{index}"] = found
    results = tuple((alias, renamed.get(t, t)) for alias, t in flat.body.results)
    args = tuple({**dict(flat.body.args), ROWS: INT32}.items())
    body = pruned(Body(args=args, nodes=nodes, results=results, control=flat.body.control))
    return dataclasses.replace(flat, body=body)


def _counted_rows(of: Node, nodes: dict[str, Node], sizes: Sizes) -> str | None:
    """The number of rows, where that is the first element of a shape that has other open sizes."""
    measured = nodes.get(producer(of.input[0])) if of.op == "StridedSlice" else None
    if measured is None or measured.op != "Shape" or not is_first_element(of, nodes):
        return None
    shape = sizes.opened(canonical(measured.input[0]))
    if shape is None or shape[0] is not None:
        return None
    number = measured.attr["out_type"].type or INT32
    if number == INT32:
        return f"{ROWS}:0"
    made = fresh(f"{of.name}/rows", nodes)
    nodes[made] = node(made, "Cast", [f"{ROWS}:0"], SrcT=("type", INT32), DstT=("type", number))
    return f"{made}:0"


def _measured(of: Node) -> list[str]:
    """Tensors whose shapes the node answers with, one after another."""
    return list(of.input) if of.op in ("Shape", "ShapeN", "Size", "Rank") else []


def _written(name: str, of: Node, shape: tuple[int | None, ...], nodes: dict[str, Node]) -> str:
    """Adds the nodes that answer what `of` would; returns their tensor."""
    number = INT32 if of.op == "Rank" else of.attr["out_type"].type or INT32

    def add(wanted: str, op: str, inputs: list[str], **attrs: object) -> str:
        made = fresh(f"{name}/{wanted}", nodes)
        nodes[made] = node(made, op, inputs, **attrs)
        return f"{made}:0"

    def const(value: object) -> str:
        array = np.asarray(value, tf.as_dtype(number).as_numpy_dtype)
        proto = tf.make_tensor_proto(array)
        return add("known", "Const", [], dtype=("type", number), value=proto)

    if of.op == "Rank":
        return const(len(shape))
    if None not in shape:
        return const(_product(shape) if of.op == "Size" else shape)
    rows = f"{ROWS}:0"
    if number != INT32:
        rows = add("rows", "Cast", [rows], SrcT=("type", INT32), DstT=("type", number))
    if of.op == "Size":
        return add("size", "Mul", [rows, const(_product(shape))], T=("type", number))
    sizes = [rows, *(const(n) for n in shape[1:])]
    return add("shape", "Pack", sizes, T=("type", number), N=len(sizes), axis=0)


def _product(shape: tuple[int | None, ...]) -> int:
    return int(np.prod([n for n in shape if n is not None], dtype=np.int64))
