"""Batches of TensorFlow Serving's batching queues, counted as its batching session does."""

from jaxrt.serving.monitoring import families
from jaxrt.serving.monitoring.registry import Registry
from jaxrt.serving.monitoring.series import Histogram


class Batches:
    """The observer of a pool of batch threads, used from its event loop."""

    def __init__(self, registry: Registry, thread_pool_name: str) -> None:
        self._registry = registry
        self._queuing = registry.histogram(families.QUEUING_LATENCY, thread_pool_name)
        self._runs = registry.counter(families.WRAPPED_RUNS)
        self._accepted = registry.histogram(families.INPUT_BATCH_SIZE)
        self._processed = registry.histogram(families.PROCESSED_BATCH_SIZE)
        self._padding: dict[int, Histogram] = {}

    def accepted(self, rows: int) -> None:
        self._accepted.observe(rows)

    def queued(self, seconds: float) -> None:
        self._queuing.observe(seconds * 1e6)

    def merged(self, rows: int, padding: int) -> None:
        """`rows` with the padding among them."""
        sizes = self._padding.get(rows)
        if sizes is None:
            sizes = self._padding[rows] = self._registry.histogram(families.PADDING_SIZE, str(rows))
        sizes.observe(padding)
        self._processed.observe(rows)
        self._runs.add()
