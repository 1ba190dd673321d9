"""TensorFlow Serving's BatchingParameters: the values, their rules, their defaults.

Fields and defaults are facts of tensorflow/serving (session_bundle_config.proto,
bundle_factory_util.cc) and of tensorflow/core/kernels/batching_util/shared_batch_scheduler.h.
"""

import dataclasses

from jaxrt.buckets import Buckets


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BatchingParameters:
    """How requests of one model share batches, and how many threads all models share.

    Raises ValueError in TensorFlow Serving's words where it would refuse them.
    """

    max_batch_size: int = 1000
    """Rows of one request, and of one batch unless requests are split."""
    batch_timeout_micros: int = 0
    """How long a batch that is not full stays open."""
    max_enqueued_batches: int = 10
    """The open batch of a queue counts, so 0 is the same as 1."""
    num_batch_threads: int | None = None
    """Batches of all models that run at once; None: one for each CPU."""
    thread_pool_name: str = "batch_threads"
    allowed_batch_sizes: tuple[int, ...] = ()
    """Batches are padded up to one of them; empty: they run at their own size."""
    pad_variable_length_inputs: bool = False
    """Whether inner dimensions are padded to the largest of the batch."""
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int | None = None
    """Rows of one batch where requests are split; None: max_batch_size."""

    def __post_init__(self) -> None:
        if self.num_batch_threads is not None and self.num_batch_threads < 1:
            raise ValueError(f"num_batch_threads must be positive; was {self.num_batch_threads}")
        if self.max_batch_size < 1:
            raise ValueError(f"input_batch_size_limit must be positive; was {self.max_batch_size}")
        if self.batch_timeout_micros < 0:
            raise ValueError(
                f"batch_timeout_micros must be non-negative; was {self.batch_timeout_micros}"
            )
        if self.max_enqueued_batches < (1 if self.enable_large_batch_splitting else 0):
            raise ValueError(
                f"max_enqueued_batches must be positive; was {self.max_enqueued_batches}"
            )
        self._check_execution()
        self._check_sizes()

    @property
    def largest_batch(self) -> int:
        """Rows of one batch at most."""
        if self.enable_large_batch_splitting and self.max_execution_batch_size is not None:
            return self.max_execution_batch_size
        return self.max_batch_size

    @property
    def buckets(self) -> Buckets | None:
        """The batch sizes worth compiling; None where any size may come."""
        sizes = self.allowed_batch_sizes
        largest = self.padded(self.largest_batch)
        return Buckets(sizes=tuple(n for n in sizes if n <= largest)) if sizes else None

    def padded(self, rows: int) -> int:
        """The size a batch of `rows` runs at, `rows` from 1 to `largest_batch`."""
        return next((size for size in self.allowed_batch_sizes if size >= rows), rows)

    def _check_execution(self) -> None:
        if not self.enable_large_batch_splitting:
            return
        if self.largest_batch < 1:
            raise ValueError(f"max_execution_batch_size must be positive; was {self.largest_batch}")
        if self.largest_batch > self.max_batch_size:
            raise ValueError(
                "When enable_large_batch_splitting is true, input_batch_size_limit must be "
                "greater than or equal to max_execution_batch_size.; max_batch_size is "
                f"{self.max_batch_size}, max_execution_batch_size is {self.largest_batch}"
            )

    def _check_sizes(self) -> None:
        sizes = self.allowed_batch_sizes
        if sizes and sizes[-1] != self.max_batch_size:
            raise ValueError(
                "Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
                f"{sizes[-1]}; expected {self.max_batch_size}"
            )
        if list(sizes) != sorted({n for n in sizes if n > 0}):
            raise ValueError(
                "allowed_batch_sizes entries must be monotonically increasing, from 1 up; they "
                f"are {', '.join(map(str, sizes))}"
            )
