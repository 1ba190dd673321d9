"""Artifacts on an accelerator: numbers against TensorFlow's, time against the roofline and PyTorch.

    python -m bench.device record MODEL.jaxrt MODEL MODEL.answers.npz    # where TensorFlow is
    python -m bench.device measure MODEL.jaxrt --answers MODEL.answers.npz --json FILE

`record` needs no accelerator: it draws inputs for every program of the artifact and stores them
with TensorFlow's answers. `measure` needs no TensorFlow: carry the artifact and the answers to the
machine that has the device. It loads the executables (nothing is compiled where the artifact is for
that device), compares, and times every program: arrays from the host and back, one call at a time
(latency) and as many as `--threads` at once (throughput). Beside it the roofline: the time that the
device's peak rates would take for the program's arithmetic, or to read its weights and inputs and
write its outputs once, whichever is longer. Where PyTorch is installed, `--torch NAME` times
`torch.compile` on the same architecture, with random weights (`bench.torch_models`).
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import functools
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import machine
from jaxrt.artifact import Artifact, open_artifact
from jaxrt.entries import ProgramEntry
from jaxrt.errors import JaxrtError, UsageError
from jaxrt.manifest import Manifest
from jaxrt.passes.precision import DEFAULTS
from jaxrt.specs import SignatureSpec
from jaxrt.tpu.chips import Chip
from jaxrt.tpu.topology import chip_of

Array = np.ndarray[Any, Any]

NOT_COMPARED = "not compared"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One program on the device; seconds a call, floats in f32 unless it says otherwise."""

    program: str
    rows: int
    latency: float
    """Median of one call at a time, host to host."""
    p99: float
    throughput: float
    """Rows a second with several calls at once."""
    roofline: float | None
    """Least seconds by the device's peak rates; None for a device whose rates are not known."""
    error: float | None
    """Largest difference from TensorFlow, as a part of the output's largest value."""
    torch: float | None = None
    """Seconds of torch.compile at as many rows."""

    def line(self) -> str:
        """A row of the table."""
        cells = [
            self.program,
            str(self.rows),
            f"{1e3 * self.latency:.3f}",
            f"{1e3 * self.p99:.3f}",
            f"{self.throughput:,.0f}",
            "–" if self.roofline is None else f"{1e3 * self.roofline:.3f}",
            "–" if self.roofline is None else f"{100 * self.roofline / self.latency:.0f} %",
            NOT_COMPARED if self.error is None else f"{self.error:.1e}",
            "–" if self.torch is None else f"{1e3 * self.torch:.3f}",
            "–" if self.torch is None else f"{self.torch / self.latency:.2f}×",
        ]
        return f"| {' | '.join(cells)} |"


HEAD = (
    "| program | rows | median, ms | p99, ms | rows/s | roofline, ms | of it | error | "
    "torch.compile, ms | jaxrt is |\n|---|---|---|---|---|---|---|---|---|---|"
)


def precision_of(manifest: Manifest) -> str:
    """Of its products: what was chosen, or the platform's own."""
    passes = manifest.options.get("passes", {})
    chosen = passes.get("rounding", {}).get("precision")
    return str(chosen or DEFAULTS[manifest.target.platform].value)


def roofline(entry: ProgramEntry, chip: Chip, *, precision: str) -> float | None:
    """Seconds, from what the compiler counted for one device."""
    stats = entry.stats
    if stats.flops is None or stats.argument_bytes is None or stats.output_bytes is None:
        return None
    rates = {"bf16": chip.bf16_flops, "tf32": chip.tf32_flops, "f32": chip.f32_flops}
    rate = (rates.get(precision) or chip.f32_flops) / chip.devices
    moved = stats.argument_bytes + stats.output_bytes
    return max(stats.flops / rate, moved * chip.devices / chip.memory_bandwidth)


def programs(artifact: Artifact) -> list[tuple[str, SignatureSpec | None, ProgramEntry]]:
    """Signature, its spec where the program is the whole of it, and the program."""
    found: list[tuple[str, SignatureSpec | None, ProgramEntry]] = []
    for name, signature in artifact.manifest.signatures.items():
        found += [(name, signature.spec, entry) for entry in signature.programs]
        found += [(name, None, entry) for stage in signature.stages for entry in stage.programs]
    return found


def record(path: Path, model: Path, out: Path, *, seed: int) -> int:
    """Writes inputs and TensorFlow's answers of every whole program; how many programs."""
    from jaxrt.cli import building
    from jaxrt.converters import check

    arrays: dict[str, Array] = {}
    with contextlib.ExitStack() as stack:
        artifact = stack.enter_context(open_artifact(path))
        tensorflow = stack.enter_context(building.Bridges()).start()
        opened = tensorflow.open_model(
            building.saved_model(model).path, artifact.manifest.source.tags
        )
        for signature, spec, entry in programs(artifact):
            if spec is None or entry.random:
                continue
            run = functools.partial(tensorflow.run, opened, signature)
            inputs, answers = check.sample_and_run(
                spec, entry.input_shapes, seed, run, fixed=entry.values
            )
            arrays |= {f"{entry.key}/input/{n}": a for n, a in inputs.items()}
            arrays |= {f"{entry.key}/output/{n}": np.asarray(answers[n]) for n in spec.outputs}
    np.savez(out, **arrays)  # type: ignore[arg-type]
    return len({name.partition("/")[0] for name in arrays})


