"""Engines side by side: jaxrt, TensorFlow, TensorFlow with XLA, OpenVINO, ONNX Runtime.

    python -m bench.engine --work DIRECTORY [--models mlp,dlrm] [--rows 1,8,64] [--rounds 7]

Every contender has a process of its own and two threads; in each round each of them runs in turn,
in another order, while the others wait. Times are numpy in, numpy out. Ratios are medians over the
rounds of the ratio within a round, so that a slow minute of the machine weighs on all alike.
"""

import argparse
import dataclasses
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bench.engine.contender import CONTENDERS, artifact
from bench.engine.tables import Cell, markdown, summary
from bench.engine.zoo import MODELS
from bench.machine import machine

WINDOW = 0.3
"""Seconds that one contender runs for in a round; slow models run once."""

LONG = 1.0
"""Seconds of a run from which the first one tells how long the others will be."""

TOLERANCE = 1e-2
"""Of the largest value: a contender whose answers are further from TensorFlow's is named."""


class Process:
    """A contender; see bench.engine.contender for what is said."""

    def __init__(self, name: str, model: Path, work: Path, log: Path) -> None:
        self.name = name
        self._log = log.open("ab")
        self._child = subprocess.Popen(
            [sys.executable, "-m", "bench.engine.contender", name, str(model), str(work)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def ask(self, **question: Any) -> dict[str, Any]:
        assert self._child.stdin and self._child.stdout
        try:
            print(json.dumps(question), file=self._child.stdin, flush=True)
            line = self._child.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            return {"unsupported": f"died with {self._child.wait()}; see {self._log.name}"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        self._child.kill()
        self._child.wait()
        self._log.close()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    work: Path
    models: tuple[str, ...]
    rows: tuple[int, ...]
    rounds: int
    seconds: float
    contenders: tuple[str, ...]
    options: tuple[str, ...]
    """Given to jaxrt compile."""


def prepare(name: str, settings: Settings) -> Path:
    """The SavedModel, jaxrt's artifact and the ONNX model, each made once, in its own process."""
    work = settings.work
    model = work / name
    if not model.exists():
        _call([sys.executable, "-m", "bench.engine.zoo", str(work), name], work / f"{name}.log")
    made = artifact(model, work)
    stamp, command = work / f"{name}.jaxrt.command", " ".join(_compile(name, settings))
    if not made.exists() or not stamp.exists() or stamp.read_text() != command:
        _call(_compile(name, settings), work / f"{name}.jaxrt.log")
        stamp.write_text(command)
    if "onnxruntime" in settings.contenders and not (work / f"{name}.onnx").exists():
        onnx = [sys.executable, "-m", "tf2onnx.convert", "--saved-model", str(model)]
        onnx += ["--output", str(work / f"{name}.onnx"), "--opset", "18"]
        _call(onnx, work / f"{name}.onnx.log", check=False)
    return model


def _compile(name: str, settings: Settings) -> list[str]:
    jaxrt = str(Path(sys.executable).with_name("jaxrt"))
    command = [jaxrt, "compile", str(settings.work / name)]
    command += ["-o", str(settings.work / f"{name}.jaxrt")]
    command += ["--batch-sizes", ",".join(map(str, settings.rows)), *settings.options]
    for shape in MODELS[name].shapes:
        command += ["--shape", shape]
    return command


def _call(command: Sequence[str], log: Path, *, check: bool = True) -> None:
    with log.open("wb") as out:
        done = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, check=False)
    if check and done.returncode:
        tail = log.read_text().splitlines()[-3:]
        raise SystemExit(f"{' '.join(command)}: {done.returncode}; " + " ".join(tail))


@contextmanager
def processes(name: str, settings: Settings, model: Path) -> Iterator[list[Process]]:
    with ExitStack() as stack:
        found = []
        for contender in settings.contenders:
            log = settings.work / f"{name}.{contender}.log"
            found.append(Process(contender, model, settings.work, log))
            stack.callback(found[-1].close)
        yield found


def measure(name: str, settings: Settings) -> Iterator[Cell]:
    """One cell for each number of rows."""
    model = prepare(name, settings)
    with processes(name, settings, model) as all_of_them:
        refused: dict[str, str] = {}  # for good: an engine may die of being asked again
        for rows in settings.rows:
            running = []
            for process in all_of_them:
                if process.name in refused:
                    continue
                answer = process.ask(rows=rows)
                if "unsupported" in answer:
                    refused[process.name] = answer["unsupported"]
                else:
                    running.append(process)
            yield Cell(
                model=name,
                rows=rows,
                seconds=_rounds(running, settings.rounds, settings.seconds),
                refused=dict(refused),
                errors=_errors(running, settings.work),
            )


def _rounds(running: Sequence[Process], rounds: int, limit: float) -> dict[str, list[float]]:
    """Contender → median seconds a run, one each round; two rounds at least, `limit` seconds."""
    repeats = {}
    for process in running:
        once = min(process.ask(repeat=1)["seconds"])
        if once < LONG:
            once = min(process.ask(repeat=4)["seconds"])
        repeats[process.name] = max(1, min(200, round(WINDOW / once)))
    seconds: dict[str, list[float]] = {process.name: [] for process in running}
    order = list(running)
    started = time.monotonic()
    for number in range(rounds):
        if number >= 2 and time.monotonic() - started > limit:
            break
        random.shuffle(order)
        for process in order:
            if repeats[process.name] > 1:
                process.ask(repeat=1)  # caches and clocks are the last contender's
            times = process.ask(repeat=repeats[process.name])["seconds"]
            seconds[process.name].append(statistics.median(times))
    return seconds


def _errors(running: Sequence[Process], work: Path) -> dict[str, float]:
    """Contender → largest error of any output, of the largest magnitude TensorFlow gave."""
    answers = {}
    for process in running:
        path = work / f"outputs.{process.name}.npz"
        process.ask(outputs=str(path))
        with np.load(path) as file:
            answers[process.name] = [file[key] for key in sorted(file.files, key=int)]
        path.unlink()
    want = answers.get("tensorflow")
    if want is None:
        return {}
    return {name: _error(_matched(got, want), want) for name, got in answers.items()}


def _matched(got: list[np.ndarray[Any, Any]], want: list[np.ndarray[Any, Any]]) -> list[Any]:
    """Engines order outputs as they like: by shape, then by what is nearest."""
    left, found = list(got), []
    for one in want:
        fitting = [a for a in left if a.shape == one.shape]
        if not fitting:
            return []
        best = min(fitting, key=lambda a: float(np.abs(a.astype("f8") - one).max(initial=0)))
        left = [a for a in left if a is not best]
        found.append(best)
    return found


def _error(got: list[Any], want: list[np.ndarray[Any, Any]]) -> float:
    if not got:
        return float("inf")
    return max(
        float(np.abs(a.astype("f8") - b).max(initial=0) / max(np.abs(b).max(initial=0), 1e-30))
        for a, b in zip(got, want, strict=True)
    )


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m bench.engine",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("--work", type=Path, required=True, help="models and artifacts are kept")
    found.add_argument("--models", default=",".join(MODELS))
    found.add_argument("--rows", default="1,8,64")
    found.add_argument("--rounds", type=int, default=7)
    found.add_argument("--seconds", type=float, default=60, help="of a cell's rounds, about")
    found.add_argument("--contenders", default=",".join(CONTENDERS))
    found.add_argument("--compile-options", default="", help="given to jaxrt compile")
    found.add_argument("--json", type=Path, help="where the figures go; cells that are there stay")
    found.add_argument("--prepare", action="store_true", help="make what is missing, time nothing")
    found.add_argument("--show", action="store_true", help="the tables of --json, time nothing")
    return found


def settings_of(chosen: argparse.Namespace) -> Settings:
    """Raises SystemExit for a name that is none."""
    settings = Settings(
        work=chosen.work,
        models=tuple(chosen.models.split(",")),
        rows=tuple(int(rows) for rows in chosen.rows.split(",")),
        rounds=chosen.rounds,
        seconds=chosen.seconds,
        contenders=tuple(chosen.contenders.split(",")),
        options=tuple(chosen.compile_options.split()),
    )
    if unknown := [*(set(settings.models) - MODELS.keys())]:
        raise SystemExit(f"no model {', '.join(unknown)}; there are {', '.join(MODELS)}")
    if unknown := [*(set(settings.contenders) - CONTENDERS.keys())]:
        raise SystemExit(f"no contender {', '.join(unknown)}; there are {', '.join(CONTENDERS)}")
    return settings


def known(path: Path | None) -> list[Cell]:
    """Those measured before."""
    if path is None or not path.exists():
        return []
    return [Cell(**cell) for cell in json.loads(path.read_text())]


def store(path: Path, cells: Sequence[Cell]) -> None:
    """Beside the cells of other models and rows, in the order of the models."""
    found = {(c.model, c.rows): c for c in [*known(path), *cells]}
    order = sorted(found, key=lambda key: (list(MODELS).index(key[0]), key[1]))
    path.write_text(json.dumps([dataclasses.asdict(found[key]) for key in order], indent=1))


def report(cells: Sequence[Cell], settings: Settings) -> str:
    lines = [machine(), "", markdown(cells, settings.contenders), "", summary(cells)]
    notes: Mapping[str, str] = {
        f"{cell.model}, {cell.rows} rows: {name}": why
        for cell in cells
        for name, why in cell.refused.items()
    }
    lines += ["", *(f"- {what}: {why}" for what, why in notes.items())]
    for cell in cells:
        lines += [
            f"- {cell.model}, {cell.rows} rows: {name} is {error:.1e} from TensorFlow"
            for name, error in cell.errors.items()
            if not error < TOLERANCE
        ]
    return "\n".join(lines)


def main() -> None:
    chosen = parser().parse_args()
    settings = settings_of(chosen)
    settings.work.mkdir(parents=True, exist_ok=True)
    if chosen.show:
        print(report(known(chosen.json), settings))
        return
    cells: list[Cell] = []
    for name in settings.models:
        if chosen.prepare:
            prepare(name, settings)
            continue
        for cell in measure(name, settings):
            cells.append(cell)
            print(cell.line(), file=sys.stderr, flush=True)
            if chosen.json:
                store(chosen.json, cells)
    print(report(cells, settings))


if __name__ == "__main__":
    main()
