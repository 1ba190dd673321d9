"""`jaxrt inspect`: what an artifact holds."""

import itertools
import json
from pathlib import Path

import click

from jaxrt.artifact import Artifact, open_artifact
from jaxrt.cli import console, pictures
from jaxrt.cli.compressed import compression_lines, compression_tables
from jaxrt.cli.flags.command import FlagCommand
from jaxrt.cli.segments import lines
from jaxrt.cli.tables import INIT_OP, report_tables, tensor
from jaxrt.specs import SignatureSpec
from jaxrt.units import size


@click.command(cls=FlagCommand, epilog="Example: jaxrt inspect model.jaxrt")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print manifest and report as JSON.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="FILE.svg",
    help="Draw what the report has pictures of: size against error of a compressed artifact.",
)
def command(artifact: Path, as_json: bool, plot: Path | None) -> None:
    """Show what ARTIFACT holds.

    Signatures, compiled shapes, memory, FLOPs, what runs where, how far the answers are from
    TensorFlow's, and what was left out and why. Every file is compared with its hash first.
    """
    with open_artifact(artifact) as opened:
        if plot is not None:
            pictures.write(opened.report(), plot)
            return
        if as_json:
            found = {"manifest": opened.manifest.to_json(), "report": opened.report()}
            click.echo(json.dumps(found, indent=1))
            return
        shown = console.stdout()
        shown.print(_origin(opened))
        rows = [
            [name, *cells]
            for name, signature in opened.manifest.signatures.items()
            if name != INIT_OP
            for cells in _tensors(signature.spec)
        ]
        shown.print(console.table("Signatures", ["signature", "", "name", "tensor"], rows))
        report = opened.report()
        tables = (report_tables(opened.manifest, report), compression_tables(report, whole=True))
        for made in itertools.chain(*tables):
            shown.print(made)
        for line in (*lines(opened.report()), *compression_lines(opened.report())):
            click.echo(line)


def _origin(artifact: Artifact) -> str:
    manifest = artifact.manifest
    tools = ", ".join(f"{name} {version}" for name, version in manifest.tools.items())
    weights = artifact.weights.nbytes
    total = sum(entry.bytes for entry in manifest.files.values())
    return (
        f"{artifact.path}: model {manifest.model}, from {manifest.source.path} "
        f"(tags {', '.join(manifest.source.tags)}, SHA-256 {manifest.source.sha256[:16]}…)\n"
        f"made by jaxrt {manifest.jaxrt} with {tools}, for {manifest.target.platform} "
        f"({manifest.target.device_kind})\n"
        f"{size(total)}, of which weights {size(weights)} in "
        f"{len(artifact.weights)} tensors, shared by all programs"
    )


def _tensors(spec: SignatureSpec) -> list[list[str]]:
    found = [["in", alias, tensor(t)] for alias, t in spec.inputs.items()]
    return found + [["out", alias, tensor(t)] for alias, t in spec.outputs.items()]
