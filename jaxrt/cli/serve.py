"""`jaxrt serve`: models over HTTP, with TensorFlow Serving's REST API and its flags."""

import importlib.metadata
import logging
import os
import time
from pathlib import Path
from typing import Any

import click

from jaxrt import __version__, digest
from jaxrt.artifact import WEIGHTS
from jaxrt.cli import console, devices, options
from jaxrt.cli.flags import accepted, compression, models, network, placing, running
from jaxrt.cli.flags.command import LenientCommand, given, unknown, unused
from jaxrt.cli.flags.flag import Flag, truth
from jaxrt.cli.settings import Settings, resolve
from jaxrt.errors import JaxrtError
from jaxrt.serving.engine import source

log = logging.getLogger("jaxrt.serving")


def _versions(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        libraries = [f"{name} {importlib.metadata.version(name)}" for name in ("jax", "jaxlib")]
        click.echo("\n".join((f"jaxrt {__version__}", *libraries)))
        ctx.exit()


@click.command(
    cls=LenientCommand,
    epilog="Examples: jaxrt serve model.jaxrt --rest_api_port=8501; jaxrt serve --port=8500 "
    "--rest_api_port=8501 --model_name=half --model_base_path=/models/half",
)
@click.argument("path", required=False)
@models.models
@network.ports
@network.rest
@network.grpc
@models.lifecycle
@running.batching
@devices.device_option
@placing.replicas
@placing.hosts
@options.compile_options
@compression.compression_options
@devices.mesh_options
@running.threads
@running.process
@accepted.accepted
@options.verbose_option
@click.option(
    "--version",
    cls=Flag,
    type=truth,
    default=False,
    metavar="true|false",
    expose_value=False,
    is_eager=True,
    callback=_versions,
    help="Print the versions of jaxrt and jax.",
)
@click.pass_context
def command(ctx: click.Context, /, **chosen: Any) -> None:
    """Serve PATH, or what TensorFlow Serving's flags name, with TensorFlow Serving's APIs.

    PATH is an artifact of `jaxrt compile`, a SavedModel, or a directory of numeric version
    directories of either, of which the highest is served; or the URI of one. An artifact needs no
    TensorFlow; a SavedModel is compiled first, into a cache, and shapes that nobody planned are
    compiled when they are first asked for.

    Flags are written as TensorFlow Serving's: --flag=value or --flag value, bools --flag,
    --flag=true or --flag=false. Flags that nobody knows are named and put aside.
    """
    started = time.perf_counter()
    console.set_up_logging(chosen["verbose"])
    if chosen["worker"] is None:
        _name_what_decides_nothing(ctx)
    settings = resolve(Settings(**chosen, given=given(ctx)), os.environ)
    if settings.num_workers > 1 and settings.worker is None:
        from jaxrt.cli import workers  # a process that serves nothing needs no jax

        workers.supervise(settings, started=started)
        return
    digest.AHEAD.begin(_weights(settings))
    from jaxrt.cli import serving  # imports jax: after the arguments were found to be right

    serving.serve(settings, started=started)


def _weights(settings: Settings) -> list[Path]:
    """The largest file of the artifact that is served, if one is named: hashed meanwhile."""
    given = settings.path or settings.model_base_path
    try:
        version = source.locate(Path(given)).versions[0] if given else None
    except (JaxrtError, OSError):  # said when it is loaded
        return []
    weights = version.path / WEIGHTS if version else None
    return [weights] if weights and weights.is_file() else []


def _name_what_decides_nothing(ctx: click.Context) -> None:
    for line in unknown(ctx):
        log.warning("%s", line)
    if idle := unused(ctx):
        named = "; ".join(f"{name} ({why})" for name, why in idle.items())
        log.warning("flags that decide nothing here: %s", named)
