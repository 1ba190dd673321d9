"""What `--enable_batching` changes: the sizes that are compiled, the queues before models."""

import dataclasses
import logging
import os
from pathlib import Path

from jaxrt.buckets import Buckets
from jaxrt.cli import options
from jaxrt.cli.settings import Settings
from jaxrt.serving import batching_parameters
from jaxrt.serving.batching_parameters import Batching
from jaxrt.serving.engine.batchpool import BatchPool
from jaxrt.serving.engine.parameters import BatchingParameters
from jaxrt.serving.engine.servable import Rows
from jaxrt.serving.engine.source import local_path
from jaxrt.serving.engine.version import Version
from jaxrt.serving.monitoring.batches import Batches
from jaxrt.serving.monitoring.calls import Calls

log = logging.getLogger("jaxrt.serving")


@dataclasses.dataclass(frozen=True, slots=True)
class Queues:
    """TensorFlow Serving's queues for all models of a server."""

    batching: Batching
    pool: BatchPool

    def of(self, version: Path) -> tuple[BatchingParameters, BatchPool] | None:
        """For the version in this directory; None: it is not batched so. Raises ModelError."""
        found = self.batching.of(version)
        return (found, self.pool) if found is not None else None


def queues(settings: Settings, calls: Calls | None = None) -> Queues | None:
    """None without `--enable_batching`. Batches are counted beside `calls`. Raises UsageError."""
    file = settings.batching_parameters_file
    batching = batching_parameters.from_flags(
        enable_batching=settings.enable_batching,
        batching_parameters_file=local_path(file) if file else None,
        per_model=settings.enable_per_model_batching_parameters,
    )
    if batching is None:
        return None
    threads = batching.common.num_batch_threads or os.cpu_count() or 1
    observer = None
    if calls is not None:
        observer = Batches(calls.registry, batching.common.thread_pool_name)
    return Queues(batching, BatchPool(threads=threads, observer=observer))


def sized(settings: Settings, found: Queues | None) -> Settings:
    """With allowed_batch_sizes, where there are some for all models, as what is compiled."""
    buckets = None if found is None or found.batching.per_model else found.batching.common.buckets
    if buckets is None:
        return settings
    if settings.batch_sizes != options.BATCH_SIZES:
        log.warning(
            "--batch-sizes %s has no effect beside allowed_batch_sizes in %s",
            settings.batch_sizes,
            settings.batching_parameters_file,
        )
    return dataclasses.replace(settings, batch_sizes=",".join(map(str, buckets.sizes)))


def of_version(path: Path, *, per_model: bool, otherwise: Buckets) -> Buckets:
    """The batch sizes to compile for the SavedModel at `path`. Raises ModelError."""
    if not per_model:
        return otherwise
    found = Batching(common=BatchingParameters(), per_model=True).of(path)
    return (found and found.buckets) or otherwise


def tell_missing(version: Version, parameters: BatchingParameters) -> None:
    """Logs which allowed sizes an artifact has no programs for, and what happens instead."""
    buckets = parameters.buckets
    if buckets is None:
        return
    for signature, lanes in version.lanes().items():
        for lane in lanes:
            missing = [n for n in buckets.sizes if n not in lane.buckets.sizes]
            if missing and lane.rows is Rows.INDEPENDENT:
                log.warning(
                    "model %s version %d, signature %s: no programs for allowed_batch_sizes %s: "
                    "such batches are padded or split to its batch sizes, %s; compile it with "
                    "--batch-sizes %s",
                    version.name,
                    version.version,
                    signature,
                    _listed(missing),
                    _listed(lane.buckets.sizes),
                    _listed(buckets.sizes),
                )
                break


def _listed(sizes: tuple[int, ...] | list[int]) -> str:
    return ",".join(map(str, sizes))
