"""Models on s3://, over a stand-in for S3: served, followed, compiled, and refused in one line."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from endtoend import Server, one_line, run
from s3_server import S3Server

pytest_plugins = ("endtoend_fixtures",)


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    found = tmp_path / "s3" / "bucket"
    found.mkdir(parents=True)
    return found


@pytest.fixture
def s3(bucket: Path) -> Iterator[S3Server]:
    with S3Server(bucket.parent) as server:
        yield server


def times(server: Server, model: str) -> float | None:
    """What a model of `linear` multiplies with; None unless it answers."""
    status, answer = server.predict(model, {"x": [1.0]})
    return float(answer[0]) if status == 200 else None


def test_versions_of_a_bucket_are_served_and_followed(
    linear: Path, bucket: Path, s3: S3Server, tmp_path: Path
) -> None:
    shutil.copytree(linear / "1", bucket / "models" / "m" / "1")
    flags = ("--model_name=m", "--model_base_path=s3://bucket/models/m", "--port=0")
    with Server(*flags, home=tmp_path, **s3.environment()) as server:
        assert times(server, "m") == 1.0
        assert "s3://bucket/models/m/1: copying" in server.log
        shutil.copytree(linear / "10", bucket / "models" / "m" / "10")
        until = time.monotonic() + 60
        while times(server, "m") != 10.0 and time.monotonic() < until:
            time.sleep(0.2)
        assert times(server, "m") == 10.0
        shutil.rmtree(bucket / "models" / "m" / "10")
        while times(server, "m") != 1.0 and time.monotonic() < until:
            time.sleep(0.2)
        assert times(server, "m") == 1.0


def test_a_second_start_copies_nothing(
    linear: Path, bucket: Path, s3: S3Server, tmp_path: Path
) -> None:
    shutil.copytree(linear / "2", bucket / "two.jaxrt")
    for _ in range(2):
        with Server("s3://bucket/two.jaxrt", home=tmp_path, **s3.environment()) as server:
            assert times(server, "two") == 2.0
    whole = {file.relative_to(bucket).as_posix() for file in bucket.rglob("*") if file.is_file()}
    assert sorted(s3.gets) == sorted(whole)


def test_a_configuration_file_may_lie_in_the_bucket_too(
    linear: Path, bucket: Path, s3: S3Server, tmp_path: Path
) -> None:
    shutil.copytree(linear, bucket / "linear")
    (bucket / "models.config").write_text(
        'model_config_list { config { name: "far" base_path: "s3://bucket/linear" '
        'model_platform: "tensorflow" model_version_policy { specific { versions: 2 } } } '
        f'config {{ name: "near" base_path: "file://{linear}" model_platform: "tensorflow" }} }}'
    )
    flags = ("--model_config_file=s3://bucket/models.config", "--port=0")
    with Server(*flags, home=tmp_path, **s3.environment()) as server:
        assert (times(server, "far"), times(server, "near")) == (2.0, 10.0)


def test_a_saved_model_of_a_bucket_is_compiled(
    models: Path, bucket: Path, s3: S3Server, tmp_path: Path
) -> None:
    shutil.copytree(models / "linear", bucket / "linear")
    flags = ("--batch-sizes", "1", "--no-check")
    done = run("compile", "s3://bucket/linear", *flags, home=tmp_path, **s3.environment())
    assert done.returncode == 0, done.stderr
    assert "wrote linear.jaxrt" in done.stdout
    assert (tmp_path / "linear.jaxrt" / "manifest.json").is_file()


@pytest.mark.parametrize("command", ["serve", "compile"])
@pytest.mark.parametrize(
    ("uri", "key", "said"),
    [
        ("s3://bucket/m", "wrong", "s3://bucket/m: may not be read"),
        ("s3://absent/m", "right", "s3://absent/m: nothing is there"),
        ("s3://bucket/m", "right", "s3://bucket/m: "),
    ],
)
def test_what_cannot_be_read_is_one_line(
    command: str, uri: str, key: str, said: str, s3: S3Server, tmp_path: Path
) -> None:
    closed = ("--port=0", "--rest_api_port=auto") if command == "serve" else ()
    done = run(command, uri, *closed, home=tmp_path, **s3.environment(key))
    assert said in one_line(done, 3)


@pytest.mark.parametrize(("scheme", "hint"), [("gs", "jaxrt[gcs]"), ("quux", "want gs://, s3://")])
def test_a_file_system_that_is_not_installed_is_named(
    scheme: str, hint: str, tmp_path: Path
) -> None:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "sitecustomize.py").write_text("import sys; sys.modules['gcsfs'] = None")
    for arguments in (
        (f"{scheme}://bucket/m", "--rest_api_port=auto", "--port=0"),
        (f"--model_base_path={scheme}://bucket/m", "--rest_api_port=auto", "--port=0"),
    ):
        done = run("serve", *arguments, home=tmp_path, path=str(tmp_path / "hidden"))
        assert hint in one_line(done, 2)
