"""What is left of a trained network when most of its channels go: digits that scikit-learn has."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from fake_tensorflow import FakeTensorFlow, Steps, signature, tensor
from jax import lax
from sklearn import datasets

from jaxrt import loader, target
from jaxrt.artifact import ArtifactWriter, open_artifact
from jaxrt.buckets import Buckets
from jaxrt.compression.budget import Budget
from jaxrt.compression.calibration import Request, Source
from jaxrt.compression.goals import Goal, Wanted
from jaxrt.compression.schemes import Scheme
from jaxrt.converters import build, taking, weakest
from jaxrt.converters.build import Naming, Options

Array = np.ndarray[Any, Any]
CPU = target.attached("cpu")
NAMING = Naming(model="m", path="given/m", content_sha256="0" * 64)
ROWS = 64
NONE = Budget()


def network(held: Mapping[str, Any], x: Any) -> Any:
    """[n, 8, 8, 1] → [n, 10]"""
    numbers = ("NHWC", "HWIO", "NHWC")
    for name, stride in (("one", (1, 1)), ("two", (2, 2))):
        x = lax.conv_general_dilated(x, held[name], stride, "SAME", dimension_numbers=numbers)
        x = jax.nn.relu(x + held[f"{name}/bias"][None, None, None])
    x = x.reshape(len(x), 512) @ held["three"] + held["three/bias"][None]
    return jax.nn.relu(x) @ held["four"]


@functools.cache
def trained() -> tuple[dict[str, Array], Array, Array]:
    """Weights after 8 epochs over 1400 of the images, all images, all labels."""
    digits = datasets.load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    x = (digits.images[order, :, :, None] / 16).astype(np.float32)
    y = digits.target[order]

    def made(*shape: int) -> Array:
        random = np.random.default_rng([*shape]).normal(size=shape)
        return np.asarray(random / np.sqrt(np.prod(shape[:-1]) / 2), np.float32)

    held = {"one": made(3, 3, 1, 16), "two": made(3, 3, 16, 32), "three": made(512, 64)}
    held |= {f"{n}/bias": np.zeros(a.shape[-1], np.float32) for n, a in held.items()}
    held["four"] = made(64, 10)

    def loss(held: Any, x: Any, y: Any) -> Any:
        return -(jax.nn.log_softmax(network(held, x)) * jax.nn.one_hot(y, 10)).mean()

    @jax.jit
    def step(held: Any, speed: Any, x: Any, y: Any) -> Any:
        slopes = jax.grad(loss)(held, x, y)
        speed = jax.tree.map(lambda s, g: np.float32(0.9) * s + g, speed, slopes)
        return jax.tree.map(lambda w, s: w - np.float32(0.5) * s, held, speed), speed

    speed = jax.tree.map(np.zeros_like, held)
    for epoch in range(8 * 22):
        start = epoch % 22 * 64
        held, speed = step(held, speed, x[start : start + 64][:64], y[start : start + 64])
    return jax.tree.map(np.asarray, held), x, y


def pruned(home: Path, wanted: Wanted) -> tuple[Mapping[str, Any], float, float]:
    """The report, and on images that nobody has seen: accuracy, and agreement with the float
    network."""
    held, x, y = trained()
    spec = signature(x=tensor("float32", None, 8, 8, 1))
    tensorflow = FakeTensorFlow({"f": lambda h, x: {"y": network(h, x)}}, {"f": spec}, held)
    (home / "source").mkdir()
    with ArtifactWriter(home / "out") as writer:
        build.build(
            home / "source",
            writer,
            naming=NAMING,
            options=Options(buckets=Buckets(sizes=(ROWS,)), compression=wanted),
            target=CPU,
            tensorflow=tensorflow,
            steps=Steps(),
        )
    with open_artifact(home / "out") as artifact:
        report = artifact.report()["compression"]["pruned"]
        model = loader.load(artifact, CPU, open_host=no_host)
        (entry,) = model.signatures["f"].programs
        unseen = range(1408, 1728, ROWS)
        runs = [entry.program.run({"x": x[i : i + ROWS]})["y"] for i in unseen]
    got = np.concatenate(runs).argmax(axis=1)
    want = np.asarray(network(held, x[1408:1728])).argmax(axis=1)
    return report, float((got == y[1408:1728]).mean()), float((got == want).mean())


def no_host(entry: Any) -> Any:
    raise AssertionError(f"no host segment is expected: {entry}")


def asked(share: float, budget: Budget = NONE) -> Wanted:
    x = trained()[1][:512]
    request = Request(signature="f", inputs={"x": x}, where="digits")
    source = Source(said="digits", read=lambda specs: [request])
    return Wanted(scheme=Scheme.FLOAT, prune=share, budget=budget, calibration=source)


def test_three_quarters_of_all_channels_go_when_those_that_stay_stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "filled").mkdir()
    report, accuracy, agreement = pruned(tmp_path / "filled", asked(0.75))
    assert [(c["before"], c["after"]) for c in report["channels"]] == [(16, 4), (32, 8), (64, 16)]
    assert {c["filled"] for c in report["channels"]} == {"mixture"}
    assert report["bytes_after"] < 0.07 * report["bytes_before"]
    assert report["flops_after"] < 0.08 * report["flops_before"]
    assert accuracy > 0.93 and agreement > 0.94
    monkeypatch.setattr(weakest, "FILLED", ("",))
    (tmp_path / "bare").mkdir()
    _, accuracy, _ = pruned(tmp_path / "bare", asked(0.75))
    assert accuracy < 0.85


def test_the_budget_ends_what_goes_and_sizes_stay_those_that_the_target_likes(
    tmp_path: Path,
) -> None:
    report, _, agreement = pruned(tmp_path, asked(0.9, Budget(max_error=0.05)))
    assert 0 < report["error"]["rms"] <= 0.05
    assert report["flops_after"] < 0.8 * report["flops_before"]
    liked = {16: 4, 32: 8, 64: 8}
    assert report["channels"]
    assert all(c["after"] % liked[c["before"]] == 0 for c in report["channels"])
    assert agreement > 0.98


@pytest.mark.parametrize(
    ("platform", "goal", "size", "multiple"),
    [
        ("cpu", Goal.THROUGHPUT, 256, 8),
        ("cpu", Goal.THROUGHPUT, 16, 4),
        ("cpu", Goal.THROUGHPUT, 3, 1),
        ("cpu", Goal.SIZE, 256, 1),
        ("tpu", Goal.LATENCY, 1024, 128),
        ("tpu", Goal.LATENCY, 256, 64),
        ("cuda", Goal.LATENCY, 1024, 8),
    ],
)
def test_sizes_that_a_target_likes(platform: str, goal: Goal, size: int, multiple: int) -> None:
    assert taking.liked(platform, goal, size) == multiple


def test_fewer_bits_have_the_other_half_of_the_budget() -> None:
    budget = Budget(max_error=0.02, min_agreement=0.98)
    alone = Wanted(scheme=Scheme.FLOAT, prune=0.5, budget=budget)
    assert taking.limit(alone) == budget
    found = taking.limit(Wanted(scheme=Scheme.INT8, prune=0.5, budget=budget))
    assert found.max_error == pytest.approx(0.01414, rel=1e-3)
    assert found.min_agreement == 0.99
    assert taking.limit(Wanted(scheme=Scheme.INT8, prune=0.5)) == NONE
