"""Whether row i of what a host stage gives depends on row i of what it takes alone.

Conservative: what no rule knows mixes rows. Rows are told by their number, at two of them.
"""

import math
from collections.abc import Sequence

from jaxrt.converters.flat import Flat
from jaxrt.converters.maps import maps_elements
from jaxrt.converters.placement import Sizes
from jaxrt.converters.rowkinds import MIXED, Answer, Dependence, Kind, Known, Rule
from jaxrt.converters.rowwise_sparse import SPARSE_RULES, column, differs, sums_padding
from jaxrt.converters.shapes_tf import ROWS
from jaxrt.converters.simplify import constant
from jaxrt.converters.stages import Part
from jaxrt.converters.subgraph import Node, producer

_Given = Sequence[Dependence]
_COUNT, _ROWS = Dependence(Kind.COUNT), Dependence(Kind.ROWS)


def is_rowwise(part: Part, flat: Flat, sizes: Sizes) -> bool:
    """False where it is not sure. An Assert must hold for each row."""
    known = Known(part, flat, sizes)
    for of in part.nodes.values():
        known.add(of, RULES)
    given = all(_in_rows(part, name, known.of(t).kind) for name, t in part.gives.items())
    return given and all(_fails_by_row(part.nodes[name], known) for name in part.effects)


def _in_rows(part: Part, name: str, kind: Kind) -> bool:
    """Whether a value can be handed out row by row: the size of a table has none."""
    shape = part.values[name].shape
    return kind is Kind.ROWS or (kind is Kind.SAME and shape is not None and shape[:1] == (None,))


def _fails_by_row(of: Node, known: Known) -> bool:
    """Whether a node fails for some rows if and only if it fails for one of them."""
    if of.op in ("Assert", "If", "StatelessIf"):
        return known.of(of.input[0]).kind in (Kind.SAME, Kind.ALL)
    return any(known.of(f"{of.name}:{i}").kind is Kind.LIST for i, _ in enumerate(of.input))


def _elementwise(known: Known, of: Node, given: _Given) -> Answer:
    """Broadcasting ops: rows meet rows, or what has fewer dimensions or one row."""
    found = {d for d in given if d.kind is not Kind.SAME}
    if len(found) != 1:
        return MIXED
    (one,) = found
    if one.kind not in (Kind.ROWS, Kind.FLAT):
        return one if one.kind is Kind.COUNT else MIXED
    shapes = [known.shape(i) for i in of.input]
    ranks = {len(s) for s, d in zip(shapes, given, strict=True) if d == one and s is not None}
    if any(s is None for s in shapes) or len(ranks) != 1:
        return MIXED
    (rank,) = ranks
    for shape, other in zip(shapes, given, strict=True):
        if other.kind is Kind.SAME and shape and len(shape) >= rank and shape[0] != 1:
            return MIXED
    return one


def _one_input(known: Known, of: Node, given: _Given) -> Answer:
    """Ops on one tensor that leave its rows where they are; the others are constants."""
    rest = {d.kind for d in given[1:]}
    if given[0].kind is Kind.COUNT and rest <= {Kind.COUNT, Kind.SAME}:
        return _COUNT
    sizes = {Kind.SAME, Kind.COUNT} if of.op in ("Reshape", "Slice") else {Kind.SAME}
    return given[0] if given[0].kind is Kind.ROWS and rest <= sizes else MIXED


def _several(known: Known, of: Node, given: _Given) -> Answer:
    """Ops that join tensors along another dimension than the rows."""
    data = {d.kind for d in given} - {Kind.SAME}
    if data == {Kind.COUNT}:
        return _COUNT
    pairs = zip(given, of.input, strict=True)
    # A constant has no rows: the join would not have as many as there are.
    every = all(d.kind is Kind.ROWS or not known.shape(i) for d, i in pairs)
    return _ROWS if data == {Kind.ROWS} and every else MIXED


def _lookup(known: Known, of: Node, given: _Given) -> Answer:
    good = given[1].kind in (Kind.ROWS, Kind.FLAT) and given[2].kind is Kind.SAME
    return given[1] if good else MIXED


def _strided(known: Known, of: Node, given: _Given) -> Answer:
    strides = constant(known.nodes, of.input[3])
    rest = {d.kind for d in given[1:]}
    if rest - {Kind.SAME, Kind.COUNT} or strides is None or (strides < 1).any():
        return MIXED
    if given[0].kind is Kind.PLACES:
        return column(known, of, given[0])
    return given[0] if given[0].kind in (Kind.ROWS, Kind.COUNT) else MIXED


