"""The series of one process, by family and labels."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from jaxrt.serving.monitoring.cells import Cells, Key, View
from jaxrt.serving.monitoring.families import BY_NAME, Family, Kind
from jaxrt.serving.monitoring.series import Counter, Gauge, Histogram

T = TypeVar("T")


class Registry:
    """Hands out series, each made once; from any thread."""

    def __init__(self, cells: Cells | None = None) -> None:
        """`cells` may have the numbers of a process that is gone: its gauges are zero again."""
        self.cells = cells or Cells()
        self.lock = threading.Lock()
        """For series that several threads write."""
        self._lock = threading.Lock()
        self._made: dict[Key, Any] = {}
        for name, labels in self.cells.known():
            if BY_NAME[name].kind is Kind.GAUGE:
                self.cells.series(name, labels, 1)[0] = 0.0

    def counter(self, family: Family, *labels: str) -> Counter:
        return self._get(family, labels, Counter)

    def gauge(self, family: Family, *labels: str) -> Gauge:
        return self._get(family, labels, Gauge)

    def histogram(self, family: Family, *labels: str) -> Histogram:
        return self._get(
            family, labels, lambda cells: Histogram(family.bounds, cells, above=family.above)
        )

    def forget(self, model: str, version: int) -> None:
        """Drops the series of one version; what still holds one writes to nobody."""
        with self._lock:
            gone = [key for key in self.cells.known() if _is_of(key, model, str(version))]
            for key in gone:
                self._made.pop(key, None)
            self.cells.forget(gone)

    def _get(self, family: Family, labels: tuple[str, ...], make: Callable[[View], T]) -> T:
        if len(labels) != len(family.labels):
            raise ValueError(f"{family.name}: labels {labels}, want values of {family.labels}")
        key = family.name, labels
        with self._lock:
            found: T | None = self._made.get(key)
            if found is None:
                found = self._made[key] = make(self.cells.series(family.name, labels, family.size))
            return found


def _is_of(key: Key, model: str, version: str) -> bool:
    name, labels = key
    return BY_NAME[name].labels[:2] == ("model_name", "version") and labels[:2] == (model, version)
