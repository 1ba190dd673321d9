"""`jaxrt compile`, `inspect` and `verify` on real SavedModels: what they print, and their ends."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from endtoend import (
    Artifact,
    bridges_of,
    command,
    debris,
    environment,
    one_line,
    run,
    wait_for_bridge,
    without_tensorflow,
)

from jaxrt.artifact import open_artifact

pytest_plugins = ("endtoend_fixtures",)


def test_compile_shows_programs_errors_and_what_was_left_out(artifact: Artifact) -> None:
    assert "rows: 13 programs for cpu" in artifact.stdout
    assert artifact.stderr == ""
    lines = [" ".join(line.split()) for line in artifact.stdout.splitlines()]
    assert any(line.startswith("serving_default x[8,4] device independent") for line in lines)
    assert any(line.startswith("centered x[4,3] device dependent") for line in lines)
    assert any(line.startswith("tokens ids[8,6] device independent") for line in lines)
    compared = [line for line in lines if line.endswith(" ok")]
    assert {line.split()[0] for line in compared} == {
        "serving_default", "centered", "tokens", "slow",
    }  # fmt: skip
    assert any(line.startswith("wrote rows.jaxrt:") for line in lines)


def test_inspect_shows_signatures_programs_and_what_was_left_out(
    artifact: Artifact, tmp_path: Path
) -> None:
    done = run("inspect", artifact.path, home=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert any(line.startswith("serving_default in x float32[?,4]") for line in lines)
    assert any(line.startswith("serving_default out best int64[?]") for line in lines)
    assert any(line.startswith("centered x[8,3] device dependent") for line in lines)
    assert "__saved_model_init_op" not in done.stdout


def test_inspect_as_json_is_manifest_and_report(artifact: Artifact, tmp_path: Path) -> None:
    done = run("inspect", "--json", artifact.path, home=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["manifest"]["model"] == "rows"
    signatures = found["report"]["signatures"]
    assert [p["rows"] for p in signatures["centered"]["programs"]] == ["dependent"] * 3
    assert all(output["ok"] for output in signatures["tokens"]["against_tensorflow"]["outputs"])


def test_inspect_needs_no_tensorflow(artifact: Artifact, tmp_path: Path) -> None:
    done = run("inspect", artifact.path, home=tmp_path, path=without_tensorflow(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")


def test_verify_accepts_the_model_the_artifact_was_made_from(
    linear: Path, models: Path, tmp_path: Path
) -> None:
    done = run("verify", linear / "2", "--against", models / "linear" / "2", home=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 outputs of 2 compared: all within the tolerance" in done.stdout


def test_verify_fails_against_other_weights(linear: Path, models: Path, tmp_path: Path) -> None:
    done = run("verify", linear / "2", "--against", models / "linear" / "10", home=tmp_path)
    line = one_line(done, 1)
    assert "2 of 2 outputs differ" in line and "'serving_default' at x[1]" in line
    assert "past the tolerance" in done.stdout


def test_verify_fails_against_another_signature(linear: Path, models: Path, tmp_path: Path) -> None:
    done = run("verify", linear / "2", "--against", models / "rows", home=tmp_path)
    line = one_line(done, 3)
    assert "no signature 'serving_default' with the inputs and outputs" in line


def test_a_model_of_which_nothing_compiles_is_refused_with_the_reasons(
    models: Path, tmp_path: Path
) -> None:
    line = one_line(run("compile", models / "sparse", "-o", "new.jaxrt", home=tmp_path), 4)
    assert (
        "nothing in it can be served: signature 'sparse': Its output 'y' is a sparse tensor."
        in line
    )
    assert "__saved_model_init_op" not in line
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tmp"]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_model_without_signatures_is_refused(models: Path, tmp_path: Path) -> None:
    line = one_line(run("compile", models / "unsigned", home=tmp_path), 4)
    assert "it has no signatures: save it with signatures=..." in line


def start(model: Path, home: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command("compile", model, "-o", "out.jaxrt"),
        cwd=home,
        env=environment(home),
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_compile_leaves_nothing(
    models: Path, tmp_path: Path, number: signal.Signals
) -> None:
    with start(models / "rows", tmp_path) as process:
        wait_for_bridge(tmp_path)
        time.sleep(1)
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert said == f"jaxrt: error: stopped by {number.name}\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tmp"]
    assert list((tmp_path / "tmp").iterdir()) == []
    assert list(bridges_of(tmp_path)) == []


def assert_clean(home: Path) -> None:
    """No unfinished directory, no scratch directory, no process of TensorFlow's side."""
    until = time.monotonic() + 20
    while list(bridges_of(home)) and time.monotonic() < until:
        time.sleep(0.05)  # the kernel ends it, but not within our system call
    assert list(bridges_of(home)) == []
    assert debris(home) == []
    assert list((home / "tmp").iterdir()) == []


