"""Artifacts before and after compression: size, memory, time of a call and rows a second, in turns.

    python -m bench.compression MODELS... [--batch-sizes 1,64] [--ids 1000] [--folder ARTIFACTS]

MODELS are directories of SavedModels. Each is compiled by `jaxrt compile` as it is and with
`--allow_compression` (`--scheme`: with `--compress`), both artifacts are loaded by jaxrt's loader
and called in turns: no server, no HTTP. With `--folder`, artifacts are kept and found again, so
that they can be compiled before and timed on a quiet machine. Exit code 1: a model was not
compiled, or, but for `--goal size`, a program is slower after compression by more than noise.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxrt.artifact import open_artifact
from jaxrt.loader import LoadedEntry, LoadedModel, load
from jaxrt.target import attached

Array = np.ndarray[Any, Any]

HEAD = (
    "| model | layers | weights | resident | program | float | compressed | rows/s | as fast |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)

SETS = 16
"""Of inputs, taken in turns: rows of tables that were just looked up lie in the cache."""

SECONDS, FEWEST, MOST = 2.0, 7, 400
"""That a pair of programs is timed for; rounds."""

NOISE = 1.05
"""How much slower a program may seem."""

AGAIN = 3
"""How often a pair that seems slower is timed before it counts."""

RESIDENT = """
import sys
from pathlib import Path
from bench.compression import loaded, inputs_of
model = loaded(Path(sys.argv[1]))
for entry in model.entries:
    entry.program.run(inputs_of(entry, int(sys.argv[2]), 1)[0])
