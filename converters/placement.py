"""What each node of a flat graph needs: the host, the device, or neither."""

import dataclasses
import enum
import math
import re
from collections.abc import Collection, Mapping, Sequence

import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from jaxrt.converters.bodies import dtype, input_dtypes, outputs
from jaxrt.converters.flat import RESOURCE, STRING, VARIANT, Flat, deep_nodes
from jaxrt.converters.opnames import HOST, LONGER, SEEDED, SIZED_BY_DATA
from jaxrt.converters.shapes_tf import ROWS, Inferred, Shape
from jaxrt.converters.subgraph import Node, canonical, producer

DENSE = re.compile(
    r"""(
        (Batch)?MatMul(V\d)? | \w*Conv(2D|3D|2d)?\w* | Einsum | Xla(CallModule|Dot\w*|Conv\w*)
      | (Avg|Max)Pool(V2|3D)? | (Stateless)?While | I?R?FFT\w* | Cholesky | Qr | Svd
      | Matrix(Inverse|Solve|TriangularSolve)
      | SelfAdjointEigV2 | (Stateless)?(ParameterizedTruncatedNormal|Multinomial)
    )$""",
    re.VERBOSE,
)
"""What devices are for."""

_MOVING = re.compile(
    r"""(
        Reshape | Squeeze | ExpandDims | Identity(N)? | Cast | Shape | Size | Rank | Fill | Tile
      | (Strided)?Slice | Concat(V2)? | Split(V)? | (Un)?[Pp]ack | Transpose | Range | Pad(V2)?
      | (Ones|Zeros)Like | BroadcastTo | Reverse(V2)? | Gather(V2|Nd)? | Select(V2)? | EnsureShape
    )$""",
    re.VERBOSE,
)
"""What only moves elements, which a host does as well."""

_SET, _GROWS = "TensorListSetItem", "resize_if_index_out_of_bounds"

BEYOND = "/beyond/"
"""In the names of nodes that add up what lists of ids have beyond what a device sums."""

ON_DEVICE = "/steps_on_device/"
"""In the names of nodes that are there for a device to run them."""

_GATHERS = {"GatherV2", "GatherNd", "Gather"}
_LARGE = 1 << 20
"""Bytes. A gather from a larger weight is worth an earlier stage on the device."""


HANDLES = (VARIANT, RESOURCE)
"""What no array carries."""


Opened = tuple[tuple[str, int] | int | None, ...]
"""For each dimension: None for rows, a number, or the input and its dimension that is as large."""


