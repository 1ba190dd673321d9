"""Channels that a build takes: what is stored, what is answered, and what the report says."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from fake_tensorflow import FakeTensorFlow, Steps, signature, tensor

from jaxrt import loader, target
from jaxrt.artifact import ArtifactWriter, open_artifact
from jaxrt.buckets import Buckets
from jaxrt.compression.budget import Budget
from jaxrt.compression.goals import Wanted
from jaxrt.compression.schemes import Scheme
from jaxrt.converters import build
from jaxrt.converters.build import Naming, Options
from jaxrt.manifest import HostEntry

CPU = target.attached("cpu")
NAMING = Naming(model="m", path="given/m", content_sha256="0" * 64)
Array = np.ndarray[Any, Any]


def weights() -> dict[str, Array]:
    """Of 8 channels, 2 are dead and 2 nearly so."""
    random = np.random.default_rng(0)
    found = {
        "up": random.normal(size=(16, 8)),
        "bias": random.normal(size=8),
        "down": random.normal(size=(8, 3)),
    }
    found["up"][:, 1] = found["bias"][1] = 0
    found["down"][6] = 0
    found["down"][[3, 4]] *= 1e-4
    return {name: array.astype(np.float32) for name, array in found.items()}


def function(held: Mapping[str, Any], x: Any) -> dict[str, Any]:
    return {"y": jax.nn.relu(x @ held["up"] + held["bias"][None]) @ held["down"]}


def made(home: Path, wanted: Wanted) -> tuple[Any, dict[str, tuple[int, ...]], Array, Array]:
    """The report of pruning, the shapes stored, the artifact's answers and TensorFlow's."""
    held = weights()
    spec = signature(x=tensor("float32", None, 16))
    tensorflow = FakeTensorFlow({"f": function, "g": function}, {"f": spec, "g": spec}, held)
    (home / "source").mkdir()
    options = Options(buckets=Buckets(sizes=(1, 4)), compression=wanted)
    with ArtifactWriter(home / "out") as writer:
        build.build(
            home / "source",
            writer,
            naming=NAMING,
            options=options,
            target=CPU,
            tensorflow=tensorflow,
            steps=Steps(),
        )
    x = np.random.default_rng(1).normal(size=(4, 16)).astype(np.float32)
    with open_artifact(home / "out") as artifact:
        report = json.loads(json.dumps(artifact.report()["compression"]["pruned"]))
        shapes = {n.partition("~")[0]: a.shape for n, a in artifact.weights.items()}
        model = loader.load(artifact, CPU, open_host=no_host)
        (program,) = [
            entry.program
            for entry in model.signatures["f"].programs
            if entry.program.input_shapes["x"] == x.shape
        ]
        got = program.run({"x": x})["y"]
    return report, shapes, got, np.asarray(function(held, x)["y"])


def no_host(entry: HostEntry) -> Any:
    raise AssertionError(f"no host segment is expected: {entry}")


def test_dead_channels_go_wherever_anything_is_compressed(tmp_path: Path) -> None:
    report, shapes, got, want = made(tmp_path, Wanted(scheme=Scheme.FLOAT))
    assert shapes == {"up": (16, 6), "bias": (6,), "down": (6, 3)}
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    assert (report["share"], report["error"]) == (0.0, None)
    assert (report["bytes_before"], report["bytes_after"]) == (4 * 160, 4 * 120)
    (found,) = report["channels"]
    assert found["weights"] == "up:1, bias:0, down:0"
    assert (found["before"], found["after"], found["dead"], found["filled"]) == (8, 6, 2, "")
    assert report["flops_after"] == report["flops_before"] * 6 / 8
    assert report["notes"] == []


@pytest.mark.parametrize(
    ("asked", "limit", "share", "left"),
    [(0.5, 0.01, 0.25, 4), (1.0, 0.01, 0.25, 4), (0.75, 0.0, 0.0, 6)],
)
def test_weak_channels_go_as_far_as_the_budget_lets_them(
    asked: float, limit: float, share: float, left: int, tmp_path: Path
) -> None:
    wanted = Wanted(scheme=Scheme.FLOAT, prune=asked, budget=Budget(max_error=limit))
    report, shapes, got, want = made(tmp_path, wanted)
    assert report["share"] == share
    assert shapes["up"] == (16, left)
    np.testing.assert_allclose(got, want, rtol=1e-2, atol=1e-2)
    if share:
        assert 0 < report["error"]["rms"] <= limit
    else:
        assert report["error"] is None and "breaks the budget" in report["notes"][-1]
