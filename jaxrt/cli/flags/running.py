"""Flags of batching, threads, devices and the process itself."""

from pathlib import Path

import click

from jaxrt.cli import options
from jaxrt.cli.flags.flag import Section, flag, group, text

BATCHING = Section(
    "Batching",
    "Requests that arrive together run together, without any flag. These bring TensorFlow "
    "Serving's queues: fixed sizes, timeouts, and 503 when a queue is full.",
)
THREADS = Section(
    "Threads and memory", "What TensorFlow's thread pools and memory limits are here."
)
PROCESS = Section("Process", "What holds for the server as a whole.")

batching = group(
    flag("enable_batching", BATCHING, default=False, help="Batch by TensorFlow Serving's rules."),
    flag(
        "batching_parameters_file",
        BATCHING,
        type=text,
        metavar="FILE",
        help="BatchingParameters as a text proto; wants --enable_batching.",
    ),
    flag(
        "enable_per_model_batching_parameters",
        BATCHING,
        default=False,
        help="Read batching_params.pbtxt of each version directory instead; models without it are "
        "not batched.",
    ),
    flag(
        "max_enqueued_batches",
        BATCHING,
        type=click.IntRange(min=1),
        default=1000,
        metavar="N",
        help="Batches that may wait where no batching parameters say so; more requests get 503.",
    ),
)

threads = group(
    flag(
        "tensorflow_session_parallelism",
        THREADS,
        type=int,
        default=0,
        metavar="N",
        help="The next two at once; not together with both of them.",
    ),
    flag(
        "tensorflow_intra_op_parallelism",
        THREADS,
        type=int,
        default=0,
        metavar="N",
        help="Threads of one program on the CPU; 0: one for each core.",
    ),
    flag(
        "tensorflow_inter_op_parallelism",
        THREADS,
        type=int,
        default=0,
        metavar="N",
        help="Host stages that run at the same time; 0: one for each core.",
    ),
    flag(
        "per_process_gpu_memory_fraction",
        THREADS,
        type=click.FloatRange(0.0, 1.0),
        default=0.0,
        metavar="SHARE",
        help="Share of a GPU's memory that is taken at start; 0: as jax does.",
    ),
    flag(
        "num-workers",
        THREADS,
        type=click.IntRange(min=1),
        default=1,
        metavar="N",
        help="Processes that share the REST port and the weights' pages; not for models with "
        "state.",
    ),
)

process = group(
    flag(
        "cache-dir",
        options.COMPILING,
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Where SavedModels are compiled to and remote models copied to; ~/.cache/jaxrt when "
        "left out.",
    ),
    flag(
        "grace",
        PROCESS,
        type=click.IntRange(min=0),
        default=30,
        metavar="SECONDS",
        help="How long accepted requests may take after SIGTERM.",
    ),
    flag("worker", PROCESS, hidden=True),
)