class Place(enum.Enum):
    HOST = "host"
    DEVICE = "device"
    EITHER = "either"
    GATHER = "gather"
    """On the device where that costs no further stage, else on either."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """Shapes at two numbers of rows, and once with all declared unknown sizes filled in."""

    rows: tuple[int, int]
    first: Inferred
    second: Inferred
    filled: Inferred
    """With small sizes."""
    again: Inferred | None = None
    """With larger ones."""
    inner: int = 8
    """The smallest of the small sizes."""
    marks: Mapping[tuple[int, int], tuple[str, int]] = dataclasses.field(default_factory=dict)
    """A small and a large size → the input's alias and its dimension that has them."""

    def crossing(self, tensor: str) -> Shape:
        """The shape if it is known but for rows, which come first; else None."""
        first, second = self.first.shapes.get(tensor), self.second.shapes.get(tensor)
        if first is None or second is None or None in first or len(first) != len(second):
            return None
        if first == second:
            return first
        # A size that happens to be as many as the rows is not one of them: two numbers tell.
        if (first[0], second[0]) != self.rows or first[1:] != second[1:]:
            return None
        return (None, *first[1:])

    def opened(self, tensor: str) -> "Opened | None":
        """The shape if it is known but for rows, which come first, and for sizes that inputs have;
        None where that is not so, or is all known but for rows."""
        every = (self.first, self.second, self.filled, self.again)
        shapes = [None if s is None else s.shapes.get(tensor) for s in every]
        if any(s is None or len(s) != len(shapes[0] or ()) for s in shapes):
            return None
        found: list[tuple[str, int] | int | None] = []
        columns = zip(*(s for s in shapes if s is not None), strict=True)
        for axis, (first, second, low, high) in enumerate(columns):
            if axis == 0 and (first, second) == self.rows:
                found.append(None)
            elif first is not None and first == second:
                found.append(first)
            elif first is None and second is None and (low, high) in self.marks:
                found.append(self.marks[low, high])
            else:
                return None
        return tuple(found) if any(isinstance(n, tuple) for n in found[1:]) else None

    def known(self, tensor: str) -> bool:
        """Whether no data but the sizes of the inputs decide on the shape."""
        shape = self.filled.shapes.get(tensor)
        return shape is not None and None not in shape

    def bytes(self, tensor: str, number: int) -> float:
        """Of one row, or of all where there are no rows."""
        shape = self.filled.shapes.get(tensor)
        if shape is None:
            return math.inf
        size: int = max(1, tf.as_dtype(number).size)
        count = math.prod(n or 1 for n in shape)
        return count * size / (self.rows[0] if shape and shape[0] == self.rows[0] else 1)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    order: tuple[str, ...]
    """Nodes that depend on inputs, producers first."""
    places: Mapping[str, Place]
    """Of those nodes."""
    reasons: Mapping[str, str]
    """Node on the host → why; nodes that are there for another one's sake are absent."""
    free: frozenset[str]
    """Nodes that depend on constants and weights alone: any stage may have its own copy."""


def placed(flat: Flat, sizes: Sizes, refused: Collection[str]) -> Placement:
    """`refused`: ops and names of nodes that the bridge does not take."""
    used = {i for n in flat.body.nodes.values() for i in n.input}
    used |= {t for _, t in flat.body.results}
    free = _free(flat)
    places: dict[str, Place] = {}
    reasons: dict[str, str] = {}
    for name, of in flat.body.nodes.items():
        if name in free:
            continue
        tensors = [f"{name}:{i}" for i, _ in enumerate(outputs(of, flat.library))]
        read = [t for t in tensors if t in used]
        reason = _reason(of, flat, sizes, [*read, *of.input], refused)
        if reason is None and _is_stuck(of, flat, sizes, places):
            places[name] = Place.HOST
        elif reason is None:
            places[name] = _place(of, flat, sizes, free)
        else:
            places[name], reasons[name] = Place.HOST, reason
    return Placement(order=tuple(places), places=places, reasons=reasons, free=frozenset(free))


def _free(flat: Flat) -> set[str]:
    held = {*flat.weights, ROWS}
    free: set[str] = set()
    for name, of in flat.body.nodes.items():
        sources = {producer(i) for i in of.input}
        definition = op_def_registry.get(of.op)
        stateful = definition is None or definition.is_stateful
        bound = of.op != "Const" and STRING in _all_dtypes(of, flat)  # to a host
        bound = bound or any(SEEDED.match(n.op) for n in deep_nodes(of, flat.library))
        effect = name in flat.body.control
        if sources <= free | held and not (stateful or bound or effect):
            free.add(name)
    return free


def _reason(
    of: Node, flat: Flat, sizes: Sizes, tensors: Sequence[str], refused: Collection[str]
) -> str | None:
    """Why no device can run the node; None if one can."""
    if of.name in flat.body.control:
        return "only a host can say what is wrong"
    inside = deep_nodes(of, flat.library)
    if any(HOST.match(n.op) for n in inside):
        return "no device has such an op"
    if any(SEEDED.match(n.op) for n in inside):
        return "XLA would draw other numbers from the same seed"
    if any(STRING in _all_dtypes(n, flat) for n in inside):
        return "no device has strings"
    if any(producer(t) in flat.tables for t in of.input):
        return "no device has tables"
    if any(n.op == _SET and n.attr[_GROWS].b for n in inside):
        if "cond" in of.attr and LONGER in of.attr["cond"].func.name:
            return "for loops of more steps than the device runs"
        return "XLA would keep the first size of a list that grows"
    if of.op in refused or of.name in refused or any(n.op in refused for n in inside):
        return "XLA has no kernel for it"
    if any(n.op in SIZED_BY_DATA for n in inside[1:]):
        return "data decide on shapes inside it"
    for tensor in tensors:
        number = dtype_of(flat, canonical(tensor))
        if number not in HANDLES and not sizes.known(canonical(tensor)):
            if BEYOND in of.name:
                return "for lists with more ids than the device sums"
            return "its shape depends on data"
    return None


