"""Which plan: the best few by the cost model are compiled, and what the compiler says decides."""

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrt.errors import ConversionError, DeviceError
from jaxrt.mesh import DATA, MODEL, MeshShape, Spec
from jaxrt.program import Program
from jaxrt.tpu import collectives as exchanges
from jaxrt.tpu.aot import Compiled, compile_for
from jaxrt.tpu.cost import REACHED, collective_seconds
from jaxrt.tpu.layout import Collective
from jaxrt.tpu.plan import Plan, plans
from jaxrt.tpu.topology import Topology

COMPILED = 3
"""How many plans are compiled, at most."""
WORTH = 1.5
"""A plan that the cost model thinks this many times slower than the best one is not compiled."""
CLEARLY = 1.1
"""Replicas of a smaller mesh have to answer this many times the rows of one mesh."""
TIE = 1.1
"""Of plans within this factor, the one that holds at most half the weights on a device wins."""
HALF = 0.55


class Goal(enum.Enum):
    """What `--optimize` wants."""

    THROUGHPUT = "throughput"
    """Rows per second at the largest batch size."""
    LATENCY = "latency"
    """Seconds per call at the smallest batch size."""
    SIZE = "size"
    """Weights that take little: what is held in fewer bits. Plans are as for throughput."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Wishes:
    """What the user decided."""

    goal: Goal = Goal.THROUGHPUT
    mesh: MeshShape | None = None
    """The only one to consider."""
    forced: Mapping[str, Spec] = dataclasses.field(default_factory=dict)
    """Weight → layout."""

    @property
    def axes(self) -> frozenset[str]:
        """Mesh axes that some weight is to be split over: they take two devices or more."""
        return frozenset(axis for spec in self.forced.values() for axis in spec if axis)

    def allow(self, mesh: MeshShape) -> bool:
        """Whether a mesh has what the forced layouts are split over."""
        return self.mesh == mesh or all(mesh.sizes[axis] > 1 for axis in self.axes)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Considered:
    """A plan, how many meshes of it run side by side, and what became of it."""

    plan: Plan
    replicas: int = 1
    compiled: Compiled | None = None
    seconds: float | None = None
    """By what the compiler says; None where it was not asked."""
    refused: str = ""
    """Why it does not run."""

    @property
    def cost(self) -> float:
        """Seconds for each batch of rows: replicas answer several at once."""
        return (self.seconds or self.plan.estimate.seconds) / self.replicas

    def to_json(self) -> dict[str, Any]:
        plan, compiled = self.plan, self.compiled
        return {
            "label": plan.label,
            "mesh": str(plan.mesh),
            "replicas": self.replicas,
            "weight_bytes": plan.weight_bytes,
            "estimated_seconds": plan.estimate.seconds,
            "collectives": counted(plan.collectives),
            "refused": self.refused or None,
            "compiled": None
            if compiled is None
            else {
                "seconds": self.seconds,
                "flops": compiled.stats.flops,
                "bytes_accessed": compiled.stats.bytes_accessed,
                "memory_bytes": memory(compiled),
                "collectives": dict(compiled.collectives),
            },
        }


def counted(found: Sequence[Collective]) -> dict[str, int]:
    """Kind → how many."""
    kinds = [collective.kind for collective in found]
    return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}


def memory(compiled: Compiled) -> int:
    """Bytes that a device needs for one call: weights, inputs, results, temporaries and code."""
    stats = compiled.stats
    return stats.argument_bytes + stats.output_bytes + stats.temp_bytes + stats.code_bytes


def choose(
    program: Program, topology: Topology, wishes: Wishes, attached: Sequence[Any] | None
) -> list[Considered]:
    """Every plan that was considered, the chosen one first.

    Raises DeviceError when no plan fits the memory.
    """
    found = _distinct(_ranked(program, topology, wishes))
    if len(found) == 1:
        return found
    best = found[0].cost
    tried = [
        _tried(program, one, topology, attached)
        if number < COMPILED and one.cost <= WORTH * best
        else one
        for number, one in enumerate(found)
    ]
    running = [one for one in tried if one.compiled is not None]
    if not running:
        return tried
    chosen = _best(running)
    return [chosen, *(one for one in tried if one is not chosen)]


def _ranked(program: Program, topology: Topology, wishes: Wishes) -> list[Considered]:
    """By the cost model, best first; those of smaller meshes as replicas."""
    sizes = [topology.devices]
    if wishes.mesh is not None:
        sizes = [wishes.mesh.devices]
    elif wishes.goal is not Goal.LATENCY:
        sizes += [n for n in range(1, topology.devices) if topology.devices % n == 0]
    found: list[Considered] = []
    refusal: DeviceError | None = None
    for size in sizes:
        try:
            made = plans(
                program,
                topology,
                bf16=False,
                forced=wishes.forced,
                devices=size,
                mesh=wishes.mesh,
            )
        except DeviceError as error:
            refusal = refusal or error
            continue
        replicas = topology.devices // size if wishes.goal is not Goal.LATENCY else 1
        found += [Considered(plan=p, replicas=replicas) for p in made if wishes.allow(p.mesh)]
    if not found:
        raise refusal or DeviceError(f"{topology.name}: no mesh has the axes that --shard splits")
    whole = min((c.cost for c in found if c.plan.mesh.devices == sizes[0]), default=None)
    if whole is not None:
        # Smaller meshes are only offered where they are clearly better.
        found = [c for c in found if c.plan.mesh.devices == sizes[0] or c.cost * CLEARLY <= whole]
    return sorted(found, key=lambda c: c.cost)


def _distinct(found: Sequence[Considered]) -> list[Considered]:
    """Plans that lay out weights alike are one."""
    kept: dict[object, Considered] = {}
    for one in found:
        layouts = tuple(sorted((n, s) for n, s in one.plan.weights.items() if any(s)))
        kept.setdefault((one.plan.mesh, repr(layouts)), one)
    return list(kept.values())


def _tried(
    program: Program, one: Considered, topology: Topology, attached: Sequence[Any] | None
) -> Considered:
    try:
        compiled = compile_for(program, one.plan, topology, attached)
    except (ConversionError, DeviceError) as error:
        return dataclasses.replace(one, refused=str(error))
    if memory(compiled) > topology.device_bytes:
        needed = memory(compiled) / 2**30
        return dataclasses.replace(one, refused=f"a device needs {needed:.2f} GiB for it")
    return dataclasses.replace(
        one, compiled=compiled, seconds=seconds(compiled, one.plan, topology)
    )


def seconds(compiled: Compiled, plan: Plan, topology: Topology) -> float:
    """Of one call, by the operations, bytes and exchanges in the compiled program."""
    chip = topology.chip
    share = REACHED / chip.devices
    estimate = plan.estimate
    rate = estimate.flops / estimate.flop_seconds if estimate.flop_seconds else chip.bf16_flops
    compute = max(
        compiled.stats.flops / rate,
        compiled.stats.bytes_accessed / (chip.memory_bandwidth * share),
    )
    return compute + sum(_exchange(e, plan.mesh, topology) for e in compiled.exchanges)


def _exchange(found: exchanges.Found, mesh: MeshShape, topology: Topology) -> float:
    axis = MODEL if mesh.model > 1 else DATA
    collective = Collective(kind=found.kind, axis=axis, nbytes=found.nbytes)
    return collective_seconds(collective, mesh, topology.chip)


def _best(running: Sequence[Considered]) -> Considered:
    """The fastest, unless one nearly as fast holds half of its weights on a device.

    Replicas must be clearly better than one mesh.
    """
    one_mesh = [c for c in running if c.replicas == min(r.replicas for r in running)]
    ordered = sorted(running, key=lambda c: c.cost)
    best = ordered[0]
    single = min(one_mesh, key=lambda c: c.cost)
    if best.replicas > single.replicas and best.cost * CLEARLY > single.cost:
        best = single
    for other in ordered:
        same = other.replicas == best.replicas and other.cost <= TIE * ordered[0].cost
        if same and other.plan.weight_bytes <= HALF * best.plan.weight_bytes:
            best = other
    return best
