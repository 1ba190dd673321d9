"""`jaxrt compile`: SavedModel → artifact."""

import itertools
import logging
from pathlib import Path
from typing import Any

import click

from jaxrt.cli import console, devices, options
from jaxrt.cli.compressed import compression_lines, compression_tables
from jaxrt.cli.flags.command import FlagCommand
from jaxrt.cli.flags.compression import CompressionFlags, compression_options
from jaxrt.cli.gains import gain_tables
from jaxrt.cli.segments import lines
from jaxrt.cli.tables import report_tables
from jaxrt.errors import UsageError
from jaxrt.units import size

log = logging.getLogger("jaxrt.compile")


@click.command(
    cls=FlagCommand,
    epilog="Example: jaxrt compile model/ --batch-sizes 1,8,64 -o model.jaxrt",
)
@click.argument("model")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The artifact to write; MODEL.jaxrt when left out. One that is there is replaced.",
)
@options.compile_options
@compression_options
@click.option(
    "--signature",
    "signatures",
    multiple=True,
    metavar="NAME",
    help="Compile this signature alone. May be given several times.",
)
@devices.device_option
@devices.topology_option
@devices.mesh_options
@click.option(
    "--check/--no-check",
    default=True,
    show_default=True,
    help="Run each signature once in TensorFlow too and report the error of every output.",
)
@click.option(
    "--fallback/--no-fallback",
    default=True,
    show_default=True,
    help="Keep the SavedModel in the artifact where requests may have shapes that no program "
    "takes: TensorFlow answers those, if it is installed where the artifact is served. Without "
    "it they get 400. Sizes that --shape plans need none.",
)
@options.verbose_option
def command(
    model: str,
    output: Path | None,
    batch_sizes: str,
    shapes: tuple[str, ...],
    tags: str,
    signatures: tuple[str, ...],
    autotune: str,
    disabled_passes: tuple[str, ...],
    precision: str,
    keep_f32: tuple[str, ...],
    disable_optimizer: bool,
    device: str,
    topology: str | None,
    check: bool,
    fallback: bool,
    verbose: bool,
    **meshing: Any,
) -> None:
    """Compile the SavedModel in MODEL into an artifact.

    MODEL is a SavedModel directory, or a TensorFlow Serving base path with numeric version
    directories, of which the highest is compiled; or the URI of one. TensorFlow must be installed
    (pip install "jaxrt[convert]"); serving the artifact needs none.
    """
    console.set_up_logging(verbose)
    if disable_optimizer:
        log.warning(options.UNOPTIMIZED)
    compression = CompressionFlags.taken(meshing)
    on_mesh = devices.Meshing(**meshing)
    on_mesh.check()
    from jaxrt.cli import building  # imports jax: after the arguments were found to be right
    from jaxrt.cli.compression import check as check_compression

    target = devices.target(device, topology)
    check_compression(compression, target)
    location = building.saved_model(model)
    destination = output or Path(f"{location.name}.jaxrt")
    if destination.suffix in (".pb", ".pbtxt"):
        raise UsageError(f"--output {destination}: want a directory, such as model.jaxrt")
    chosen = building.choose(
        location.path,
        batch_sizes=options.buckets(batch_sizes),
        shapes=shapes,
        tags=options.tag_list(tags),
        signatures=signatures,
        check=check,
        optimize=not disable_optimizer,
        passes=building.passes(autotune, disabled_passes, precision, keep_f32),
        fallback=fallback,
        compression=compression,
    )
    with console.progress(f"compile {location.name}") as steps, building.Bridges() as bridges:
        manifest, report = building.build(
            location,
            destination,
            chosen,
            target=target,
            bridges=bridges,
            steps=steps,
            lay_out=on_mesh.lay_out(target),
        )
    shown = console.stdout()
    tables = (report_tables(manifest, report), gain_tables(report), compression_tables(report))
    for table in itertools.chain(*tables):
        shown.print(table)
    for line in (*lines(report), *compression_lines(report)):
        click.echo(line)
    shown.print(f"wrote {destination}: {size(building.size_of(destination))}")
