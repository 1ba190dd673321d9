"""Real trained models in few bits: what their answers lose, as numbers, on inputs as real.

Every layer is held in the scheme, whatever that costs in time: `--compress X --optimize size`.
A row agrees where the answer that its user acts on is TensorFlow's in float32: see JUDGES.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from endtoend import environment
from trained_inputs import CANDIDATES, INPUTS
from trained_models import Small, Trained, unpacked

from jaxrt.artifact import ArtifactWriter
from jaxrt.compression.budget import Budget
from jaxrt.compression.schemes import Scheme
from jaxrt.converters.worker import Bridge

Array = np.ndarray[Any, Any]
Judge = Callable[[Mapping[str, Array], Mapping[str, Array]], Array]
"""(answers, TensorFlow's) → for each case, whether the user would do the same."""

ROWS = {"basic_pitch": 4}
"""Of a call; 32 by default."""

WANTED = 0.99
"""Least agreement at int8."""

FLIPS = 2
"""Cases that another processor may decide otherwise: near-ties."""

MORE = 1.2
"""Times the recorded error: rounding on other processors, and nothing else."""


def named(output: str) -> Judge:
    """The class with the largest value."""
    return lambda got, want: np.asarray(got[output].argmax(-1) == want[output].argmax(-1))


def decided(output: str) -> Judge:
    """Yes from 0.5."""
    return lambda got, want: np.asarray((got[output] > 0.5) == (want[output] > 0.5)).ravel()


def best(output: str) -> Judge:
    """Which of the posts that stand together has the largest value."""

    def judge(got: Mapping[str, Array], want: Mapping[str, Array]) -> Array:
        first, second = (a[output].reshape(-1, CANDIDATES).argmax(-1) for a in (got, want))
        return np.asarray(first == second)

    return judge


def heard(got: Mapping[str, Array], want: Mapping[str, Array]) -> Array:
    """Whether each of 88 notes sounds at each moment: from 0.3, as the makers say."""
    return np.asarray((got["note"] > 0.3) == (want["note"] > 0.3)).ravel()


JUDGES: Mapping[str, Judge] = {
    "magika_v1_sm": named("target_label"),
    "mlperf_tiny_kws": named("dense"),
    "mlperf_tiny_ic_resnet8": named("dense"),
    "mtcnn_onet": named("out2"),
    "basic_pitch": heard,
    "sts_template_app": named("softmax"),
    "gcp_census_keras": decided("dense_4"),
    "vespa_blog": best("y"),
    "vespa_modelv2": decided("pctrx"),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Figures:
    """What was measured."""

    layers: int
    ratio: float
    """Bytes of weights, of those in float32."""
    agreement: float
    rms: float
    """Of the worst output, relative."""


INT8, INT4, W8A8 = Scheme.INT8, Scheme.INT4, Scheme.W8A8

RECORDED: Mapping[str, Mapping[Scheme, Figures]] = {
    "basic_pitch": {INT8: Figures(5, 0.2921, 0.99882, 0.08933)},
    "gcp_census_keras": {INT8: Figures(4, 0.2829, 1.0, 0.01797)},
    "magika_v1_sm": {INT8: Figures(4, 0.2587, 0.99287, 0.03513)},
    "mlperf_tiny_ic_resnet8": {
        INT8: Figures(7, 0.2723, 0.99414, 0.01604),
        INT4: Figures(7, 0.1555, 0.86719, 0.26808),
        W8A8: Figures(7, 0.2723, 0.98047, 0.03676),
    },
    "mlperf_tiny_kws": {
        INT8: Figures(5, 0.3856, 0.99414, 0.01063),
        INT4: Figures(5, 0.2738, 0.92773, 0.16628),
        W8A8: Figures(5, 0.3856, 0.98828, 0.02580),
    },
    "mtcnn_onet": {
        INT8: Figures(5, 0.2581, 0.99805, 0.00731),
        W8A8: Figures(5, 0.2581, 0.99805, 0.01732),
    },
    "sts_template_app": {INT8: Figures(2, 0.3364, 0.99414, 0.06737)},
    "vespa_blog": {INT8: Figures(2, 0.2562, 1.0, 0.00937)},
    "vespa_modelv2": {INT8: Figures(1, 0.3654, 0.99414, 0.00115)},
}

CASES = [
    pytest.param(name, scheme, marks=() if scheme is INT8 else pytest.mark.slow)
    for name, schemes in RECORDED.items()
    for scheme in schemes
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Trained]]:
    """Models by name; one process of TensorFlow for all."""
    home = tmp_path_factory.mktemp("trained")
    with contextlib.ExitStack() as stack:
        bridge = stack.enter_context(Bridge(environment=environment(home)))

        @functools.cache
        def made(name: str) -> Trained:
            writer = stack.enter_context(ArtifactWriter(home / f"{name}.jaxrt"))
            path, rows = unpacked(name, home), ROWS.get(name, 32)
            return Trained(bridge, path, writer, INPUTS[name](), rows=rows)

        yield made


def agreeing(name: str, small: Small) -> Array:
    """Case by case, whether the user would do the same."""
    pairs = zip(small.got, small.wanted, strict=True)
    return np.concatenate([JUDGES[name](got, want) for got, want in pairs])


@pytest.mark.parametrize(("name", "scheme"), CASES)
def test_trained_models_answer_as_recorded(
    name: str, scheme: Scheme, trained: Callable[[str], Trained]
) -> None:
    recorded = RECORDED[name][scheme]
    small = trained(name).held_as(scheme)
    same = agreeing(name, small)
    assert set(small.schemes) == {scheme.value}
    rms = max(error.rms for error in small.errors.values())
    found = Figures(len(small.schemes), small.ratio, float(same.mean()), rms)
    assert _is_as_good(found, recorded, len(same)), f"found {found}, recorded {recorded}"


def _is_as_good(found: Figures, recorded: Figures, cases: int) -> bool:
    return (
        found.layers == recorded.layers
        and abs(found.ratio - recorded.ratio) < 0.001
        and found.agreement >= recorded.agreement - max(FLIPS / cases, 0.0005)
        and found.rms <= recorded.rms * MORE
    )


def test_all_agree_as_wanted_at_int8() -> None:
    assert all(found[INT8].agreement >= WANTED for found in RECORDED.values())


@pytest.mark.slow
def test_a_budget_holds_int4_to_what_is_wanted(trained: Callable[[str], Trained]) -> None:
    name = "mlperf_tiny_ic_resnet8"
    small = trained(name).held_as(INT4, Budget(min_agreement=WANTED))
    assert agreeing(name, small).mean() >= WANTED
    assert set(small.schemes) <= {"float", "int8", "int4"}
    assert small.ratio < RECORDED[name][INT8].ratio + 0.05
