"""How programs lie on several devices, or on one that is elsewhere, as tables."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from jaxrt.cli.console import table
from jaxrt.units import size

_NUMBER = re.compile(r"_?[0-9]+")
_WHOLE = "whole"


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
            [list(row) for row in _weights(plan["weights"])],
        ),
    ]
    rows = [list(row) for row in _exchanges(plan["programs"])]
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


def _weights(weights: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[str]]:
    """Those of layers that repeat, which differ in the numbers of their names, are one row."""
    groups: dict[object, list[Mapping[str, Any]]] = {}
    for one in weights:
        shape, spec = tuple(one["shape"]), tuple(one["spec"])
        pattern = _NUMBER.sub("", one["name"].partition("~")[0])
        groups.setdefault((pattern, shape, one["dtype"], spec), []).append(one)
    for (_, shape, dtype, spec), found in groups.items():  # type: ignore[misc]
        names = [one["name"].partition("~")[0] for one in found]
        yield (
            _spelled(names),
            f"×{len(found)}" if len(found) > 1 else "",
            "×".join(map(str, shape)) or "scalar",
            dtype,
            ", ".join(axis or "-" for axis in spec) if any(spec) else _WHOLE,
            size(found[0]["device_bytes"]),
        )


def _spelled(names: Sequence[str]) -> str:
    longest = max(names, key=lambda name: len(_NUMBER.findall(name)))
    return longest if len(set(names)) == 1 else _NUMBER.sub("_*", longest)


def _exchanges(programs: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[str]]:
    for program in programs:
        for line in program["layers"]:
            count = line["weights"]
            yield (
                program["key"],
                line["after"] or "elsewhere",
                f"×{count}" if count > 1 else "",
                _each(line["expected"], count),
                _each(line["compiled"], count),
            )


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
