"""Counters and histograms."""

import pytest

from jaxrt.serving.engine.metrics import Histogram, Metrics, geometric


def test_a_value_on_a_bound_counts_below_it() -> None:
    histogram = Histogram([1.0, 2.0, 4.0])
    for value in (0.5, 1.0, 1.5, 4.0, 9.0):
        histogram.observe(value)
    seen = histogram.snapshot()
    assert seen.counts == (2, 1, 1, 1)
    assert (seen.count, seen.total) == (5, 16.0)


def test_geometric_bounds_grow_by_their_factor() -> None:
    assert geometric(10, 2, 4) == (10, 20, 40, 80)


def test_a_snapshot_does_not_change_afterwards() -> None:
    metrics = Metrics()
    metrics.batches.add()
    metrics.rows.add(5)
    metrics.batch_rows.observe(5)
    before = metrics.snapshot()
    metrics.batches.add()
    metrics.batch_rows.observe(7)
    assert (before.batches, before.rows, before.batch_rows.count) == (1, 5, 1)
    assert metrics.snapshot().batch_rows.total == pytest.approx(12)
