"""Plans as JSON, for the report: what was chosen, why, and what it takes of each device."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from jaxrt.mesh import MeshShape, Spec
from jaxrt.tpu.aot import Compiled
from jaxrt.tpu.choose import Considered, Goal, counted, memory
from jaxrt.tpu.layout import fitting, parts, whole
from jaxrt.tpu.plan import Plan
from jaxrt.tpu.topology import Topology

_NUMBER = re.compile(r"_?[0-9]+")


def real(spec: Spec, mesh: MeshShape) -> Spec:
    """Without mesh axes of one device: nothing is split over those."""
    return tuple(axis if axis and mesh.sizes[axis] > 1 else None for axis in spec)


def plan(
    considered: Sequence[Considered],
    topology: Topology,
    goal: Goal,
    weights: Mapping[str, Any],
    specs: Mapping[str, Spec],
) -> dict[str, Any]:
    """The chosen plan comes first in `considered`; `weights` are avals by stored name.

    Bytes are of one device, seconds of one call on all of them.
    """
    chosen = considered[0]
    mesh = chosen.plan.mesh
    rows = []
    for name, aval in weights.items():
        spec = fitting(aval.shape, specs.get(name, whole(len(aval.shape))), mesh.sizes)
        nbytes = aval.size * aval.dtype.itemsize
        rows.append(
            {
                "name": name,
                "shape": list(aval.shape),
                "dtype": aval.dtype.name,
                "spec": list(spec),
                "bytes": nbytes,
                "device_bytes": math.ceil(nbytes / parts(spec, mesh.sizes)),
            }
        )
    return {
        "target": topology.name,
        "chip": topology.chip.title,
        "device_memory_bytes": topology.device_bytes,
        "optimize": goal.value,
        "label": chosen.plan.label,
        "mesh": str(mesh),
        "replicas": chosen.replicas,
        "why": why(considered, topology, goal),
        "weight_bytes": sum(row["bytes"] for row in rows),
        "device_weight_bytes": sum(row["device_bytes"] for row in rows),
        "considered": [one.to_json() for one in considered],
        "weights": rows,
    }


def why(considered: Sequence[Considered], topology: Topology, goal: Goal) -> str:
    """One sentence."""
    chosen, others = considered[0], considered[1:]
    if topology.devices == 1:
        return "One device: everything is whole on it."
    if not others:
        return "No other plan lays out the weights otherwise."
    rival = min(others, key=lambda one: (one.seconds is None, one.cost))
    by = "what the compiler counts" if rival.seconds and chosen.seconds else "the cost model"
    what = "calls a second" if goal is Goal.LATENCY else "rows a second"
    times = rival.cost / chosen.cost
    said = f"{times:.2f} times the {what} of {_spell(rival)}, by {by}"
    if times < 1:
        said += "; it holds less on each device, or needs no replicas"
    return f"{said}."


def _spell(one: Considered) -> str:
    replicas = f", {one.replicas} replicas" if one.replicas > 1 else ""
    return f"{one.plan.label} on {one.plan.mesh}{replicas}"


def program(found: Plan, compiled: Compiled, topology: Topology) -> dict[str, Any]:
    """What is to be said of one program: its exchanges and its memory."""
    return {
        "expected": counted(found.collectives),
        "compiled": dict(compiled.collectives),
        "layers": layers(found.collectives, compiled.exchanges),
        "memory_bytes": memory(compiled),
        "memory_share": memory(compiled) / topology.device_bytes,
        "estimated_seconds": found.estimate.seconds,
    }


class _Exchange(Protocol):
    @property
    def kind(self) -> str: ...

    @property
    def scope(self) -> str: ...


def layers(expected: Iterable[_Exchange], compiled: Iterable[_Exchange]) -> list[dict[str, Any]]:
    """Exchanges by the weight that was used last before them.

    Weights whose names differ in their numbers alone are of layers that repeat, and one line:
    `encoder/layer_*/output/kernel`, how many there are, and the exchanges after all of them.
    """
    weights: dict[str, dict[str, None]] = {}
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for said, found in (("expected", expected), ("compiled", compiled)):
        for one in found:
            name = one.scope.partition("~")[0]
            pattern = _NUMBER.sub("", name)
            weights.setdefault(pattern, {}).setdefault(name)
            kinds = counts.setdefault(pattern, {}).setdefault(said, {})
            kinds[one.kind] = kinds.get(one.kind, 0) + 1
    return [
        {
            "after": spelled(list(names)),
            "weights": len(names),
            "expected": counts[pattern].get("expected", {}),
            "compiled": counts[pattern].get("compiled", {}),
        }
        for pattern, names in weights.items()
    ]


def spelled(names: Sequence[str]) -> str:
    """One name for several that differ in their numbers: `dense_*/kernel`."""
    longest = max(names, key=lambda name: len(_NUMBER.findall(name)))
    return longest if len(names) == 1 else _NUMBER.sub("_*", longest)
