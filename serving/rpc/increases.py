"""Counters by TensorFlow Serving's names, for the increases that a reload answers with."""

from collections.abc import Mapping, Sequence

from jaxrt.serving.monitoring import cells
from jaxrt.serving.monitoring.calls import Calls
from jaxrt.serving.monitoring.families import BY_NAME, Kind


class Totals:
    """What `calls` has counted, of whatever labels."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def totals(self, names: Sequence[str]) -> Mapping[str, int]:
        """`/tensorflow/serving/request_count` → the sum of its series; of counters that exist."""
        wanted = {name.replace("/", ":"): name for name in names}
        found: dict[str, int] = {}
        for (family, _), numbers in cells.read(self._calls.registry.cells.memory).items():
            if family in wanted and BY_NAME[family].kind is Kind.COUNTER:
                found[wanted[family]] = found.get(wanted[family], 0) + int(numbers[0])
        return found
