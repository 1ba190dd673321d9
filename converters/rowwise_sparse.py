"""Rules for how sparse and ragged tensors depend on rows: their elements, row behind row."""

from collections.abc import Sequence

from jaxrt.converters.rowkinds import EACH, MIXED, Answer, Dependence, Kind, Known, Rule
from jaxrt.converters.shapes_tf import ROWS
from jaxrt.converters.simplify import constant
from jaxrt.converters.subgraph import Node, canonical, producer

_Given = Sequence[Dependence]
_ROWS, _SAME = Dependence(Kind.ROWS), Dependence(Kind.SAME)


def _parse(known: Known, of: Node, given: _Given) -> Answer:
    if given[0].kind is not Kind.ROWS or any(d != _SAME for d in given[1:]):
        return MIXED
    sparse = of.attr["num_sparse" if of.op.endswith("V2") else "Nsparse"].i
    dense = len(of.attr["Tdense"].list.type)
    ragged = len(of.attr["ragged_value_types"].list.type)

    def each(kind: Kind, what: str, count: int) -> list[Dependence]:
        return [Dependence(kind, f"{of.name}/{what}{i}") for i in range(count)]

    return [
        *each(Kind.PLACES, "sparse", sparse),
        *each(Kind.FLAT, "sparse", sparse),
        *[MIXED] * sparse,
        *[_ROWS] * dense,
        *each(Kind.FLAT, "ragged", ragged),
        *each(Kind.PLACES, "ragged", ragged),
    ]


def column(known: Known, of: Node, places: Dependence) -> Answer:
    """The row numbers of elements, or where in their row they are: all of the column."""
    begin = constant(known.nodes, of.input[1])
    masks = (of.attr["begin_mask"].i, of.attr["end_mask"].i)
    if begin is None or len(begin) != 2 or of.attr["shrink_axis_mask"].i != 2:
        return MIXED
    if not masks[1] & 1 or not (masks[0] & 1 or begin[0] == 0) or masks[0] & 2:
        return MIXED
    return places if begin[1] == 0 else Dependence(Kind.FLAT, places.origin)


def _chosen(of: Node) -> list[Dependence]:
    """Indices, values and shape of a sparse matrix whose elements the node chose."""
    return [Dependence(Kind.PLACES, of.name), Dependence(Kind.FLAT, of.name), MIXED]


def _split_strings(known: Known, of: Node, given: _Given) -> Answer:
    good = given[0].kind is Kind.ROWS and all(d == _SAME for d in given[1:])
    return _chosen(of) if good else MIXED


def _crossed(known: Known, of: Node, given: _Given) -> Answer:
    count = of.attr["N"].i
    values = [_elements(known, i) for i in of.input[count : 2 * count]]
    sparse = all(
        places.kind is Kind.PLACES and value == Dependence(Kind.FLAT, places.origin)
        for places, value in zip(given[:count], values, strict=True)
    )
    dense = all(d == _ROWS for d in given[3 * count :])
    return _chosen(of) if sparse and dense else MIXED


def _elements(known: Known, tensor: str) -> Dependence:
    """A vector of rows is a vector of elements, one a row."""
    found = known.of(tensor)
    vector = found.kind is Kind.ROWS and len(known.shape(tensor) or ()) == 1
    return Dependence(Kind.FLAT, EACH) if vector else found


def _to_dense(known: Known, of: Node, given: _Given) -> Answer:
    places, values = given[0], _elements(known, of.input[2])
    good = places.kind is Kind.PLACES and values == Dependence(Kind.FLAT, places.origin)
    if not good or given[3] != _SAME:
        return MIXED
    shape, default = known.shape(f"{of.name}:0"), constant(known.nodes, of.input[3])
    if shape is not None and len(shape) == 2 and shape[1] is None and default is not None:
        return Dependence(Kind.PADDED, repr(default.item()))
    return _ROWS


_ZEROS = Dependence(Kind.PADDED, "zeros")


def _one_hot(known: Known, of: Node, given: _Given) -> Answer:
    if given[0] == _ROWS and all(d == _SAME for d in given[1:]):
        return _ROWS
    depth, _, off = (constant(known.nodes, i) for i in of.input[1:4])
    if given[0].kind is not Kind.PADDED or depth is None or off is None or off != 0:
        return MIXED
    hot = given[0].origin.lstrip("-").isdigit() and 0 <= int(given[0].origin) < depth
    numbers = given[0].origin.lstrip("-").isdigit()
    return _ZEROS if numbers and not hot and of.attr["axis"].i in (-1, 2) else MIXED


