"""What compression did, as tables and lines, and size against error as a picture."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from jaxrt.cli.console import table
from jaxrt.compression.budget import spell
from jaxrt.units import size

MADE_UP = (
    "NOBODY BROUGHT CALIBRATION DATA: errors and agreements of {} are on MADE-UP inputs, which say "
    "little about real ones; pass --calibration FILE"
)


def compression_tables(report: Mapping[str, Any]) -> list[Table]:
    """Layers, outputs and times; none where nobody asked for compression."""
    found = report.get("compression")
    if not found:
        return []
    held = sum(layer["scheme"] != "float" for layer in found["layers"])
    before, after = found["bytes_before"], found["bytes_after"]
    title = (
        f"Compression: {held} of {len(found['layers'])} layers; weights {size(before)} → "
        f"{size(after)} ({_ratio(after, before)}); budget: {found['budget']}"
    )
    columns = ["layer", "", "scheme", "before", "after", "max error", "RMS error", "SQNR", "why"]
    rows = [_layer(layer) for layer in found["layers"]]
    tables = [table(title, columns, rows)]
    if pruned := found["pruned"]:
        tables += _channels(pruned)
    if outputs := [[key, *_output(e)] for key, es in found["outputs"].items() for e in es]:
        columns = ["signature", "output", "max error", "RMS error", "SQNR", "agreement"]
        tables.append(table(f"Against TensorFlow, {_data(found)}", columns, outputs))
    if speeds := [_speed(speed) for speed in found["speed"]]:
        columns = ["program", "input shapes", "float", "compressed", "rows a second", "", "as fast"]
        tables.append(table("Time of a call before and after", columns, speeds))
    return tables


def _channels(pruned: Mapping[str, Any]) -> list[Table]:
    """By the weights that have them in common; none where no channel was taken."""
    before, after = pruned["bytes_before"], pruned["bytes_after"]
    saved = 1 - pruned["flops_after"] / pruned["flops_before"] if pruned["flops_before"] else 0.0
    error = "" if pruned["error"] is None else f", error {spell(float(pruned['error']['rms']))}"
    title = (
        f"Channels taken: weights {size(before)} → {size(after)}, "
        f"{spell(saved)} of the operations{error}"
    )
    columns = ["dimensions of weights", "channels", "left", "dead", "filled by", "error alone"]
    rows = [_group(one) for one in pruned["channels"]]
    return [table(title, columns, rows)] if rows else []


def _group(one: Mapping[str, Any]) -> list[str]:
    alone = spell(float(one["error"]["rms"])) if one["error"] else ""
    counts = [str(one[name]) for name in ("before", "after", "dead")]
    return [one["weights"], *counts, one["filled"], alone]


def compression_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """What is to be said aloud."""
    found = report.get("compression")
    if not found:
        return
    if found["calibration"]["made_up"]:
        yield MADE_UP.format(", ".join(map(repr, found["calibration"]["made_up"])))
    if found["dropped"]:
        yield f"nothing is compressed after all: {found['dropped']}"
    yield from found["notes"]
    yield from found["pruned"]["notes"] if found["pruned"] else ()


def _data(found: Mapping[str, Any]) -> str:
    data = found["calibration"]
    rows = sum(data["rows"].values())
    tried = data["rows_tried"]
    alone = (
        "layers alone rated by their weights"
        if data["estimated"]
        else f"layers alone on {tried} of {rows}"
    )
    return f"{data['said']}: {rows} rows, {alone}"


def _layer(layer: Mapping[str, Any]) -> list[str]:
    error = layer["error"]
    told = ["", "", ""] if error is None else _errors(error)
    return [
        layer["layer"],
        layer["kind"],
        layer["scheme"],
        size(layer["bytes_before"]),
        size(layer["bytes_after"]),
        *told,
        layer["why"],
    ]


def _errors(error: Mapping[str, Any]) -> list[str]:
    """JSON spells inf."""
    return [
        f"{float(error['max_error']):.3g}",
        spell(float(error["rms"])),
        f"{float(error['sqnr_db']):.1f} dB",
    ]


def _output(error: Mapping[str, Any]) -> list[str]:
    agreement = error["agreement"]
    return [error["output"], *_errors(error), "" if agreement is None else spell(agreement)]


def _speed(speed: Mapping[str, Any]) -> list[str]:
    return [
        speed["part"],
        speed["shapes"],
        _time(speed["latency_before"]),
        _time(speed["latency_after"]),
        f"{speed['throughput_before']:.0f}",
        f"{speed['throughput_after']:.0f}",
        f"{speed['times_as_fast']:.2f}x",
    ]


def _time(seconds: float) -> str:
    return f"{1e6 * seconds:.0f} µs" if seconds < 1e-3 else f"{1e3 * seconds:.2f} ms"


def _ratio(after: float, before: float) -> str:
    return f"{after / before:.3f}x" if before else "-"


WIDTH, HEIGHT, LEFT, BOTTOM = 640, 400, 80, 60


def size_against_error(report: Mapping[str, Any]) -> str | None:
    """For an <svg>: bytes of the weights and relative RMS error of every choice that was tried.

    None where nothing was compressed.
    """
    found = report.get("compression")
    points = [(p["bytes"], float(p["error"])) for p in found["points"]] if found else []
    points = sorted({(b, e) for b, e in points if math.isfinite(e)} | _float(found))
    if len(points) < 2:
        return None
    widest = max(b for b, _ in points)
    worst = max(e for _, e in points) or 1.0

    def place(count: float, error: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - 30) * count / widest
        return x, HEIGHT - BOTTOM - (HEIGHT - BOTTOM - 40) * error / worst

    places = [place(*point) for point in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{size(b)}, {spell(e)}</title></circle>'
        for (x, y), (b, e) in zip(places, points, strict=True)
    )
    return (
        f'<rect width="100%" height="100%" fill="white"/>'
        f'<text x="{LEFT}" y="24" font-size="15">Size of the weights against error</text>'
        f"{_axes(widest, worst)}"
        f'<polyline points="{line}" fill="none" stroke="steelblue" stroke-width="2"/>'
        f'<g fill="steelblue">{dots}</g>{_budget(found, worst)}'
    )


def _float(found: Mapping[str, Any] | None) -> set[tuple[int, float]]:
    return {(found["bytes_before"], 0.0)} if found else set()


def _axes(widest: float, worst: float) -> str:
    floor, right = HEIGHT - BOTTOM, WIDTH - 30
    ticks = ""
    for part in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = LEFT + (right - LEFT) * part, floor - (floor - 40) * part
        ticks += (
            f'<text x="{x:.0f}" y="{floor + 20}" text-anchor="middle">{size(widest * part)}</text>'
            f'<text x="{LEFT - 8}" y="{y + 4:.0f}" text-anchor="end">{spell(worst * part)}</text>'
            f'<path d="M{LEFT} {y:.0f}H{right}" stroke="#ddd"/>'
        )
    return (
        f'{ticks}<path d="M{LEFT} 40V{floor}H{right}" fill="none" stroke="black"/>'
        f'<text x="{(LEFT + right) // 2}" y="{HEIGHT - 16}" text-anchor="middle">weights</text>'
        f'<text transform="translate(16 {HEIGHT // 2}) rotate(-90)" text-anchor="middle">'
        f"relative RMS error of the worst output</text>"
    )


def _budget(found: Mapping[str, Any] | None, worst: float) -> str:
    """A line at the error that was allowed, where the picture reaches so far."""
    limit = found["asked"]["budget"]["max_error"] if found else None
    if limit is None or limit > worst:
        return ""
    y = HEIGHT - BOTTOM - (HEIGHT - BOTTOM - 40) * limit / worst
    return (
        f'<path d="M{LEFT} {y:.1f}H{WIDTH - 30}" stroke="crimson" stroke-dasharray="6 4"/>'
        f'<text x="{WIDTH - 32}" y="{y - 6:.1f}" text-anchor="end" fill="crimson">'
        f"budget {spell(limit)}</text>"
    )
