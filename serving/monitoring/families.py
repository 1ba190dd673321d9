"""What is counted: names, labels, buckets. TensorFlow Serving's families, and jaxrt's own.

TensorFlow Serving's are facts of its source: util.cc, saved_model_warmup_util.cc and
machine_learning_metadata.cc in servables/tensorflow, batching_session.cc in batching.
"""

import dataclasses
import enum
import itertools


class Kind(enum.Enum):
    """As Prometheus has them."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """Series of one name that differ in their labels."""

    name: str
    kind: Kind
    labels: tuple[str, ...] = ()
    help: str = ""
    bounds: tuple[float, ...] = ()
    """Of a histogram's buckets, without infinity."""
    above: bool = False
    """A value on a bound counts above it, as TensorFlow does it; Prometheus has it below."""
    largest: bool = False
    """Of several processes' gauges, the largest is shown and not their sum."""

    @property
    def size(self) -> int:
        """Numbers that one series takes; a histogram's last one is the sum of its values."""
        return len(self.bounds) + 2 if self.kind is Kind.HISTOGRAM else 1


def geometric(first: float, growth: float, count: int) -> tuple[float, ...]:
    """`count` bounds: first, first x growth, ..."""
    return tuple(itertools.accumulate([first] + [growth] * (count - 1), lambda x, y: x * y))


def _counter(name: str, labels: tuple[str, ...], text: str = "") -> Family:
    return Family(name=name, kind=Kind.COUNTER, labels=labels, help=text)


def _gauge(name: str, labels: tuple[str, ...], text: str = "", *, largest: bool = False) -> Family:
    return Family(name=name, kind=Kind.GAUGE, labels=labels, help=text, largest=largest)


def _histogram(
    name: str, labels: tuple[str, ...], bounds: tuple[float, ...], text: str = ""
) -> Family:
    above = name.startswith(":")
    return Family(
        name=name, kind=Kind.HISTOGRAM, labels=labels, help=text, bounds=bounds, above=above
    )


_TF = ":tensorflow:serving:"
_BATCHING = ":tensorflow:serving:batching_session:"

MICROSECONDS = geometric(10, 1.8, 33)
"""About 20 minutes."""
QUEUE_MICROSECONDS = geometric(100, 1.2, 52)
"""About a second."""
ROWS = geometric(1, 2, 14)
EXAMPLES = geometric(1, 2, 15)

REQUEST_COUNT = _counter(_TF + "request_count", ("model_name", "status"))
REQUEST_LATENCY = _histogram(
    _TF + "request_latency", ("model_name", "API", "entrypoint"), MICROSECONDS
)
RUNTIME_LATENCY = _histogram(
    _TF + "runtime_latency", ("model_name", "API", "runtime"), MICROSECONDS
)
EXAMPLE_COUNTS = _histogram(_TF + "request_example_counts", ("model",), EXAMPLES)
EXAMPLE_TOTAL = _counter(_TF + "request_example_count_total", ("model",))
WARMUP_LATENCY = _histogram(_TF + "model_warmup_latency", ("model_path", "status"), MICROSECONDS)
WARMUP_RECORDS = _counter(_TF + "model_warmup_records_read", ("model_path", "status"))
REQUEST_LOG_COUNT = _counter(_TF + "request_log_count", ("model_name", "status_code"))
MLMD_MAP = _gauge(_TF + "mlmd_map", ("model_name", "version"), largest=True)
QUEUING_LATENCY = _histogram(
    _BATCHING + "queuing_latency", ("thread_pool_name",), QUEUE_MICROSECONDS
)
WRAPPED_RUNS = _counter(_BATCHING + "wrapped_run_count", ())
PADDING_SIZE = _histogram(_BATCHING + "padding_size", ("execution_batch_size",), ROWS)
INPUT_BATCH_SIZE = _histogram(_BATCHING + "input_batch_size", (), ROWS)
PROCESSED_BATCH_SIZE = _histogram(_BATCHING + "processed_batch_size", (), ROWS)

TENSORFLOW = (
    REQUEST_COUNT, REQUEST_LATENCY, RUNTIME_LATENCY, EXAMPLE_COUNTS, EXAMPLE_TOTAL, WARMUP_LATENCY,
    WARMUP_RECORDS, REQUEST_LOG_COUNT, MLMD_MAP, QUEUING_LATENCY, WRAPPED_RUNS, PADDING_SIZE,
    INPUT_BATCH_SIZE, PROCESSED_BATCH_SIZE,
)  # fmt: skip

