"""Artifacts before and after compression: size, time of a call and rows a second, in turns.

    python -m bench.compression MODELS... [--scheme int8] [--goal throughput] [--batch-sizes 1,32]

MODELS are directories of SavedModels. Each is compiled by `jaxrt compile`, which times the float
program and the compressed one in turns; this prints what its report says, a line a program.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HEAD = "| model | layers | weights | program | float | compressed | as fast | worst error |"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--scheme", default="int8")
    parser.add_argument("--goal", default="throughput", choices=("throughput", "latency", "size"))
    parser.add_argument("--batch-sizes", default="1,32")
    parser.add_argument("--shape", action="append", default=[])
    chosen = parser.parse_args(arguments)
    print(HEAD)
    print("|" + " --- |" * HEAD.count(" | ") + " --- |")
    failed = 0
    for model in chosen.models:
        with tempfile.TemporaryDirectory() as folder:
            artifact = Path(folder) / "model.jaxrt"
            flags = ["--compress", chosen.scheme, "--optimize", chosen.goal, "--no-fallback"]
            flags += [
                f"--batch-sizes={chosen.batch_sizes}",
                *(f"--shape={s}" for s in chosen.shape),
            ]
            command = [str(Path(sys.executable).parent / "jaxrt"), "compile", str(model), *flags]
            done = subprocess.run(
                [*command, "-o", str(artifact)], capture_output=True, text=True, check=False
            )
            if done.returncode:
                failed += 1
                print(f"| {model.name} | {done.stderr.strip().splitlines()[-1][:200]} |")
                continue
            report = json.loads((artifact / "report.json").read_text())["compression"]
            print("\n".join(lines(model.name, report)), flush=True)
    return 1 if failed else 0


def lines(name: str, report: dict[str, Any]) -> Iterator[str]:
    """A line for each program that was timed, or one for a model without."""
    held = sum(layer["scheme"] != "float" for layer in report["layers"])
    before, after = report["bytes_before"], report["bytes_after"]
    worst = max((float(e["rms"]) for es in report["outputs"].values() for e in es), default=0.0)
    ratio = f"{after / before:.3f}x" if before else "-"
    start = f"| {name} | {held} of {len(report['layers'])} | {ratio}"
    for speed in report["speed"]:
        times = f"{1e3 * speed['latency_before']:.3f} ms | {1e3 * speed['latency_after']:.3f} ms"
        yield (
            f"{start} | {speed['shapes']} | {times} | {speed['times_as_fast']:.2f}x | {worst:.2%} |"
        )
    if not report["speed"]:
        yield f"{start} | | | | | {worst:.2%} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
