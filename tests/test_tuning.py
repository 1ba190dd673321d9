"""Lowerings are chosen by rule or by time, remembered, held to float64, and reported."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from convolutions import NHWC, convolution, convolve, program, run
from jax import lax

from jaxrt import compiler, target
from jaxrt.errors import UsageError
from jaxrt.passes import prepare
from jaxrt.passes.convolution import Convolution
from jaxrt.passes.convolution_table import LOWERINGS, XLA, candidates
from jaxrt.passes.precision import Precision, Rounding
from jaxrt.program import Program
from jaxrt.tuning import numerics, rules, timing, trials
from jaxrt.tuning.choices import Choice, Choices
from jaxrt.tuning.optimizer import Passes, optimizer
from jaxrt.tuning.tuner import Autotune, Tuner

CPU = dataclasses.replace(target.attached("cpu"), vector_bits=target.NARROW)
WIDE = dataclasses.replace(CPU, vector_bits=target.WIDE)
TPU = dataclasses.replace(CPU, platform="tpu", device_kind="TPU v5 lite")
PLACES = "products, convolutions and tables"
LARGE = convolution(spatial=(28, 28), features=64, out_features=64)


def ticking() -> Callable[[], float]:
    ticks: Iterator[float] = iter(range(1_000_000))
    return lambda: next(ticks)


def tuner(
    mode: Autotune,
    choices: Choices | None = None,
    on: target.Target = CPU,
    without: tuple[str, ...] = (),
) -> Tuner:
    return Tuner(on, mode, choices=choices, clock=ticking(), without=without)


@pytest.mark.parametrize(
    ("conv", "name"),
    [
        (convolution(window=(1, 1), padding=((0, 0), (0, 0))), "dot"),
        (convolution(groups=32), "shift-multiply-add"),
        (convolution(groups=4), "dot by group"),
        (convolution(lhs_dilation=(2, 2)), "phases"),
        (convolution(spatial=(56, 56), features=64, out_features=64), "Winograd F(4,3)"),
        (convolution(features=256, out_features=256), "Winograd F(2,3)"),
        (convolution(features=256, out_features=256, fixed=False), "im2col dot"),
        (convolution(spatial=(7, 7), features=512, out_features=512), "im2col dot"),
        (convolution(spatial=(224, 224), features=3, strides=(2, 2)), "multiply-add"),
        (convolution(spatial=(224, 224), features=16, strides=(2, 2)), XLA),
        (convolution(window=(2, 2), lhs_dilation=(2, 2)), "dot of windows"),
    ],
)
def test_rules_choose_for_a_cpu(conv: Convolution, name: str) -> None:
    assert rules.heuristic(conv, "cpu") == name
    assert rules.shortlist(conv)[0] == name
    assert set(rules.shortlist(conv)) <= {c.name for c in candidates(conv)}
    assert tuner(Autotune.OFF).choose(conv) == Choice(lowering=name)


@pytest.mark.parametrize("mode", Autotune)
def test_other_devices_keep_their_own_convolutions(mode: Autotune) -> None:
    assert tuner(mode, on=TPU).choose(LARGE) == Choice(lowering=XLA)


def test_the_fastest_wins_and_its_error_is_recorded() -> None:
    choice = tuner(Autotune.FULL).choose(convolution(spatial=(6, 6), features=8, out_features=8))
    assert set(choice.seconds) == set(choice.errors)
    assert {XLA, "im2col dot", "Winograd F(4,3)"} <= set(choice.seconds)
    # The clock ticks once a call: all are equally fast, so the rule's choice stays.
    assert choice.lowering == XLA
    assert all(0 < error < 1e-5 for error in choice.errors.values())


def test_what_a_switch_forbids_is_not_chosen() -> None:
    forbidden = tuple(name for name in LOWERINGS if "Winograd" in name)
    choice = tuner(Autotune.FAST, without=forbidden).choose(LARGE)
    assert not set(forbidden) & {choice.lowering, *choice.seconds}


def test_a_candidate_beyond_its_bound_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(numerics.ALLOWED, "float32", 0.0)
    choice = tuner(Autotune.FAST).choose(LARGE)
    assert (choice.lowering, list(choice.seconds)) == (XLA, [XLA])
    assert len(choice.errors) > 1


def test_small_convolutions_are_not_timed_by_fast() -> None:
    small = convolution(spatial=(4, 4), features=4, out_features=4)
    assert tuner(Autotune.FAST).choose(small).seconds == {}


def test_when_the_time_is_spent_rules_choose_and_the_next_build_goes_on(tmp_path: Path) -> None:
    hours: Iterator[float] = iter(range(0, 10**9, 3600))
    late = Tuner(CPU, Autotune.FAST, choices=Choices(tmp_path, "k"), clock=lambda: next(hours))
    other = convolution(spatial=(56, 56), features=64, out_features=64)
    assert late.choose(LARGE).seconds
    assert late.choose(other) == Choice(lowering=rules.heuristic(other, "cpu"))
    kept = Choices(tmp_path, "k")
    assert tuner(Autotune.FAST, kept).choose(other).seconds


def test_choices_are_found_again_by_the_next_process(tmp_path: Path) -> None:
    first = tuner(Autotune.FAST, Choices(tmp_path, "cpu1")).choose(LARGE)

    def never() -> float:
        raise AssertionError("timed again")

    again = Tuner(CPU, Autotune.FAST, choices=Choices(tmp_path, "cpu1"), clock=never)
    assert again.choose(LARGE).lowering == first.lowering
    assert again.choose(LARGE).to_json() == first.to_json()
    with pytest.raises(AssertionError, match="timed again"):
        Tuner(CPU, Autotune.FAST, choices=Choices(tmp_path, "cpu2"), clock=never).choose(LARGE)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 0, "choices": {"a": {}}}'])
def test_a_damaged_or_older_file_is_measured_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "cpu.json").write_text(text)
    choices = Choices(tmp_path, "cpu")
    assert choices.get("a") is None
    choices.put("a", Choice(lowering=XLA))
    assert Choices(tmp_path, "cpu").get("a") == Choice(lowering=XLA)


def test_writers_of_one_file_keep_each_others_choices(tmp_path: Path) -> None:
    one, two = Choices(tmp_path, "cpu"), Choices(tmp_path, "cpu")
    one.put("a", Choice(lowering=XLA))
    two.put("b", Choice(lowering="dot"))
    assert Choices(tmp_path, "cpu").get("a") == Choice(lowering=XLA)


def test_a_directory_that_cannot_be_written_costs_the_memory_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    choices = Choices(tmp_path / "file", "cpu")
    choices.put("a", Choice(lowering=XLA))
    assert choices.get("a") == Choice(lowering=XLA)


def test_alternatives_take_turns_and_the_least_time_counts() -> None:
    now, ran = [0.0], []
    times = {"slow": iter([9.0, 5.0, 3.0, 9.0]), "quick": iter([9.0, 4.0, 6.0, 2.0])}

    def runs(name: str) -> Callable[[], None]:
        def run() -> None:
            ran.append(name)
            now[0] += next(times[name])

        return run

    found = timing.interleaved(
        {name: runs(name) for name in times}, clock=lambda: now[0], rounds=3, seconds=1e9
    )
    assert found == {"slow": 3.0, "quick": 2.0}
    assert ran == ["slow", "quick"] * 2 + ["quick", "slow"] + ["slow", "quick"]


def test_the_hopeless_run_once_and_the_time_is_limited() -> None:
    now, ran = [0.0], []

    def runs(name: str, seconds: float) -> Callable[[], None]:
        def run() -> None:
            ran.append(name)
            now[0] += seconds

        return run

    found = timing.interleaved(
        {"a": runs("a", 1.0), "b": runs("b", 10.0)}, clock=lambda: now[0], rounds=9, seconds=12.5
    )
    assert found == {"a": 1.0, "b": 10.0}
    assert (ran.count("a"), ran.count("b")) == (4, 2)  # the warm-up is one of each


def test_the_exact_convolution_is_what_xla_computes_in_float64() -> None:
    layout = {"padding": ((1, 2), (2, -1)), "lhs_dilation": (2, 1), "rhs_dilation": (1, 2)}
    found, kernel, x = convolve(
        (3, 5, 6, 4),
        (3, 2, 2, 6),
        NHWC,
        strides=(2, 1),
        dtype="float64",
        feature_group_count=2,
        **layout,
    )
    conv = convolution(
        batch=3,
        spatial=(5, 6),
        features=4,
        window=(3, 2),
        out_features=6,
        strides=(2, 1),
        groups=2,
        dtype="float64",
        **layout,
    )
    y = run(found, kernel, x)
    assert y.shape == conv.out_shape
    at = np.argwhere(np.ones(y.shape[:-1], bool))
    want = y.reshape(-1, 6)
    np.testing.assert_allclose(numerics.exact(conv, x, kernel, at), want, atol=1e-14)
    assert numerics.error(conv, np.maximum(y, 0), x, kernel) < 1e-14
    assert numerics.error(conv, np.maximum(y, 0) * 1.001, x, kernel) == pytest.approx(1e-3, rel=0.5)


def network() -> tuple[object, dict[str, np.ndarray], np.ndarray]:
    random = np.random.default_rng(0)
    weights = {
        "depthwise": random.normal(size=(3, 3, 1, 8)).astype(np.float32),
        "gamma": random.normal(size=8).astype(np.float32),
        "pointwise": random.normal(size=(1, 1, 8, 4)).astype(np.float32),
    }

    def function(
        depthwise: jax.Array, gamma: jax.Array, pointwise: jax.Array, x: jax.Array
    ) -> object:
        y = lax.conv_general_dilated(
            x, depthwise, (1, 1), "SAME", dimension_numbers=NHWC, feature_group_count=8
        )
        y = y * gamma[None, None, None]
        return lax.conv_general_dilated(y, pointwise, (1, 1), "SAME", dimension_numbers=NHWC)

    return function, weights, random.normal(size=(2, 6, 6, 8)).astype(np.float32)


@pytest.mark.parametrize(
    ("disabled", "gains"),
    [
        (
            (),
            (
                "batch norm: 1 folded into weights",
                "convolutions: 1 depthwise → shift-multiply-add, 1 1x1 → dot",
            ),
        ),
        (("batch-norm",), ("convolutions: 1 depthwise → shift-multiply-add, 1 1x1 → dot",)),
        (("convolutions",), ("batch norm: 1 folded into weights",)),
        (("batch-norm", "convolutions", "winograd"), ()),
    ],
)
def test_each_pass_says_what_it_gained_and_has_a_switch(
    disabled: tuple[str, ...], gains: tuple[str, ...]
) -> None:
    function, weights, x = network()
    found = program(function, weights, x)
    optimized = optimizer(CPU, Passes(disabled=disabled))(found)
    assert optimized.gains == gains
    want = run(found, *weights.values(), x)
    got = run(optimized.program, *(weights[n] for n in optimized.program.weight_names), x)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_wide_vectors_are_a_pass_with_a_switch_and_a_line() -> None:
    function, weights, x = network()
    found = program(function, weights, x)
    line = "wide vectors: of 512 bits in loops over elements"
    assert optimizer(WIDE, Passes())(found).gains[-1] == line
    narrow = Passes(disabled=("wide-vectors",))
    assert line not in optimizer(WIDE, narrow)(found).gains
    assert WIDE.compiler_options == {"xla_cpu_prefer_vector_width": "512"}
    assert narrow.suited(WIDE).compiler_options == CPU.compiler_options == {}
    assert Passes().suited(WIDE) == WIDE
    assert dataclasses.replace(WIDE, platform="cuda").compiler_options == {}


def test_wide_vectors_give_the_same_numbers() -> None:
    function, weights, x = network()
    found = program(function, weights, x)
    for chosen in (CPU, WIDE):
        split = optimizer(chosen, Passes())(found).split
        arrays = prepare.run_prepare(split, weights)
        built = compiler.build(split.apply, chosen)
        placed = compiler.Weights(chosen)
        placed.place(arrays)
        avals = dict(zip(split.apply.input_names, split.apply.input_avals, strict=True))
        outputs = dict(zip(split.apply.output_names, split.apply.output_avals, strict=True))
        loaded = compiler.LoadedProgram(
            built.loaded,
            weights=placed.bind(split.apply.weight_names),
            inputs=avals,
            outputs=outputs,
            target=chosen,
        )
        (got,) = loaded.run({name: x for name in avals}).values()
        want = run(found, *weights.values(), x)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("flags", "bits"),
    [("fpu avx2 fma", 256), ("avx2 avx512f avx512vl", 256), ("avx512f avx512_vbmi2", 512)],
)
def test_vectors_are_wide_where_the_clock_stays(tmp_path: Path, flags: str, bits: int) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    assert target.vector_bits(cpuinfo) == bits
    assert target.vector_bits(tmp_path / "missing") == target.NARROW


def test_the_report_counts_equal_convolutions_once() -> None:
    function, weights, x = network()
    optimized = optimizer(CPU, Passes())(program(function, weights, x))
    found = optimized.to_json()["convolutions"]
    assert [(c["count"], c["lowering"]) for c in found] == [(1, "shift-multiply-add"), (1, "dot")]


def test_an_unknown_pass_is_refused() -> None:
    with pytest.raises(
        UsageError, match="--disable-pass batchnorm: want one of resize, batch-norm"
    ):
        Passes(disabled=("batchnorm",))


def test_flops_of_a_loop_over_rows_are_counted_for_every_row() -> None:
    function, weights, x = network()
    found = optimizer(CPU, Passes())(program(function, weights, x))
    conv = convolution(batch=4)
    looped = dataclasses.replace(
        found, convolutions=((conv, Choice(lowering="im2col dot by row")),)
    )
    assert looped.has_own_loops
    assert looped.all_rounds(conv.flops / 4) == conv.flops


def row(n: int = 64) -> Program:
    """One row times weights."""
    kernel = np.ones((32, n), np.float32)
    x = np.ones((1, 32), np.float32)
    return program(lambda w, x: lax.tanh(lax.dot(x, w)), {"w": kernel}, x)


def timed(monkeypatch: pytest.MonkeyPatch, one: float, many: float) -> list[str]:
    """Seconds that trials take from now on; gives the list of trials made."""
    made = []

    def medians(runs: dict[str, Callable[[], object]], **_: object) -> dict[str, float]:
        made.append(", ".join(runs))
        return {"kernels": many, "one kernel": one}

    monkeypatch.setattr(timing, "medians", medians)
    return made


def test_a_program_that_is_faster_so_becomes_one_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = timed(monkeypatch, one=1e-5, many=3e-5)
    optimize = optimizer(CPU, Passes(autotune=Autotune.FAST), cache=tmp_path)
    found = optimize(row())
    assert found.whole and found.gains == ("one-kernel: on the calling thread, 3.0 times as fast",)
    again = optimizer(CPU, Passes(autotune=Autotune.FAST), cache=tmp_path)
    assert again(row()).whole and made == ["kernels, one kernel"]


def test_a_program_that_is_not_clearly_faster_so_stays_many_kernels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timed(monkeypatch, one=1.0e-5, many=1.04e-5)
    assert not optimizer(CPU, Passes(autotune=Autotune.FAST))(row()).whole


@pytest.mark.parametrize(
    ("passes", "on"),
    [
        (Passes(autotune=Autotune.OFF), CPU),
        (Passes(autotune=Autotune.FAST, disabled=("one-kernel",)), CPU),
        (Passes(autotune=Autotune.FAST), TPU),
    ],
    ids=["nothing is timed", "switched off", "another platform"],
)
def test_nothing_becomes_one_kernel_unasked(
    passes: Passes, on: target.Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = timed(monkeypatch, one=1e-5, many=3e-5)
    found = optimizer(on, passes)(row())
    assert not found.whole and made == []


def test_a_program_that_xla_aborts_on_stays_many_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    made = timed(monkeypatch, one=1e-5, many=3e-5)
    monkeypatch.setattr(trials, "_COMPILE", "import os; os.abort()")
    assert not optimizer(CPU, Passes(autotune=Autotune.FAST))(row()).whole
    assert made == []


def test_the_median_counts_what_the_least_leaves_out() -> None:
    burst = (0, 1, 1, 10, 10, 12, 12, 22, 22, 32)  # five runs of 1, 9, 2, 10 and 10
    seconds = iter([0, *burst, *burst])
    found = timing.medians({"a": lambda: None}, clock=lambda: next(seconds), rounds=2, seconds=9)
    assert found == {"a": 9}


@pytest.mark.parametrize(
    ("rounding", "line"),
    [
        (Rounding(), f"precision: 2 {PLACES} at bf16"),
        (Rounding(kept=("point",)), f"precision: 1 {PLACES} at bf16, 1 kept f32"),
        (Rounding(precision=Precision.F32), f"precision: 2 {PLACES} at f32"),
    ],
)
def test_products_are_rounded_where_the_target_does(rounding: Rounding, line: str) -> None:
    function, weights, x = network()
    found = program(function, weights, x)
    assert optimizer(CPU, Passes())(found).split.apply.weight_avals[0].dtype == np.float32
    optimized = optimizer(TPU, Passes(rounding=rounding))(found)
    assert optimized.gains[:2] == ("batch norm: 1 folded into weights", line)


def test_kept_weights_are_known_by_their_names_after_batch_norm_is_folded() -> None:
    function, weights, x = network()
    passes = Passes(rounding=Rounding(kept=("^depthwise$",)))
    optimized = optimizer(TPU, passes)(program(function, weights, x))
    dtypes = {aval.shape: aval.dtype.name for aval in optimized.split.apply.weight_avals}
    assert dtypes == {(3, 3, 1, 8): "float32", (1, 1, 8, 4): "bfloat16"}
