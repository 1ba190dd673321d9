"""Whether row i of what a host stage gives depends on row i of what it takes alone.

Conservative: what no rule knows mixes rows. Rows are told by their number, at two of them.
"""

import enum
from collections.abc import Callable

from jaxrt.converters.bodies import outputs
from jaxrt.converters.flat import Flat
from jaxrt.converters.maps import maps_elements
from jaxrt.converters.placement import Sizes
from jaxrt.converters.shapes_tf import ROWS
from jaxrt.converters.simplify import constant
from jaxrt.converters.stages import Part
from jaxrt.converters.subgraph import Node, canonical, producer


class Kind(enum.Enum):
    """How a tensor depends on the rows that come in."""

    SAME = "same"
    """The same for any rows."""
    COUNT = "count"
    """Depends on their number: a shape, or the number itself."""
    ROWS = "rows"
    """Row i depends on row i."""
    FLAT = "flat"
    """Some elements of each row, all those of one row behind those of the row before."""
    PLACES = "places"
    """Row numbers of FLAT elements, or other words for where rows begin."""
    LIST = "list"
    """A list with an element for each row, the i-th of row i."""
    MOST = "most"
    """The largest or the smallest of all elements of all rows."""
    ALL = "all"
    """True if it is true of every row."""
    MIXED = "mixed"


def is_rowwise(part: Part, flat: Flat, sizes: Sizes) -> bool:
    """False where it is not sure. An Assert must hold for each row."""
    kinds = _Kinds(part, flat, sizes)
    for of in part.nodes.values():
        kinds.add(of)
    given = all(kinds.of(tensor) in (Kind.SAME, Kind.ROWS) for tensor in part.gives.values())
    return given and all(kinds.of(part.nodes[name].input[0]) in _SURE for name in part.effects)


_SIZED = {"Reshape", "Slice"}
"""Ops that are told sizes of what they give."""

_SURE = (Kind.SAME, Kind.ALL)


class _Kinds:
    def __init__(self, part: Part, flat: Flat, sizes: Sizes) -> None:
        self.flat, self.sizes, self.nodes = flat, sizes, dict(part.nodes)
        self._known: dict[str, Kind] = {}
        self._origins: dict[str, str] = {}  # FLAT tensor → the node that made its places
        for name, argument in part.takes.items():
            shape = part.values[name].shape
            rows = shape is None or shape[:1] == (None,)
            self._known[f"{argument}:0"] = Kind.ROWS if rows else Kind.SAME
        self._arguments = {f"{a}:0": part.values[n].shape for n, a in part.takes.items()}

    def of(self, tensor: str) -> Kind:
        tensor = canonical(tensor)
        if producer(tensor) == ROWS:
            return Kind.COUNT
        return self._known.get(tensor, Kind.SAME)  # weights and tables

    def add(self, of: Node) -> None:
        if of.name.startswith(ROWS):
            return
        kinds = [self.of(i) for i in of.input]
        count = len(outputs(of, self.flat.library))
        if set(kinds) <= {Kind.SAME} and "Random" not in of.op:
            found = [Kind.SAME] * count
        else:
            rule = _RULES.get(of.op)
            answer = rule(self, of, kinds) if rule else Kind.MIXED
            found = answer if isinstance(answer, list) else [answer] * count
        for index, kind in enumerate(found):
            tensor = f"{of.name}:{index}"
            sure = kind is not Kind.ROWS or self.has_rows(tensor)
            self._known[tensor] = kind if sure else Kind.MIXED
            if kind is Kind.FLAT:
                self._origins[tensor] = self._origin(of) or of.name

    def _origin(self, of: Node) -> str | None:
        return next((self._origins[t] for t in of.input if t in self._origins), None)

    def one_origin(self, of: Node) -> bool:
        """Whether all FLAT inputs are elements of the same rows' same places."""
        return len({self._origins[t] for t in of.input if t in self._origins}) == 1

    def shape(self, tensor: str) -> tuple[int | None, ...] | None:
        """At the first number of rows."""
        tensor = canonical(tensor)
        if tensor in self._arguments:
            given = self._arguments[tensor]
            return None if given is None else (self.sizes.rows[0], *given[1:])
        return self.sizes.first.shapes.get(tensor)

    def has_rows(self, tensor: str) -> bool:
        """Whether the first size is the number of rows, and no other depends on data."""
        tensor = canonical(tensor)
        if tensor in self._arguments:
            return True
        shapes = (self.sizes.first.shapes.get(tensor), self.sizes.second.shapes.get(tensor))
        starts = tuple(s[0] if s else None for s in shapes)
        return starts == self.sizes.rows and self.sizes.known(tensor)


