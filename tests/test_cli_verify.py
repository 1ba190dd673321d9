"""`jaxrt verify`, and the check of a compile, where signatures are cut or TensorFlow runs them."""

import json
from pathlib import Path
from typing import Any

import mixed_models
import numpy as np
import pytest
import state_models
from endtoend import Server, run, signed

from jaxrt.artifact import open_artifact
from jaxrt.converters.host import tables
from jaxrt.manifest import Manifest

SIGNATURES = ("labelled", "shared", "echoed", "adds")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SavedModels, and their artifacts under NAME.jaxrt."""
    found = tmp_path_factory.mktemp("verified")
    mixed_models.build(found, "words")
    state_models.build(found, "chance")
    chosen = [part for name in SIGNATURES for part in ("--signature", name)]
    compiled = run(
        "compile", "words", "-o", "words.jaxrt", "--batch-sizes", "1,4", *chosen, home=found
    )
    assert compiled.returncode == 0, compiled.stderr
    compiled = run("compile", "chance", "-o", "chance.jaxrt", "--batch-sizes", "1,4", home=found)
    assert compiled.returncode == 0, compiled.stderr
    return found


def checks(artifact: Path) -> dict[str, Any]:
    """Signature → what the report holds of its answers beside TensorFlow's."""
    with open_artifact(artifact) as opened:
        found = opened.report()["signatures"]
    return {name: signature["against_tensorflow"] for name, signature in found.items()}


def verified(home: Path, artifact: Path, against: str) -> list[list[str]]:
    """The words of each line of the table."""
    done = run("verify", artifact, "--against", home / against, home=home)
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines() if line.strip()]


def test_a_compile_compares_signatures_that_are_cut(home: Path) -> None:
    found = checks(home / "words.jaxrt")
    shared = found["shared"]
    assert shared["input_shapes"] == {"text": [4], "x": [4, 4]}
    assert {o["output"]: o["dtype"] for o in shared["outputs"]} == {
        "said": "string", "text": "string", "x": "float32", "y": "float32",
    }  # fmt: skip
    for key in ("labelled", "shared", "echoed"):
        assert found[key]["outputs"] and all(o["ok"] for o in found[key]["outputs"])
    assert json.dumps(found)  # strings are no JSON, their errors are


def test_what_changes_state_or_draws_is_said_to_be_not_compared(home: Path) -> None:
    assert "changes tables" in checks(home / "words.jaxrt")["adds"]["skipped"]
    found = checks(home / "chance.jaxrt")
    assert "draws random numbers: RandomUniform;" in found["words"]["skipped"]
    assert "draws random numbers: RandomStandardNormal" in found["noisy"]["skipped"]
    assert all(output["ok"] for output in found["plain"]["outputs"])


def test_verify_compares_every_bucket_and_a_padded_batch_of_what_is_cut(home: Path) -> None:
    lines = verified(home, home / "words.jaxrt", "words")
    shared = [line for line in lines if line[0] == "shared" and line[3] == "said"]
    assert [line[1] for line in shared] == ["text[1]", "text[3]", "text[4]"]
    assert all(line[-1] == "ok" for line in lines if line[0] in ("labelled", "shared", "echoed"))
    (adds,) = [" ".join(line) for line in lines if line[0] == "adds"]
    assert "not compared: It changes tables" in adds
    assert lines[-1][-3:] == ["within", "the", "tolerance"]


def test_verify_names_what_draws_and_compares_the_rest(home: Path) -> None:
    lines = [" ".join(line) for line in verified(home, home / "chance.jaxrt", "chance")]
    assert any(line.startswith("words not compared: it draws random numbers") for line in lines)
    assert any(line.startswith("noisy x[4,2] not compared: it draws") for line in lines)
    assert any(line.startswith("plain text[3] length") and line.endswith("ok") for line in lines)


def test_verify_fails_where_a_table_answers_otherwise(home: Path, tmp_path: Path) -> None:
    """The words' numbers, one off: other rows of the embedding, other labels."""
    other = signed(home / "words.jaxrt", tmp_path, lambda manifest: turned(manifest, tmp_path))
    done = run("verify", other, "--against", home / "words", home=tmp_path)
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]  # TensorFlow, which `adds` needs, may have written too
    assert "differ from TensorFlow's" in line and "'labelled'" in line
    assert "where TensorFlow gives b'" in done.stdout


def turned(manifest: Manifest, home: Path) -> Manifest:
    """Changes the file of the one table in the copy that is being written."""
    (name,) = {file for host in manifest.hosts for file in host.tables.values()}
    (path,) = home.glob(f".changed.jaxrt.*/{name}")
    known = tables.read(path)
    changed = tables.Table(known.keys, np.roll(np.asarray(known.values), 1))
    path.unlink()
    tables.write(path, changed)
    return manifest


def test_without_the_optimizer_tensorflow_runs_whole_signatures(home: Path, tmp_path: Path) -> None:
    made = run(
        "compile", home / "words", "-o", "whole.jaxrt", "--signature", "shared",
        "--disable_optimizer", home=tmp_path,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "runs every signature WHOLE" in " ".join(made.stderr.split())
    with open_artifact(tmp_path / "whole.jaxrt") as opened:
        assert opened.manifest.programs == () and len(opened.manifest.hosts) == 1
    assert all(output["ok"] for output in checks(tmp_path / "whole.jaxrt")["shared"]["outputs"])
    lines = verified(home, tmp_path / "whole.jaxrt", "words")
    shared = [line for line in lines if line[0] == "shared" and line[3] == "said"]
    assert [line[1] for line in shared] == ["text[1]", "text[3]"]


def test_a_saved_model_is_served_without_the_optimizer(home: Path, tmp_path: Path) -> None:
    asked = {"text": ["a", "b", "Cash"], "x": [[1, 2, 3, 4]] * 3}
    with Server(home / "words", "--disable_optimizer", home=tmp_path) as server:
        status, answer = server.predict("words", asked, "shared")
        said = " ".join(server.log.split())
    assert status == 200
    assert answer["said"] == ["a10", "b10", "Cash10"]
    assert answer["x"] == [[2, 4, 6, 8]] * 3
    assert np.shape(answer["y"]) == (3, 4)
    assert "runs every signature WHOLE, on the CPU" in said
    (made,) = tmp_path.rglob("manifest.json")
    with open_artifact(made.parent) as opened:
        assert opened.manifest.programs == ()
        assert {host.executor for host in opened.manifest.hosts} == {"saved_model"}
