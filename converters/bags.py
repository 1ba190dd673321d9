"""Sums of embeddings over a row's ids, written so that a device can take them.

`safe_embedding_lookup_sparse` looks up a list of ids whose length depends on data. Where a row has
at most so many ids, whatever the data are, a dense matrix of ids is the same: the host gives that,
-1 where there is none, and the device gathers and sums.
"""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from jaxrt.converters.bodies import copied, fresh, node, pruned
from jaxrt.converters.extents import WRITTEN, At, Extents, written
from jaxrt.converters.flat import INT32, INT64, Flat
from jaxrt.converters.placement import Sizes, dtype_of
from jaxrt.converters.shapes_tf import ROWS
from jaxrt.converters.simplify import constant, sparse_shapes
from jaxrt.converters.subgraph import Node, canonical, producer

_SHAPED = {"SparseToDense": 1, "Reshape": 1, "Fill": 0, "BroadcastTo": 1, "Tile": 1}
"""Op → the input that is a shape."""

_COMBINED = ("SparseSegmentSum", "SparseSegmentMean", "SparseSegmentSqrtN")
_BOOL = 10
_WIDEST = 64
"""Ids of a row: more would be mostly padding."""


def with_bags(flat: Flat, sizes: Sizes) -> Flat:
    """The same values, of a flat graph that has its rows' number as an argument."""
    return _Rewriter(flat, sizes).flat()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Bag:
    """A `safe_embedding_lookup_sparse`."""

    combined: Node
    table: str
    filled: Node
    """SparseFillEmptyRows."""
    width: int


