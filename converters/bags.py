"""Sums of embeddings over a row's ids, written so that a device can take them.

`safe_embedding_lookup_sparse` looks up a list of ids whose length depends on data. The host gives
a dense matrix of ids, -1 where there is none, and the device gathers and sums. Where data decide
how many ids a row has, the matrix is `_PLANNED` wide, and the host adds up what is beyond: lists of
any length are right, none compiles a program, and rows of any lengths share a batch.
"""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from jaxrt.converters.bodies import copied, fresh, node, pruned
from jaxrt.converters.extents import WRITTEN, At, Extent, Extents, written
from jaxrt.converters.flat import INT32, INT64, Flat
from jaxrt.converters.placement import BEYOND, Sizes, dtype_of
from jaxrt.converters.shapes_tf import ROWS
from jaxrt.converters.simplify import constant, sparse_shapes
from jaxrt.converters.subgraph import Node, canonical, producer

_SHAPED = {"SparseToDense": 1, "Reshape": 1, "Fill": 0, "BroadcastTo": 1, "Tile": 1}
"""Op → the input that is a shape."""

_COMBINED = ("SparseSegmentSum", "SparseSegmentMean", "SparseSegmentSqrtN")
_BOOL = 10
_WIDEST = 64
"""Ids of a row: more would be mostly padding."""
_PLANNED = 32
"""Ids of a row that the device sums where data decide how many there are."""


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
    is_open: bool
    """Rows may have more ids than `width`."""


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
        if table is None or not self._is_list(filled) or not self._is_rowwise(combined, filled):
            return None
        vector = self._extents.vector(filled.input[2])
        bound = None if vector is None else self._extents.bound(vector[1])
        is_open = bound is None or not 0 < bound <= _WIDEST
        width = _PLANNED if bound is None or is_open else bound
        return _Bag(combined=combined, table=table, filled=filled, width=width, is_open=is_open)

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

    def _is_list(self, filled: Node) -> bool:
        """Whether a request's row has a list of ids, each in a column, all of them natural."""
        vector = self._extents.vector(filled.input[2])
        if vector is None or len(vector) != 2 or vector[0] != ROWS:
            return False
        return self._is_ordered(filled.input[0]) and self._is_natural(filled.input[1])

    def _is_ordered(self, indices: str) -> bool:
        """Whether the indices come from an op that gives them in order, each once."""
        while (of := self._at(indices, "GatherV2", "SparseReshape", "Cast")) is not None:
            indices = of.input[0]
        of = self._flat.body.nodes.get(producer(indices))
        if of is None:
            return False
        parsed = int(canonical(indices).rpartition(":")[2]) < len(sparse_shapes(of))
        return of.op in ("Where", "SparseCross") or parsed or self._is_grid(of)

    def _is_grid(self, turned: Node) -> bool:
        """Whether these are the indices of all elements of a dense matrix: the rows' numbers, each
        repeated for the columns, beside the columns' numbers, repeated for the rows."""
        packed = self._at(turned.input[0], "Pack") if turned.op == "Transpose" else None
        if packed is None or len(packed.input) != 2 or packed.attr["axis"].i:
            return False
        order = constant(self._nodes, turned.input[1])
        line = self._at(packed.input[0], "Reshape")
        columns = self._at(packed.input[1], "Tile")
        rows = self._at(line.input[0], "Tile") if line is not None else None
        if order is None or order.tolist() != [1, 0] or rows is None or columns is None:
            return False
        repeated, again = (self._extents.vector(of.input[1]) for of in (rows, columns))
        upright = self._at(rows.input[0], "ExpandDims")
        axis = constant(self._nodes, upright.input[1]) if upright is not None else None
        if upright is None or axis not in (1, -1) or again != (ROWS,):
            return False
        counted = [self._counted(t) for t in (upright.input[0], columns.input[0])]
        return counted[0] == ROWS and counted[1] is not None and repeated == (1, counted[1])

    def _counted(self, tensor: str) -> Extent | None:
        """How many numbers a Range has that counts from 0 by 1."""
        of = self._at(tensor, "Range")
        if of is None:
            return None
        start, delta = (constant(self._nodes, of.input[i]) for i in (0, 2))
        return self._extents.scalar(of.input[1]) if start == 0 and delta == 1 else None

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

    def _picked(self, name: str, bag: _Bag, op: str) -> tuple[str, str]:
        """Indices and values of the ids whose column compares with the width as `op` says."""
        indices, values = bag.filled.input[:2]
        column = self._column(f"{name}/column", indices, 1)
        width = self._const(f"{name}/width", bag.width, INT64)
        compared = self._add(f"{name}/compared", op, [column, width], T=("type", INT64))
        where = self._add(f"{name}/where", "Where", [compared], T=("type", _BOOL))
        line = self._const(f"{name}/line", [-1], INT32)
        types = {"T": ("type", INT64), "Tshape": ("type", INT32)}
        places = self._add(f"{name}/places", "Reshape", [where, line], **types)
        number = dtype_of(self._flat, canonical(values))
        found = self._gathered(f"{name}/indices", indices, places, INT64, INT64)
        return found, self._gathered(f"{name}/values", values, places, number, INT64)

    def _column(self, name: str, indices: str, at: int) -> str:
        bounds = [
            self._const(f"{name}/{bound}", value, INT32)
            for bound, value in (("begin", [0, at]), ("end", [0, at + 1]), ("stride", [1, 1]))
        ]
        types = {"T": ("type", INT64), "Index": ("type", INT32)}
        masks = {"begin_mask": 1, "end_mask": 1, "shrink_axis_mask": 2}
        return self._add(name, "StridedSlice", [indices, *bounds], **types, **masks)

    def _gathered(self, name: str, params: str, at: str, number: int, index: int) -> str:
        types = {"Tparams": ("type", number), "Tindices": ("type", index), "Taxis": ("type", INT32)}
        axis = self._const(f"{name}/axis", 0, INT32)
        return self._add(name, "GatherV2", [params, at, axis], batch_dims=0, **types)

    def _beyond(self, name: str, bag: _Bag) -> tuple[str, str]:
        """Sums [rows, width of the table] and counts [rows] of ids beyond the bag's width."""
        number = dtype_of(self._flat, canonical(bag.filled.input[1]))
        kind = dtype_of(self._flat, bag.table)
        at = f"{name}{BEYOND}"
        indices, values = self._picked(f"{at}ids", bag, "GreaterEqual")
        column = self._column(f"{at}rows", indices, 0)
        types = {"SrcT": ("type", INT64), "DstT": ("type", INT32)}
        rows = self._add(f"{at}segments", "Cast", [column], **types)
        zero = self._const(f"{at}zero", 0, number)
        firsts = self._add(f"{at}first", "Minimum", [values, zero], T=("type", number))
        one = self._const(f"{at}one", [1], kind)

        def summed(what: str, data: str, ids: str) -> str:
            return self._add(
                f"{at}{what}",
                "SparseSegmentSumWithNumSegments",
                [data, ids, rows, f"{ROWS}:0"],
                T=("type", kind),
                Tidx=("type", number),
                Tnumsegments=("type", INT32),
                Tsegmentids=("type", INT32),
            )

        return summed("sum", bag.table, values), summed("count", one, firsts)

    def _ids(self, name: str, bag: _Bag) -> str:
        """A dense matrix of ids, int32[rows, width], -1 where there is none."""
        indices, values = bag.filled.input[:2]
        if bag.is_open:
            indices, values = self._picked(f"{name}/within", bag, "Less")
        number = dtype_of(self._flat, canonical(bag.filled.input[1]))
        size = written(f"{name}/size", (ROWS, bag.width), self._nodes)
        missing = self._const(f"{name}/missing", -1, number)
        wide = self._add(
            f"{name}/matrix",
            "SparseToDense",
            [indices, size, values, missing],
            T=("type", number),
            Tindices=("type", INT64),
            validate_indices=True,
        )
        types = {"SrcT": ("type", number), "DstT": ("type", INT32)}
        return wide if number == INT32 else self._add(f"{name}/ids", "Cast", [wide], **types)

    def _summed(self, name: str, bag: _Bag) -> Node:
        """Gathers a dense matrix of ids, and combines what is there. Gives the last node."""
        kind = ("type", dtype_of(self._flat, bag.table))
        ids, number = self._ids(name, bag), INT32
        zero = self._const(f"{name}/zero_id", 0, number)
        there = self._add(f"{name}/there", "GreaterEqual", [ids, zero], T=("type", number))
        safe = self._add(f"{name}/safe", "Maximum", [ids, zero], T=("type", number))
        found = self._gathered(f"{name}/embeddings", bag.table, safe, kind[1], number)
        mask = self._widened(f"{name}/mask", there, _BOOL)
        zeros = self._const(f"{name}/zero", 0, kind[1])
        kept = self._add(f"{name}/kept", "SelectV2", [mask, found, zeros], T=kind)
        total = self._along(f"{name}/total", kept, kind[1])
        beyond = self._beyond(name, bag) if bag.is_open else None
        if beyond is not None:
            total = self._add(f"{name}/sum", "AddV2", [total, beyond[0]], T=kind)
        if bag.combined.op == "SparseSegmentSum":
            return node(name, "Identity", [total], T=kind)
        ones = self._add(f"{name}/ones", "Cast", [mask], SrcT=("type", _BOOL), DstT=kind)
        count = self._along(f"{name}/count", ones, kind[1])
        if beyond is not None:
            more = self._widened(f"{name}/more", beyond[1], kind[1])
            count = self._add(f"{name}/counts", "AddV2", [count, more], T=kind)
        one = self._const(f"{name}/one", 1, kind[1])
        divisor = self._add(f"{name}/divisor", "Maximum", [count, one], T=kind)
        if bag.combined.op == "SparseSegmentSqrtN":
            divisor = self._add(f"{name}/root", "Sqrt", [divisor], T=kind)
        return node(name, "RealDiv", [total, divisor], T=kind)

    def _widened(self, name: str, tensor: str, number: int) -> str:
        last = self._const(f"{name}/last", -1, INT32)
        types = {"T": ("type", number), "Tdim": ("type", INT32)}
        return self._add(name, "ExpandDims", [tensor, last], **types)

    def _along(self, name: str, tensor: str, number: int) -> str:
        axis = self._const(f"{name}/axis", 1, INT32)
        types = {"T": ("type", number), "Tidx": ("type", INT32)}
        return self._add(name, "Sum", [tensor, axis], keep_dims=False, **types)
