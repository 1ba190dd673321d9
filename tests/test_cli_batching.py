"""`jaxrt serve --enable_batching`, from the flags to the answers."""

import shutil
from pathlib import Path

import pytest
from endtoend import Artifact, Server, one_line, run_here

pytest_plugins = ("endtoend_fixtures",)

GUIDE = """
max_batch_size { value: 128 }
batch_timeout_micros { value: 0 }
max_enqueued_batches { value: 1000000 }
num_batch_threads { value: 8 }
"""
"""The file of TensorFlow Serving's batching guide."""


def test_the_file_of_the_guide_serves_an_artifact(linear: Path, tmp_path: Path) -> None:
    file = tmp_path / "batching.config"
    file.write_text(GUIDE)
    flags = ("--enable_batching", "true", "--batching_parameters_file", file)
    with Server(linear / "2", *flags, home=tmp_path) as server:
        assert server.predict("linear", {"x": [1.0, 2.0, 3.0]}) == (200, [2.0, 4.0, 6.0])
        assert server.predict("linear", {"x": [1.0] * 128})[0] == 200
        status, answer = server.ask(
            "POST", "/v1/models/linear:predict", {"inputs": {"x": [1.0] * 129}}
        )
        assert (status, answer["error"]) == (
            400,
            "Task size 129 is larger than maximum input batch size 128",
        )


def test_sizes_that_an_artifact_lacks_are_named_and_served(linear: Path, tmp_path: Path) -> None:
    file = tmp_path / "batching.config"
    file.write_text("max_batch_size { value: 4 } allowed_batch_sizes: [2, 4]")
    flags = ("--enable_batching=true", f"--batching_parameters_file={file}")
    with Server(linear / "2", *flags, home=tmp_path) as server:
        assert server.predict("linear", {"x": [1.0, 2.0, 3.0]}) == (200, [2.0, 4.0, 6.0])
        log = " ".join(server.log.split())
        assert "no programs for allowed_batch_sizes 4:" in log
        assert "padded or split to its batch sizes, 1,2; compile it with --batch-sizes 2,4" in log


@pytest.mark.parametrize("own", [True, False])
def test_versions_have_files_of_their_own_or_are_not_batched(
    linear: Path, tmp_path: Path, own: bool
) -> None:
    base = tmp_path / "linear"
    shutil.copytree(linear / "2", base / "2")
    if own:
        (base / "2" / "batching_params.pbtxt").write_text("max_batch_size { value: 2 }")
    flags = ("--enable_batching", "--enable_per_model_batching_parameters")
    with Server(base, *flags, home=tmp_path) as server:
        status, _ = server.ask("POST", "/v1/models/linear:predict", {"inputs": {"x": [1.0] * 3}})
        assert status == (400 if own else 200)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: 4",
            "batching.config: Last entry in allowed_batch_sizes must match max_batch_size; last "
            "entry was 4; expected 8",
        ),
        ("max_batch_size: 8", "Invalid protobuf file: '"),
        ("num_batch_threads { value: 0 }", "num_batch_threads must be positive; was 0"),
    ],
)
def test_a_file_that_is_wrong(artifact: Artifact, tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "batching.config"
    file.write_text(text)
    flags = ("--enable_batching", f"--batching_parameters_file={file}")
    assert message in one_line(run_here("serve", artifact.path, *flags), 2)


def test_a_file_without_batching(artifact: Artifact, tmp_path: Path) -> None:
    file = tmp_path / "batching.config"
    file.write_text("")
    line = one_line(run_here("serve", artifact.path, f"--batching_parameters_file={file}"), 2)
    assert "is set without setting --enable_batching to true" in line
