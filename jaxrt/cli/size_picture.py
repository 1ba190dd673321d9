"""Size against error of a compressed model, as a picture."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from jaxrt.compression.budget import spell
from jaxrt.units import size

WIDTH, HEIGHT = 760, 460
LEFT, RIGHT, TOP, BOTTOM = 90, WIDTH - 40, 84, HEIGHT - 64
ROOM = 1.15
"""Above the highest point, for its label."""
BLUE, ORANGE, RED = "#2f6fb7", "#d9601a", "#c0143c"


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    """A choice of layers."""

    nbytes: int
    error: float
    """Relative RMS error of the worst output."""


@dataclasses.dataclass(frozen=True, slots=True)
class Axes:
    """Where bytes and errors lie; both begin at 0."""

    widest: float
    highest: float

    def x(self, nbytes: float) -> float:
        return LEFT + (RIGHT - LEFT) * nbytes / self.widest

    def y(self, error: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * error / self.highest


def size_against_error(report: Mapping[str, Any]) -> str | None:
    """For an <svg>: every choice that was tried, the float model, what was taken, the budget.

    None where nothing was compressed.
    """
    found = report.get("compression")
    if not found:
        return None
    tried = {Point(p["bytes"], float(p["error"])) for p in found["points"]}
    shown = {point for point in tried if math.isfinite(point.error)}
    taken = _taken(found)
    if not shown and taken is None:
        return None
    start = Point(found["bytes_before"], 0.0)
    every = [*shown, start, *([taken] if taken else [])]
    worst = max(point.error for point in every)
    limit = found["asked"]["budget"]["max_error"]
    near = limit is not None and limit <= 4 * worst
    axes = Axes(
        widest=_round_up(1.04 * max(point.nbytes for point in every)),
        highest=_round_up(ROOM * max(worst, limit if near else 0.0)) or 0.01,
    )
    tail = "" if near or limit is None else f"; the budget, {spell(limit)}, is far above"
    return "".join(
        [
            '<rect width="100%" height="100%" fill="white"/>',
            f'<text x="20" y="28" font-size="17">{escape(_title(found))}</text>',
            f'<text x="20" y="50" fill="#555">{escape(_data(found) + tail)}</text>',
            *_grid(axes),
            _curve(axes, sorted(shown | {start}, key=lambda p: (p.nbytes, -p.error))),
            _budget(axes, limit) if near else "",
            _label(axes, start, f"float: {size(start.nbytes)}", BLUE),
            "" if taken is None else _chosen(axes, taken),
        ]
    )


def _taken(found: Mapping[str, Any]) -> Point | None:
    """What the artifact holds, by its program beside TensorFlow; None where that is float."""
    errors = [float(e["rms"]) for outputs in found["outputs"].values() for e in outputs]
    held = any(layer["scheme"] != "float" for layer in found["layers"])
    if found["dropped"] or not (held or found["pruned"]) or not errors:
        return None
    worst = max(errors)
    return Point(found["bytes_after"], worst) if math.isfinite(worst) else None


def _title(found: Mapping[str, Any]) -> str:
    before, after = found["bytes_before"], found["bytes_after"]
    times = f" ({after / before:.3f}x)" if before else ""
    return f"Size of the weights against error: {size(before)} → {size(after)}{times}"


def _data(found: Mapping[str, Any]) -> str:
    rows = sum(found["calibration"]["rows"].values())
    return f"Budget: {found['budget']}; on {found['calibration']['said']}, {rows} rows"


def _grid(axes: Axes) -> Iterator[str]:
    for part in range(6):
        nbytes, error = axes.widest * part / 5, axes.highest * part / 5
        x, y = axes.x(nbytes), axes.y(error)
        yield (
            f'<path d="M{x:.1f} {TOP}V{BOTTOM}M{LEFT} {y:.1f}H{RIGHT}" stroke="#e4e4e4"/>'
            f'<text x="{x:.1f}" y="{BOTTOM + 20}" text-anchor="middle">{size(nbytes)}</text>'
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{spell(error)}</text>'
        )
    middle = (TOP + BOTTOM) // 2
    yield (
        f'<path d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}" fill="none" stroke="#333"/>'
        f'<text x="{(LEFT + RIGHT) // 2}" y="{BOTTOM + 48}" text-anchor="middle">'
        "bytes of the weights</text>"
        f'<text transform="translate(20 {middle}) rotate(-90)" text-anchor="middle">'
        "relative RMS error of the worst output</text>"
    )


def _curve(axes: Axes, points: list[Point]) -> str:
    """Choices that were tried; the line joins them by size."""
    line = " ".join(f"{axes.x(p.nbytes):.1f},{axes.y(p.error):.1f}" for p in points)
    dots = "".join(
        f'<circle cx="{axes.x(p.nbytes):.1f}" cy="{axes.y(p.error):.1f}" r="4">'
        f"<title>{size(p.nbytes)}, {spell(p.error)}</title></circle>"
        for p in points
    )
    return (
        f'<polyline points="{line}" fill="none" stroke="{BLUE}" stroke-width="1.5" '
        f'stroke-dasharray="2 4"/><g fill="{BLUE}">{dots}</g>'
    )


def _label(axes: Axes, point: Point, said: str, colour: str) -> str:
    """Above its point and within the picture; readable across a line."""
    x, y = axes.x(point.nbytes), axes.y(point.error)
    where = min(max(x, LEFT + 90), RIGHT - 90)
    return (
        f'<text x="{where:.1f}" y="{y - 16:.1f}" text-anchor="middle" fill="{colour}" '
        f'stroke="white" stroke-width="4" paint-order="stroke">{escape(said)}</text>'
    )


def _chosen(axes: Axes, taken: Point) -> str:
    x, y = axes.x(taken.nbytes), axes.y(taken.error)
    ring = (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8" fill="none" stroke="{ORANGE}" stroke-width="3"/>'
    )
    return ring + _label(axes, taken, f"taken: {size(taken.nbytes)}, {spell(taken.error)}", ORANGE)


def _budget(axes: Axes, limit: float) -> str:
    y = axes.y(limit)
    return (
        f'<path d="M{LEFT} {y:.1f}H{RIGHT}" stroke="{RED}" stroke-width="1.5" '
        f'stroke-dasharray="8 4"/><text x="{RIGHT - 4}" y="{y - 6:.1f}" text-anchor="end" '
        f'fill="{RED}">budget {spell(limit)}</text>'
    )


def _round_up(number: float) -> float:
    """To a number a fifth of which reads well."""
    if number <= 0:
        return 0.0
    power = 10.0 ** math.floor(math.log10(number))
    return next(n * power for n in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if n * power >= number)
