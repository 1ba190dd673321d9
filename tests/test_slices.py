"""Batches that run as several executions at once: cut, run, put together, and chosen by time."""

import dataclasses
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax import lax

from jaxrt import compiler, entries, parts, slices, target
from jaxrt.errors import JaxrtError
from jaxrt.passes import prepare, provenance
from jaxrt.passes.precision import Rounding
from jaxrt.program import Program
from jaxrt.tuning import tuner as tuners
from jaxrt.tuning.choices import Choices
from jaxrt.tuning.optimizer import Optimized, Optimizer
from jaxrt.tuning.tuner import Autotune, Tuner

CPU = target.attached("cpu")
STEPS = 3


def looping(rows: int) -> Program:
    """A tiny recurrent net: [rows, 4] → [rows, 4]."""

    def function(weights: Any, x: Any) -> list[Any]:
        def step(state: Any, _: None) -> tuple[Any, None]:
            return lax.tanh(lax.dot(state, weights)), None

        return [lax.scan(step, x, None, length=STEPS)[0]]

    with jax.enable_x64(True):
        jaxpr = jax.make_jaxpr(function)(*(np.zeros(s, np.float32) for s in ((4, 4), (rows, 4))))
    return Program(
        signature="s", weight_names=("w",), input_names=("x",), output_names=("y",), jaxpr=jaxpr
    )


def straight(rows: int) -> Program:
    jaxpr = jax.make_jaxpr(lambda x: [lax.exp(x)])(np.zeros((rows, 4), np.float32))
    return Program(
        signature="s", weight_names=(), input_names=("x",), output_names=("y",), jaxpr=jaxpr
    )


class Given(Tuner):
    """Says what was measured."""

    def __init__(self, gain: float | None) -> None:
        super().__init__(CPU, Autotune.OFF, choices=None, clock=lambda: 0.0)
        self.gain = gain
        self.asked: list[int] = []

    def slices(self, whole: Program, part: Program, count: int) -> float | None:
        self.asked.append(count)
        return self.gain


def optimized(
    gain: float | None,
    rows: int = 8,
    cores: int = 2,
    make: Callable[[int], Program] = looping,
    **given: Any,
) -> tuple[Optimized, list[int]]:
    tuner = Given(gain)
    optimizer = Optimizer(tuner, platform="cpu", rounding=Rounding(), cores=cores, **given)
    return optimizer(make(rows), resized=make), tuner.asked


@pytest.mark.parametrize(
    ("rows", "cores", "found"),
    [(8, 2, 2), (8, 1, 1), (1, 4, 1), (64, 6, 4), (6, 4, 3), (7, 4, 1), (3, 8, 3)],
)
def test_rows_are_cut_evenly_for_as_many_cores_as_can_have_a_slice(
    rows: int, cores: int, found: int
) -> None:
    assert slices.count(rows, cores) == found


def test_runs_meet_and_answer_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "cores", lambda: 2)
    meeting = threading.Barrier(2, timeout=10)

    def run(name: str) -> Callable[[], str]:
        return lambda: f"{name}{meeting.wait() * 0}"

    assert slices.at_once([run("a"), run("b")]) == ["a0", "b0"]


def test_one_core_runs_them_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "cores", lambda: 1)
    assert set(slices.at_once([threading.get_ident] * 3)) == {threading.get_ident()}


@pytest.mark.parametrize("failing", [0, 1])
def test_a_slice_that_fails_fails_the_batch_when_all_have_ended(
    failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "cores", lambda: 2)
    ended = []

    def run(number: int) -> None:
        ended.append(number)
        if number == failing:
            raise JaxrtError("no")

    with pytest.raises(JaxrtError):
        slices.at_once([lambda: run(0), lambda: run(1)])
    assert sorted(ended) == [0, 1]


def test_a_loop_is_cut_where_that_was_measured_to_be_faster() -> None:
    done, asked = optimized(1.8)
    assert asked == [2]
    assert (done.slices, done.rounds) == (2, 2)
    assert done.split.apply.input_shapes == {"x": (4, 4)}
    assert "slices: 2 executions at once, 1.8 times as fast" in done.gains