_Answer = Kind | list[Kind]
_Rule = Callable[[_Kinds, Node, list[Kind]], _Answer]


def _elementwise(known: _Kinds, of: Node, kinds: list[Kind]) -> _Answer:
    """Broadcasting ops: rows meet rows, or what has fewer dimensions or one row."""
    found = set(kinds) - {Kind.SAME}
    if len(found) != 1:
        return Kind.MIXED
    (kind,) = found
    if kind not in (Kind.ROWS, Kind.FLAT):
        return kind if kind is Kind.COUNT else Kind.MIXED
    if kind is Kind.FLAT and not known.one_origin(of):
        return Kind.MIXED
    shapes = [known.shape(i) for i in of.input]
    ranks = {len(s) for s, k in zip(shapes, kinds, strict=True) if k is kind and s is not None}
    if any(s is None for s in shapes) or len(ranks) != 1:
        return Kind.MIXED
    (rank,) = ranks
    for shape, other in zip(shapes, kinds, strict=True):
        if other is Kind.SAME and shape and len(shape) >= rank and shape[0] != 1:
            return Kind.MIXED
    return kind


def _one_input(known: _Kinds, of: Node, kinds: list[Kind]) -> _Answer:
    """Ops on one tensor that leave its rows where they are; the others are constants."""
    if kinds[0] is Kind.COUNT and set(kinds) <= {Kind.COUNT, Kind.SAME}:
        return Kind.COUNT
    sizes = {Kind.SAME, Kind.COUNT} if of.op in _SIZED else {Kind.SAME}
    good = kinds[0] is Kind.ROWS and set(kinds[1:]) <= sizes
    return Kind.ROWS if good else Kind.MIXED


def _flat_too(known: _Kinds, of: Node, kinds: list[Kind]) -> _Answer:
    """Like `_one_input`, and elements of rows stay what they are."""
    if kinds[0] is Kind.FLAT and set(kinds[1:]) <= {Kind.SAME}:
        return Kind.FLAT
    return _one_input(known, of, kinds)


def _several(known: _Kinds, of: Node, kinds: list[Kind]) -> _Answer:
    """Ops that join tensors along another dimension than the rows."""
    data = set(kinds) - {Kind.SAME}
    if data == {Kind.COUNT}:
        return Kind.COUNT
    # A constant has no rows: the join would not have as many as there are.
    every = all(k is Kind.ROWS or not known.shape(i) for k, i in zip(kinds, of.input, strict=True))
    return Kind.ROWS if data == {Kind.ROWS} and every else Kind.MIXED


def _lookup(known: _Kinds, of: Node, kinds: list[Kind]) -> _Answer:
    return kinds[1] if kinds[1] in (Kind.ROWS, Kind.FLAT) and kinds[2] is Kind.SAME else Kind.MIXED


def _gather(known: _Kinds, of: Node, kinds: list[Kind]) -> _Answer:
    params, indices = kinds[:2]
    axis = constant(known.nodes, of.input[2]) if len(of.input) > 2 else 0
    if axis is None or of.attr["batch_dims"].i:
        batched = set(kinds[:2]) == {Kind.ROWS}
        return Kind.ROWS if batched and axis is not None else Kind.MIXED
    if params is Kind.SAME and axis == 0 and indices in (Kind.ROWS, Kind.FLAT):
        return indices
    return Kind.ROWS if params is Kind.ROWS and indices is Kind.SAME and axis > 0 else Kind.MIXED


def _strided(known: _Kinds, of: Node, kinds: list[Kind]) -> _Answer:
    strides = constant(known.nodes, of.input[3])
    if set(kinds[1:]) - {Kind.SAME, Kind.COUNT} or strides is None or (strides < 1).any():
        return Kind.MIXED
    if kinds[0] is Kind.PLACES:  # the column of row numbers, all of it
        column = of.attr["begin_mask"].i & 1 and of.attr["end_mask"].i & 1
        return Kind.PLACES if column and len(strides) == 2 else Kind.MIXED
    return kinds[0] if kinds[0] in (Kind.ROWS, Kind.COUNT) else Kind.MIXED


