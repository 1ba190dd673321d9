"""What the engine counts: objects passed in, read by `snapshot()` or from their registry."""

import dataclasses
import threading
from collections.abc import Iterable

from jaxrt.serving.monitoring import families
from jaxrt.serving.monitoring.families import Family
from jaxrt.serving.monitoring.registry import Registry
from jaxrt.serving.monitoring.series import Counter, Distribution, Histogram


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """All metrics of one engine at one instant."""

    batches: int
    rows: int
    padding_rows: int
    retried_tasks: int
    unplanned_compiles: int
    unplanned_failures: int
    fallbacks: int
    cancelled: int
    expired: int
    rejected: int
    batch_rows: Distribution
    queue_seconds: Distribution
    pad_seconds: Distribution
    run_seconds: Distribution


class Metrics:
    """Of one version's programs on the device or on the host, or of a whole scheduler.

    The methods are called from the threads that run batches; the counters are raised from one
    thread each.
    """

    def __init__(
        self,
        registry: Registry | None = None,
        model: str = "",
        version: int = 0,
        on: str = "device",
    ) -> None:
        """Without a registry nobody else sees the numbers. `on`: `device` or `host`."""
        # Programs on the host share some series with those on the device.
        self._lock = threading.Lock() if registry is None else registry.lock
        self._registry = registry
        self._of = (model, str(version))
        self._padding_rows = self._counter(families.PADDING_ROWS, on)
        self._batch_rows = self._histogram(families.BATCH_ROWS, on)
        self._queue_seconds = self._histogram(families.QUEUE_SECONDS, on)
        self._pad_seconds = self._histogram(families.STAGE_SECONDS, "pad")
        self._run_seconds = self._histogram(families.STAGE_SECONDS, on)
        self._retried = self._counter(families.RETRIED)
        self._compile_seconds = self._histogram(families.STAGE_SECONDS, "compile")
        self.unplanned_compiles = self._counter(families.UNPLANNED_COMPILES)
        self.unplanned_failures = self._counter(families.UNPLANNED_FAILURES)
        self.fallbacks = self._counter(families.FALLBACKS)
        """Requests of shapes without a program that were answered by other means."""
        self.cancelled = self._counter(families.CANCELLED)
        """Requests whose caller went away before the answer."""
        self.expired = self._counter(families.EXPIRED)
        """Requests answered DeadlineExceeded."""
        self.rejected = self._counter(families.REJECTED)
        """Requests refused because a queue was full."""

    def waited(self, seconds: Iterable[float]) -> None:
        """The requests of a batch have been in the queue for so long."""
        with self._lock:
            for one in seconds:
                self._queue_seconds.observe(one)

    def ran(self, rows: int, padding: int, pad: float, seconds: float) -> None:
        """A batch of `rows`, and `padding` more, was laid out in `pad` seconds and ran.

        Retries are batches too; a program run alone counts one row.
        """
        with self._lock:
            self._batch_rows.observe(rows)
            if padding:
                self._padding_rows.add(padding)
            self._pad_seconds.observe(pad)
            self._run_seconds.observe(seconds)

    def retried(self) -> None:
        """A request runs again by itself because its batch failed."""
        with self._lock:
            self._retried.add()

    def compiled(self, seconds: float) -> None:
        """A compile that nobody planned ended, well or not."""
        with self._lock:
            self._compile_seconds.observe(seconds)

    def snapshot(self) -> Snapshot:
        with self._lock:
            rows = self._batch_rows.snapshot()
            return Snapshot(
                batches=rows.count,
                rows=int(rows.total),
                padding_rows=self._padding_rows.value,
                retried_tasks=self._retried.value,
                unplanned_compiles=self.unplanned_compiles.value,
                unplanned_failures=self.unplanned_failures.value,
                fallbacks=self.fallbacks.value,
                cancelled=self.cancelled.value,
                expired=self.expired.value,
                rejected=self.rejected.value,
                batch_rows=rows,
                queue_seconds=self._queue_seconds.snapshot(),
                pad_seconds=self._pad_seconds.snapshot(),
                run_seconds=self._run_seconds.snapshot(),
            )

    def _counter(self, family: Family, *labels: str) -> Counter:
        if self._registry is None:
            return Counter()
        return self._registry.counter(family, *self._of, *labels)

    def _histogram(self, family: Family, *labels: str) -> Histogram:
        if self._registry is None:
            return Histogram(family.bounds)
        return self._registry.histogram(family, *self._of, *labels)
