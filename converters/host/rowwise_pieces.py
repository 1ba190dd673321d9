"""How ops that cut rows into pieces pass on rows: see jaxrt.converters.host.rowwise."""

import math

from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.rowwise import (
    BATCH,
    RESULTS,
    Extent,
    Kind,
    Pieces,
    Places,
    Rows,
    Shared,
    Sizes,
    Unknown,
    rows,
)
from jaxrt.converters.host.rowwise_rules import parts_of, ranked_of, shape_of


@rows("StringSplitV2", "StringSplit")
def string_split(node: Node, x: Kind, separator: Kind) -> tuple[Kind, Kind, Kind]:
    if ranked_of(x) != () or not isinstance(separator, Shared):
        return Unknown(), Unknown(), Unknown()
    return Places(node.name), Pieces(node.name), Extent(node.name)


@rows("SparseCross", "SparseCrossV2", "SparseCrossHashed")
def sparse_cross(node: Node, *inputs: Kind) -> tuple[Kind, Kind, Kind]:
    count: int = len(node.attrs["dense_types"])
    last = {"SparseCross": 0, "SparseCrossV2": 1, "SparseCrossHashed": 3}[node.op]
    dense = inputs[len(inputs) - last - count : len(inputs) - last]
    dims = [ranked_of(kind) for kind in dense]
    others = all(isinstance(kind, Shared) for kind in inputs[len(inputs) - last :])
    if node.attrs["N"] or not others or any(d is None or len(d) != 1 for d in dims):
        return Unknown(), Unknown(), Unknown()
    widths = [d[0] for d in dims if d]
    # Dense columns of known width: as many crosses in every row.
    if None in widths:
        return Places(node.name), Pieces(node.name), Extent(node.name)
    total = math.prod(n or 0 for n in widths)
    return Places(node.name), Pieces(node.name), Sizes((BATCH, total))


@rows("SparseToDense")
def sparse_to_dense(node: Node, places: Kind, sizes: Kind, values: Kind, default: Kind) -> Kind:
    parts = parts_of(sizes)
    beside = isinstance(places, Places) and isinstance(values, Pieces) and places.cut == values.cut
    if not beside or parts is None or len(parts) != 2 or not isinstance(default, Shared):
        return Unknown()
    return shape_of(parts)


@rows("ParseExampleV2")
def parse_example(node: Node, serialized: Kind, *rest: Kind) -> tuple[Kind, ...]:
    """Dense features of a fixed shape are rows; the others are pieces."""
    sparse, ragged = int(node.attrs["num_sparse"]), len(node.attrs["ragged_value_types"])
    shapes = node.attrs["dense_shapes"]
    if ranked_of(serialized) != () or not all(isinstance(kind, Shared) for kind in rest):
        return (Unknown(),) * (3 * sparse + len(shapes) + 2 * ragged)
    cuts = [f"{node.name}/{i}" for i in range(sparse)]
    dense = [
        Unknown() if s is None or None in s else Rows(tuple(s)) for s in shapes
    ]  # an unknown size is padded to that of the longest row
    return (
        *map(Places, cuts),
        *map(Pieces, cuts),
        *map(Extent, cuts),
        *dense,
        *(Unknown() for _ in range(2 * ragged)),
    )


@rows("ParseSequenceExample", "ParseSequenceExampleV2")
def parse_sequence_example(node: Node, serialized: Kind, *rest: Kind) -> tuple[Kind, ...]:
    """Dense features of the context are rows, sparse ones pieces. Lists are padded."""
    sparse, shapes = int(node.attrs["Ncontext_sparse"]), node.attrs["context_dense_shapes"]
    if ranked_of(serialized) != () or not all(isinstance(kind, Shared) for kind in rest):
        return (Unknown(),) * RESULTS
    cuts = [f"{node.name}/{i}" for i in range(sparse)]
    dense = [Rows(tuple(shape)) for shape in shapes]
    return (
        *map(Places, cuts),
        *map(Pieces, cuts),
        *map(Extent, cuts),
        *dense,
        *(Unknown(),) * RESULTS,
    )
