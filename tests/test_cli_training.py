"""A switch for training over HTTP: inference is padded, batched and checked, training is not."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import training_models
from endtoend import Server, run, without_tensorflow
from training_models import ROWS, inputs

from jaxrt.artifact import open_artifact
from jaxrt.manifest import ProgramEntry

Array = np.ndarray[Any, Any]
Answers = dict[str, Array]

SHAPES = ("--batch-sizes", "1,4", "--shape", "wide:x=6")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def answers(home: Path) -> Answers:
    """TensorFlow's."""
    return training_models.build(home)


@pytest.fixture(scope="module")
def artifacts(home: Path, answers: Answers) -> Path:
    """The folder with `switched.jaxrt` and `session.jaxrt`."""
    for name, flags in (("switched", SHAPES), ("session", SHAPES[:2])):
        done = run("compile", name, *flags, home=home)
        assert done.returncode == 0, done.stderr
    return home


def programs(artifact: Path, signature: str) -> tuple[ProgramEntry, ...]:
    """Of the signature, or of the one stage that it is cut into."""
    with open_artifact(artifact) as opened:
        parts = opened.manifest.parts
    (found,) = (p for key, p in parts.items() if key.partition("[")[0] == signature)
    return found


def flag(signature: str) -> str:
    return "is_training" if signature == "serving_default" else "training"


def ask(server: Server, model: str, signature: str, value: bool, rows: int) -> Array:
    given = {"x": inputs(signature, rows), flag(signature): np.asarray(value)}
    status, found = server.predict(model, given, signature)
    assert status == 200, found
    return np.asarray(found, np.float32)


def close(found: Array, want: Array) -> None:
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "signature", "random"),
    [("switched", "normed", False), ("session", "serving_default", True)],
)
def test_each_value_has_programs_with_a_verdict_of_their_own(
    artifacts: Path, model: str, signature: str, random: bool
) -> None:
    found = programs(artifacts / f"{model}.jaxrt", signature)
    name = flag(signature)
    facts = sorted((p.values[name], p.input_shapes["x"][0], p.rows, p.random) for p in found)
    assert facts == [
        (False, 1, "independent", False),
        (False, 4, "independent", False),
        (True, 1, "dependent", random),
        (True, 4, "dependent", random),
    ]


def test_a_bool_that_is_data_has_no_programs_of_its_own(artifacts: Path) -> None:
    found = programs(artifacts / "switched.jaxrt", "weighed")
    assert [p.values for p in found] == [{}, {}]


def test_inference_was_compared_with_tensorflow(artifacts: Path) -> None:
    for name in ("switched", "session"):
        with open_artifact(artifacts / f"{name}.jaxrt") as opened:
            report = opened.report()
        for signature in report["signatures"].values():
            if signature["programs"] or signature["stages"]:
                outputs = signature["against_tensorflow"]["outputs"]
                assert outputs and all(output["ok"] for output in outputs)


def test_any_number_of_rows_is_inferred_from_an_artifact(
    artifacts: Path, answers: Answers, tmp_path: Path
) -> None:
    alone = without_tensorflow(tmp_path)  # which would answer what has no program
    for model, signatures in {
        "switched": ("normed", "weighed", "wide"),
        "session": ("serving_default",),
    }.items():
        with Server(artifacts / f"{model}.jaxrt", home=tmp_path, path=alone) as server:
            for signature in signatures:
                for rows in ROWS:
                    found = ask(server, model, signature, False, rows)
                    close(found, answers[f"{signature} False {rows}"])
            if model == "switched":
                x = inputs("normed", 3)
                status, said = server.predict(model, {"x": x, "training": True}, "normed")
                assert status == 400 and "for training=true, x=[3,4]; it has" in said
                for rows in (1, 4):
                    found = ask(server, model, "normed", True, rows)
                    close(found, answers[f"normed True {rows}"])
                for rows in ROWS:
                    found = ask(server, model, "weighed", True, rows)
                    close(found, answers[f"weighed True {rows}"])
            shown = "is_training=false" if model == "session" else "training=false"
            assert shown in "".join(server.log.split())


@pytest.mark.parametrize(
    ("model", "signature"), [("switched", "normed"), ("session", "serving_default")]
)
def test_requests_of_both_values_at_once_each_get_their_own(
    artifacts: Path, answers: Answers, tmp_path: Path, model: str, signature: str
) -> None:
    wanted = [(False, rows) for rows in ROWS] + [(True, rows) for rows in (1, 4)]
    asked = wanted * 4
    with (
        Server(artifacts / f"{model}.jaxrt", home=tmp_path) as server,
        ThreadPoolExecutor(8) as pool,
    ):
        found = list(pool.map(lambda a: ask(server, model, signature, *a), asked))
    for (value, rows), got in zip(asked, found, strict=True):
        want = answers[f"{signature} {value} {rows}"]
        if value and model == "session":
            assert got.shape == want.shape
            dropped = np.isclose(got, 0.5)  # the sigmoid of what dropout makes 0
            assert rows == 1 or 0 < dropped.sum() < got.size
        else:
            close(got, want)


def test_sizes_nobody_planned_are_compiled_for_the_value_asked(
    home: Path, answers: Answers, tmp_path: Path
) -> None:
    flags = ("--batch-sizes", "4", "--shape", "wide:x=5")
    with Server(home / "switched", *flags, home=tmp_path) as server:
        for value in (False, True, False):
            for rows in (3, 4, 9):
                found = ask(server, "switched", "wide", value, rows)
                close(found, answers[f"wide {value} {rows}"])
