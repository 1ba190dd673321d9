"""What the engine counts."""

import pytest

from jaxrt.serving.engine.metrics import Metrics
from jaxrt.serving.monitoring import families
from jaxrt.serving.monitoring.cells import read
from jaxrt.serving.monitoring.registry import Registry


def test_a_batch_is_counted_with_its_rows_its_padding_and_its_times() -> None:
    metrics = Metrics()
    metrics.waited([0.001, 0.002])
    metrics.ran(5, 3, 0.0001, 0.01)
    metrics.ran(8, 0, 0.0002, 0.02)
    seen = metrics.snapshot()
    assert (seen.batches, seen.rows, seen.padding_rows) == (2, 13, 3)
    assert seen.queue_seconds.count == 2
    assert seen.pad_seconds.total == pytest.approx(0.0003)
    assert seen.run_seconds.total == pytest.approx(0.03)


def test_a_snapshot_does_not_change_afterwards() -> None:
    metrics = Metrics()
    metrics.ran(5, 0, 0.0, 0.0)
    before = metrics.snapshot()
    metrics.ran(7, 0, 0.0, 0.0)
    assert (before.batches, before.rows, before.batch_rows.count) == (1, 5, 1)
    assert metrics.snapshot().batch_rows.total == 12


def test_metrics_of_a_registry_have_the_labels_of_their_version_and_place() -> None:
    registry = Registry()
    Metrics(registry, "m", 3, "device").ran(2, 2, 0.0, 0.5)
    host = Metrics(registry, "m", 3, "host")
    host.ran(4, 0, 0.0, 0.25)
    host.retried()
    seen = read(registry.cells.memory)
    assert seen[families.PADDING_ROWS.name, ("m", "3", "device")] == [2]
    assert seen[families.PADDING_ROWS.name, ("m", "3", "host")] == [0]
    assert seen[families.STAGE_SECONDS.name, ("m", "3", "device")][-1] == 0.5
    assert seen[families.STAGE_SECONDS.name, ("m", "3", "host")][-1] == 0.25
    assert seen[families.RETRIED.name, ("m", "3")] == [1]
