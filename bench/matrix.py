"""Models × targets: which programs compile for devices that are not here, and what they take.

    python -m bench.matrix lower MODELS... --out LOWERED --batch-sizes 1,8   # where TensorFlow is
    python -m bench.matrix compile LOWERED --targets v5e:1x1,v5e:2x4 --json FILE
    python -m bench.matrix show FILE...                                      # a Markdown table

MODELS are SavedModels, base paths, or folders of either. `lower` stores StableHLO of every
signature that TensorFlow's XLA bridge takes whole; `compile` needs no TensorFlow, so that it also
runs where the CUDA plugin is (`pip install 'jaxrt[cuda]'`). Each program is optimized as `jaxrt
compile` does it, planned, and compiled by its best plan. Results are lines of JSON, appended as
they come; what is in FILE already is not compiled again.
"""

import argparse
import collections
import dataclasses
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

TARGETS = "v5e:1x1,v5e:2x2,v6e:2x4,v5p:2x2x1"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One program on one target."""

    model: str
    signature: str
    batch: int | None
    target: str
    error: str = ""
    """Empty: it compiled."""
    seconds: float = 0.0
    plan: str = ""
    mesh: str = ""
    memory_bytes: int = 0
    """Of one device: weights, inputs, outputs, temporaries and code."""
    executable_bytes: int = 0
    collectives: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, int | None, str]:
        return self.model, self.signature, self.batch, self.target

    def line(self) -> str:
        where = f"{self.model} {self.signature} × {self.batch} on {self.target}"
        if self.error:
            return f"{where}: {self.error}"
        exchanged = ", ".join(f"{count} {kind}" for kind, count in self.collectives.items())
        return (
            f"{where}: {self.seconds:.1f} s, {self.plan} {self.mesh}, "
            f"{self.memory_bytes / 1e6:.1f} MB, {exchanged or 'no exchange'}"
        )


def saved_models(paths: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Name and directory of each SavedModel at or below the paths."""
    for path in paths:
        if any((path / f"saved_model.{end}").exists() for end in ("pb", "pbtxt")):
            named = path.parent.name if path.name.isdigit() else path.name
            yield named, path
        elif path.is_dir():
            yield from saved_models(sorted(p for p in path.iterdir() if p.is_dir()))


def lower(paths: Sequence[Path], out: Path, sizes: Sequence[int], inner: int) -> None:
    """StableHLO of every signature at every batch size, beside what its arguments are."""
    from jaxrt.buckets import Buckets
    from jaxrt.cli.building import Bridges
    from jaxrt.converters import planning
    from jaxrt.converters.division import INIT_OP

    out.mkdir(parents=True, exist_ok=True)
    buckets, rules = Buckets(sizes=tuple(sizes)), (planning.parse_rule(f"*={inner}"),)
    with Bridges() as bridges:
        for name, path in saved_models(paths):
            bridge = bridges.start()
            model = bridge.open_model(path, ("serve",))
            for key, spec in model.signatures.items():
                if key == INIT_OP:
                    continue
                plan = planning.plan(key, spec, buckets=buckets)
                if plan.unplanned:
                    plan = planning.plan(key, spec, buckets=buckets, rules=rules)
                _lower(bridge, model, name, key, plan, out)


def _lower(bridge: Any, model: Any, name: str, key: str, plan: Any, out: Path) -> None:
    """One signature; where TensorFlow refuses a guess at an unknown rank, by the other guess."""
    from jaxrt.converters.records import Refused

    for planned in plan.programs:
        found = bridge.lower(model, key, planned.shapes)
        if not isinstance(found, Refused):
            _store(out, name, found, planned.batch)
        elif plan.otherwise is not None:
            return _lower(bridge, model, name, key, plan.otherwise, out)
        else:
            return print(f"{name} {key}: not whole: {found.reason}", flush=True)


def _store(out: Path, model: str, found: Any, batch: int | None) -> None:
    stem = f"{model}.{''.join(c if c.isalnum() else '_' for c in found.signature)}.{batch}"
    (out / f"{stem}.stablehlo").write_bytes(found.stablehlo)
    arguments = {
        side: [one.name for one in getattr(found, side)]
        for side in ("inputs", "weights", "outputs")
    }
    described = {"model": model, "signature": found.signature, "batch": batch, **arguments}
    (out / f"{stem}.json").write_text(json.dumps(described))
    print(f"{model} {found.signature} × {batch}: {len(found.stablehlo):,} bytes", flush=True)


