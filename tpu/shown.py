"""Plans as JSON, for the report: what was chosen, why, and what it takes of each device."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrt.mesh import MeshShape, Spec
from jaxrt.tpu.aot import Compiled
from jaxrt.tpu.choose import Considered, Goal, counted, memory
from jaxrt.tpu.layout import fitting, parts, whole
from jaxrt.tpu.plan import Plan
from jaxrt.tpu.topology import Topology

_NUMBER = re.compile(r"[0-9]+")


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
    what = "rows a second" if goal is Goal.THROUGHPUT else "calls a second"
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
    scopes = [(c.kind, c.scope) for c in found.collectives]
    return {
        "expected": counted(found.collectives),
        "compiled": dict(compiled.collectives),
        "layers": layers(scopes),
        "memory_bytes": memory(compiled),
        "memory_share": memory(compiled) / topology.device_bytes,
        "estimated_seconds": found.estimate.seconds,
    }


def layers(scopes: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Expected exchanges by layer: the weight that each comes after, without what follows a number.

    `bert/layer_3/output/kernel` is of the layer `bert/layer_3`; equal layers in a row are one line
    with how many there are.
    """
    found: dict[str, dict[str, int]] = {}
    for kind, scope in scopes:
        counts = found.setdefault(_layer(scope), {})
        counts[kind] = counts.get(kind, 0) + 1
    lines: list[dict[str, Any]] = []
    for layer, counts in found.items():
        pattern = _NUMBER.sub("*", layer)
        if lines and lines[-1]["pattern"] == pattern and lines[-1]["collectives"] == counts:
            lines[-1]["layers"] += 1
        else:
            lines.append({"pattern": pattern, "layers": 1, "collectives": counts})
    return lines


def _layer(scope: str) -> str:
    """Up to the part of the name that has its first number, or all but the last part."""
    pieces = scope.partition("~")[0].split("/")
    for place, piece in enumerate(pieces):
        if _NUMBER.search(piece):
            return "/".join(pieces[: place + 1])
    return "/".join(pieces[:-1]) or scope
