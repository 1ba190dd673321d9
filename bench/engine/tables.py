"""What was measured, as tables."""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence

OTHERS = ("openvino", "onnxruntime")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One model at one number of rows."""

    model: str
    rows: int
    seconds: Mapping[str, Sequence[float]]
    """Contender → seconds a run, one each round."""
    refused: Mapping[str, str]
    errors: Mapping[str, float]

    def ratios(self, name: str) -> list[float]:
        """How many times faster jaxrt was, one each round; empty where one of the two is absent."""
        ours, theirs = self.seconds.get("jaxrt", ()), self.seconds.get(name, ())
        return [b / a for a, b in zip(ours, theirs, strict=False)]

    def ratio(self, name: str) -> float | None:
        found = self.ratios(name)
        return statistics.median(found) if found else None

    @property
    def against_best(self) -> float | None:
        """Against the better of OpenVINO and ONNX Runtime."""
        found = [ratio for name in OTHERS if (ratio := self.ratio(name)) is not None]
        return min(found) if found else None

    def line(self) -> str:
        times = (f"{name} {_ms(seconds)}" for name, seconds in self.seconds.items())
        ratios = (f"{name} {_times(self.ratios(name))}" for name in self.seconds if name != "jaxrt")
        return f"{self.model} × {self.rows}: {', '.join(times)} ms; jaxrt is {', '.join(ratios)}"


def _ms(seconds: Sequence[float]) -> str:
    value = 1000 * statistics.median(seconds)
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _times(ratios: Sequence[float]) -> str:
    """The median ratio and the middle half of the rounds."""
    if not ratios:
        return "–"
    if len(ratios) < 4:
        return f"{statistics.median(ratios):.2f}×"
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.2f}× ({low:.2f}–{high:.2f})"


def markdown(cells: Sequence[Cell], contenders: Sequence[str]) -> str:
    """Milliseconds of each contender, then how many times faster jaxrt is, with the spread."""
    others = [name for name in contenders if name != "jaxrt"]
    head = ["model", "rows", *(f"{n}, ms" for n in contenders), *(f"× {n}" for n in others)]
    lines = [head, ["---"] * len(head)]
    for cell in cells:
        times = [_ms(cell.seconds[n]) if n in cell.seconds else "–" for n in contenders]
        ratios = [_times(cell.ratios(n)) for n in others]
        lines.append([cell.model, str(cell.rows), *times, *ratios])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def summary(cells: Sequence[Cell]) -> str:
    """Geometric means and the worst cell, for each goal."""
    lines = []
    for title, ratios in (
        ("TensorFlow", {_name(c): c.ratio("tensorflow") for c in cells}),
        ("TensorFlow with XLA", {_name(c): c.ratio("tensorflow_xla") for c in cells}),
        ("the better of OpenVINO and ONNX Runtime", {_name(c): c.against_best for c in cells}),
    ):
        known = {name: ratio for name, ratio in ratios.items() if ratio is not None}
        if known:
            worst = min(known, key=lambda name: known[name])
            mean = math.exp(statistics.fmean(map(math.log, known.values())))
            lines.append(
                f"- Against {title}: geometric mean {mean:.2f}× over {len(known)} cells, "
                f"worst {known[worst]:.2f}× ({worst})."
            )
    return "\n".join(lines)


def _name(cell: Cell) -> str:
    return f"{cell.model} × {cell.rows}"
