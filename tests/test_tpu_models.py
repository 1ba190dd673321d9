"""SavedModels on meshes of eight emulated devices give TensorFlow's numbers, at every plan."""

from pathlib import Path
from typing import Any

import mesh_models
import pytest

ALLOWED = 2e-4
"""Of an output's standard deviation: sums of f32 in other orders."""

SMALL = ("small/bert", "small/dlrm", "small/two_tower", "small/resnet")
MESHES = {"8×1", "4×2", "2×4", "1×8"}


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("small")
    mesh_models.build(out, *SMALL)
    return out


def _plans(name: str, models: Path, tmp_path: Path, *, every: bool) -> list[dict[str, Any]]:
    mesh_models.store(name, models / name, tmp_path / "case")
    found = mesh_models.run(tmp_path / "case", every=every)
    for line in found:
        assert max(line["errors"].values()) < ALLOWED, line
    assert {line["mesh"] for line in found} == MESHES
    assert any(line["split"] for line in found)
    return found


@pytest.mark.parametrize(
    "name", [*SMALL[:2], *(pytest.param(name, marks=pytest.mark.slow) for name in SMALL[2:])]
)
def test_every_mesh_gives_the_numbers_of_tensorflow(name: str, built: Path, tmp_path: Path) -> None:
    assert len(_plans(name, built, tmp_path, every=False)) == len(MESHES)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert_base", "dlrm", "two_tower", "resnet50"])
def test_every_plan_of_a_whole_model_gives_the_numbers_of_tensorflow(
    name: str, tmp_path: Path
) -> None:
    mesh_models.build(tmp_path, name)
    found = _plans(name, tmp_path, tmp_path, every=True)
    labels = {line["label"] for line in found}
    assert {"batch split", "fully sharded weights"} <= labels and len(found) >= 8
