"""BatchingParameters: TensorFlow Serving's defaults, and its words for what it refuses."""

from typing import Any

import pytest

from jaxrt.serving.engine.parameters import BatchingParameters


def test_defaults_are_those_of_the_shared_batch_scheduler() -> None:
    found = BatchingParameters()
    assert (found.max_batch_size, found.batch_timeout_micros) == (1000, 0)
    assert (found.max_enqueued_batches, found.thread_pool_name) == (10, "batch_threads")
    assert found.buckets is None
    assert found.largest_batch == 1000


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"max_batch_size": 8, "allowed_batch_sizes": (2, 4)},
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; "
            "expected 8",
        ),
        (
            {"allowed_batch_sizes": (2, 4)},
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; "
            "expected 1000",
        ),
        (
            {"max_batch_size": 4, "allowed_batch_sizes": (2, 1, 4)},
            "allowed_batch_sizes entries must be monotonically increasing, from 1 up; they are "
            "2, 1, 4",
        ),
        (
            {"max_batch_size": 4, "allowed_batch_sizes": (0, 4)},
            "allowed_batch_sizes entries must be monotonically increasing, from 1 up; they are "
            "0, 4",
        ),
        ({"max_batch_size": 0}, "input_batch_size_limit must be positive; was 0"),
        ({"batch_timeout_micros": -1}, "batch_timeout_micros must be non-negative; was -1"),
        ({"max_enqueued_batches": -1}, "max_enqueued_batches must be positive; was -1"),
        ({"num_batch_threads": 0}, "num_batch_threads must be positive; was 0"),
        (
            {"enable_large_batch_splitting": True, "max_enqueued_batches": 0},
            "max_enqueued_batches must be positive; was 0",
        ),
        (
            {
                "enable_large_batch_splitting": True,
                "max_batch_size": 4,
                "max_execution_batch_size": 8,
            },
            "When enable_large_batch_splitting is true, input_batch_size_limit must be greater "
            "than or equal to max_execution_batch_size.; max_batch_size is 4, "
            "max_execution_batch_size is 8",
        ),
        (
            {"enable_large_batch_splitting": True, "max_execution_batch_size": 0},
            "max_execution_batch_size must be positive; was 0",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_tensorflow_servings_words(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError) as caught:
        BatchingParameters(**values)
    assert str(caught.value) == message


def test_an_empty_queue_limit_is_allowed_where_requests_are_not_split() -> None:
    assert BatchingParameters(max_enqueued_batches=0).max_enqueued_batches == 0


def test_batches_are_padded_to_the_next_allowed_size_or_not_at_all() -> None:
    allowed = BatchingParameters(max_batch_size=8, allowed_batch_sizes=(2, 4, 8))
    assert [allowed.padded(rows) for rows in range(1, 9)] == [2, 2, 4, 4, 8, 8, 8, 8]
    assert BatchingParameters().padded(7) == 7


def test_allowed_sizes_are_the_buckets_up_to_the_largest_batch_that_runs() -> None:
    allowed: dict[str, Any] = {"max_batch_size": 16, "allowed_batch_sizes": (2, 4, 8, 16)}
    whole = BatchingParameters(**allowed).buckets
    assert whole is not None and whole.sizes == (2, 4, 8, 16)
    split = BatchingParameters(
        **allowed, enable_large_batch_splitting=True, max_execution_batch_size=3
    )
    assert split.largest_batch == 3
    assert split.buckets is not None and split.buckets.sizes == (2, 4)


def test_the_execution_limit_means_nothing_without_splitting() -> None:
    found = BatchingParameters(max_batch_size=8, max_execution_batch_size=2)
    assert found.largest_batch == 8
    assert BatchingParameters(max_batch_size=4, max_execution_batch_size=9).largest_batch == 4