def _filled(known: Known, of: Node, given: _Given) -> Answer:
    """Sizes first, then a value."""
    if given[1].kind is not Kind.SAME:
        return MIXED
    if given[0].kind is Kind.LENGTH:
        return Dependence(Kind.FLAT, given[0].origin)
    return _ROWS if given[0].kind is Kind.COUNT else MIXED


def _repeated(known: Known, of: Node, given: _Given) -> Answer:
    shape, times = known.shape(of.input[0]), given[1].kind
    if given[0].kind is Kind.SAME and times is Kind.COUNT:
        repeated = known.sizes.crossing(f"{of.name}:0")
        rows = repeated is not None and repeated[:1] == (None,)
        return _ROWS if shape and shape[0] == 1 and rows else MIXED
    first = _first(known, of.input[1])
    if given[0].kind in (Kind.ROWS, Kind.NUMBERS) and first == 1:
        return given[0]  # whatever says how wide, a row is repeated in its row
    return MIXED


def _first(known: Known, tensor: str) -> object:
    """The first element of a vector where it is a number."""
    vector = known.extents.vector(tensor)
    if vector is None:
        value = constant(known.nodes, tensor)
        return None if value is None or value.ndim != 1 else int(value[0])
    return vector[0]


def _reshaped(known: Known, of: Node, given: _Given) -> Answer:
    before, after = known.shape(of.input[0]), constant(known.nodes, of.input[1])
    one_each = before is not None and (len(before) == 1 or before[1:] == (1,))
    elements = given[0].kind in (Kind.FLAT, Kind.PICKS, Kind.NUMBERS)
    if elements and one_each and after is not None and after.tolist() == [-1]:
        return given[0]
    line = known.shape(f"{of.name}:0") == (1, known.sizes.rows[0])
    if given[0].kind is Kind.ROWS and before is not None and len(before) == 1 and line:
        return Dependence(Kind.TURNED)
    if given[0].kind is Kind.TURNED:
        turned = known.sizes.crossing(f"{of.name}:0")
        return _ROWS if turned in ((None,), (None, 1)) else MIXED
    if given[0].kind is Kind.ROWS and before is not None and before[0] is None:
        return _ROWS if _keeps_rows(known, of.input[1], before[1:]) else MIXED
    if known.sizes.crossing(f"{of.name}:0") is None:
        return MIXED
    return _one_input(known, of, given)


def _keeps_rows(known: Known, shape: str, widths: Sequence[int | None]) -> bool:
    """Whether a row has as many elements after it, where TensorFlow does not know the rows."""
    after = known.extents.vector(shape)
    if not after or after[0] not in (-1, ROWS):
        return False
    counts = [math.prod(n for n in w if isinstance(n, int)) for w in (widths, after[1:])]
    known_all = all(isinstance(n, int) and n >= 0 for n in (*widths, *after[1:]))
    return known_all and counts[0] == counts[1]


def _reduced(known: Known, of: Node, given: _Given) -> Answer:
    if given[0].kind is Kind.ROWS and known.shape(f"{of.name}:0") == ():
        if of.op in ("Max", "Min"):
            return Dependence(Kind.MOST)
        return Dependence(Kind.ALL) if of.op == "All" else MIXED
    return _one_input(known, of, given)


def _compared(known: Known, of: Node, given: _Given) -> Answer:
    """A bound of all elements: their maximum is less, or their minimum is greater."""
    kinds = [d.kind for d in given]
    if set(kinds) != {Kind.MOST, Kind.SAME}:
        return _elementwise(known, of, given)
    most = known.nodes[producer(of.input[kinds.index(Kind.MOST)])]
    while most.op == "Cast":
        most = known.nodes[producer(most.input[0])]
    less = of.op.startswith("Less") == (kinds[0] is Kind.MOST)
    return Dependence(Kind.ALL) if (most.op == "Max") == less else MIXED


def _both(known: Known, of: Node, given: _Given) -> Answer:
    if {d.kind for d in given} <= {Kind.ALL, Kind.SAME}:
        return Dependence(Kind.ALL)
    return _elementwise(known, of, given)


def _unequal(known: Known, of: Node, given: _Given) -> Answer:
    return differs(known, of, given) or _elementwise(known, of, given)