def differs(known: Known, of: Node, given: _Given) -> Dependence | None:
    """NotEqual between PADDED and its padding is false where the padding is."""
    for one, other, tensor in ((*given, of.input[1]), (*given[::-1], of.input[0])):
        value = constant(known.nodes, tensor) if other == _SAME else None
        if one.kind is Kind.PADDED and value is not None and value.shape == ():
            return _ZEROS if repr(value.item()) == one.origin else None
    return None


def sums_padding(known: Known, of: Node, given: _Given) -> bool:
    """Whether zeros that pad rows are summed along them."""
    shape, axis = known.shape(of.input[0]), constant(known.nodes, of.input[1])
    if given[0] != _ZEROS or shape is None or axis is None or axis.size != 1:
        return False
    return int(axis.item()) % len(shape) == 1


def _from_ragged(known: Known, of: Node, given: _Given) -> Answer:
    places = all(d.kind in (Kind.PLACES, Kind.COUNT) for d in given[3:])
    good = given[0] == _SAME and given[1].kind is Kind.FLAT and given[2] == _SAME
    return _ROWS if good and places else MIXED


def _where(known: Known, of: Node, given: _Given) -> Answer:
    shape = known.shape(of.input[0])
    if shape is not None and len(shape) == 1 and given[0].kind in (Kind.FLAT, Kind.ROWS):
        return Dependence(Kind.PICKS, f"{of.name} of {_elements(known, of.input[0]).origin}")
    if given[0].kind is Kind.ROWS and shape is not None and len(shape) == 2:
        return Dependence(Kind.PLACES, of.name)
    return MIXED


def _gather(known: Known, of: Node, given: _Given) -> Answer:
    params, indices = given[:2]
    axis = constant(known.nodes, of.input[2]) if len(of.input) > 2 else 0
    if axis is None:
        return MIXED
    if of.attr["batch_dims"].i:
        return _ROWS if params == indices == _ROWS else MIXED
    if axis == 0 and indices.kind is Kind.PICKS:
        params = _elements(known, of.input[0])
        kept = params.kind in (Kind.FLAT, Kind.PLACES)
        of_it = indices.origin.endswith(f" of {params.origin}")
        return Dependence(params.kind, indices.origin) if kept and of_it else MIXED
    if params == _SAME and axis == 0 and indices.kind in (Kind.ROWS, Kind.FLAT, Kind.UNIQUE):
        return indices
    return _ROWS if params == _ROWS and indices == _SAME and axis > 0 else MIXED


def _gather_nd(known: Known, of: Node, given: _Given) -> Answer:
    params, indices = given
    shapes = (known.shape(of.input[0]), known.shape(of.input[1]))
    if shapes[0] is None or shapes[1] is None or shapes[1][-1] != len(shapes[0]):
        return MIXED
    good = params == _ROWS and indices.kind is Kind.PLACES and len(shapes[1]) == 2
    return Dependence(Kind.FLAT, indices.origin) if good else MIXED


def _sparse_reshape(known: Known, of: Node, given: _Given) -> Answer:
    vectors = (known.extents.vector(of.input[1]), known.extents.vector(f"{of.name}:1"))
    kept = all(v is not None and len(v) == 2 and v[0] == ROWS for v in vectors)
    good = given[0].kind is Kind.PLACES and kept
    return [given[0], MIXED] if good else MIXED


def _empty_filled(known: Known, of: Node, given: _Given) -> Answer:
    vector = known.extents.vector(of.input[2])
    places, values = given[0], _elements(known, of.input[1])
    good = places.kind is Kind.PLACES and values == Dependence(Kind.FLAT, places.origin)
    if not good or given[3] != _SAME or vector is None or vector[0] != ROWS:
        return MIXED
    return [*_chosen(of)[:2], _ROWS, MIXED]


def _unique(known: Known, of: Node, given: _Given) -> Answer:
    if given[0].kind is not Kind.FLAT:
        return MIXED
    origin = f"{of.name} of {given[0].origin}"
    return [Dependence(Kind.UNIQUE, origin), Dependence(Kind.INDEX, origin)]


