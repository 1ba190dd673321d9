"""SavedModels on eight emulated devices, by every plan, beside what TensorFlow answers.

`python mesh_models.py build OUT NAME...` writes SavedModels of `bench.engine.zoo.SHARDED`;
`python mesh_models.py run CASE` prints a line of JSON for each plan of a stored case. Both are
processes: TensorFlow is in the first alone, the second has to know its number of devices before JAX
starts.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
ROWS = 8
Array = np.ndarray[Any, Any]


def store(name: str, model: Path, case: Path) -> None:
    """What a process without TensorFlow needs: StableHLO, weights, inputs and answers."""
    from bench.engine.zoo import SHARDED
    from jaxrt.cli.building import Bridges
    from jaxrt.converters.records import Lowered

    inputs = SHARDED[name].inputs(np.random.default_rng(7), ROWS)
    case.mkdir(parents=True)
    with Bridges() as bridges:
        bridge = bridges.start()
        record = bridge.open_model(model, ("serve",))
        key = "serving_default"
        found = bridge.lower(record, key, {alias: array.shape for alias, array in inputs.items()})
        assert isinstance(found, Lowered), found
        (case / "program.stablehlo").write_bytes(found.stablehlo)
        sides: dict[str, Any] = {
            "inputs": found.inputs,
            "weights": found.weights,
            "outputs": found.outputs,
        }
        names = {side: [one.name for one in side_of] for side, side_of in sides.items()}
        (case / "names.json").write_text(json.dumps(names))
        stored: dict[str, Any] = {
            "weights": bridge.weights(record),
            "inputs": inputs,
            "answers": bridge.run(record, key, inputs),
        }
    for kind, arrays in stored.items():
        np.savez(case / f"{kind}.npz", **arrays)


def _program(case: Path) -> tuple[Any, dict[str, Array]]:
    """The request's part of the program as it is for a TPU, but in f32; and its weights."""
    import jax

    from jaxrt.converters.lift import evaluator
    from jaxrt.passes import prepare, simplify
    from jaxrt.passes.precision import Precision, Rounding
    from jaxrt.target import Target
    from jaxrt.tuning.optimizer import Passes, optimizer

    names = json.loads((case / "names.json").read_text())
    tpu = Target(platform="tpu", device_kind="", num_devices=1, fingerprint="", features="")
    exact = Passes(rounding=Rounding(precision=Precision.F32))
    with jax.enable_x64(True):
        lifted = evaluator.lift(
            (case / "program.stablehlo").read_bytes(), signature="serving_default", **names
        )
        split = optimizer(tpu, exact)(simplify.simplify(lifted.program)).split
        with np.load(case / "weights.npz") as stored:
            known = {**{name: stored[name] for name in stored.files}, **lifted.constants}
        return split.apply, prepare.run_prepare(split, {n: known[n] for n in split.needed})


def errors(found: Mapping[str, Array], wanted: Mapping[str, Array]) -> dict[str, float]:
    """Output → largest error in standard deviations of the answer; of ids the share that differs.

    Probabilities are taken back to logits: what differs little there may differ much in them.
    """
    made = {}
    for name, want in wanted.items():
        got = found[name]
        assert got.shape == want.shape and got.dtype == want.dtype, name
        if want.dtype.kind in "iu":
            made[name] = float(np.mean(got != want))
            continue
        got, want = got.astype(np.float64), want.astype(np.float64)
        if want.min() > 0 and want.max() < 1:
            got, want = (np.log(v / (1 - v)) for v in (got, want))
        made[name] = float(np.max(np.abs(got - want)) / np.std(want))
    return made


def run_plans(case: Path, every: bool) -> Iterator[dict[str, Any]]:
    """The figures of each plan for eight devices, or on each mesh of that which splits most."""
    import jax

    from jaxrt.tpu import collectives
    from jaxrt.tpu.apply import mesh_of, sharded
    from jaxrt.tpu.plan import plans
    from jaxrt.tpu.topology import parse

    program, weights = _program(case)
    with np.load(case / "inputs.npz") as inputs, np.load(case / "answers.npz") as answers:
        wanted = dict(answers)
        given = [*weights.values(), *(inputs[name] for name in program.input_names)]
    with jax.enable_x64(True):
        found = plans(program, parse("v5e:2x4"), bf16=False)
        most = sorted(found, key=lambda plan: plan.weight_bytes)
        chosen = {str(plan.mesh): plan for plan in reversed(most)}
        for plan in found if every else chosen.values():
            laid_out = sharded(program, plan, mesh_of(plan.mesh, jax.devices()))
            compiled = laid_out.jit().lower(*program.avals).compile()
            placed = [jax.device_put(a, s) for a, s in zip(given, laid_out.arguments, strict=True)]
            results = [np.asarray(result) for result in compiled(*placed)]
            yield {
                "label": plan.label,
                "mesh": str(plan.mesh),
                "split": sum(any(spec) for spec in plan.weights.values()),
                "collectives": collectives.counts(collectives.found(compiled.as_text() or "")),
                "errors": errors(dict(zip(program.output_names, results, strict=True)), wanted),
            }


def main(command: str, path: Path, *names: str) -> None:
    if command == "build":
        os.environ["KERAS_BACKEND"] = "tensorflow"  # read when Keras is imported
        from bench.engine import zoo

        for name in names:
            zoo.build(name, path, zoo.SHARDED)
        return
    for line in run_plans(path, every="every" in names):
        print(json.dumps(line), flush=True)


def _process(*arguments: object, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, str(Path(__file__)), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def build(out: Path, *names: str) -> None:
    """SavedModels below `out`, by a process that has TensorFlow."""
    _process("build", out, *names)


def run(case: Path, *, every: bool) -> list[dict[str, Any]]:
    """The plans of a stored case, in a process with eight devices."""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    said = _process("run", case, *(["every"] if every else []), **flags)
    return [json.loads(line) for line in said.splitlines()]


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