def _summed(known: Known, of: Node, given: _Given) -> Answer:
    return _ROWS if sums_padding(known, of, given) else _one_input(known, of, given)


def _first_input(known: Known, of: Node, given: _Given) -> Answer:
    return given[0]


def _matrix(known: Known, of: Node, given: _Given) -> Answer:
    kinds = [d.kind for d in given]
    return _ROWS if kinds == [Kind.ROWS, Kind.SAME] and not of.attr["transpose_a"].b else MIXED


def _listed(known: Known, of: Node, given: _Given) -> Answer:
    """A tensor as the list of its rows."""
    return Dependence(Kind.LIST) if given[0].kind is Kind.ROWS else MIXED


def _stacked(known: Known, of: Node, given: _Given) -> Answer:
    return _ROWS if given[0].kind is Kind.LIST else MIXED


def _reserved(known: Known, of: Node, given: _Given) -> Answer:
    """A list with room for an element a row, nothing in it yet."""
    kinds = [d.kind for d in given]
    return Dependence(Kind.LIST) if kinds == [Kind.SAME, Kind.COUNT] else MIXED


def _last_axis(known: Known, of: Node, given: _Given) -> Answer:
    shape = known.shape(of.input[0])
    return _ROWS if given[0].kind is Kind.ROWS and shape and len(shape) > 1 else MIXED


def _mapped(known: Known, of: Node, given: _Given) -> Answer:
    kinds = [d.kind for d in given]
    lists = {i for i, k in enumerate(kinds) if k is Kind.LIST}
    counts = {i for i, k in enumerate(kinds) if k is Kind.COUNT}
    zeros = {i for i, t in enumerate(of.input) if _is_zero(known, t)}
    same = set(kinds) <= {Kind.LIST, Kind.COUNT, Kind.SAME}
    if not same or not maps_elements(of, known.flat.library, lists, counts, zeros):
        return MIXED
    # Counters have counted: they are not what they were.
    return [d if d.kind is Kind.LIST else MIXED for d in given]


def _is_zero(known: Known, tensor: str) -> bool:
    value = constant(known.nodes, tensor)
    return value is not None and value.shape == () and value == 0


def _table(rule: Rule, ops: str) -> dict[str, Rule]:
    return dict.fromkeys(ops.split(), rule)


RULES: dict[str, Rule] = {
    **_table(
        _elementwise,
        """Add AddV2 Sub Mul Div RealDiv FloorDiv TruncateDiv DivNoNan Mod FloorMod Pow Maximum
        Minimum SquaredDifference LogicalOr Equal SelectV2 Select StringJoin Abs Neg
        Sign Sqrt Rsqrt Square Exp Expm1 Log Log1p Tanh Sigmoid Relu Relu6 Erf Floor Ceil Round
        Rint IsNan IsInf IsFinite LogicalNot Reciprocal ZerosLike OnesLike ClipByValue Bucketize
        BitwiseAnd BitwiseOr BitwiseXor AsString StringLower StringUpper StringStrip StringLength
        StringToNumber StringToHashBucketFast StringToHashBucketStrong StringToHashBucket
        RegexReplace StaticRegexReplace RegexFullMatch StaticRegexFullMatch Substr EncodeBase64
        DecodeBase64 UnicodeTranscode AddN BiasAdd""",
    ),
    **_table(
        _one_input,
        """Slice Pad PadV2 MirrorPad TopKV2 ArgMax ArgMin Split Unpack EnsureShape
        DecodeRaw DenseBincount Mean Prod Any ReduceJoin Squeeze""",
    ),
    **_table(_several, "ConcatV2"),
    **_table(_compared, "Less LessEqual Greater GreaterEqual"),
    **_table(_reduced, "Max Min All"),
    **_table(_last_axis, "Softmax LogSoftmax"),
    **_table(_mapped, "While StatelessWhile"),
    **_table(_first_input, "Cast Identity"),
    "LookupTableFindV2": _lookup,
    "StridedSlice": _strided,
    "Fill": _filled,
    "Tile": _repeated,
    "Reshape": _reshaped,
    "LogicalAnd": _both,
    "NotEqual": _unequal,
    "Sum": _summed,
    "MatMul": _matrix,
    "TensorListFromTensor": _listed,
    "TensorListStack": _stacked,
    "TensorListReserve": _reserved,
    **SPARSE_RULES,
}