@pytest.mark.parametrize(
    ("gain", "given"),
    [
        (None, {}),
        (1.8, {"cores": 1}),
        (1.8, {"make": straight}),
        (1.8, {"without": ["slices"]}),
        (1.8, {"rows": 1}),
    ],
)
def test_a_program_stays_whole_where_nothing_is_gained(
    gain: float | None, given: Mapping[str, Any]
) -> None:
    done, _ = optimized(gain, **given)
    assert (done.slices, done.rounds) == (1, 1)


def test_a_program_whose_rows_nobody_can_change_stays_whole() -> None:
    optimizer = Optimizer(Given(2.0), platform="cpu", rounding=Rounding(), cores=2)
    assert optimizer(looping(8)).slices == 1
    assert optimizer(looping(8), resized=lambda rows: None).slices == 1


@pytest.mark.parametrize(
    ("part", "cores", "faster", "kept"),
    [(1.0, 2.0, 2.0, True), (1.94, 2.0, None, True), (1.94, 1.1, None, False)],
)
def test_slices_are_timed_and_the_choice_is_kept_unless_others_had_the_cores(
    part: float,
    cores: float,
    faster: float | None,
    kept: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    took = {8: 2.0, 4: part}

    def runnable(program: Program, on: target.Target) -> Callable[[], None]:
        seconds = took[program.input_shapes["x"][0]]

        def run() -> None:
            now[0] += seconds

        return run

    def at_once(runs: list[Callable[[], None]]) -> None:
        runs[0]()

    monkeypatch.setattr(tuners, "runnable", runnable)
    monkeypatch.setattr(slices, "at_once", at_once)
    whole, few = (prepare.split(looping(rows)).apply for rows in (8, 4))
    for _ in range(2):
        tuner = Tuner(
            CPU,
            Autotune.FAST,
            choices=Choices(tmp_path, "t"),
            clock=lambda: now[0],
            cpu_clock=lambda: now[0] * cores,
        )
        assert tuner.slices(whole, few, 2) == faster
    key = f"2 slices {provenance.of_closed(whole.jaxpr)}"
    assert (Choices(tmp_path, "t").get(key) is not None) == kept


def test_nothing_is_cut_by_rule_or_on_other_devices() -> None:
    whole, few = (prepare.split(looping(rows)).apply for rows in (8, 4))
    for mode, platform in ((Autotune.OFF, "cpu"), (Autotune.FAST, "tpu")):
        on = dataclasses.replace(CPU, platform=platform)
        tuner = Tuner(on, mode, choices=None, clock=lambda: 0.0)
        assert tuner.slices(whole, few, 2) is None


def entry(times: int, rows: int) -> entries.ProgramEntry:
    return entries.ProgramEntry(
        key="s.0.0",
        input_names=("x",),
        input_shapes={"x": (rows, 4)},
        input_dtypes={"x": "float32"},
        output_names=("y",),
        output_shapes={"y": (rows, 4)},
        output_dtypes={"y": "float32"},
        weights=("w",),
        rows="independent",
        rows_reason="it is so",
        random=False,
        portable="programs/s.0.0.bin",
        slices=times,
    )


@pytest.mark.parametrize("times", [1, 2, 4])
def test_slices_answer_as_the_whole_does(times: int) -> None:
    weights = np.linspace(-1, 1, 16, dtype=np.float32).reshape(4, 4)
    x = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    answers = []
    for count in (1, times):
        placed = compiler.Weights(CPU)
        placed.place({"w": weights})
        built = compiler.build(looping(8 // count), CPU)
        program = parts.program(built.loaded, entry(count, 8), placed, CPU)
        assert program.input_shapes == {"x": (8, 4)}
        assert program.output_shapes == {"y": (8, 4)}
        answers.append(program.run({"x": x})["y"])
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-5, atol=1e-6)


def test_a_manifest_says_of_how_many_slices_a_program_is() -> None:
    for times in (1, 4):
        found = entry(times, 8).to_json()
        assert found.get("slices", 1) == times
        assert entries.ProgramEntry.from_json(found) == entry(times, 8)


@pytest.mark.parametrize(("times", "rows"), [(0, 8), (3, 8)])
def test_slices_that_are_none_are_refused(times: int, rows: int) -> None:
    with pytest.raises(ValueError, match="slices"):
        entry(times, rows)