STAGE_BOUNDS = geometric(1e-6, 2, 30)
"""A microsecond to nine minutes."""
QUEUE_BOUNDS = tuple(bound / 1e6 for bound in QUEUE_MICROSECONDS)

_OF = ("model_name", "version")

STAGE_SECONDS = _histogram(
    "jaxrt_stage_seconds",
    (*_OF, "stage"),
    STAGE_BOUNDS,
    "Time in one stage: parse and encode of each request, pad, device and host of each batch, "
    "compile of each shape that nobody planned.",
)
QUEUE_SECONDS = _histogram(
    "jaxrt_queue_seconds", (*_OF, "on"), QUEUE_BOUNDS,
    "Time from a request's arrival at a queue to the start of its batch.",
)  # fmt: skip
BATCH_ROWS = _histogram(
    "jaxrt_batch_rows", (*_OF, "on"), ROWS, "Rows of requests in each batch, without padding."
)
PADDING_ROWS = _counter(
    "jaxrt_padding_rows", (*_OF, "on"), "Rows computed only to fill a batch up to a planned size."
)
RETRIED = _counter(
    "jaxrt_retried_requests", _OF, "Requests run again by themselves because their batch failed."
)
UNPLANNED_COMPILES = _counter(
    "jaxrt_unplanned_compiles", _OF, "Programs compiled while serving, for shapes nobody planned."
)
UNPLANNED_FAILURES = _counter(
    "jaxrt_unplanned_failures", _OF, "Shapes that nobody planned and that could not be compiled."
)
FALLBACKS = _counter(
    "jaxrt_fallbacks", _OF, "Requests that no program fits, answered whole on the host."
)
CANCELLED = _counter("jaxrt_cancelled_requests", _OF, "Requests whose client went away first.")
EXPIRED = _counter("jaxrt_expired_requests", _OF, "Requests whose deadline passed first.")
REJECTED = _counter("jaxrt_rejected_requests", _OF, "Requests refused because a queue was full.")
IN_FLIGHT = _gauge("jaxrt_requests_in_flight", _OF, "Requests being answered.")
EXECUTABLE_BYTES = _gauge(
    "jaxrt_executable_bytes",
    (*_OF, "part"),
    "Bytes of compiled programs (code), and what the largest needs to run (scratch), in all "
    "worker processes.",
)
WEIGHTS_BYTES = _gauge(
    "jaxrt_weights_bytes",
    _OF,
    "Bytes of weights, on all devices together; worker processes share them.",
    largest=True,
)
REPLICAS = _gauge(
    "jaxrt_replicas", _OF, "Places that run batches of a version at the same time.", largest=True
)
MESH_DEVICES = _gauge(
    "jaxrt_mesh_devices", _OF, "Devices that one replica of a version runs on.", largest=True
)
MODEL_STATE = _gauge(
    "jaxrt_model_state", (*_OF, "state"), "Worker processes in which a version is in this state."
)
FAILED_LOADS = _counter(
    "jaxrt_failed_loads",
    ("model_name",),
    "Versions that were given up after all tries to load them.",
)
MLMD = _gauge("jaxrt_mlmd_info", (*_OF, "uuid"), "The key of assets.extra/mlmd_uuid.", largest=True)
BUILD = _gauge(
    "jaxrt_build_info",
    ("version", "jax", "jaxlib", "python", "platform", "device"),
    "What serves: 1.",
    largest=True,
)
WORKERS = _gauge("jaxrt_workers", (), "Worker processes that serve.")
PROCESS = _gauge("_process", ())
"""A worker's process id; its memory and CPU time are found by it."""

JAXRT = (
    STAGE_SECONDS, QUEUE_SECONDS, BATCH_ROWS, PADDING_ROWS, RETRIED, UNPLANNED_COMPILES,
    UNPLANNED_FAILURES, FALLBACKS, CANCELLED, EXPIRED, REJECTED, IN_FLIGHT, EXECUTABLE_BYTES,
    WEIGHTS_BYTES, REPLICAS, MESH_DEVICES, MODEL_STATE, FAILED_LOADS, MLMD, BUILD, WORKERS,
)  # fmt: skip

BY_NAME = {family.name: family for family in (*TENSORFLOW, *JAXRT, PROCESS)}
