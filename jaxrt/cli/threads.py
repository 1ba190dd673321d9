"""XLA's thread pool and its share of a GPU's memory, as TensorFlow's flags ask for them."""

import contextlib
import logging
import os
from collections.abc import Iterator, MutableMapping

log = logging.getLogger("jaxrt.serving")

MEMORY_FRACTION = "XLA_PYTHON_CLIENT_MEM_FRACTION"
"""https://docs.jax.dev/en/latest/gpu_memory_allocation.html"""


@contextlib.contextmanager
def pool(threads: int | None) -> Iterator[None]:
    """XLA's CPU client, if it is made inside, gets that many threads; None: one for each core.

    The client counts the cores that the thread which makes it may run on
    (tsl::port::NumSchedulableCPUs), and its threads stay on those; no other thread does.
    """
    mine = os.sched_getaffinity(0)
    if threads is None or threads >= len(mine):
        if threads is not None and threads > len(mine):
            log.info("%d threads for %d cores: XLA takes %d", threads, len(mine), len(mine))
        yield
        return
    os.sched_setaffinity(0, sorted(mine)[:threads])
    try:
        yield
    finally:
        os.sched_setaffinity(0, mine)


def share_gpu(fraction: float, environment: MutableMapping[str, str]) -> None:
    """The part of a GPU's memory that jax takes when it attaches to one; 0: as it does."""
    if fraction > 0:
        environment[MEMORY_FRACTION] = str(fraction)
