"""What each segment of a signature costs for one example, and where: the table of the report."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxrt.converters.conversion import Converted, ConvertedSignature
from jaxrt.converters.records import Stage
from jaxrt.converters.routes import Route
from jaxrt.manifest import HostEntry, ProgramEntry, SignatureEntry, StageEntry
from jaxrt.passes.jaxprs import nested
from jaxrt.specs import DTYPES, SignatureSpec, stage_key

_LOOPS = frozenset({"while", "scan"})


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """One stage of a signature, or all of it. Figures are for one example."""

    where: str
    """`device`; `host, native`; `host, TensorFlow`; `host, whole in TensorFlow`."""
    why: str
    """Why it is on the host, or that nothing was compiled for the device; else empty."""
    ops: Mapping[str, int]
    """TensorFlow op → how many nodes of it."""
    reasons: Mapping[str, Mapping[str, int]]
    """Why some op keeps the segment on the host → op → how many nodes of it."""
    flops: float | None
    """On the device XLA's count; on the host that of a run on sample inputs; None: unknown."""
    loops: bool
    """The body of a loop is counted once: XLA does not know how often it runs."""
    uncounted: tuple[str, ...]
    """Ops that `flops` leaves out."""
    bytes_in: float | None
    bytes_out: float | None
    """Strings have the length of the samples' text; None where nobody knows."""

    @property
    def on_device(self) -> bool:
        return self.where == "device"

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"uncounted": list(self.uncounted)}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """The segments of one signature, in the order they run."""

    segments: tuple[Segment, ...]
    crossing: float | None
    """Bytes that pass between host and device for one example; inputs and answers are none."""

    @property
    def whole(self) -> bool:
        """Whether TensorFlow runs the signature as it is."""
        return any(s.where == WHOLE for s in self.segments)

    @property
    def device_share(self) -> float | None:
        """Of the operations, 0 to 1; None where they are unknown or none at all."""
        if all(not s.on_device for s in self.segments):
            return 0.0
        if all(s.on_device for s in self.segments):
            return 1.0
        counted = [(s.on_device, s.flops) for s in self.segments]
        if any(flops is None for _, flops in counted):
            return None
        total = math.fsum(flops or 0.0 for _, flops in counted)
        return math.fsum(f or 0.0 for device, f in counted if device) / total if total else None

    def to_json(self) -> dict[str, Any]:
        return {
            "segments": [segment.to_json() for segment in self.segments],
            "device_share": self.device_share,
            "crossing_bytes": self.crossing,
        }


WHOLE = "host, whole in TensorFlow"
_WHERE = {"native": "host, native", "tensorflow": "host, TensorFlow", "saved_model": WHOLE}


def costs(
    key: str,
    entry: SignatureEntry,
    route: Route,
    counts: Mapping[str, int],
    converted: Mapping[str, ConvertedSignature],
) -> Costs:
    """`counts` are the ops of the whole signature; `converted` has its parts by their keys."""
    if not entry.stages:
        return Costs(segments=(_device(entry.programs, converted.get(key), counts),), crossing=0.0)
    if entry.stages[0].host and entry.stages[0].host.executor == "saved_model":
        return Costs(segments=(_whole(entry.spec, entry.stages[0].host, counts),), crossing=0.0)
    segments = [
        _segment(of, stage, converted.get(stage_key(key, number)))
        for number, (of, stage) in enumerate(zip(entry.stages, route.stages, strict=True))
    ]
    return Costs(segments=tuple(segments), crossing=crossing(route.stages))


def crossing(stages: Sequence[Stage]) -> float | None:
    """Bytes for one example of the values that a stage takes from one on the other side, each
    once for every stage that takes it; None where one was not measured."""
    made: dict[str, str] = {}
    total = 0.0
    for stage in stages:
        for value in stage.inputs:
            if made.get(value.name, stage.where) != stage.where:
                known = stage.measured.bytes if stage.measured else {}
                if value.name not in known:
                    return None
                total += known[value.name]
        # Only now: an answer may have the name of an input, which the stages before it took.
        made |= {value.name: stage.where for value in stage.outputs}
    return total