class _Rewriter:
    def __init__(self, flat: Flat, sizes: Sizes) -> None:
        self._flat, self._extents = flat, Extents(flat, sizes)
        self._nodes = dict(flat.body.nodes)

    def flat(self) -> Flat:
        for name, of in self._flat.body.nodes.items():
            if of.op in _SHAPED:
                self._size(of)
            elif of.op in ("Select", "SelectV2"):
                bag = self._bag(of)
                if bag is not None:
                    self._nodes[name] = self._summed(name, bag)
        # New nodes read from others that come later in the old order: sorted again.
        body = dataclasses.replace(self._flat.body, nodes=self._nodes)
        return dataclasses.replace(self._flat, body=pruned(body))

    def _size(self, of: Node) -> None:
        """Writes a shape out where no data decide on it."""
        at = _SHAPED[of.op]
        source = self._flat.body.nodes.get(producer(of.input[at]))
        if source is None or source.op == "Const" or WRITTEN in source.name:
            return
        found = self._extents.vector(of.input[at])
        sizes = [e for e in found or () if not isinstance(e, At)]
        if found and len(sizes) == len(found):
            made = self._nodes[of.name] = copied(of)
            number = dtype_of(self._flat, canonical(of.input[at]))
            made.input[at] = written(of.name, tuple(sizes), self._nodes, number)

    def _at(self, tensor: str, *ops: str) -> Node | None:
        of = self._flat.body.nodes.get(producer(tensor))
        return of if of is not None and of.op in ops else None

    def _bag(self, select: Node) -> _Bag | None:
        """What a Select between zeros and sums, by whether a row is empty, is the end of."""
        combined = self._at(select.input[2], *_COMBINED)
        zeros = self._at(select.input[1], "ZerosLike")
        filled = self._emptiness(select.input[0])
        if combined is None or zeros is None or filled is None:
            return None
        if canonical(zeros.input[0]) != f"{combined.name}:0":
            return None
        table = self._table(combined, filled)
        width = self._width(filled)
        if table is None or width is None or not self._is_rowwise(combined, filled):
            return None
        return _Bag(combined=combined, table=table, filled=filled, width=width)

    def _emptiness(self, condition: str) -> Node | None:
        """The SparseFillEmptyRows whose `empty_row_indicator` the condition repeats."""
        tiled = self._at(condition, "Tile")
        shaped = self._at(tiled.input[0], "Reshape") if tiled is not None else None
        if shaped is None or not canonical(shaped.input[0]).endswith(":2"):
            return None
        return self._at(shaped.input[0], "SparseFillEmptyRows")

    def _table(self, combined: Node, filled: Node) -> str | None:
        """The weight that is looked up: of the unique ids, or of all of them at once."""
        data, indices = (canonical(i) for i in combined.input[:2])
        values = f"{filled.name}:1"
        if indices == values and producer(data) in self._flat.weights:
            return data
        gathered, unique = self._at(data, "GatherV2"), self._at(indices, "Unique")
        if gathered is None or unique is None or gathered.attr["batch_dims"].i:
            return None
        same = canonical(gathered.input[1]) == f"{unique.name}:0" and indices.endswith(":1")
        axis = constant(self._nodes, gathered.input[2])
        table = canonical(gathered.input[0])
        known = producer(table) in self._flat.weights and axis == 0
        return table if same and known and canonical(unique.input[0]) == values else None

    def _is_rowwise(self, combined: Node, filled: Node) -> bool:
        """Whether the sums are over the ids of a row."""
        tensor = combined.input[2]
        while (cast := self._at(tensor, "Cast")) is not None:
            tensor = cast.input[0]
        column = self._at(tensor, "StridedSlice")
        if column is None or canonical(column.input[0]) != f"{filled.name}:0":
            return False
        begin, stride = (constant(self._nodes, column.input[i]) for i in (1, 3))
        masks = (column.attr["begin_mask"].i, column.attr["end_mask"].i)
        first = begin is not None and begin.tolist() == [0, 0] and stride.tolist() == [1, 1]
        return first and masks in ((1, 1), (3, 1)) and column.attr["shrink_axis_mask"].i == 2

    def _width(self, filled: Node) -> int | None:
        """Ids of a row at most; None where data decide, or where rows are not the request's."""
        vector = self._extents.vector(filled.input[2])
        if vector is None or len(vector) != 2 or vector[0] != ROWS:
            return None
        bound = self._extents.bound(vector[1])
        if bound is None or not 0 < bound <= _WIDEST or not self._is_ordered(filled.input[0]):
            return None
        return bound if self._is_natural(filled.input[1]) else None

    def _is_ordered(self, indices: str) -> bool:
        """Whether the indices come from an op that gives them in order, each once."""
        while (of := self._at(indices, "GatherV2", "SparseReshape")) is not None:
            indices = of.input[0]
        of = self._flat.body.nodes.get(producer(indices))
        if of is None:
            return False
        parsed = int(canonical(indices).rpartition(":")[2]) < len(sparse_shapes(of))
        return of.op in ("Where", "SparseCross") or parsed

    def _is_natural(self, values: str) -> bool:
        """Whether negative ids are taken out before."""
        kept = self._at(values, "GatherV2")
        shaped = self._at(kept.input[1], "Reshape") if kept is not None else None
        where = self._at(shaped.input[0], "Where") if shaped is not None else None
        compared = self._at(where.input[0], "GreaterEqual") if where is not None else None
        if kept is None or compared is None:
            return False
        zero = constant(self._nodes, compared.input[1])
        return canonical(compared.input[0]) == canonical(kept.input[0]) and zero == 0

    def _add(self, name: str, op: str, inputs: list[str], **attrs: Any) -> str:
        made = fresh(name, self._nodes)
        self._nodes[made] = node(made, op, inputs, **attrs)
        return f"{made}:0"

    def _const(self, name: str, value: Any, number: int) -> str:
        array = np.asarray(value, tf.as_dtype(number).as_numpy_dtype)
        proto = tf.make_tensor_proto(array, tf.as_dtype(number))
        return self._add(name, "Const", [], dtype=("type", number), value=proto)

    def _summed(self, name: str, bag: _Bag) -> Node:
        """Gathers a dense matrix of ids, and combines what is there. Gives the last node."""
        number = dtype_of(self._flat, f"{bag.filled.name}:1")
        kind = ("type", dtype_of(self._flat, bag.table))
        size = written(f"{name}/size", (ROWS, bag.width), self._nodes)
        missing = self._const(f"{name}/missing", -1, number)
        ids = self._add(
            f"{name}/ids",
            "SparseToDense",
            [bag.filled.input[0], size, bag.filled.input[1], missing],
            T=("type", number),
            Tindices=("type", INT64),
            validate_indices=True,
        )
        zero = self._const(f"{name}/zero_id", 0, number)
        there = self._add(f"{name}/there", "GreaterEqual", [ids, zero], T=("type", number))
        safe = self._add(f"{name}/safe", "Maximum", [ids, zero], T=("type", number))
        first = self._const(f"{name}/rows_of_table", 0, INT32)
        found = self._add(
            f"{name}/embeddings",
            "GatherV2",
            [bag.table, safe, first],
            Tparams=kind,
            Tindices=("type", number),
            Taxis=("type", INT32),
            batch_dims=0,
        )
        last = self._const(f"{name}/last", -1, INT32)
        mask = self._add(
            f"{name}/mask", "ExpandDims", [there, last], T=("type", _BOOL), Tdim=("type", INT32)
        )
        zeros = self._const(f"{name}/zero", 0, kind[1])
        kept = self._add(f"{name}/kept", "SelectV2", [mask, found, zeros], T=kind)
        axis = self._const(f"{name}/axis", 1, INT32)
        sums = {"T": kind, "Tidx": ("type", INT32), "keep_dims": False}
        if bag.combined.op == "SparseSegmentSum":
            return node(name, "Sum", [kept, axis], **sums)
        total = self._add(f"{name}/total", "Sum", [kept, axis], **sums)
        ones = self._add(f"{name}/ones", "Cast", [mask], SrcT=("type", _BOOL), DstT=kind)
        count = self._add(f"{name}/count", "Sum", [ones, axis], **sums)
        one = self._const(f"{name}/one", 1, kind[1])
        divisor = self._add(f"{name}/divisor", "Maximum", [count, one], T=kind)
        if bag.combined.op == "SparseSegmentSqrtN":
            divisor = self._add(f"{name}/root", "Sqrt", [divisor], T=kind)
        return node(name, "RealDiv", [total, divisor], T=kind)