def _segments(known: Known, of: Node, given: _Given) -> Answer:
    """Sums of what belongs to a row. Every row is there behind SparseFillEmptyRows alone."""
    data, indices, places = given[:3]
    filled = known.nodes.get(places.origin)
    if places.kind is not Kind.PLACES or filled is None or filled.op != "SparseFillEmptyRows":
        return MIXED
    direct = data == _SAME and indices == Dependence(Kind.FLAT, places.origin)
    unique = (
        data.kind is Kind.UNIQUE
        and indices == Dependence(Kind.INDEX, data.origin)
        and data.origin.endswith(f" of {places.origin}")
    )
    return _ROWS if direct or unique else MIXED


def _numbered(known: Known, of: Node, given: _Given) -> Answer:
    """Sums of what belongs to a row, for every row that there is."""
    data, indices, places = given[:3]
    good = places.kind is Kind.PLACES and indices == Dependence(Kind.FLAT, places.origin)
    return _ROWS if good and data == _SAME and known.extents.scalar(of.input[3]) == ROWS else MIXED


def _shape(known: Known, of: Node, given: _Given) -> Answer:
    shape = known.shape(of.input[0])
    if given[0].kind is Kind.FLAT and shape is not None and len(shape) == 1:
        return Dependence(Kind.LENGTH, given[0].origin)
    widths = shape is not None and None not in shape[1:]
    return Dependence(Kind.COUNT) if given[0].kind is Kind.ROWS and widths else MIXED


def _range(known: Known, of: Node, given: _Given) -> Answer:
    """The numbers of the rows."""
    start, delta = (constant(known.nodes, of.input[i]) for i in (0, 2))
    good = start is not None and start == 0 and delta is not None and delta == 1
    extent = known.extents.scalar(of.input[1])
    return Dependence(Kind.NUMBERS) if good and extent == ROWS else MIXED


def _widened(known: Known, of: Node, given: _Given) -> Answer:
    """A dimension more, not before the rows."""
    axis = constant(known.nodes, of.input[1])
    shape = known.shape(of.input[0])
    if given[0].kind is Kind.NUMBERS:
        last = axis is not None and shape is not None and axis.item() in (1, -1)
        return given[0] if last and len(shape or ()) == 1 else MIXED
    return given[0] if given[0].kind in (Kind.ROWS, Kind.COUNT) else MIXED


def _packed(known: Known, of: Node, given: _Given) -> Answer:
    kinds = [d.kind for d in given]
    if set(kinds) <= {Kind.SAME, Kind.COUNT}:
        return Dependence(Kind.COUNT)
    if kinds == [Kind.NUMBERS, Kind.ROWS] and of.attr["axis"].i == 0:
        return Dependence(Kind.NUMBERS)  # to be turned: rows and columns of one element a row
    every = all(d.kind is Kind.ROWS for d in given)
    return _ROWS if every else MIXED


def _transposed(known: Known, of: Node, given: _Given) -> Answer:
    turned = constant(known.nodes, of.input[1])
    if turned is None:
        return MIXED
    source = known.nodes.get(producer(of.input[0]))
    if given[0].kind is Kind.NUMBERS and turned.tolist() == [1, 0]:
        packed = source is not None and source.op == "Pack" and _is_vectors(known, source)
        return Dependence(Kind.PLACES, EACH) if packed else MIXED
    return given[0] if given[0].kind is Kind.ROWS and turned[0] == 0 else MIXED


def _is_vectors(known: Known, of: Node) -> bool:
    return all(len(known.shape(canonical(i)) or ()) == 1 for i in of.input)


def _bound(known: Known, of: Node, given: _Given) -> Answer:
    """Where a value belongs between sorted ones: one line of each."""
    return given[1] if given[0] == _SAME and given[1].kind is Kind.TURNED else MIXED


SPARSE_RULES: dict[str, Rule] = {
    "ParseExample": _parse,
    "ParseExampleV2": _parse,
    "StringSplit": _split_strings,
    "StringSplitV2": _split_strings,
    "SparseCross": _crossed,
    "SparseToDense": _to_dense,
    "RaggedTensorToTensor": _from_ragged,
    "Where": _where,
    "GatherV2": _gather,
    "GatherNd": _gather_nd,
    "SparseReshape": _sparse_reshape,
    "SparseFillEmptyRows": _empty_filled,
    "Unique": _unique,
    "SparseSegmentSum": _segments,
    "SparseSegmentMean": _segments,
    "SparseSegmentSqrtN": _segments,
    "SparseSegmentSumWithNumSegments": _numbered,
    "Shape": _shape,
    "Range": _range,
    "ExpandDims": _widened,
    "Pack": _packed,
    "OneHot": _one_hot,
    "UpperBound": _bound,
    "LowerBound": _bound,
    "Transpose": _transposed,
}
