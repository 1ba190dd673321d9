"""What the end-to-end tests share, made once for all of them and by one of several workers.

A pytest plugin: SavedModels, artifacts, and TensorFlow's answers.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import endtoend
import numpy as np
import pytest
import served_models
from endtoend import Artifact, Case

from jaxrt import target
from jaxrt.buckets import Buckets
from jaxrt.cli import building
from jaxrt.converters.worker import Bridge


def shared(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A directory that `make` fills, once for all workers of this run of pytest."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # each worker has a folder of its own in that of the run
    path = base / name
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (path / ".made").exists():
            path.mkdir()
            make(path)
            (path / ".made").touch()
    return path


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the SavedModels of tests/served_models.py."""

    def make(path: Path) -> None:
        served_models.build(path)

    return shared(tmp_path_factory, "saved_models", make)


ROWS_FLAGS = ("--batch-sizes", "1,4,8", "--shape", "tokens:ids=4,6", "--no-fallback")


@pytest.fixture(scope="session")
def artifact(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    def make(home: Path) -> None:
        started = time.monotonic()
        done = endtoend.run("compile", models / "rows", "-o", "rows.jaxrt", *ROWS_FLAGS, home=home)
        assert done.returncode == 0, done.stderr
        said = {"stdout": done.stdout, "stderr": done.stderr}
        (home / "said.json").write_text(json.dumps(said | {"seconds": time.monotonic() - started}))

    home = shared(tmp_path_factory, "artifact", make)
    return Artifact(path=home / "rows.jaxrt", **json.loads((home / "said.json").read_text()))


@pytest.fixture(scope="session")
def cases(models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """TensorFlow's answers to `questions`."""
    asked = endtoend.questions()

    def make(home: Path) -> None:
        with Bridge(environment=endtoend.environment(home)) as bridge:
            model = bridge.open_model(models / "rows")
            for number, (signature, inputs) in enumerate(asked.values()):
                answer: Mapping[str, Any] = bridge.run(model, signature, inputs)
                np.savez(home / f"{number}.npz", **answer)

    home = shared(tmp_path_factory, "answers", make)
    found = {}
    for number, (name, (signature, inputs)) in enumerate(asked.items()):
        with np.load(home / f"{number}.npz") as answer:
            found[name] = Case(signature=signature, inputs=inputs, answer=dict(answer))
    return found


class _Silent:
    def total(self, steps: int) -> None:
        pass

    def step(self, text: str) -> None:
        pass


@pytest.fixture(scope="session")
def linear(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base path of the versions 1, 2 and 10, each an artifact."""

    def make(home: Path) -> None:
        with building.Bridges() as bridges:
            for version in ("1", "2", "10"):
                model = building.saved_model(models / "linear" / version)
                chosen = building.choose(
                    model.path,
                    batch_sizes=Buckets(sizes=(1, 2)),
                    shapes=(),
                    tags=("serve",),
                    check=False,
                )
                building.build(
                    model,
                    home / "linear" / version,
                    chosen,
                    target=target.attached("cpu"),
                    bridges=bridges,
                    steps=_Silent(),
                )

    return shared(tmp_path_factory, "versions", make) / "linear"