lines = Path("/proc/self/status").read_text().splitlines()
print({k: int(v.split()[0]) for k, _, v in (x.partition(":") for x in lines) if k == "VmRSS"})
"""


def main(arguments: Sequence[str]) -> int:
    chosen = _parser().parse_args(arguments)
    print(HEAD, flush=True)
    failed = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = chosen.folder or Path(scratch)
        for model in chosen.models:
            try:
                before = _compiled(model, folder, chosen, [])
                after = _compiled(model, folder, chosen, _flags(chosen))
            except subprocess.CalledProcessError as error:
                failed.append(f"{model.name}: {error.stderr.strip().splitlines()[-1]}")
                continue
            if not chosen.compile_only:
                failed += _compare(model.name, before, after, chosen)
    for line in failed:
        print(f"FAILED {line}", file=sys.stderr)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--scheme", help="of --compress; left out: --allow_compression chooses")
    parser.add_argument("--goal", default="throughput", choices=("throughput", "latency", "size"))
    parser.add_argument("--batch-sizes", default="1,64")
    parser.add_argument("--shape", action="append", default=[], help="as of `jaxrt compile`")
    parser.add_argument("--ids", type=int, default=1000, help="integers are below")
    parser.add_argument("--folder", type=Path, help="keeps artifacts, or has them")
    parser.add_argument("--compile-only", action="store_true")
    return parser


def _flags(chosen: Any) -> list[str]:
    how = ["--compress", chosen.scheme] if chosen.scheme else ["--allow_compression"]
    return [*how, "--optimize", chosen.goal]


def _compiled(model: Path, folder: Path, chosen: Any, flags: Sequence[str]) -> Path:
    """The artifact; raises CalledProcessError."""
    kind = "-".join([model.name, *(f.lstrip("-") for f in flags), chosen.batch_sizes])
    artifact = folder / f"{kind}.jaxrt"
    if not artifact.exists():
        command = [sys.executable, "-m", "jaxrt", "compile", str(model), "-o", str(artifact)]
        command += ["--no-fallback", "--no-check", "--batch-sizes", chosen.batch_sizes, *flags]
        command += [f"--shape={shape}" for shape in chosen.shape]
        subprocess.run(command, check=True, capture_output=True, text=True)
    return artifact


def loaded(artifact: Path) -> LoadedModel:
    opened = open_artifact(artifact, verify=False)

    def no_host(entry: Any) -> Any:
        raise ValueError(f"{artifact}: has host stages; only programs are timed")

    return load(opened, attached("cpu"), open_host=no_host)


def inputs_of(entry: LoadedEntry, ids: int, sets: int) -> list[dict[str, Array]]:
    """Normal numbers; integers all over `ids`, but for values that the program fixes."""
    random = np.random.default_rng(0)
    dtypes = entry.entry.input_dtypes

    def made(name: str, shape: tuple[int, ...]) -> Array:
        if name in entry.entry.values:
            return np.asarray(entry.entry.values[name], dtypes[name])
        if dtypes[name].startswith("float"):
            return random.standard_normal(shape, np.float32).astype(dtypes[name])
        return random.integers(0, ids, shape).astype(dtypes[name])

    shapes = entry.program.input_shapes
    return [{name: made(name, shape) for name, shape in shapes.items()} for _ in range(sets)]


def _compare(name: str, before: Path, after: Path, chosen: Any) -> list[str]:
    """Prints a line for each program; what is slower than it may be."""
    report = open_artifact(after, verify=False).report()["compression"]
    held = sum(layer["scheme"] != "float" for layer in report["layers"])
    ratio = _weights(after) / _weights(before)
    sizes = " → ".join(f"{_resident(path, chosen.ids)} MB" for path in (before, after))
    start = f"| {name} | {held} of {len(report['layers'])} | {ratio:.3f}x | {sizes}"
    failed = []
    pair = [loaded(path) for path in (before, after)]
    for old, new in _programs(*pair):
        sets = inputs_of(old, chosen.ids, SETS)
        times = _timed(old, new, sets)
        shapes = " ".join(f"{n}{list(s)}" for n, s in old.program.input_shapes.items())
        rows = next(iter(old.program.input_shapes.values()), (1,))[0]
        spelled = " | ".join(f"{1e3 * seconds:.3f} ms" for seconds in times)
        speeds = " → ".join(f"{rows / seconds:.0f}" for seconds in times)
        print(f"{start} | {shapes} | {spelled} | {speeds} | {times[0] / times[1]:.2f}x |")
        if chosen.goal != "size" and times[1] > NOISE * times[0]:
            failed.append(f"{name} {shapes}: {times[1] / times[0]:.2f} times as long compressed")
    return failed


def _weights(artifact: Path) -> int:
    """Bytes that are stored."""
    return sum(file.stat().st_size for file in artifact.rglob("*") if "weights" in file.name)


def _resident(artifact: Path, ids: int) -> int:
    """Megabytes of a process that has run every program once, pages of files included."""
    command = [sys.executable, "-c", RESIDENT, str(artifact), str(ids)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return round(int(done.stdout.split()[-1].strip("}")) * 1024 / 1e6)


def _programs(before: LoadedModel, after: LoadedModel) -> Iterator[tuple[LoadedEntry, LoadedEntry]]:
    """The same program of both: those of each part are in one order."""
    for key, entries in before.parts.items():
        for old, new in zip(entries, after.parts[key], strict=True):
            if not old.entry.random:
                yield old, new


def _timed(
    old: LoadedEntry, new: LoadedEntry, sets: Sequence[Mapping[str, Array]]
) -> tuple[float, float]:
    """Seconds a call; the best of a few where the second seems slower."""
    found = []
    for _ in range(AGAIN):
        found.append(_in_turns(old, new, sets))
        if found[-1][1] <= NOISE * found[-1][0]:
            break
    return min(found, key=lambda times: times[1] / times[0])


def _in_turns(
    old: LoadedEntry, new: LoadedEntry, sets: Sequence[Mapping[str, Array]]
) -> tuple[float, float]:
    """Median seconds of each."""
    times: tuple[list[float], list[float]] = ([], [])

    def once(which: int, number: int) -> float:
        started = time.perf_counter()
        (old, new)[which].program.run(sets[number % len(sets)])
        return time.perf_counter() - started

    first = max(once(which, number) for number in (0, 1) for which in (0, 1))
    for number in range(min(MOST, max(FEWEST, int(SECONDS / (2 * first))))):
        for which in (0, 1) if number % 2 else (1, 0):
            times[which].append(once(which, number))
    return statistics.median(times[0]), statistics.median(times[1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
