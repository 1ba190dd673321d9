"""`jaxrt serve`: models over HTTP, with TensorFlow Serving's REST API."""

import time
from pathlib import Path
from typing import Any

import click

from jaxrt.cli import console, options


@click.command(
    epilog="Example: jaxrt serve model.jaxrt --rest_api_port 8501",
)
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option(
    "--rest_api_port",
    type=click.IntRange(0, 65535),
    default=8501,
    show_default=True,
    help="HTTP port; 0 takes any free one.",
)
@click.option(
    "--rest_api_host", default="::", show_default=True, help="Address to bind; :: is all of them."
)
@click.option("--model_name", help="Name in URLs; the path's last part when left out.")
@click.option(
    "--model_base_path",
    type=click.Path(path_type=Path),
    help="Directory of numeric version directories, as for TensorFlow Serving.",
)
@click.option(
    "--model_config_file",
    type=click.Path(path_type=Path),
    help="ModelServerConfig text proto with several models, as for TensorFlow Serving.",
)
@click.option(
    "--rest_api_timeout_in_ms",
    default=30000,
    show_default=True,
    help="A request that is not answered by then gets 504; 0: no limit.",
)
@click.option(
    "--rest_api_enable_cors_support",
    is_flag=True,
    flag_value=True,
    help="Send Access-Control-Allow-Origin: * with every answer.",
)
@click.option(
    "--allow_version_labels_for_unavailable_models",
    type=bool,
    default=False,
    help="Labels may name versions that are not loaded.",
)
@click.option(
    "--enable_signature_method_name_check",
    type=bool,
    default=False,
    help="Classify and regress only with signatures whose method_name says so.",
)
@options.device_option
@options.compile_options
@click.option(
    "--cache-dir",
    type=click.Path(path_type=Path),
    help="Where SavedModels are compiled to; ~/.cache/jaxrt when left out.",
)
@click.option(
    "--max_enqueued_batches",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Batches that may wait; more requests get 503.",
)
@click.option(
    "--grace",
    type=click.IntRange(min=0),
    default=30,
    show_default=True,
    metavar="SECONDS",
    help="How long accepted requests may take after SIGTERM.",
)
@click.option(
    "--num-workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that share the port and the weights' pages; not for models with state.",
)
@click.option("--worker", hidden=True)
@options.verbose_option
def command(**chosen: Any) -> None:
    """Serve PATH over HTTP with TensorFlow Serving's REST API.

    PATH is an artifact of `jaxrt compile`, a SavedModel, or a directory of numeric version
    directories of either, of which the highest is served. An artifact needs no TensorFlow; a
    SavedModel is compiled first, into a cache, and shapes that nobody planned are compiled when
    they are first asked for.
    """
    started = time.perf_counter()
    console.set_up_logging(chosen["verbose"])
    if chosen["num_workers"] > 1 and chosen["worker"] is None:
        from jaxrt.cli import workers  # a process that serves nothing needs no jax

        workers.supervise(
            chosen["rest_api_host"],
            chosen["rest_api_port"],
            chosen["num_workers"],
            started=started,
        )
        return
    from jaxrt.cli import serving  # imports jax: after the arguments were found to be right

    serving.serve(serving.Settings(**chosen), started=started)
