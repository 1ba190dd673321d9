"""What shape vectors of a flat graph hold: numbers, the number of rows, or what a run tells."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from jaxrt.converters.bodies import fresh, node
from jaxrt.converters.flat import INT32, INT64, Flat
from jaxrt.converters.placement import Sizes
from jaxrt.converters.shapes_tf import ROWS
from jaxrt.converters.simplify import constant, sparse_shapes
from jaxrt.converters.subgraph import Node, canonical, producer


@dataclasses.dataclass(frozen=True, slots=True)
class At:
    """Element `index` of a vector of which nothing is known."""

    tensor: str
    index: int


Extent = int | str | At
"""A number, ROWS, or an element of a vector."""


class Extents:
    """Reads shape vectors of one flat graph."""

    def __init__(self, flat: Flat, sizes: Sizes) -> None:
        self._nodes, self._sizes = dict(flat.body.nodes), sizes

    def vector(self, tensor: str) -> tuple[Extent, ...] | None:
        """The elements; None where not even their number is known."""
        tensor = canonical(tensor)
        of = self._nodes.get(producer(tensor))
        if of is None:
            return self._unknown(tensor)
        index = int(tensor.rpartition(":")[2])
        match of.op:
            case "Const":
                value = constant(self._nodes, tensor)
                return tuple(int(n) for n in value) if value.ndim == 1 else None
            case "Cast":
                return self.vector(of.input[0])
            case "Shape":
                shape = self._sizes.first.shapes.get(canonical(of.input[0]))
                if shape is None:
                    return self._unknown(tensor)
                # What is known at one number of rows may be that number.
                again = self._sizes.second.shapes.get(canonical(of.input[0])) or shape
                pairs = enumerate(zip(shape, again, strict=True))
                return tuple(
                    a if a == b and a is not None else At(tensor, i) for i, (a, b) in pairs
                )
            case "Pack":
                return tuple(self.scalar(i) for i in of.input)
            case "ConcatV2":
                parts = [self.vector(i) for i in of.input[:-1]]
                known = [p for p in parts if p is not None]
                joined = tuple(e for p in known for e in p)
                return joined if len(known) == len(parts) else self._unknown(tensor)
            case "Slice":
                found = self._slice(of)
                return self._unknown(tensor) if found is None else found
            case "SparseReshape" if index == 1:
                return self._reshaped(of, tensor)
            case "SparseCross" if index == 2:
                return self._crossed(of, tensor)
        if index in sparse_shapes(of):
            return (ROWS, At(tensor, 1))
        return self._unknown(tensor)

    def _unknown(self, tensor: str) -> tuple[Extent, ...] | None:
        shape = self._sizes.first.shapes.get(tensor)
        if shape is None or len(shape) != 1 or shape[0] is None:
            return None
        return tuple(At(tensor, i) for i in range(shape[0]))

    def scalar(self, tensor: str) -> Extent:
        tensor = canonical(tensor)
        of = self._nodes.get(producer(tensor))
        if producer(tensor) == ROWS:
            return ROWS
        match None if of is None else of.op:
            case "Const":
                value = constant(self._nodes, tensor)
                return int(value) if value.ndim == 0 else At(tensor, 0)
            case "Cast" if of is not None:
                return self.scalar(of.input[0])
            case "StridedSlice" | "GatherV2" if of is not None:
                found = self._element(of)
                return At(tensor, 0) if found is None else found
            case "Prod" if of is not None:
                found = self._only(of)
                return At(tensor, 0) if found is None else found
        return At(tensor, 0)

    def _element(self, of: Node) -> Extent | None:
        """One element taken out of a vector."""
        vector, at = self.vector(of.input[0]), constant(self._nodes, of.input[1])
        if vector is None or at is None or at.size != 1:
            return None
        if of.op == "StridedSlice" and of.attr["shrink_axis_mask"].i != 1:
            return None
        position = int(at.ravel()[0])
        return vector[position] if -len(vector) <= position < len(vector) else None

    def _slice(self, of: Node) -> tuple[Extent, ...] | None:
        begin, size = (constant(self._nodes, i) for i in of.input[1:3])
        vector = self.vector(of.input[0])
        if vector is None or begin is None or size is None or begin.size != 1:
            return None
        start, count = int(begin[0]), int(size[0])
        return vector[start:] if count < 0 else vector[start : start + count]

    def _only(self, of: Node) -> Extent | None:
        """The product of the first element alone: `reduce_prod(shape[:1])`."""
        sliced = self._nodes.get(producer(of.input[0]))
        if sliced is None or sliced.op != "Slice":
            return None
        vector = self._slice(sliced)
        return vector[0] if vector is not None and len(vector) == 1 else None

    def _reshaped(self, of: Node, tensor: str) -> tuple[Extent, ...] | None:
        before, after = self.vector(of.input[1]), self.vector(of.input[2])
        if before is None or after is None or len(before) != len(after):
            return self._unknown(tensor)
        if after.count(-1) == 1:
            hole = after.index(-1)
            others = after[:hole] + after[hole + 1 :]
            if others == before[:hole] + before[hole + 1 :]:
                return before
        return after if -1 not in after else self._unknown(tensor)

    def _crossed(self, of: Node, tensor: str) -> tuple[Extent, ...]:
        """A row's crosses are as many as its columns have values, one multiplied by another."""
        count = of.attr["N"].i
        shapes = [self.vector(i) for i in of.input[2 * count : 3 * count]]
        dense = [self._sizes.crossing(canonical(i)) for i in of.input[3 * count :]]
        rowful = all(s is not None and s[0] == ROWS for s in shapes) and all(
            s is not None and s[:1] == (None,) for s in dense
        )
        widths = [s[1] for s in dense if s is not None and len(s) == 2]
        exact = not count and len(widths) == len(dense)
        width = int(np.prod([w for w in widths if w is not None])) if exact else At(tensor, 1)
        return (ROWS if rowful else At(tensor, 0), width)

    def bound(self, extent: Extent) -> int | None:
        """What a number of columns is not above, whatever the data are."""
        if isinstance(extent, int):
            return extent
        of = self._nodes.get(producer(extent.tensor)) if isinstance(extent, At) else None
        if of is None or of.op != "SparseCross" or not isinstance(extent, At) or extent.index != 1:
            return None
        count = of.attr["N"].i
        shapes = [self.vector(i) for i in of.input[2 * count : 3 * count]]
        bounds = [None if s is None else self.bound(s[1]) for s in shapes]
        dense = [self._sizes.crossing(canonical(i)) for i in of.input[3 * count :]]
        bounds += [None if s is None or len(s) != 2 else s[1] for s in dense]
        found = [b for b in bounds if b is not None]
        return int(np.prod(found)) if len(found) == len(bounds) else None


WRITTEN = "/extents/"
"""In the names of nodes that `written` adds."""


def written(
    wanted: str, extents: tuple[int | str, ...], nodes: dict[str, Node], number: int = INT64
) -> str:
    """Adds the nodes that make the vector; returns its tensor."""

    def add(op: str, inputs: list[str], **attrs: Any) -> str:
        name = fresh(f"{wanted}{WRITTEN}{op.lower()}", nodes)
        nodes[name] = node(name, op, inputs, **attrs)
        return f"{name}:0"

    tensors = []
    for extent in extents:
        if extent == ROWS:
            rows = [f"{ROWS}:0"]
            tensors.append(add("Cast", rows, SrcT=("type", INT32), DstT=("type", number)))
        else:
            value = tf.make_tensor_proto(extent, tf.as_dtype(number))
            tensors.append(add("Const", [], dtype=("type", number), value=value))
    return add("Pack", tensors, T=("type", number), N=len(tensors), axis=0)