def compiled(stem: Path, described: Mapping[str, Any], name: str) -> Cell:
    """One program for one target."""
    from jaxrt.errors import JaxrtError
    from jaxrt.tpu import aot, plan
    from jaxrt.tpu.topology import parse

    topology = parse(name)
    cell = Cell(
        model=described["model"],
        signature=described["signature"],
        batch=described["batch"],
        target=topology.name,
    )
    started = time.perf_counter()
    try:
        program = _program(stem, described, topology.chip.platform)
        best = plan.plans(program, topology, bf16=topology.chip.platform == "tpu")[0]
        found = aot.compile_for(program, best, topology)
    except JaxrtError as error:
        return dataclasses.replace(cell, error=" ".join(str(error).split())[:400])
    stats = found.stats
    return dataclasses.replace(
        cell,
        seconds=round(time.perf_counter() - started, 2),
        plan=best.label,
        mesh=str(best.mesh),
        memory_bytes=stats.argument_bytes
        + stats.output_bytes
        + stats.temp_bytes
        + stats.code_bytes,
        executable_bytes=len(found.executable),
        collectives=dict(found.collectives),
    )


def _program(stem: Path, described: Mapping[str, Any], platform: str) -> Any:
    """The request's part of the program, as `jaxrt compile` makes it."""
    import jax

    from jaxrt.converters.lift import evaluator
    from jaxrt.passes import simplify
    from jaxrt.target import Target
    from jaxrt.tuning.optimizer import Passes, optimizer

    target = Target(
        platform=platform, device_kind=platform, num_devices=1, fingerprint="", features=""
    )
    with jax.enable_x64(True):
        lifted = evaluator.lift(
            stem.with_suffix(".stablehlo").read_bytes(),
            **{key: described[key] for key in ("signature", "inputs", "weights", "outputs")},
        )
        return optimizer(target, Passes())(simplify.simplify(lifted.program)).split.apply


def compile_all(lowered: Path, targets: Sequence[str], file: Path, only: str) -> None:
    """Every stored program for every target; cells are appended to `file`."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    done = {cell.key for cell in read([file])} if file.exists() else set()
    for path in sorted(lowered.glob("*.json")):
        described = json.loads(path.read_text())
        if only and described["model"] not in only.split(","):
            continue
        for name in targets:
            if (described["model"], described["signature"], described["batch"], name) in done:
                continue
            cell = compiled(path, described, name)
            print(cell.line(), flush=True)
            with file.open("a") as lines:
                print(json.dumps(dataclasses.asdict(cell)), file=lines)


def read(files: Sequence[Path]) -> list[Cell]:
    """Of several results for a cell the last."""
    cells = [Cell(**json.loads(line)) for file in files for line in file.read_text().splitlines()]
    return list({cell.key: cell for cell in cells}.values())


def markdown(cells: Sequence[Cell]) -> str:
    """A row for each model: seconds and megabytes of its largest program on each target."""
    targets = list(dict.fromkeys(cell.target for cell in cells))
    by_model: dict[str, dict[str, list[Cell]]] = collections.defaultdict(dict)
    for cell in cells:
        by_model[cell.model].setdefault(cell.target, []).append(cell)
    lines = [["model", "programs", *targets], ["---"] * (len(targets) + 2)]
    for model, found in sorted(by_model.items()):
        programs = max(len(group) for group in found.values())
        row = [_spelled(found[target]) if target in found else "–" for target in targets]
        lines.append([model, str(programs), *row])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _spelled(group: Sequence[Cell]) -> str:
    failed = [cell for cell in group if cell.error]
    if failed:
        return f"{len(failed)} of {len(group)} fail: {failed[0].error}"
    largest = max(group, key=lambda cell: cell.memory_bytes)
    exchanged = sum(largest.collectives.values())
    split = f", {largest.plan} {largest.mesh}" if largest.mesh != "1×1" else ""
    exchanges = f", {exchanged} exchanges" if exchanged else ""
    seconds = max(cell.seconds for cell in group)
    return f"{seconds:.1f} s, {largest.memory_bytes / 1e6:.1f} MB{split}{exchanges}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    lowering = commands.add_parser("lower")
    lowering.add_argument("models", nargs="+", type=Path)
    lowering.add_argument("--out", type=Path, required=True)
    lowering.add_argument("--batch-sizes", default="1,8")
    lowering.add_argument("--inner", type=int, default=64, help="of other unknown dimensions")
    compiling = commands.add_parser("compile")
    compiling.add_argument("lowered", type=Path)
    compiling.add_argument("--targets", default=TARGETS)
    compiling.add_argument("--models", default="", help="comma-separated; all by default")
    compiling.add_argument("--json", type=Path, required=True)
    showing = commands.add_parser("show")
    showing.add_argument("files", nargs="+", type=Path)
    chosen = parser.parse_args()
    if chosen.command == "lower":
        sizes = [int(size) for size in chosen.batch_sizes.split(",")]
        lower(chosen.models, chosen.out, sizes, chosen.inner)
    elif chosen.command == "compile":
        compile_all(chosen.lowered, chosen.targets.split(","), chosen.json, chosen.models)
    else:
        print(markdown(read(chosen.files)))


if __name__ == "__main__":
    main()
