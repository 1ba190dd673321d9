"""Counters and histograms of the engine: objects passed in, read by `snapshot()`."""

import bisect
import dataclasses
import threading
from collections.abc import Sequence


class Counter:
    """A number that only grows; safe to raise from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._value = 0

    def add(self, amount: int = 1) -> None:
        with self._lock:
            self._value += amount

    @property
    def value(self) -> int:
        return self._value


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


class Histogram:
    """Values by upper bound; safe to observe from any thread."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._lock = threading.Lock()
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._total = 0.0

    def observe(self, value: float) -> None:
        with self._lock:
            self._counts[bisect.bisect_left(self._bounds, value)] += 1
            self._total += value

    def snapshot(self) -> Distribution:
        with self._lock:
            return Distribution(bounds=self._bounds, counts=tuple(self._counts), total=self._total)


def geometric(first: float, growth: float, count: int) -> tuple[float, ...]:
    """`count` bounds: first, first x growth, ..."""
    return tuple(first * growth**i for i in range(count))


# TensorFlow Serving's own buckets (batching_session/queuing_latency and processed_batch_size in
# batching_session.cc), in seconds here instead of microseconds.
QUEUE_BOUNDS = geometric(100e-6, 1.2, 52)
DEVICE_BOUNDS = geometric(10e-6, 1.8, 33)
ROW_BOUNDS = geometric(1, 2, 14)


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
    device_seconds: Distribution


class Metrics:
    """What the engine counts; one object for each scheduler, or one for all."""

    def __init__(self) -> None:
        self.batches = Counter()
        """Programs run on a device, retries and warm-up included."""
        self.rows = Counter()
        """Rows of requests in those runs; a program run alone counts one."""
        self.padding_rows = Counter()
        self.retried_tasks = Counter()
        """Tasks run again by themselves because their batch failed."""
        self.unplanned_compiles = Counter()
        self.unplanned_failures = Counter()
        self.fallbacks = Counter()
        """Requests of shapes without a program that were answered by other means."""
        self.cancelled = Counter()
        """Requests whose caller went away before the answer."""
        self.expired = Counter()
        """Requests answered DeadlineExceeded."""
        self.rejected = Counter()
        """Requests refused because a queue was full."""
        self.batch_rows = Histogram(ROW_BOUNDS)
        self.queue_seconds = Histogram(QUEUE_BOUNDS)
        self.device_seconds = Histogram(DEVICE_BOUNDS)

    def snapshot(self) -> Snapshot:
        return Snapshot(
            batches=self.batches.value,
            rows=self.rows.value,
            padding_rows=self.padding_rows.value,
            retried_tasks=self.retried_tasks.value,
            unplanned_compiles=self.unplanned_compiles.value,
            unplanned_failures=self.unplanned_failures.value,
            fallbacks=self.fallbacks.value,
            cancelled=self.cancelled.value,
            expired=self.expired.value,
            rejected=self.rejected.value,
            batch_rows=self.batch_rows.snapshot(),
            queue_seconds=self.queue_seconds.snapshot(),
            device_seconds=self.device_seconds.snapshot(),
        )
