"""Warm-up files over real servers: requests that are answered before a version is AVAILABLE."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import state_models
import warmup_files as files
from endtoend import Case, Server, run, without_tensorflow

from jaxrt import warmups
from jaxrt.artifact import ArtifactWriter, open_artifact
from jaxrt.cli import extras

pytest_plugins = ("endtoend_fixtures",)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("warmup")


@pytest.fixture(scope="module")
def counting(home: Path) -> Path:
    """An artifact of a model that counts its requests, and brings two along."""
    model = state_models.build(home, "counters") / "counters"
    one = {"x": np.asarray([1.0], np.float32)}
    files.write(model, files.predict("counted", one), files.predict("counted", one))
    (model / extras.MLMD).write_text("3f1c", encoding="utf-8")
    flags = ("--signature", "counted", "--batch-sizes", "1", "-o", "counting.jaxrt")
    done = run("compile", model, *flags, home=home)
    assert done.returncode == 0, done.stderr
    return home / "counting.jaxrt"


@pytest.mark.parametrize(
    ("flags", "count"),
    [
        ((), 3),
        (("--num_request_iterations_for_warmup=3",), 7),
        (("--enable_model_warmup=false",), 1),
    ],
)
def test_an_artifact_has_answered_the_requests_of_its_model_before_the_first_client(
    counting: Path, home: Path, flags: tuple[str, ...], count: int
) -> None:
    with Server(counting, *flags, home=home) as server:
        status, answer = server.predict("counting", {"x": [1.0]}, "counted")
        assert (status, answer["count"]) == (200, count)
        assert ("warm-up requests replayed: 2" in server.log) == (count > 1)


def test_an_artifact_carries_the_key_of_ml_metadata(counting: Path) -> None:
    with open_artifact(counting) as found:
        key = found.file(extras.MLMD.as_posix())
        assert key.read_text(encoding="utf-8") == "3f1c"


def add(artifact: Path, home: Path, content: bytes) -> Path:
    """A copy of an artifact that brings a warm-up file along."""
    path = home / "requests.jaxrt"
    with open_artifact(artifact) as found, ArtifactWriter(path) as writer:
        for name in found.manifest.files:
            shutil.copy(found.file(name), writer.file(name))
        writer.file(warmups.FILE.as_posix()).write_bytes(content)
        writer.commit(found.manifest)
    return path


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"nothing of the kind", "Please verify your warmup data is in TFRecord format."),
        (files.framed(files.classify("absent", 1)), "No signature was found with the name: absent"),
    ],
)
def test_a_faulty_file_fails_the_load_unless_nothing_is_to_be_replayed(
    linear: Path, tmp_path: Path, content: bytes, text: str
) -> None:
    model = add(linear / "2", tmp_path, content)
    done = run(
        "serve",
        model,
        "--max_num_load_retries=0",
        "--rest_api_port=auto",
        "--port=0",
        home=tmp_path,
    )
    assert done.returncode == 1
    assert text in done.stderr.splitlines()[-1]
    with Server(model, "--enable_model_warmup=false", home=tmp_path) as server:
        assert server.predict("requests", {"x": [3.0]}) == (200, [6.0])


def test_an_artifact_is_warmed_up_where_tensorflow_is_missing(linear: Path, tmp_path: Path) -> None:
    x = {"x": np.asarray([1.0], np.float32)}
    model = add(linear / "2", tmp_path, files.framed(files.predict("", x)))
    with Server(model, home=tmp_path, path=without_tensorflow(tmp_path)) as server:
        assert "warm-up requests replayed: 1" in server.log


def test_shapes_in_the_file_of_a_saved_model_are_planned_when_it_is_served(
    models: Path, tmp_path: Path, cases: dict[str, Case]
) -> None:
    model = tmp_path / "rows"
    shutil.copytree(models / "rows", model)
    case = cases["tokens 2x5"]
    files.write(model, files.predict("tokens", case.inputs))
    with Server(model, "--batch-sizes", "1,2", home=tmp_path) as server:
        case.assert_answered(*server.predict("rows", case.inputs, "tokens"))
        assert "unplanned" not in server.log
