"""SavedModels of every kind with channels that change nothing: what is stored, and answered."""

from collections.abc import Iterator
from pathlib import Path

import dead_models
import pytest

from jaxrt import target
from jaxrt.artifact import ArtifactWriter, open_artifact
from jaxrt.buckets import Buckets
from jaxrt.compression.goals import Wanted
from jaxrt.compression.schemes import Scheme
from jaxrt.converters import build
from jaxrt.converters.build import Naming, Options
from jaxrt.converters.worker import Bridge

NAMING = Naming(model="m", path="given/m", content_sha256="0" * 64)

LEFT = {
    "image": {
        "stem": (16, 14),
        "down": (16, 14),
        "wide": (24, 22),
        "branch1": (4, 3),  # a channel is one of each of the groups that follow
        "branch3": (4, 3),
        "grouped": (3, 2),
        "hidden": (32, 31),
    },
    "words": {"table": (12, 10), "attention": (4, 3), "second": (8, 7)},
    "function": {"first": (40, 32)},
    "frozen": {"": (48, 40)},
}
"""What of a weight's name → channels before and after."""


@pytest.fixture(scope="module")
def tensorflow() -> Iterator[Bridge]:
    bridge = Bridge()
    yield bridge
    bridge.close()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dead_models.build(tmp_path_factory.mktemp("models"))


class Steps:
    def total(self, steps: int) -> None: ...

    def step(self, text: str) -> None: ...


@pytest.mark.slow
@pytest.mark.parametrize("name", LEFT)
def test_dead_channels_go_and_tensorflow_answers_the_same(
    name: str, models: Path, tensorflow: Bridge, tmp_path: Path
) -> None:
    with ArtifactWriter(tmp_path / "out") as writer:
        build.build(
            models / name,
            writer,
            naming=NAMING,
            options=Options(buckets=Buckets(sizes=(1, 4)), compression=Wanted(scheme=Scheme.FLOAT)),
            target=target.attached("cpu"),
            tensorflow=tensorflow,
            steps=Steps(),
        )
    with open_artifact(tmp_path / "out") as artifact:
        report = artifact.report()
    found = report["compression"]["pruned"]
    assert found["flops_after"] < found["flops_before"]
    assert found["bytes_after"] < found["bytes_before"]
    for part, channels in LEFT[name].items():
        groups = [(c["before"], c["after"]) for c in found["channels"] if part in c["weights"]]
        assert channels in groups, (part, found["channels"])
    for errors in report["compression"]["outputs"].values():
        assert all(error["rms"] < 1e-5 for error in errors)
