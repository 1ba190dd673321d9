"""Where models run, as a Markdown table: the device's share of the FLOPs, who runs the host's part.

python bench/gauntlet_table.py FOLDER... [--work DIR] [--batch-sizes 8] [--shape MODEL:NAME=N,N]

Each directory in a FOLDER that is a SavedModel, or has one below it in a version directory, is
compiled into an artifact and its report read. `--work` keeps the artifacts, and takes those that
it has already.
"""

import argparse
import dataclasses
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxrt import target
from jaxrt.artifact import open_artifact
from jaxrt.buckets import Buckets
from jaxrt.cli import building, console, options
from jaxrt.errors import JaxrtError
from jaxrt.serving.engine import source
from jaxrt.target import Target
from jaxrt.units import percent, size

HEAD = (
    "Model",
    "Signature",
    "Kind",
    "FLOPs on device",
    "Host executor",
    "Ops that need the host",
    "Crosses per example",
)
_NAMED = 4
"""Ops named in a cell, the most frequent first."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One signature of one model, or a model that has none, as cells of the table."""

    cells: tuple[str, ...]

    def __str__(self) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in self.cells) + " |"


def rows(model: str, report: Mapping[str, Any]) -> list[Row]:
    """Signatures whose cells are the same share a row."""
    found: dict[tuple[str, ...], list[str]] = {}
    for name, signature in report["signatures"].items():
        if signature["segments"]:
            found.setdefault(_cells(signature), []).append(f"`{name}`")
    return [Row(cells=(model, ", ".join(names), *cells)) for cells, names in found.items()]


def _cells(signature: Mapping[str, Any]) -> tuple[str, ...]:
    segments = signature["segments"]
    hosts = [s for s in segments if s["where"] != "device"]
    crossing = signature["crossing_bytes"]
    return (
        _kind(segments),
        _share(signature),
        _executor(hosts),
        _ops(hosts),
        "unknown" if crossing is None else size(crossing) if hosts and crossing else "–",
    )


def _kind(segments: Sequence[Mapping[str, Any]]) -> str:
    """`host → device → host`."""
    if len(segments) == 1:
        return "one program" if segments[0]["where"] == "device" else "host only"
    return " → ".join(s["where"].partition(",")[0] for s in segments)


def _share(signature: Mapping[str, Any]) -> str:
    share = signature["device_share"]
    if share is None:
        flops = [s["flops"] for s in signature["segments"]]
        return "unknown" if None in flops else "there are none"
    loops = any(s["loops"] for s in signature["segments"])
    said = percent(share)
    return said if said[0] in "<>" or not (loops and 0 < share < 1) else f"≥ {said}"


def _executor(hosts: Sequence[Mapping[str, Any]]) -> str:
    names = {s["where"].removeprefix("host, ") for s in hosts}
    return " and ".join(sorted(names)) or "none"


def _ops(hosts: Sequence[Mapping[str, Any]]) -> str:
    counts: Counter[str] = Counter()
    for segment in hosts:
        for ops in segment["reasons"].values():
            counts.update(ops)
        if segment["where"].endswith("whole in TensorFlow"):
            return str(segment["why"]).rstrip(".")
    named = [f"{op} ×{n}" if n > 1 else op for op, n in counts.most_common(_NAMED)]
    rest = len(counts) - _NAMED
    return ", ".join(named) + (f" and {rest} more" if rest > 0 else "") or "–"


def models(folders: Sequence[Path]) -> Iterator[Path]:
    """Directories of models in the folders, by their names."""
    found = [path for folder in folders for path in folder.iterdir() if path.is_dir()]
    for path in sorted(found, key=lambda p: p.name.casefold()):
        try:
            versions = source.locate(path).versions
        except JaxrtError:
            continue
        if versions and source.kind_of(versions[0].path) is source.Kind.SAVED_MODEL:
            yield path


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Compiler:
    """Makes the artifacts that are not there."""

    work: Path
    batch_sizes: Buckets
    shapes: tuple[str, ...]
    """`MODEL:` and what `jaxrt compile --shape` takes for it."""
    bridges: building.Bridges
    target: Target

    def artifact(self, model: Path) -> Path:
        """The model's artifact. Raises JaxrtError where it cannot be made."""
        artifact = self.work / f"{model.name}.jaxrt"
        if not artifact.is_dir():
            location = building.saved_model(model)
            chosen = building.choose(
                location.path,
                batch_sizes=self.batch_sizes,
                shapes=[s.partition(":")[2] for s in self.shapes if s.startswith(f"{model.name}:")],
                tags=("serve",),
                check=False,
            )
            with console.progress(model.name) as steps:
                building.build(
                    location,
                    artifact,
                    chosen,
                    target=self.target,
                    bridges=self.bridges,
                    steps=steps,
                )
        return artifact


def table(paths: Iterable[Path], compiler: Compiler) -> list[Row]:
    """Progress goes to stderr."""
    found = []
    for path in paths:
        print(path.name, file=sys.stderr, flush=True)
        try:
            artifact = compiler.artifact(path)
        except JaxrtError as error:
            found.append(Row(cells=(path.name, "–", f"not compiled: {error}", "", "", "", "")))
            continue
        with open_artifact(artifact, verify=False) as opened:
            found += rows(path.name, opened.report())
    return found


def markdown(found: Sequence[Row]) -> str:
    return "\n".join([str(Row(cells=HEAD)), "|" + " --- |" * len(HEAD), *map(str, found)])


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keeps the artifacts")
    parser.add_argument("--batch-sizes", default="8")
    parser.add_argument("--shape", action="append", default=[], metavar="MODEL:NAME=N,N")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch, building.Bridges() as bridges:
        work = chosen.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        compiler = Compiler(
            work=work,
            batch_sizes=options.buckets(chosen.batch_sizes),
            shapes=tuple(chosen.shape),
            bridges=bridges,
            target=target.select("cpu"),
        )
        print(markdown(table(models(chosen.folders), compiler)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