def _all_dtypes(of: Node, flat: Flat) -> list[int]:
    elements = [of.attr[a].type for a in ("element_dtype", "dtype") if a in of.attr]
    produced = [number for _, number in outputs(of, flat.library)]
    return [*input_dtypes(of, flat.library), *produced, *elements]


def dtype_of(flat: Flat, tensor: str) -> int:
    """DataType number of a tensor or an argument."""
    args = dict(flat.body.args)
    name = producer(tensor)
    return args[name] if name in args else dtype(flat.body.nodes, tensor, flat.library)


def can_cross(flat: Flat, sizes: Sizes, tensor: str) -> bool:
    if producer(tensor) in flat.inputs.values():
        return True  # the caller says what shapes these have
    number = dtype_of(flat, tensor)
    known = sizes.crossing(tensor) is not None or sizes.opened(tensor) is not None
    return number not in HANDLES and known


def _is_stuck(of: Node, flat: Flat, sizes: Sizes, places: Mapping[str, Place]) -> bool:
    """Whether the node reads from the host what cannot leave it."""
    return any(
        places.get(producer(i)) is Place.HOST and not can_cross(flat, sizes, canonical(i))
        for i in of.input
    )


def _place(of: Node, flat: Flat, sizes: Sizes, free: Collection[str]) -> Place:
    if ON_DEVICE in of.name or any(DENSE.match(n.op) for n in deep_nodes(of, flat.library)):
        return Place.DEVICE
    if of.op in _GATHERS:
        weight = _weight(producer(of.input[0]), flat, free)
        if weight is not None:
            return Place.DEVICE if weight >= _LARGE else Place.GATHER
    return Place.EITHER


def mixing(flat: Flat, sizes: Sizes, placement: Placement) -> frozenset[str]:
    """Nodes that read rows and give something that has none."""
    found = set()
    for name in placement.order:
        of = flat.body.nodes[name]
        shapes = [sizes.crossing(canonical(i)) for i in of.input]
        given = [sizes.crossing(f"{name}:{i}") for i, _ in enumerate(outputs(of, flat.library))]
        known = all(s is not None for s in given)
        if known and _any_rows(shapes) and not _any_rows(given):
            found.add(name)
    return frozenset(found)


def _any_rows(shapes: Sequence[Shape]) -> bool:
    return any(s and s[0] is None for s in shapes)


def heavy(flat: Flat, placement: Placement) -> frozenset[str]:
    """Nodes that compute numbers that are no indices: better on the device than nothing."""
    found = set()
    for name, place in placement.places.items():
        of = flat.body.nodes[name]
        numbers = [n for _, n in outputs(of, flat.library)]
        floating = any(tf.as_dtype(n).is_floating for n in numbers)
        if place is Place.EITHER and floating and not _MOVING.match(of.op):
            found.add(name)
    return frozenset(found)


def _weight(name: str, flat: Flat, free: Collection[str]) -> int | None:
    """Bytes of the weight that a free node is made of."""
    while name in free and flat.body.nodes[name].input:
        name = producer(flat.body.nodes[name].input[0])
    if name not in flat.weights:
        return None
    parameter = flat.weights[name].parameter
    size: int = tf.as_dtype(parameter.dtype).size
    return math.prod(parameter.shape) * size
