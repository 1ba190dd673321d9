"""Counters, gauges and histograms over numbers that may be shared with other processes."""

import dataclasses
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from jaxrt.serving.monitoring.cells import View


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Distribution:
    """A histogram at one instant: counts[i] values were <= bounds[i], the last one above all."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    """Not cumulative; one longer than `bounds`."""
    total: float
    """The sum of the values."""

    @property
    def count(self) -> int:
        return sum(self.counts)


def _alone(size: int) -> View:
    return memoryview(bytearray(8 * size)).cast("d")


class Counter:
    """A number that only grows. Raised from one thread, or under a lock of who raises it."""

    __slots__ = ("_cell",)

    def __init__(self, cell: View | None = None) -> None:
        self._cell = _alone(1) if cell is None else cell

    def add(self, amount: float = 1) -> None:
        self._cell[0] += amount

    @property
    def value(self) -> int:
        return int(self._cell[0])


class Gauge:
    """A number that goes up and down. Set from one thread."""

    __slots__ = ("_cell",)

    def __init__(self, cell: View | None = None) -> None:
        self._cell = _alone(1) if cell is None else cell

    def set(self, value: float) -> None:
        self._cell[0] = value

    @property
    def value(self) -> float:
        return self._cell[0]


class Histogram:
    """Values by upper bound. Observed from one thread, or under a lock of who observes.

    A lock of its own would cost as much as the rest (150 of 300 ns).
    """

    __slots__ = ("_bounds", "_cells", "_find", "_total")

    def __init__(
        self, bounds: Sequence[float], cells: View | None = None, *, above: bool = False
    ) -> None:
        """`above`: a value on a bound counts above it."""
        self._bounds = tuple(bounds)
        self._find = bisect_right if above else bisect_left
        self._total = len(self._bounds) + 1
        self._cells = _alone(self._total + 1) if cells is None else cells

    def observe(self, value: float) -> None:
        cells = self._cells
        cells[self._find(self._bounds, value)] += 1.0
        cells[self._total] += value

    def snapshot(self) -> Distribution:
        return distribution(self._bounds, self._cells.tolist())


def distribution(bounds: Sequence[float], numbers: Sequence[float]) -> Distribution:
    """What a histogram's numbers say."""
    counts = tuple(int(n) for n in numbers[:-1])
    return Distribution(bounds=tuple(bounds), counts=counts, total=numbers[-1])