def _filled(known: _Kinds, of: Node, kinds: list[Kind]) -> _Answer:
    """Sizes first, then a value."""
    return Kind.ROWS if kinds[0] is Kind.COUNT and kinds[1] is Kind.SAME else Kind.MIXED


def _repeated(known: _Kinds, of: Node, kinds: list[Kind]) -> _Answer:
    if kinds[0] is Kind.SAME and kinds[1] is Kind.COUNT:
        shape = known.shape(of.input[0])  # one row, as many times as there are rows
        return Kind.ROWS if shape and shape[0] == 1 else Kind.MIXED
    return _one_input(known, of, kinds)


def _parse(known: _Kinds, of: Node, kinds: list[Kind]) -> _Answer:
    if kinds[0] is not Kind.ROWS or set(kinds[1:]) - {Kind.SAME}:
        return Kind.MIXED
    v2 = of.op.endswith("V2")
    sparse = of.attr["num_sparse" if v2 else "Nsparse"].i
    dense = len(of.attr["Tdense"].list.type)
    ragged = len(of.attr["ragged_value_types"].list.type)
    found = [Kind.PLACES] * sparse + [Kind.FLAT] * sparse + [Kind.MIXED] * sparse
    return found + [Kind.ROWS] * dense + [Kind.FLAT] * ragged + [Kind.PLACES] * ragged


def _split_strings(known: _Kinds, of: Node, kinds: list[Kind]) -> _Answer:
    good = kinds[0] is Kind.ROWS and set(kinds[1:]) <= {Kind.SAME}
    return [Kind.PLACES, Kind.FLAT, Kind.MIXED] if good else Kind.MIXED


def _crossed(known: _Kinds, of: Node, kinds: list[Kind]) -> _Answer:
    """Of dense columns alone, every row has as many crosses."""
    good = of.attr["N"].i == 0 and set(kinds) <= {Kind.ROWS}
    return [Kind.PLACES, Kind.FLAT, Kind.MIXED] if good else Kind.MIXED


def _to_dense(known: _Kinds, of: Node, kinds: list[Kind]) -> _Answer:
    good = kinds[0] is Kind.PLACES and kinds[2] is Kind.FLAT and kinds[3] is Kind.SAME
    return Kind.ROWS if good else Kind.MIXED


def _from_ragged(known: _Kinds, of: Node, kinds: list[Kind]) -> _Answer:
    places = set(kinds[3:]) <= {Kind.PLACES, Kind.COUNT}
    good = kinds[0] is Kind.SAME and kinds[1] is Kind.FLAT and kinds[2] is Kind.SAME
    return Kind.ROWS if good and places else Kind.MIXED


def _reduced(known: _Kinds, of: Node, kinds: list[Kind]) -> _Answer:
    if kinds[0] is Kind.ROWS and known.shape(f"{of.name}:0") == ():
        if of.op in ("Max", "Min"):
            return Kind.MOST
        return Kind.ALL if of.op == "All" else Kind.MIXED
    return _one_input(known, of, kinds)


def _compared(known: _Kinds, of: Node, kinds: list[Kind]) -> _Answer:
    """A bound of all elements: their maximum is less, or their minimum is greater."""
    if set(kinds) == {Kind.MOST, Kind.SAME}:
        of_most = of.input[kinds.index(Kind.MOST)]
        less = of.op.startswith("Less") == (kinds[0] is Kind.MOST)
        while known.nodes[producer(of_most)].op == "Cast":
            of_most = known.nodes[producer(of_most)].input[0]
        return Kind.ALL if (known.nodes[producer(of_most)].op == "Max") == less else Kind.MIXED
    return _elementwise(known, of, kinds)


def _both(known: _Kinds, of: Node, kinds: list[Kind]) -> _Answer:
    if set(kinds) <= {Kind.ALL, Kind.SAME}:
        return Kind.ALL
    return _elementwise(known, of, kinds)


def _cast(known: _Kinds, of: Node, kinds: list[Kind]) -> _Answer:
    return kinds[0]


def _matrix(known: _Kinds, of: Node, kinds: list[Kind]) -> _Answer:
    good = kinds == [Kind.ROWS, Kind.SAME] and not of.attr["transpose_a"].b
    return Kind.ROWS if good else Kind.MIXED


