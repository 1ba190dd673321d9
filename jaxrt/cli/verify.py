"""`jaxrt verify`: an artifact's answers against TensorFlow's."""

from pathlib import Path

import click

from jaxrt.cli import console, devices, options
from jaxrt.cli.flags.command import FlagCommand
from jaxrt.cli.tables import error_cells
from jaxrt.errors import VerificationError


@click.command(cls=FlagCommand, epilog="Example: jaxrt verify model.jaxrt --against model/")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--against",
    required=True,
    type=click.Path(path_type=Path),
    metavar="MODEL",
    help="The SavedModel, or its base path, to run in TensorFlow.",
)
@click.option(
    "--tolerance",
    default=None,
    type=click.FloatRange(min=0),
    help="Allowed error, as a part of an output's largest value: 5e-4 unless given, 5e-3 and 4e-2 "
    "for artifacts at tf32 and bf16. Integers must be equal, unless rounded numbers chose them; "
    "float64 is held to 1e-6, half precision to a few of its own steps.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of the random inputs.",
)
@devices.device_option
@options.verbose_option
def command(
    artifact: Path, against: Path, tolerance: float | None, seed: int, device: str, verbose: bool
) -> None:
    """Run every program of ARTIFACT and the SavedModel on the same inputs.

    Inputs are random numbers, and words, serialized Examples or images where strings are wanted.
    What is cut into stages is answered as a server answers it, at each batch size. Signatures
    that draw random numbers or change state are named and not compared.

    Prints the error of every output; exits with 1 when one is past the tolerance.
    """
    console.set_up_logging(verbose)
    from jaxrt.cli import verification  # imports jax: after the arguments were found to be right

    with console.progress(f"verify {artifact}") as steps:
        found = verification.verify(
            artifact, against, relative=tolerance, seed=seed, device=device, steps=steps
        )
    rows = [
        [r.signature, r.shapes, *(error_cells(r.error.to_json()) if r.error else [""] * 5), r.said]
        for r in found
    ]
    columns = ["signature", "input shapes", "output", "largest", "max error", "RMS error"]
    title = f"{artifact} against {against}"
    console.stdout().print(console.table(title, [*columns, "allowed", ""], rows))
    if wrong := [r for r in found if not r.ok]:
        raise VerificationError(
            f"{artifact}: {len(wrong)} of {len(found)} outputs differ from TensorFlow's by more "
            f"than allowed, first {wrong[0].signature!r} at {wrong[0].shapes}: {wrong[0].said}"
        )
    compared = sum(r.error is not None for r in found)
    click.echo(f"{compared} outputs of {len(rows)} compared: all within the tolerance")
