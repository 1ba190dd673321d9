"""Models that are compressed while they are built: budgets, calibration data, what is reported.

The small models are really trained, on data that ships with scikit-learn; the agreements of their
int8 forms with float32 stand here as numbers.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fake_tensorflow import FakeTensorFlow, Steps, signature, tensor

from jaxrt import target
from jaxrt.artifact import ArtifactWriter, open_artifact
from jaxrt.buckets import Buckets
from jaxrt.compression import pays
from jaxrt.compression.budget import Budget
from jaxrt.compression.calibration import ROWS, Request, Source
from jaxrt.compression.goals import Goal, Wanted
from jaxrt.compression.schemes import Rule, Scheme
from jaxrt.converters import build, speed
from jaxrt.converters.build import Naming, Options
from jaxrt.errors import UsageError

CPU = target.attached("cpu")
NAMING = Naming(model="m", path="given/m", content_sha256="0" * 64)
Array = np.ndarray[Any, Any]


def network(weights: Mapping[str, Any], x: Any) -> dict[str, Any]:
    """Dense layers, ReLU between them."""
    count = len(weights) // 2
    for i in range(count):
        x = x @ weights[f"dense{i}/kernel"] + weights[f"dense{i}/bias"][None]
        x = jax.nn.relu(x) if i < count - 1 else x
    return {"y": jax.nn.softmax(x, axis=-1)}


@functools.cache
def trained(name: str) -> tuple[dict[str, Array], Array]:
    """Weights of a network trained on a data set, and inputs it was not trained on."""
    from sklearn import datasets, model_selection, neural_network, preprocessing

    data = getattr(datasets, f"load_{name}")()
    scaled = preprocessing.StandardScaler().fit_transform(data.data).astype(np.float32)
    seen, unseen, labels, _ = model_selection.train_test_split(
        scaled, data.target, test_size=0.4, random_state=0
    )
    model = neural_network.MLPClassifier((128, 64), max_iter=30, random_state=0, tol=0.0)
    with np.errstate(all="ignore"), pytest.warns():
        model.fit(seen, labels)
    weights: dict[str, Array] = {}
    for i, (kernel, bias) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        weights[f"dense{i}/kernel"] = kernel.astype(np.float32)
        weights[f"dense{i}/bias"] = bias.astype(np.float32)
    if weights[f"dense{i}/bias"].shape == (1,):  # two classes: one logit stands for both
        last = f"dense{i}"
        pair = np.concatenate([-weights[f"{last}/kernel"], weights[f"{last}/kernel"]], axis=1) / 2
        weights[f"{last}/kernel"] = pair
        bias = weights[f"{last}/bias"] / 2
        weights[f"{last}/bias"] = np.concatenate([-bias, bias])
    return weights, unseen


def given(inputs: Array, **more: Any) -> Source:
    request = Request(signature="serve", inputs={"x": inputs}, where="file")
    return Source(said="file", read=lambda specs: [request], **more)


def made(home: Path, name: str, wanted: Wanted) -> dict[str, Any]:
    """The report of the compression."""
    weights, unseen = trained(name)
    tensorflow = FakeTensorFlow(
        {"serve": network},
        {"serve": signature(x=tensor("float32", None, unseen.shape[1]))},
        weights,
    )
    (home / "source").mkdir()
    with ArtifactWriter(home / "out") as writer:
        build.build(
            home / "source",
            writer,
            naming=NAMING,
            options=Options(buckets=Buckets(sizes=(16,)), compression=wanted, check=True),
            target=CPU,
            tensorflow=tensorflow,
            steps=Steps(),
        )
    with open_artifact(home / "out") as artifact:
        report = artifact.report()
    assert all(e["ok"] for e in report["signatures"]["serve"]["against_tensorflow"]["outputs"])
    found: dict[str, Any] = report["compression"]
    return found


RECORDED = {"digits": 1.0, "breast_cancer": 1.0, "wine": 1.0}
"""Share of unseen rows with the same class at int8 as in float32, as it was measured."""


@pytest.mark.parametrize("name", RECORDED)
def test_trained_networks_keep_their_answers_at_int8(name: str, tmp_path: Path) -> None:
    _, unseen = trained(name)
    wanted = Wanted(scheme=Scheme.INT8, goal=Goal.SIZE, calibration=given(unseen))
    found = made(tmp_path, name, wanted)
    (output,) = found["outputs"]["serve"]
    assert output["judged"] == min(len(unseen), ROWS)
    assert output["agreement"] >= max(0.99, RECORDED[name] - 0.005)
    assert output["rms"] < 0.01
    assert {layer["scheme"] for layer in found["layers"]} == {"int8"}
    assert found["bytes_after"] < 0.35 * found["bytes_before"]


def test_a_budget_leaves_sensitive_layers_float(tmp_path: Path) -> None:
    _, unseen = trained("digits")
    calibration = given(unseen[:64])
    (tmp_path / "free").mkdir()
    (tmp_path / "held").mkdir()
    free = made(
        tmp_path / "free",
        "digits",
        Wanted(scheme=Scheme.INT8, goal=Goal.SIZE, calibration=calibration),
    )
    alone = {layer["layer"]: layer["error"]["rms"] for layer in free["layers"]}
    limit = Budget(max_error=0.9 * max(alone.values()))
    wanted = Wanted(scheme=Scheme.INT8, budget=limit, goal=Goal.SIZE, calibration=calibration)
    found = made(tmp_path / "held", "digits", wanted)
    left = {x["layer"]: x["why"] for x in found["layers"] if x["scheme"] == "float"}
    assert left[max(alone, key=alone.__getitem__)] == f"the budget: {limit}"
    (output,) = found["outputs"]["serve"]
    assert output["rms"] <= 0.9 * max(alone.values())
    assert free["bytes_after"] < found["bytes_after"] <= found["bytes_before"]


def test_rules_hold_whatever_the_budget(tmp_path: Path) -> None:
    rules = (
        Rule(pattern="dense0", scheme=Scheme.INT4),
        Rule(pattern="dense1", scheme=Scheme.FLOAT),
    )
    wanted = Wanted(rules=rules, budget=Budget(max_error=0.0), goal=Goal.SIZE)
    found = made(tmp_path, "digits", wanted)
    schemes = {layer["layer"]: layer["scheme"] for layer in found["layers"]}
    assert schemes["dense0/kernel"] == "int4" and schemes["dense1/kernel"] == "float"
    assert any("over the budget as it is" in note for note in found["notes"])
    assert found["calibration"]["made_up"] == ["serve"]


def test_trials_promise_what_the_real_program_keeps(tmp_path: Path) -> None:
    _, unseen = trained("digits")
    wanted = Wanted(scheme=Scheme.W8A8, goal=Goal.SIZE, calibration=given(unseen[:64]))
    found = made(tmp_path, "digits", wanted)
    assert {layer["scheme"] for layer in found["layers"]} == {"w8a8"}
    assert not found["calibration"]["estimated"]
    (output,) = found["outputs"]["serve"]
    assert found["points"][-1]["error"] == pytest.approx(output["rms"], rel=0.05)
    predicted = math.hypot(*(layer["error"]["rms"] for layer in found["layers"]))
    assert 0.5 < output["rms"] / predicted < 2


def test_a_budget_of_nothing_leaves_all_float(tmp_path: Path) -> None:
    limit = Budget(max_error=0.0, min_agreement=1.0)
    wanted = Wanted(scheme=Scheme.INT8, budget=limit, goal=Goal.SIZE)
    found = made(tmp_path, "digits", wanted)
    assert {layer["why"] for layer in found["layers"]} == {f"the budget: {limit}"}
    assert found["bytes_after"] == found["bytes_before"]
    assert any("more was tried: with 1 steps more output 'y': error" in n for n in found["notes"])
    assert not any("over the budget" in note for note in found["notes"])


def test_layers_that_do_not_pay_stay_float(tmp_path: Path) -> None:
    found = made(tmp_path, "digits", Wanted(scheme=Scheme.INT8))
    assert {layer["why"] for layer in found["layers"]} == {"int8 is slower on cpu at 16 rows"}
    assert found["bytes_after"] == found["bytes_before"] and found["dropped"] is None


SLOW = speed.Speed(part="serve", shapes="x[16,64]", rows=16, before=1.0, after=2.0)
FAST = dataclasses.replace(SLOW, after=0.5)
FREE = Wanted(scheme=Scheme.INT8)


def test_what_gets_slower_stays_float(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pays, "pays", lambda *_: True)
    monkeypatch.setattr(speed, "measure", lambda *_: [SLOW])
    found = made(tmp_path, "digits", FREE)
    assert {layer["scheme"] for layer in found["layers"]} == {"float"}
    assert found["dropped"].startswith("serve x[16,64] would take 2.00 times as long")
    assert found["bytes_after"] == found["bytes_before"]


def test_the_smaller_products_are_taken_back_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = [SLOW, FAST]
    monkeypatch.setattr(pays, "pays", lambda *_: True)
    monkeypatch.setattr(speed, "measure", lambda *_: [timed.pop(0)])
    found = made(tmp_path, "digits", FREE)
    why = {x["layer"]: x["why"] for x in found["layers"] if x["scheme"] == "float"}
    assert why == {"dense0/kernel": "serve x[16,64] would take 2.00 times as long"}
    assert not timed and found["dropped"] is None
    assert found["speed"][0]["times_as_fast"] == 2.0
    assert found["bytes_after"] < 0.8 * found["bytes_before"]


def test_layers_of_rules_are_never_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pays, "pays", lambda *_: True)
    monkeypatch.setattr(speed, "measure", lambda *_: [SLOW])
    rules = (Rule(pattern="dense0", scheme=Scheme.INT8),)
    limit = Budget(max_error=1e-5)
    found = made(tmp_path, "digits", Wanted(scheme=Scheme.BF16, rules=rules, budget=limit))
    schemes = {layer["layer"]: layer["scheme"] for layer in found["layers"]}
    assert schemes == {"dense0/kernel": "int8", "dense1/kernel": "float"}
    assert found["dropped"] is None and found["speed"][0]["times_as_fast"] == 0.5
    over, slow = found["notes"][-2:]
    assert over.startswith("over the budget as it is: output 'y': error ")
    assert over.endswith("rules want dense0/kernel so")
    assert slow.startswith("slower as it is: serve x[16,64] takes 2.00 times as long as in float")


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"z": np.zeros((2, 64), np.float32)}, "found inputs 'z', want 'x' of signature 'serve'"),
        ({"x": np.zeros((2, 65), np.float32)}, r"input 'x': found shape \[2, 65\], want \[\?,64\]"),
        ({"x": np.full((2, 64), b"a", object)}, "input 'x': found object, want float32"),
    ],
)
def test_calibration_data_must_fit_the_model(
    inputs: dict[str, Array], said: str, tmp_path: Path
) -> None:
    request = Request(signature="serve", inputs=inputs, where="--calibration file")
    source = Source(said="file", read=lambda specs: [request])
    with pytest.raises(UsageError, match=f"--calibration file: {said}"):
        made(tmp_path, "digits", Wanted(scheme=Scheme.INT8, calibration=source))


def test_requests_of_a_warm_up_file_that_do_not_fit_are_left_out(tmp_path: Path) -> None:
    request = Request(signature="old", inputs={}, where="warm-up: record 0")
    source = Source(said="the warm-up file", read=lambda specs: [request], strict=False)
    found = made(tmp_path, "digits", Wanted(scheme=Scheme.INT8, calibration=source, goal=Goal.SIZE))
    assert found["calibration"]["said"] == "made-up inputs"
    assert any("left out: warm-up: record 0: no signature 'old'" in n for n in found["notes"])


def test_tables_are_looked_up_all_over(tmp_path: Path) -> None:
    from jaxrt.compression import calibration
    from jaxrt.program import Program

    def looked_up(table: Any, ids: Any) -> Any:
        return jnp.take(table, ids + 0, axis=0, mode="clip")

    with jax.enable_x64(True):
        jaxpr = jax.make_jaxpr(looked_up)(np.zeros((50, 8), np.float32), np.zeros((4, 3), np.int32))
    program = Program(
        signature="s",
        jaxpr=jaxpr,
        weight_names=("table",),
        input_names=("ids",),
        output_names=("y",),
    )
    assert calibration.vocabularies(program) == {"ids": 50}
    made_up = calibration.made_up_for(program, {"ids": 50})
    assert made_up["ids"].shape == (4, 3) and made_up["ids"].max() > 10
