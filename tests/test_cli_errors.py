"""Every error of the commands is one line on standard error, with the exit code of its kind."""

import dataclasses
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from endtoend import Artifact, Server, one_line, run, run_here, signed, without_tensorflow

from jaxrt.manifest import Manifest

pytest_plugins = ("endtoend_fixtures",)

SERVE = ("serve", "--rest_api_port", "auto", "--port", "0")


@pytest.mark.parametrize("command", [("compile",), SERVE], ids=["compile", "serve"])
def test_a_path_with_no_model(command: tuple[str, ...], tmp_path: Path) -> None:
    line = one_line(run(*command, "nowhere", home=tmp_path), 3)
    assert "nowhere: found nothing there, want an artifact" in line and "pass that path" in line


@pytest.mark.parametrize("command", [("compile",), SERVE], ids=["compile", "serve"])
def test_an_empty_directory(command: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    line = one_line(run(*command, "model", home=tmp_path), 3)
    assert "model: found an empty directory" in line


def test_a_base_path_whose_versions_are_empty(tmp_path: Path) -> None:
    (tmp_path / "model" / "1").mkdir(parents=True)
    line = one_line(run_here(*SERVE, tmp_path / "model"), 3)
    assert "version directories with no model inside (1)" in line


def test_compile_of_an_artifact(artifact: Artifact, tmp_path: Path) -> None:
    line = one_line(run_here("compile", artifact.path), 2)
    assert "is an artifact already; serve it with `jaxrt serve" in line


@pytest.mark.parametrize("command", [("compile",), SERVE], ids=["compile", "serve"])
def test_tensorflow_is_missing(command: tuple[str, ...], models: Path, tmp_path: Path) -> None:
    hidden = without_tensorflow(tmp_path)
    done = run(*command, models / "linear" / "1", home=tmp_path, path=hidden)
    assert done.returncode == 3
    line = done.stderr.splitlines()[-1]  # after the log line that something is compiled
    assert line.startswith("jaxrt: error: TensorFlow is needed to read a SavedModel")
    assert 'pip install "jaxrt[convert]", or serve a compiled artifact' in line
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "tmp").iterdir()) == []


def test_an_artifact_is_served_where_tensorflow_is_missing(linear: Path, tmp_path: Path) -> None:
    with Server(linear / "2", home=tmp_path, path=without_tensorflow(tmp_path)) as server:
        assert server.predict("linear", {"x": [3.0]}) == (200, [6.0])


def copy(artifact: Path, home: Path) -> Path:
    return Path(shutil.copytree(artifact, home / "copy.jaxrt"))


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink])
@pytest.mark.parametrize(
    "pattern", ["weights.safetensors", "programs/*", "executables/*", "report.json"]
)
def test_a_damaged_file_of_an_artifact_is_named(
    damage: Callable[[Path], None], pattern: str, linear: Path, tmp_path: Path
) -> None:
    path = copy(linear / "2", tmp_path)
    file = sorted(path.glob(pattern))[0]
    damage(file)
    line = one_line(run_here("inspect", path), 5)
    assert str(file) in line and "recompile with `jaxrt compile`" in line


def test_serve_refuses_a_damaged_artifact_too(linear: Path, tmp_path: Path) -> None:
    path = copy(linear / "2", tmp_path)
    flip(path / "manifest.json")
    line = one_line(run(*SERVE, path, home=tmp_path), 5)
    assert str(path / "manifest.json") in line


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_no_artifact(command: str, models: Path, tmp_path: Path) -> None:
    flags = ("--against", models / "linear") if command == "verify" else ()
    for wrong in (tmp_path / "nowhere", tmp_path, models / "linear" / "1"):
        assert f"{wrong}" in one_line(run_here(command, wrong, *flags), 5)


def test_an_artifact_for_another_platform(linear: Path, tmp_path: Path) -> None:
    def for_tpu(manifest: Manifest) -> Manifest:
        target = dataclasses.replace(manifest.target, platform="tpu", device_kind="TPU v5 lite")
        return dataclasses.replace(manifest, target=target)

    line = one_line(run(*SERVE, signed(linear / "2", tmp_path, for_tpu), home=tmp_path), 6)
    assert "compiled for tpu, the device here is cpu; serve it with --device tpu" in line


