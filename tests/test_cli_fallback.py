"""Shapes that no program of an artifact takes: TensorFlow answers them, where it is installed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from endtoend import Case, Server, run, without_tensorflow

from jaxrt.artifact import SAVED_MODEL, open_artifact

pytest_plugins = ("endtoend_fixtures",)


@pytest.fixture(scope="module")
def compiled(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`rows` at batch sizes 1 and 4; nobody plans the lengths of `tokens`."""
    home = tmp_path_factory.mktemp("fallback")
    done = run("compile", models / "rows", "-o", "rows.jaxrt", "--batch-sizes", "1,4", home=home)
    assert done.returncode == 0, done.stderr
    assert "'centered': shapes without a program go to TensorFlow: Its rows depend" in done.stdout
    assert "warning: signature 'tokens': " in done.stdout
    assert "pass --shape ids=SIZE" in done.stdout
    return home / "rows.jaxrt"


def ask(server: Server, cases: dict[str, Case], name: str) -> tuple[int, Any]:
    case = cases[name]
    return server.predict("rows", case.inputs, case.signature)


def test_tensorflow_answers_what_no_program_takes(
    compiled: Path, cases: dict[str, Case], tmp_path: Path
) -> None:
    with Server(compiled, home=tmp_path) as server:
        for name in ("centered 3", "centered 8", "centered 3", "tokens 3x6", "tokens 1x9"):
            cases[name].assert_answered(*ask(server, cases, name))
        for name in ("centered 4", "dense 1"):
            cases[name].assert_answered(*ask(server, cases, name))
        said = [line for line in server.log.splitlines() if "TensorFlow answers it" in line]
    assert [("x=[3,3]" in line, "x=[8,3]" in line) for line in said] == [
        (True, False),
        (False, True),
    ]
    assert all("--batch-sizes 1,3,4" in line or "--batch-sizes 1,4,8" in line for line in said)


def test_what_tensorflow_refuses_is_the_requests_fault(
    compiled: Path, cases: dict[str, Case], tmp_path: Path
) -> None:
    with Server(compiled, home=tmp_path) as server:
        status, error = server.predict("rows", {"x": np.ones((3, 5))}, "centered")
        assert status == 400, error
        cases["centered 3"].assert_answered(*ask(server, cases, "centered 3"))


def test_without_tensorflow_such_shapes_are_refused(
    compiled: Path, cases: dict[str, Case], models: Path, tmp_path: Path
) -> None:
    done = run(
        *("compile", models / "rows", "-o", "rows.jaxrt", "--batch-sizes", "1,4"),
        *("--signature", "centered"),
        home=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    path = without_tensorflow(tmp_path)
    with Server(tmp_path / "rows.jaxrt", home=tmp_path, path=path) as server:
        said = " ".join(server.log.split())  # long lines are wrapped
        assert "which would answer them, is not installed" in said
        status, error = ask(server, cases, "centered 3")
        assert status == 400 and "no compiled program for x=[3,3]" in error
        cases["centered 4"].assert_answered(*ask(server, cases, "centered 4"))


def test_the_savedmodel_is_kept_only_where_it_may_be_needed(models: Path, tmp_path: Path) -> None:
    kept = {}
    for name, flags in {
        "default": ("--signature", "centered"),
        "refused": ("--signature", "centered", "--no-fallback"),
        "independent": ("--signature", "serving_default"),
        "planned": ("--signature", "tokens", "--shape", "ids=4"),
    }.items():
        done = run("compile", models / "rows", "-o", name, *flags, home=tmp_path)
        assert done.returncode == 0, done.stderr
        with open_artifact(tmp_path / name) as found:
            assert any(s.fallback for s in found.manifest.signatures.values()) == (
                name == "default"
            )
        kept[name] = (tmp_path / name / SAVED_MODEL).exists()
    assert kept == {"default": True, "refused": False, "independent": False, "planned": False}
