"""How far answers are from those of the model as it was: error, noise and agreement of outputs."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class OutputError:
    """One output over all rows of the calibration data."""

    output: str
    max_error: float
    """Largest absolute difference; inf where only one of the two is finite."""
    rms: float
    """Root mean square of the differences, of that of the wanted values: 0.01 is 1 %.

    0 for integers, booleans and strings, which agree or do not."""
    agreement: float | None
    """Share of rows that name the same class: the largest value along the last axis, or, of
    integers, booleans and strings, the value itself; None for an output that names none."""
    judged: int
    """How many such rows."""

    @property
    def sqnr(self) -> float:
        """Signal to quantization noise in dB; inf without noise."""
        return sqnr(self.rms)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"sqnr_db": self.sqnr}


def sqnr(rms: float) -> float:
    """dB of a relative RMS error."""
    if rms == 0:
        return math.inf
    return -20 * math.log10(rms) if math.isfinite(rms) else -math.inf


def relative(noise: float, signal: float) -> float:
    """RMS error of sums of squares: inf where only zeros were wanted, and something else came."""
    if signal:
        return math.sqrt(noise / signal)
    return math.inf if noise else 0.0


class Tally:
    """Sums up the errors of one output over several batches."""

    def __init__(self, output: str) -> None:
        self._output = output
        self._noise = self._signal = self._largest = 0.0
        self._agreeing = self._judged = 0

    def add(self, got: Array, want: Array) -> None:
        """Rows that stand for nobody are left out by the caller. Where the shapes differ, as those
        of sizes that depend on values may, nothing agrees."""
        if got.shape != want.shape:
            self._add_other(want)
            return
        if want.dtype.kind in "biuOSU":
            self._agreeing += int(np.sum(got == want))
            self._judged += want.size
            return
        wide = np.complex128 if want.dtype.kind == "c" else np.float64
        g, w = got.astype(wide), want.astype(wide)
        if _names_classes(want):
            same = g.argmax(axis=-1) == w.argmax(axis=-1)
            self._agreeing += int(same.sum())
            self._judged += same.size
        equal = (got == want) | ((got != got) & (want != want))
        with np.errstate(invalid="ignore"):
            difference = np.where(equal, 0.0, np.abs(g - w))
        difference = np.where(np.isnan(difference), np.inf, difference)
        self._largest = max(self._largest, float(difference.max(initial=0.0)))
        self._noise += float(np.sum(difference**2))
        self._signal += float(np.sum(np.abs(np.where(np.isfinite(w), w, 0.0)) ** 2))

    def _add_other(self, want: Array) -> None:
        if want.dtype.kind in "biuOSU":
            self._judged += want.size
            return
        self._largest = self._noise = math.inf
        if _names_classes(want):
            self._judged += want.size // want.shape[-1]

    def error(self) -> OutputError:
        return OutputError(
            output=self._output,
            max_error=self._largest,
            rms=relative(self._noise, self._signal),
            agreement=self._agreeing / self._judged if self._judged else None,
            judged=self._judged,
        )


def _names_classes(want: Array) -> bool:
    """Whether it has several numbers a row: one number, as a logit of two classes, names a class
    only by a threshold, which the model does not tell."""
    return want.ndim > 1 and want.shape[-1] > 1 and want.size > 0 and want.dtype.kind != "c"


def errors(
    pairs: Iterable[tuple[Mapping[str, Array], Mapping[str, Array]]],
) -> tuple[OutputError, ...]:
    """Of (answers, wanted answers) of each batch, by output; the first batch names the outputs."""
    tallies: dict[str, Tally] = {}
    for got, want in pairs:
        for name, wanted in want.items():
            tallies.setdefault(name, Tally(name)).add(got[name], wanted)
    return tuple(tally.error() for tally in tallies.values())