def answers_of(stored: Mapping[str, Array], key: str, side: str) -> dict[str, Array]:
    start = f"{key}/{side}/"
    return {name[len(start) :]: stored[name] for name in stored if name.startswith(start)}


def error(got: Mapping[str, Array], want: Mapping[str, Array]) -> float | None:
    """The largest over outputs of max |got - want| / max |want|; None without answers."""
    found = []
    for name, answer in want.items():
        difference = np.abs(got[name].astype(np.float64) - answer.astype(np.float64))
        scale = np.abs(answer.astype(np.float64)).max(initial=0.0) or 1.0
        found.append(float(difference.max(initial=0.0) / scale))
    return max(found, default=None)


def inputs_of(entry: ProgramEntry, stored: Mapping[str, Array]) -> dict[str, Array]:
    """The recorded ones, or zeros, which are in range whatever they index."""
    found = answers_of(stored, entry.key, "input")
    return found or {
        name: np.zeros(shape, np.dtype(entry.input_dtypes[name]))
        for name, shape in entry.input_shapes.items()
    }


def timed(run: Callable[[], object], seconds: float) -> list[float]:
    """Seconds of each of at least 5 calls, for as long as is given."""
    run()
    found: list[float] = []
    until = time.perf_counter() + seconds
    while len(found) < 5 or time.perf_counter() < until:
        started = time.perf_counter()
        run()
        found.append(time.perf_counter() - started)
    return found


def at_once(run: Callable[[], object], threads: int, seconds: float) -> float:
    """Calls a second, with `threads` that call one after the other."""
    started = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        done = list(pool.map(lambda _: len(timed(run, seconds)) + 1, range(threads)))
    return sum(done) / (time.perf_counter() - started)


def measure(
    path: Path, answers: Path | None, *, device: str, threads: int, seconds: float, torch: str
) -> tuple[list[Measured], list[str]]:
    """Every program of the artifact, and what else there is to say."""
    from jaxrt import loader, target
    from jaxrt.cli import hosts

    stored = dict(np.load(answers, allow_pickle=False)) if answers else {}
    attached = target.select(device)
    said = [f"device: {attached.device_kind}"]
    found = []
    with open_artifact(path) as artifact:
        manifest = artifact.manifest
        started = time.perf_counter()
        loaded = loader.load(artifact, attached, open_host=hosts.opener(artifact))
        said.append(f"loaded in {time.perf_counter() - started:.2f} s")
        chip = chip_of(attached.device_kind)
        precision = precision_of(manifest)
        for one in loaded.entries:
            if one.recompiled:
                said.append(f"{one.entry.key} was compiled again: {one.recompiled}")
            given = inputs_of(one.entry, stored)
            run = functools.partial(one.program.run, given)
            rows = max((shape[0] for shape in one.entry.input_shapes.values() if shape), default=1)
            got = run()
            single = timed(run, seconds)
            rate = at_once(run, threads, seconds)
            floor = roofline(one.entry, chip, precision=precision) if chip else None
            found.append(
                Measured(
                    program=one.entry.key,
                    rows=rows,
                    latency=statistics.median(single),
                    p99=statistics.quantiles(single, n=100)[98],
                    throughput=rate * rows,
                    roofline=floor,
                    error=error(got, answers_of(stored, one.entry.key, "output")),
                    torch=_torch(torch, rows, seconds) if torch else None,
                )
            )
    return found, said


def _torch(name: str, rows: int, seconds: float) -> float:
    from bench.torch_models import compiled

    return statistics.median(timed(compiled(name, rows), seconds))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.device",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    recorded = commands.add_parser("record", help="store inputs and TensorFlow's answers")
    recorded.add_argument("artifact", type=Path)
    recorded.add_argument("model", type=Path, help="the SavedModel it was made from")
    recorded.add_argument("out", type=Path, help="an .npz file to write")
    recorded.add_argument("--seed", type=int, default=0)
    measured = commands.add_parser("measure", help="compare and time on the attached device")
    measured.add_argument("artifact", type=Path)
    measured.add_argument("--answers", type=Path, help="what `record` wrote")
    measured.add_argument("--device", help="the platform; the artifact's when left out")
    measured.add_argument("--threads", type=int, default=2, help="calls at once, for throughput")
    measured.add_argument("--seconds", type=float, default=2.0, help="for each figure")
    measured.add_argument("--torch", default="", help="a model of bench.torch_models")
    measured.add_argument("--json", type=Path, help="write the figures to this file too")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        if given.command == "record":
            count = record(given.artifact, given.model, given.out, seed=given.seed)
            if not count:
                raise UsageError(f"{given.artifact}: no program is a whole signature")
            print(f"wrote {given.out}: inputs and answers of {count} programs")
            return
        _measure(given)
    except JaxrtError as error:
        parser.exit(1, f"{error}\n")


def _measure(given: argparse.Namespace) -> None:
    with open_artifact(given.artifact, verify=False) as artifact:
        platform = artifact.manifest.target.platform
    found, said = measure(
        given.artifact,
        given.answers,
        device=given.device or platform,
        threads=given.threads,
        seconds=given.seconds,
        torch=given.torch,
    )
    print(machine(), *said, "", HEAD, *(one.line() for one in found), sep="\n")
    if given.json:
        figures = [dataclasses.asdict(one) for one in found]
        given.json.write_text(json.dumps({"machine": machine(), "said": said, "found": figures}))


if __name__ == "__main__":
    main()
