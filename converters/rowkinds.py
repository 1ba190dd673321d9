"""How the tensors of a host stage depend on the rows that it takes: kinds, and what is known."""

import dataclasses
import enum
from collections.abc import Callable, Sequence

from jaxrt.converters.bodies import outputs
from jaxrt.converters.extents import Extents
from jaxrt.converters.flat import Flat
from jaxrt.converters.placement import Sizes
from jaxrt.converters.shapes_tf import ROWS
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
    TURNED = "turned"
    """Like ROWS, of one element a row, as one line of [1, rows]."""
    NUMBERS = "numbers"
    """Row i is the number i."""
    FLAT = "flat"
    """Some elements of each row, all those of one row behind those of the row before."""
    PLACES = "places"
    """The row numbers of FLAT elements, or other words for where rows begin."""
    PADDED = "padded"
    """Like ROWS, but as wide as the fullest row needs; `origin` is what fills the others."""
    PICKS = "picks"
    """Which FLAT elements are kept, each told by its row alone."""
    LENGTH = "length"
    """The number of FLAT elements, as a shape."""
    UNIQUE = "unique"
    """Each FLAT value once, in any order, or what belongs to each."""
    INDEX = "index"
    """Where in UNIQUE a FLAT element's value is."""
    LIST = "list"
    """A list with an element for each row, the i-th of row i."""
    MOST = "most"
    """The largest or the smallest of all elements of all rows."""
    ALL = "all"
    """True if it is true of every row."""
    MIXED = "mixed"


@dataclasses.dataclass(frozen=True, slots=True)
class Dependence:
    """A kind; for elements of rows, the node that chose them; for PADDED, the padding."""

    kind: Kind
    origin: str = ""


MIXED = Dependence(Kind.MIXED)
EACH = "each row once"
"""The origin of one element a row."""


class Known:
    """The dependence of each tensor of a part, node by node."""

    def __init__(self, part: Part, flat: Flat, sizes: Sizes) -> None:
        self.flat, self.sizes, self.nodes = flat, sizes, dict(part.nodes)
        self.extents = Extents(flat, sizes)
        self._arguments = {f"{a}:0": part.values[n].shape for n, a in part.takes.items()}
        self._found = {tensor: _taken(shape) for tensor, shape in self._arguments.items()}
        self._rowful = {t for t, d in self._found.items() if d.kind is Kind.ROWS}

    def of(self, tensor: str) -> Dependence:
        tensor = canonical(tensor)
        if producer(tensor) == ROWS:
            return Dependence(Kind.COUNT)
        return self._found.get(tensor, Dependence(Kind.SAME))  # weights and tables

    def add(self, of: Node, rules: "dict[str, Rule]") -> None:
        """Judges a node all of whose inputs are judged."""
        if of.name == ROWS or of.name.startswith(f"{ROWS}/"):
            return
        given = [self.of(i) for i in of.input]
        tensors = [f"{of.name}:{i}" for i, _ in enumerate(outputs(of, self.flat.library))]
        if all(d.kind is Kind.SAME for d in given) and "Random" not in of.op:
            answer: Answer = Dependence(Kind.SAME)
        else:
            rule = rules.get(of.op)
            answer = rule(self, of, given) if rule else MIXED
        found = answer if isinstance(answer, list) else [answer] * len(tensors)
        for tensor, dependence in zip(tensors, found, strict=True):
            if dependence.kind is Kind.COUNT and isinstance(self.extents.scalar(tensor), int):
                dependence = Dependence(
                    Kind.SAME
                )  # an element of a shape that is no number of rows
            rows = dependence.kind is Kind.ROWS
            self._found[tensor] = MIXED if rows and not self._has_rows(tensor, of) else dependence

    def _has_rows(self, tensor: str, of: Node) -> bool:
        """Whether the first size is the number of rows, and no other depends on data."""
        shapes = (self.sizes.first.shapes.get(tensor), self.sizes.second.shapes.get(tensor))
        starts = tuple(s[0] if s else None for s in shapes)
        known = starts == self.sizes.rows and self.sizes.known(tensor)
        if known or of.op in KEEPING:
            self._rowful.add(tensor)
        return tensor in self._rowful

    def shape(self, tensor: str) -> tuple[int | None, ...] | None:
        """At the first number of rows."""
        tensor = canonical(tensor)
        if tensor in self._arguments:
            given = self._arguments[tensor]
            return None if given is None else (self.sizes.rows[0], *given[1:])
        return self.sizes.first.shapes.get(tensor)


Answer = Dependence | list[Dependence]
Rule = Callable[[Known, Node, Sequence[Dependence]], Answer]

KEEPING = {
    "SparseFillEmptyRows",
    "SparseSegmentSum",
    "SparseSegmentMean",
    "SparseSegmentSqrtN",
    "ZerosLike",
    "Select",
    "SelectV2",
    "Tile",
    "Reshape",
}
"""Ops whose rules know that the rows are all there, where TensorFlow's inference does not."""


def _taken(shape: tuple[int | None, ...] | None) -> Dependence:
    if shape is None:
        return MIXED
    return Dependence(Kind.ROWS if shape[:1] == (None,) else Kind.SAME)
