"""A plan as a picture: what each weight takes of a device, and what devices exchange."""

from collections.abc import Mapping
from html import escape
from typing import Any

from jaxrt.cli.plans import WHOLE, Group, exchanges, groups
from jaxrt.mesh import MODEL
from jaxrt.units import size

WIDTH, HEIGHT = 900, 760
ROWS, LINES = 20, 8
"""The largest weights, and exchanges of one program, that are drawn."""
LEFT, TOP, STEP = 360, 90, 24
BELOW = TOP + (ROWS + 1) * STEP
COLOURS = {WHOLE: "#9aa5b1", "rows": "#e8833a", "columns": "#3a7ce8", "batch axis": "#8a4fc9"}


def plan_picture(report: Mapping[str, Any]) -> str | None:
    """For an <svg>: bars of bytes on each device by layout, exchanges beneath.

    None where the programs are for the one device of the machine that compiled them.
    """
    plan = report.get("plan")
    if not plan:
        return None
    found = sorted(groups(plan["weights"]), key=_nbytes, reverse=True)
    shown, rest = found[:ROWS], found[ROWS:]
    widest = max((_nbytes(group) for group in shown), default=0) or 1
    bars = "".join(_bar(group, row, widest) for row, group in enumerate(shown))
    more = sum(_nbytes(group) for group in rest)
    under = f"and {len(rest)} smaller, {size(more)} together" if rest else ""
    title = f"{plan['label']} on {plan['target']}, mesh {plan['mesh']} (data × model)"
    held = f"{size(plan['device_weight_bytes'])} of {size(plan['weight_bytes'])} on each device"
    return (
        '<rect width="100%" height="100%" fill="white"/>'
        f'<text x="20" y="28" font-size="17">{escape(title)}</text>'
        f'<text x="20" y="52">{escape(held)}</text>{_legend()}{bars}'
        f'<text x="{LEFT}" y="{TOP + len(shown) * STEP + 16}" fill="#555">{under}</text>'
        f"{_exchanges(plan)}"
    )


def _nbytes(group: Group) -> int:
    """On one device."""
    return group.count * group.device_bytes


def _kind(group: Group) -> str:
    if not any(group.spec):
        return WHOLE
    if MODEL not in group.spec:
        return "batch axis"
    return "columns" if group.spec.index(MODEL) == len(group.spec) - 1 else "rows"


def _bar(group: Group, row: int, widest: int) -> str:
    y = TOP + row * STEP
    length = max((WIDTH - LEFT - 120) * _nbytes(group) / widest, 1)
    times = f" ×{group.count}" if group.count > 1 else ""
    name = group.name if len(group.name) <= 46 else f"…{group.name[-45:]}"
    told = f"{group.name}{times}: {list(group.shape)} {group.dtype}, {group.layout}"
    return (
        f"<g><title>{escape(told)}</title>"
        f'<text x="{LEFT - 10}" y="{y + 13}" text-anchor="end">{escape(name + times)}</text>'
        f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{STEP - 6}" '
        f'fill="{COLOURS[_kind(group)]}"/>'
        f'<text x="{LEFT + length + 6:.1f}" y="{y + 13}">{size(_nbytes(group))}</text></g>'
    )


def _legend() -> str:
    return "".join(
        f'<rect x="{LEFT + place * 130}" y="66" width="12" height="12" fill="{colour}"/>'
        f'<text x="{LEFT + place * 130 + 18}" y="77">{kind}</text>'
        for place, (kind, colour) in enumerate(COLOURS.items())
    )


def _exchanges(plan: Mapping[str, Any]) -> str:
    """Of the program with the most of them."""
    programs = plan["programs"]
    program = max(programs, key=lambda p: sum(p["compiled"].values()), default=None)
    lines = [] if program is None else list(exchanges(program))
    texts = [
        f"{compiled} after {name}{f' {times}' if times else ''} (expected: {expected})"
        for name, times, expected, compiled in lines[:LINES]
    ]
    if len(lines) > LINES:
        texts.append(f"and after {len(lines) - LINES} more")
    head = "Exchanges between devices" if texts else "No exchange between devices"
    return f'<text x="20" y="{BELOW + 20}" font-size="15">{head}</text>' + "".join(
        f'<text x="20" y="{BELOW + 44 + 20 * row}">{escape(text)}</text>'
        for row, text in enumerate(texts)
    )