@pytest.mark.parametrize("device", ["gpu", "tpu"])
def test_a_device_that_is_not_attached(device: str, linear: Path, tmp_path: Path) -> None:
    done = run(*SERVE, linear / "2", "--device", device, home=tmp_path, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 6
    line = done.stderr.splitlines()[-1]  # jax may warn of a plugin that finds no device
    assert "none is attached or its plugin is missing" in line and "use --device cpu" in line
    assert "Traceback" not in done.stderr


def test_a_device_nobody_knows(linear: Path, tmp_path: Path) -> None:
    line = one_line(run(*SERVE, linear / "2", "--device", "npu", home=tmp_path), 2)
    assert "device 'npu': want one of cpu, gpu, cuda, tpu" in line


def test_a_port_that_is_taken(linear: Path, tmp_path: Path) -> None:
    with socket.create_server(("localhost", 0)) as taken:
        port = str(taken.getsockname()[1])
        flags = ("--rest_api_port", port, "--rest_api_host", "127.0.0.1", "--port", "0")
        line = one_line(run("serve", linear / "2", *flags, home=tmp_path), 2)
    assert f"port {port} of 127.0.0.1: address already in use" in line
    assert "pass another --rest_api_port" in line


@pytest.mark.parametrize("sizes", ["", "0", "8,1", "1,1", "1;8", "-1", "1.5"])
@pytest.mark.parametrize("command", ["compile", "serve"])
def test_batch_sizes_that_are_none(
    command: str, sizes: str, linear: Path, models: Path, tmp_path: Path
) -> None:
    path = linear / "2" if command == "serve" else models / "linear" / "2"
    line = one_line(run_here(command, path, f"--batch-sizes={sizes}"), 2)
    assert f"--batch-sizes {sizes!r}: want increasing whole numbers" in line


@pytest.mark.parametrize("shape", ["ids", "ids=", "=4", "ids=a", "ids=4;6", "ids=-1"])
def test_shapes_that_are_none(shape: str, models: Path, tmp_path: Path) -> None:
    line = one_line(run_here("compile", models / "rows", "--shape", shape), 2)
    assert f"--shape {shape!r}: want NAME" in line


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_an_output_that_is_no_artifact_is_not_replaced(
    kind: str, models: Path, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    if kind == "directory":
        precious.mkdir()
        precious /= "thesis.tex"
    precious.write_text("years of work")
    output = tmp_path / "precious"
    line = one_line(run("compile", models / "linear" / "2", "-o", output, home=tmp_path), 2)
    assert f"{output}: there is something that is not a jaxrt artifact" in line
    assert precious.read_text() == "years of work"


def test_an_output_below_a_file(models: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    line = one_line(run("compile", models / "linear" / "2", "-o", "file/out", home=tmp_path), 2)
    assert "file" in line and "choose another place for the artifact" in line


def test_a_cache_that_cannot_be_written(models: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    flags = ("--cache-dir", "file/cache")
    line = one_line(run(*SERVE, models / "linear" / "2", *flags, home=tmp_path), 1)
    assert "file" in line and "not a directory" in line


def test_a_path_and_a_config_file(linear: Path, tmp_path: Path) -> None:
    (tmp_path / "models.config").write_text("")
    flags = ("--model_config_file", "models.config")
    line = one_line(run(*SERVE, linear, *flags, home=tmp_path), 2)
    assert "several models given: want one of PATH, --model_base_path" in line


def test_no_model_at_all(tmp_path: Path) -> None:
    assert "no model given" in one_line(run(*SERVE, home=tmp_path), 2)


def test_a_config_file_that_does_not_parse(tmp_path: Path) -> None:
    (tmp_path / "models.config").write_text("model_config_list {")
    flags = ("--model_config_file", "models.config")
    assert "models.config" in one_line(run(*SERVE, *flags, home=tmp_path), 2)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("inspect", "--jsonn", "model"), "Did you mean"),
        (("serve", "--enable_batching=maybe"), "want true, false, 1 or 0"),
        (("serve", "--port", "http"), "want a number, or auto"),
        (("serve", "--rest_api_port"), "requires an argument"),
        (("compile", "model", "--batch-size", "1"), "--batch-sizes"),
        (("serve", "--rest_api_port", "70000"), "0<=x<=65535"),
        (("serve", "--max_enqueued_batches", "0"), "x>=1"),
        (("serve", "--grace", "-1"), "x>=0"),
        (("verify", "model", "--against", "model", "--seed", "-1"), "x>=0"),
        (("verify", "model"), "--against"),
        (("compil",), "No such command"),
    ],
    ids=" ".join,
)
def test_a_wrong_flag_prints_the_usage_and_a_hint(
    arguments: tuple[str, ...], hint: str, tmp_path: Path
) -> None:
    done = run_here(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: ")
    assert hint in done.stderr.splitlines()[-1]


def test_a_filled_cache_is_served_where_tensorflow_is_missing(models: Path, tmp_path: Path) -> None:
    flags = ("--batch-sizes", "1,4", "--cache-dir", "cache")
    with Server(models / "linear" / "2", *flags, home=tmp_path):
        pass
    hidden = without_tensorflow(tmp_path)
    with Server(models / "linear" / "2", *flags, home=tmp_path, path=hidden) as server:
        assert server.predict("linear", {"x": [3.0, 4.0]}) == (200, [6.0, 8.0])
        status, error = server.predict("linear", {"x": [[3.0]]})
        assert status == 400
        assert "has no compiled program for x=[1,1]; it has x=[1]; x=[4]" in error