def _segment(entry: StageEntry, stage: Stage, converted: ConvertedSignature | None) -> Segment:
    """A stage of a cut signature."""
    known = stage.measured.bytes if stage.measured else {}
    bytes_in = _sum(known.get(value.name) for value in stage.inputs)
    bytes_out = _sum(known.get(value.name) for value in stage.outputs)
    if entry.host is None:
        device = _device(entry.programs, converted, stage.counts)
        return dataclasses.replace(device, bytes_in=bytes_in, bytes_out=bytes_out)
    return Segment(
        where=_WHERE[entry.host.executor],
        why=entry.host.why,
        ops=stage.counts,
        reasons=stage.reasons,
        flops=stage.measured.flops if stage.measured else None,
        loops=False,
        uncounted=stage.measured.uncounted if stage.measured else (),
        bytes_in=bytes_in,
        bytes_out=bytes_out,
    )


def _device(
    entries: Sequence[ProgramEntry],
    converted: ConvertedSignature | None,
    counts: Mapping[str, int],
) -> Segment:
    """By the program of the largest batch: what a call costs beside its rows weighs least."""
    programs = converted.programs if converted else ()
    pairs = list(zip(entries, programs, strict=True))
    found = max(pairs, key=lambda pair: pair[1].planned.batch or 0, default=None)
    flops, loops, bytes_in, bytes_out = None, False, None, None
    if found is not None:
        entry, program = found
        rows = program.planned.batch or 1
        flops = None if entry.stats.flops is None else entry.stats.flops / rows
        loops = has_loops(program)
        bytes_in = _bytes(entry.input_shapes, entry.input_dtypes) / rows
        bytes_out = _bytes(entry.output_shapes, entry.output_dtypes) / rows
    return Segment(
        where="device",
        why="" if found else "no shape of it was compiled",
        ops=counts,
        reasons={},
        flops=flops,
        loops=loops,
        uncounted=(),
        bytes_in=bytes_in,
        bytes_out=bytes_out,
    )


def _whole(spec: SignatureSpec, host: HostEntry, counts: Mapping[str, int]) -> Segment:
    """Nobody counts what TensorFlow does in a signature that was not cut."""
    return Segment(
        where=WHOLE,
        why=host.why,
        ops=counts or dict.fromkeys(host.ops, 1),
        reasons={},
        flops=None,
        loops=False,
        uncounted=(),
        bytes_in=_sum(_row_bytes(t.dtype, t.shape) for t in spec.inputs.values()),
        bytes_out=_sum(_row_bytes(t.dtype, t.shape) for t in spec.outputs.values()),
    )


def has_loops(program: Converted) -> bool:
    """Whether a loop is somewhere in what runs for a request."""
    made = program.optimized
    # The passes' own loops over rows are counted in full: what was there before them tells.
    stack = [(made.source if made.has_own_loops else program.split.apply).jaxpr.jaxpr]
    while stack:
        for equation in stack.pop().eqns:
            if equation.primitive.name in _LOOPS:
                return True
            stack += [inner.jaxpr for inner in nested(equation)]
    return False


def _bytes(shapes: Mapping[str, Sequence[int]], dtypes: Mapping[str, str]) -> float:
    return math.fsum(math.prod(s) * _size(dtypes[name]) for name, s in shapes.items())


def _size(dtype: str) -> int:
    numpy = DTYPES[dtype].numpy
    return 0 if numpy is None else numpy.itemsize


def _row_bytes(dtype: str, shape: Sequence[int | None] | None) -> float | None:
    """Of one example, whose rows come first; None for strings and unknown sizes."""
    if dtype == "string" or shape is None or None in shape[1:]:
        return None
    return float(math.prod(n for n in shape if n is not None) * _size(dtype))


def _sum(numbers: Iterable[float | None]) -> float | None:
    found = list(numbers)
    return None if None in found else math.fsum(n for n in found if n is not None)
