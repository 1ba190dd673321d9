"""What all processes of a server have counted, as Prometheus text.

jaxrt's own families are written by `prometheus_client`. TensorFlow Serving's cannot be: that
library ends every counter's name in `_total` and puts `# HELP` before each family, while TensorFlow
Serving (util/prometheus_exporter.cc) does neither, and writes numbers and empty labels its own way.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from jaxrt.serving.monitoring import families
from jaxrt.serving.monitoring.cells import Numbers
from jaxrt.serving.monitoring.families import BY_NAME, Family, Kind

Series = Mapping[tuple[str, ...], Sequence[float]]
"""Label values → numbers, of one family."""


def merged(readings: Iterable[Numbers]) -> dict[str, Series]:
    """The series of several processes as those of one server, by the family's name."""
    found: dict[str, dict[tuple[str, ...], Sequence[float]]] = {}
    for reading in readings:
        for (name, labels), numbers in reading.items():
            series = found.setdefault(name, {})
            known = series.get(labels)
            combine = max if BY_NAME[name].largest else _plus
            series[labels] = (
                numbers
                if known is None
                else [combine(x, y) for x, y in zip(known, numbers, strict=True)]
            )
    return dict(found)


def _plus(x: float, y: float) -> float:
    return x + y


def tensorflow_text(found: Mapping[str, Series]) -> str:
    """TensorFlow Serving's families, by name; those without series are a `# TYPE` line."""
    lines: list[str] = []
    for family in sorted(families.TENSORFLOW, key=lambda family: family.name):
        lines.append(f"# TYPE {family.name} {family.kind.value}")
        write = _histogram if family.kind is Kind.HISTOGRAM else _scalar
        for labels, numbers in sorted(found.get(family.name, {}).items()):
            lines += write(family, labels, numbers)
    return "\n".join(lines) + "\n"


def _histogram(family: Family, labels: Sequence[str], numbers: Sequence[float]) -> Iterator[str]:
    shown = _labels(family, labels)
    prefix = f"{family.name}_bucket{{{shown}{',' if shown else ''}"
    counts = [int(count) for count in accumulate(numbers[:-1])]
    bounds = [*(f"{bound:g}" for bound in family.bounds), "+Inf"]
    for bound, count in zip(bounds, counts, strict=True):
        yield f'{prefix}le="{bound}"}} {count}'
    yield f"{family.name}_sum{{{shown}}} {_number(numbers[-1])}"
    yield f"{family.name}_count{{{shown}}} {counts[-1]}"


def _scalar(family: Family, labels: Sequence[str], numbers: Sequence[float]) -> Iterator[str]:
    yield f"{family.name}{{{_labels(family, labels)}}} {int(numbers[0])}"


def _labels(family: Family, values: Sequence[str]) -> str:
    return ",".join(
        f'{name}="{_escaped(value)}"' for name, value in zip(family.labels, values, strict=True)
    )


def _escaped(value: str) -> str:
    """As there, and line breaks too, which would break the page."""
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    """Six digits as there, where they are the number; all of them where not: sums grow long."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def jaxrt_text(found: Mapping[str, Series], processes: Sequence[int]) -> str:
    """jaxrt's families, and what the kernel says of the processes, by their ids."""
    registry = CollectorRegistry()
    registry.register(_Families(found))
    registry.register(_Processes(processes))
    return generate_latest(registry).decode()


class _Families(Collector):
    def __init__(self, found: Mapping[str, Series]) -> None:
        self._found = found

    def collect(self) -> Iterator[Metric]:
        for family in families.JAXRT:
            series = sorted(self._found.get(family.name, {}).items())
            match family.kind:
                case Kind.HISTOGRAM:
                    yield _as_histogram(family, series)
                case Kind.COUNTER:
                    counter = CounterMetricFamily(family.name, family.help, labels=family.labels)
                    for labels, numbers in series:
                        counter.add_metric(labels, numbers[0])
                    yield counter
                case Kind.GAUGE:
                    gauge = GaugeMetricFamily(family.name, family.help, labels=family.labels)
                    for labels, numbers in series:
                        if numbers[0] or family is not families.MODEL_STATE:
                            gauge.add_metric(labels, numbers[0])
                    yield gauge


def _as_histogram(
    family: Family, series: Iterable[tuple[Sequence[str], Sequence[float]]]
) -> Metric:
    histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
    bounds: list[str] = [*map(floatToGoString, family.bounds), "+Inf"]
    for labels, numbers in series:
        buckets = list(zip(bounds, accumulate(numbers[:-1]), strict=True))
        histogram.add_metric(labels, buckets, numbers[-1])
    return histogram


class _Processes(Collector):
    """The library's process metrics, for each worker."""

    def __init__(self, processes: Sequence[int]) -> None:
        self._processes = processes

    def collect(self) -> Iterator[Metric]:
        found: dict[str, Metric] = {}
        for worker, process in enumerate(self._processes):
            if not process:
                continue  # it has not started yet
            collector = ProcessCollector("jaxrt", lambda pid=process: pid, registry=None)  # type: ignore[misc]
            for metric in collector.collect():
                kept = found.setdefault(
                    metric.name, Metric(metric.name, metric.documentation, metric.type)
                )
                for sample in metric.samples:
                    kept.add_sample(sample.name, {"worker": str(worker)}, sample.value)
        yield from found.values()