def _listed(known: _Kinds, of: Node, kinds: list[Kind]) -> _Answer:
    """A tensor as the list of its rows."""
    return Kind.LIST if kinds[0] is Kind.ROWS else Kind.MIXED


def _stacked(known: _Kinds, of: Node, kinds: list[Kind]) -> _Answer:
    return Kind.ROWS if kinds[0] is Kind.LIST else Kind.MIXED


def _reserved(known: _Kinds, of: Node, kinds: list[Kind]) -> _Answer:
    """A list with room for an element a row, nothing in it yet."""
    return Kind.LIST if kinds == [Kind.SAME, Kind.COUNT] else Kind.MIXED


def _last_axis(known: _Kinds, of: Node, kinds: list[Kind]) -> _Answer:
    shape = known.shape(of.input[0])
    return kinds[0] if kinds[0] is Kind.ROWS and shape and len(shape) > 1 else Kind.MIXED


def _mapped(known: _Kinds, of: Node, kinds: list[Kind]) -> _Answer:
    lists = {i for i, k in enumerate(kinds) if k is Kind.LIST}
    counts = {i for i, k in enumerate(kinds) if k is Kind.COUNT}
    zeros = {i for i, t in enumerate(of.input) if _is_zero(known, t)}
    same = set(kinds) <= {Kind.LIST, Kind.COUNT, Kind.SAME}
    if not same or not maps_elements(of, known.flat.library, lists, counts, zeros):
        return Kind.MIXED
    return [k if k in (Kind.LIST, Kind.SAME) else Kind.MIXED for k in kinds]


def _is_zero(known: _Kinds, tensor: str) -> bool:
    value = constant(known.nodes, tensor)
    return value is not None and value.shape == () and value == 0


def _table(rule: _Rule, ops: str) -> dict[str, _Rule]:
    return dict.fromkeys(ops.split(), rule)


_RULES: dict[str, _Rule] = {
    **_table(
        _elementwise,
        """Add AddV2 Sub Mul Div RealDiv FloorDiv TruncateDiv DivNoNan Mod FloorMod Pow Maximum
        Minimum SquaredDifference LogicalOr Equal NotEqual SelectV2 Select StringJoin Abs Neg
        Sign Sqrt Rsqrt Square Exp Expm1 Log Log1p Tanh Sigmoid Relu Relu6 Erf Floor Ceil Round
        Rint IsNan IsInf IsFinite LogicalNot Reciprocal ZerosLike OnesLike ClipByValue Bucketize
        BitwiseAnd BitwiseOr BitwiseXor AsString StringLower StringUpper StringStrip StringLength
        StringToNumber StringToHashBucketFast StringToHashBucketStrong StringToHashBucket
        RegexReplace StaticRegexReplace RegexFullMatch StaticRegexFullMatch Substr EncodeBase64
        DecodeBase64 UnicodeTranscode AddN BiasAdd""",
    ),
    **_table(
        _one_input,
        """Reshape Squeeze ExpandDims Slice Transpose Pad PadV2 MirrorPad OneHot TopKV2 ArgMax
        ArgMin Split Unpack EnsureShape DecodeRaw DenseBincount Mean Sum Prod Any
        ReduceJoin""",
    ),
    **_table(_flat_too, "Identity"),
    **_table(_several, "ConcatV2 Pack"),
    **_table(_compared, "Less LessEqual Greater GreaterEqual"),
    **_table(_reduced, "Max Min All"),
    **_table(_parse, "ParseExample ParseExampleV2"),
    **_table(_split_strings, "StringSplit StringSplitV2"),
    "TensorListFromTensor": _listed,
    "TensorListStack": _stacked,
    "TensorListReserve": _reserved,
    **_table(_last_axis, "Softmax LogSoftmax"),
    "LookupTableFindV2": _lookup,
    "GatherV2": _gather,
    "StridedSlice": _strided,
    "Fill": _filled,
    "Tile": _repeated,
    "SparseCross": _crossed,
    "SparseToDense": _to_dense,
    "RaggedTensorToTensor": _from_ragged,
    "LogicalAnd": _both,
    "Cast": _cast,
    "MatMul": _matrix,
    "While": _mapped,
    "StatelessWhile": _mapped,
}