def kill_and_recover(model: Path, old: Path, home: Path, moments: list[float]) -> None:
    """Kills a compile after each of `moments` seconds, then lets one finish.

    At the destination lies the artifact `old` first.
    """
    destination = home / "out.jaxrt"
    shutil.copytree(old, destination)
    for seconds in moments:
        with start(model, home) as process:
            time.sleep(seconds)
            process.kill()
        with open_artifact(destination) as found:  # the old one, or the new one if it was done
            assert found.manifest.model in ("linear", "10")
    done = run("compile", model, "-o", "out.jaxrt", home=home)
    assert done.returncode == 0, done.stderr
    with open_artifact(destination) as found:
        assert str(model) == found.manifest.source.path
    assert_clean(home)


def test_killed_compiles_leave_nothing_that_loads_or_is_in_the_way(
    models: Path, linear: Path, tmp_path: Path
) -> None:
    """While TensorFlow starts, while it works, and shortly before the end."""
    model = models / "linear" / "10"
    kill_and_recover(model, linear / "1", tmp_path, [1.5, 4.0, 6.0])


@pytest.mark.slow
def test_a_compile_killed_at_ten_moments_leaves_nothing(
    models: Path, linear: Path, tmp_path: Path
) -> None:
    model = models / "linear" / "10"
    started = time.monotonic()
    assert run("compile", model, "-o", "timed.jaxrt", home=tmp_path).returncode == 0
    took = time.monotonic() - started
    # The fractions of the golden ratio: spread evenly, in no order.
    moments = [took * (0.618034 * k % 1) for k in range(1, 11)]
    kill_and_recover(model, linear / "1", tmp_path, moments)


def test_a_full_disk_is_one_line_and_the_old_artifact_stays(
    models: Path, linear: Path, tmp_path: Path
) -> None:
    destination = tmp_path / "out.jaxrt"
    shutil.copytree(linear / "1", destination)
    # Files above 2 kB fail to be written with EFBIG, as on a full disk with ENOSPC.
    limited = ["/bin/sh", "-c", 'ulimit -f 4; exec "$@"', "-", *command()]
    arguments = ["compile", str(models / "linear" / "2"), "-o", str(destination), "--no-check"]
    done = subprocess.run(
        [*limited, *arguments],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    line = one_line(done, 1)
    assert "file too large" in line
    with open_artifact(destination) as found:
        assert found.manifest.source.path.endswith(os.path.join("linear", "1"))
    assert_clean(tmp_path)


def test_products_at_bf16_are_stored_in_half_and_held_to_what_that_allows(
    models: Path, tmp_path: Path
) -> None:
    flags = ("--precision", "bf16", "--signature", "tokens", "--shape", "ids=6")
    done = run("compile", models / "rows", "-o", "half.jaxrt", *flags, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Against TensorFlow at bf16, random inputs" in done.stdout
    with open_artifact(tmp_path / "half.jaxrt") as artifact:
        report, manifest = artifact.report(), artifact.manifest
    assert manifest.options["passes"]["rounding"] == {"precision": "bf16", "kept": []}
    checked = report["signatures"]["tokens"]["against_tensorflow"]
    assert checked["precision"] == "bf16"
    assert report["weights"]["stored_bytes"] * 2 == report["weights"]["source_bytes"]
    done = run("verify", "half.jaxrt", "--against", models / "rows", home=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    done = run(
        *("verify", "half.jaxrt", "--against", models / "rows", "--tolerance", "5e-4"),
        home=tmp_path,
    )
    assert "past the tolerance" in one_line(done, 1)
