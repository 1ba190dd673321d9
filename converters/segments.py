"""A signature cut into stages, each asked of TensorFlow's bridge or checked against TensorFlow."""

import dataclasses
import re
from collections.abc import Sequence

from jaxrt.converters import bags, capped, cut, placement, rows, stage_graphs, stages
from jaxrt.converters.bodies import Uncuttable
from jaxrt.converters.flat import Flat
from jaxrt.converters.placement import Place
from jaxrt.converters.restored import Function
from jaxrt.converters.savedmodel import first_line
from jaxrt.converters.stages import Cut, Part
from jaxrt.converters.subgraph import canonical, producer
from jaxrt.specs import SignatureSpec

_ROUNDS = 40
"""How often a cut is tried again without what the bridge refused."""
_SIZINGS = 4
"""What one shape tells may tell another."""
_NO_KERNEL = re.compile(r"(\w+) \(No registered '")
_NODE = re.compile(r"\{\{(?:function_)?node ([^}\s]+)\}\}|`([^`\s]+)`")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Segments:
    """A signature's stages, and the flat graph that they are of."""

    flat: Flat
    spec: SignatureSpec
    """Inputs of unknown rank have the one that the graph wants."""
    sizes: placement.Sizes
    parts: Sequence[Part]


def segmented(
    flat: Flat, spec: SignatureSpec, *, open_sizes: bool = True, part_loops: bool = True
) -> Segments:
    """`open_sizes`: devices take what has sizes that the signature leaves open beside the rows.
    `part_loops`: devices run the first steps of loops whose lists grow. Raises Uncuttable."""
    spec = rows.ranked(flat, spec)
    flat, sizes = _sized(flat, spec, open_sizes)
    parted = capped.with_caps(flat, sizes) if part_loops else flat
    if parted is not flat:
        try:
            return _segmented(parted, spec, rows.sized(parted, spec, open_sizes=open_sizes))
        except Uncuttable:
            pass  # the host runs all of it
    return _segmented(flat, spec, sizes)


def _segmented(flat: Flat, spec: SignatureSpec, sizes: placement.Sizes) -> Segments:
    refused: set[str] = set()
    for _ in range(_ROUNDS):
        found = _cut(flat, spec, sizes, refused)
        if any(map(capped.is_parted, found.placement.reasons)):
            raise Uncuttable("The host would run a loop that was parted for a device.")
        made = stages.parts(found)
        declined = _declined(flat, made, sizes)
        if not declined:
            return Segments(flat=flat, spec=spec, sizes=sizes, parts=made)
        if declined <= refused:
            raise Uncuttable(f"The bridge refuses {', '.join(sorted(declined))} all the same.")
        refused |= declined
    raise Uncuttable("The bridge refuses one op after another.")


def _sized(flat: Flat, spec: SignatureSpec, open_sizes: bool) -> tuple[Flat, placement.Sizes]:
    """The flat graph with as few sizes that depend on data as can be."""
    sizes = rows.sized(flat, spec, open_sizes=open_sizes)
    for _ in range(_SIZINGS):
        before = flat.body.nodes
        flat = rows.with_rows(flat, sizes)
        flat = bags.with_bags(flat, rows.sized(flat, spec))
        sizes = rows.sized(flat, spec, open_sizes=open_sizes)
        if flat.body.nodes.keys() == before.keys():
            break
    return flat, sizes


def _cut(flat: Flat, spec: SignatureSpec, sizes: placement.Sizes, refused: set[str]) -> Cut:
    placed = placement.placed(flat, sizes, refused)

    def cost(tensor: str) -> float:
        if placement.can_cross(flat, sizes, tensor):
            return sizes.bytes(tensor, placement.dtype_of(flat, tensor))
        is_array = placement.dtype_of(flat, tensor) not in placement.HANDLES
        again = placed.places.get(producer(tensor)) is not Place.HOST and is_array
        return 1e12 if again else float("inf")  # what is computed twice costs no more than that

    nodes = flat.body.nodes
    reads = {
        name: [
            canonical(i)
            for i in nodes[name].input
            if producer(i) in placed.places or producer(i) in flat.inputs.values()
        ]
        for name in placed.order
    }
    problem = cut.Problem(
        order=placed.order,
        places=placed.places,
        reads=reads,
        cost=cost,
        results=[t for _, t in flat.body.results],
        mixing=placement.mixing(flat, sizes, placed),
        heavy=placement.heavy(flat, placed),
    )
    phases = cut.phases(problem)
    return Cut(flat=flat, spec=spec, sizes=sizes, placement=placed, phases=phases)


def _declined(flat: Flat, made: Sequence[Part], sizes: placement.Sizes) -> set[str]:
    """Ops and nodes that the bridge does not take in some stage on the device."""
    for part in made:
        if part.on_device:
            try:
                lower(stage_graphs.function(part, flat), part, 3, sizes)
            except Exception as error:  # whatever TensorFlow's C++ and Python layers raise
                return _blamed(error, part, flat)
    return set()


def lower(function: Function, part: Part, batch: int, sizes: placement.Sizes) -> bytes:
    marks = {dim: low for (low, _), dim in sizes.marks.items()}
    shapes = {}
    for name in part.takes:
        value = part.values[name]
        if value.shape is None:
            raise Uncuttable(f"{name} has no known rank.")
        like = value.like or (None,) * len(value.shape)
        shapes[name] = [
            (batch if i == 0 else marks.get(dim or ("", i), sizes.inner)) if n is None else n
            for i, (n, dim) in enumerate(zip(value.shape, like, strict=True))
        ]
    return function.stablehlo(shapes)


def _blamed(error: Exception, part: Part, flat: Flat) -> set[str]:
    text = str(error)
    ops = set(_NO_KERNEL.findall(text))
    if ops:
        return ops
    named = {a or b for a, b in _NODE.findall(text)} & set(part.nodes)
    if named:
        return named
    raise Uncuttable(f"The bridge declines: {first_line(error)}")
