"""Pictures of what was measured, beside the results: SVG, from the figures that the benches store.

    python -m bench.engine --work WORK --json WORK/engine.json
    python -m bench.http_compare MODELS --peers PEERS --json WORK/http.json
    python -m bench.plots --engine WORK/engine.json --http WORK/http.json [--out bench/plots]

One picture for the engines, a bar for each model and number of rows, and one for each workload of
the HTTP servers: how long answers take, by how many are asked for in a second. Needs matplotlib.
"""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.engine.tables import Cell

HERE = Path(__file__).parent
COLOURS = {
    "jaxrt": "#d1495b",
    "tensorflow": "#edae49",
    "tensorflow_xla": "#8d6a2f",
    "openvino": "#00798c",
    "onnxruntime": "#30638e",
    "starlette": "#edae49",
    "kserve": "#00798c",
    "litserve": "#30638e",
    "pytriton": "#6a994e",
    "echo": "#9a9a9a",
}
LIMIT_MS = 20.0


def engines(cells: Sequence[Cell], machine: str = "") -> Any:
    """How many times faster jaxrt was than each of the others; logarithmic, 1 is a tie."""
    figure, axes = _figure(max(6.0, 0.45 * len(cells) + 2), 4.2)
    names = [n for n in COLOURS if n != "jaxrt" and any(c.ratio(n) is not None for c in cells)]
    width = 0.8 / max(1, len(names))
    for index, name in enumerate(names):
        found = [(at, r) for at, cell in enumerate(cells) if (r := cell.ratio(name)) is not None]
        places = [at + (index - (len(names) - 1) / 2) * width for at, _ in found]
        # From 1, so that what is slower hangs down.
        heights = [ratio - 1 for _, ratio in found]
        axes.bar(places, heights, width, bottom=1.0, label=name, color=COLOURS[name])
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}×")
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(cells)), [f"{c.model} × {c.rows}" for c in cells], rotation=60)
    for label in axes.get_xticklabels():
        label.set_horizontalalignment("right")
    axes.set_ylabel("jaxrt is faster by")
    axes.set_title(f"Engines, by model and rows\n{machine}".strip(), fontsize=9)
    axes.legend(fontsize=8)
    return figure


def servers(what: str, found: Mapping[str, Sequence[Mapping[str, Any]]], machine: str = "") -> Any:
    """The 50th and the 99th of 100 answers, by the requests a second that were sent."""
    figure, axes = _figure(7.0, 4.2)
    for name, rounds in found.items():
        points = sorted(
            (point["rate"], point["p50"], point["p99"])
            for one in rounds
            for point in one["curve"]
            if point["p50"] == point["p50"]  # no answer at all is NaN
        )
        if not points:
            continue
        rates, middle, tail = zip(*_merged(points), strict=True)
        colour = COLOURS.get(name)
        axes.plot(rates, tail, "o-", color=colour, label=f"{name}, p99", markersize=3)
        axes.plot(rates, middle, ":", color=colour)
    axes.axhline(LIMIT_MS, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("requests a second")
    axes.set_ylabel("ms; dotted: p50; line: 20 ms")
    axes.set_title(f"{what}\n{machine}".strip(), fontsize=9)
    axes.legend(fontsize=8)
    return figure


def _merged(points: Sequence[tuple[float, float, float]]) -> list[tuple[float, ...]]:
    """The medians of the runs at one rate."""
    at: dict[float, list[tuple[float, float, float]]] = {}
    for point in points:
        at.setdefault(round(point[0], 1), []).append(point)
    return [tuple(map(statistics.median, zip(*same, strict=True))) for same in at.values()]


def _figure(width: float, height: float) -> Any:
    import matplotlib

    matplotlib.use("Agg")  # no display
    matplotlib.rcParams["svg.hashsalt"] = "jaxrt"  # the same figures give the same file
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(width, height), layout="constrained")
    axes.grid(True, axis="y", linewidth=0.3)
    return figure, axes


def cells_of(stored: Any) -> list[Cell]:
    """What `python -m bench.engine --json` wrote."""
    cells = stored["cells"] if isinstance(stored, dict) else stored
    return [Cell(**cell) for cell in cells]


def save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    print(path)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.plots",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--engine", type=Path, help="of python -m bench.engine --json")
    parser.add_argument("--http", type=Path, help="of python -m bench.http_compare --json")
    parser.add_argument("--out", type=Path, default=HERE / "plots")
    given = parser.parse_args(arguments)
    if given.engine is None and given.http is None:
        parser.error("nothing to draw: pass --engine, --http or both")
    if given.engine is not None:
        save(engines(cells_of(json.loads(given.engine.read_text()))), given.out / "engine.svg")
    if given.http is not None:
        stored = json.loads(given.http.read_text())
        for name, workload in stored["workloads"].items():
            figure = servers(workload["what"], workload["servers"], stored["machine"])
            save(figure, given.out / f"http_{name}.svg")


if __name__ == "__main__":
    main()
