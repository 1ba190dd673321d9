"""How programs lie on several devices, or on one that is elsewhere, as tables."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from jaxrt.cli.console import table
from jaxrt.units import size

_NUMBER = re.compile(r"_?[0-9]+")
WHOLE = "whole"
"""The layout of a weight that every device has all of."""


def plan_tables(report: Mapping[str, Any]) -> list[Table]:
    """What was considered, each weight's layout, and what the programs exchange; none on one device
    of this machine.
    """
    plan = report.get("plan")
    if not plan:
        return []
    on = "on one device" if plan["mesh"] == "1×1" else f"on mesh {plan['mesh']} (data × model)"
    tables = [
        table(
            f"Plan for {plan['target']}: {plan['label']} {on}{_replicas(plan)}\n{plan['why']}",
            ["plan", "mesh", "replicas", "weights/device", "estimate", "compiled", "memory", ""],
            [_considered(one, place) for place, one in enumerate(plan["considered"])],
        ),
        table(
            f"Weights: {size(plan['device_weight_bytes'])} of {size(plan['weight_bytes'])} on each "
            "device",
            ["weight", "", "shape", "dtype", "spec", "bytes/device"],
            [_weight(group) for group in groups(plan["weights"])],
        ),
    ]
    rows = [[p["key"], *cells] for p in plan["programs"] for cells in exchanges(p)]
    if rows:
        columns = ["program", "after", "", "expected", "compiled"]
        tables.append(table("Exchanges between devices", columns, rows))
    room = plan["device_memory_bytes"]
    memory = [
        [program["key"], size(program["memory_bytes"]), f"{program['memory_share']:.1%}"]
        for program in plan["programs"]
    ]
    title = f"Memory of a device, of {size(room)}"
    return [*tables, table(title, ["program", "needs", "share"], memory)]


def _replicas(plan: Mapping[str, Any]) -> str:
    return f", {plan['replicas']} replicas" if plan["replicas"] > 1 else ""


def _considered(one: Mapping[str, Any], place: int) -> list[str]:
    compiled = one["compiled"]
    verdict = "chosen" if place == 0 else ("" if compiled else "not compiled")
    return [
        one["label"],
        one["mesh"],
        str(one["replicas"]),
        size(one["weight_bytes"]),
        _microseconds(one["estimated_seconds"]),
        _microseconds(compiled["seconds"]) if compiled else "-",
        size(compiled["memory_bytes"]) if compiled else "-",
        one["refused"] or verdict,
    ]


def _microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:,.1f} µs"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Weights of layers that repeat: alike but for the numbers in their names."""

    name: str
    count: int
    shape: tuple[int, ...]
    dtype: str
    spec: tuple[str | None, ...]
    device_bytes: int
    """Of one of them, on one device."""

    @property
    def layout(self) -> str:
        """`-, model`; `whole` where nothing is split."""
        return ", ".join(axis or "-" for axis in self.spec) if any(self.spec) else WHOLE


def groups(weights: Sequence[Mapping[str, Any]]) -> list[Group]:
    """The weights of a plan, in its order."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for one in weights:
        pattern = _NUMBER.sub("", one["name"].partition("~")[0])
        key = f"{pattern} {one['shape']} {one['dtype']} {one['spec']}"
        found.setdefault(key, []).append(one)
    return [
        Group(
            name=_spelled([one["name"].partition("~")[0] for one in alike]),
            count=len(alike),
            shape=tuple(alike[0]["shape"]),
            dtype=alike[0]["dtype"],
            spec=tuple(alike[0]["spec"]),
            device_bytes=alike[0]["device_bytes"],
        )
        for alike in found.values()
    ]


def _weight(group: Group) -> list[str]:
    return [
        group.name,
        f"×{group.count}" if group.count > 1 else "",
        "×".join(map(str, group.shape)) or "scalar",
        group.dtype,
        group.layout,
        size(group.device_bytes),
    ]


def _spelled(names: Sequence[str]) -> str:
    longest = max(names, key=lambda name: len(_NUMBER.findall(name)))
    return longest if len(set(names)) == 1 else _NUMBER.sub("_*", longest)


def exchanges(program: Mapping[str, Any]) -> Iterator[list[str]]:
    """After which weights, of how many layers, and what: expected and compiled."""
    for line in program["layers"]:
        count = line["weights"]
        yield [
            line["after"] or "elsewhere",
            f"×{count}" if count > 1 else "",
            _each(line["expected"], count),
            _each(line["compiled"], count),
        ]


def _each(kinds: Mapping[str, int], count: int) -> str:
    """`1 all-reduce each`, where all of them have as many."""
    return (
        ", ".join(
            f"{number // count} {kind} each"
            if count > 1 and number % count == 0
            else f"{number} {kind}"
            for kind, number in kinds.items()
        )
        or "none"
    )
