"""Trials of compression: how many rows there is time for, and layers that are tried together."""

import itertools
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jaxrt.compression.layers import Layer
from jaxrt.compression.quantize import Form
from jaxrt.compression.schemes import Scheme
from jaxrt.compression.switches import SWITCHES
from jaxrt.converters.runner import Batch
from jaxrt.converters.sensitivity import Part, Trials

NAMES = ["block_1/kernel", "block_2/kernel", "block_3/kernel", "block_4/kernel", "head/kernel"]
DRAW = np.random.default_rng(0)
ROWS = 40


def layer(name: str) -> Any:
    shape = (16, 8 if name.startswith("head") else 32)
    found = Layer(
        name=name,
        kind="dot",
        shape=shape,
        nbytes=4 * 16 * shape[1],
        flops=1.0,
        rows=1,
        weights=(name,),
        axes=(0,),
    )
    return SimpleNamespace(layer=found)


class Products:
    """A runner whose output is every row times all weights, side by side, in batches of 4."""

    def __init__(self) -> None:
        self.ran: list[dict[str, Any]] = []

    def place(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        return dict(arrays)

    def head(self, inputs: Mapping[str, Any], rows: int) -> dict[str, Any]:
        return {"x": inputs["x"][:rows]}

    def batches(self, inputs: Mapping[str, Any]) -> list[Batch]:
        starts = range(0, len(inputs["x"]), 4)
        return [
            Batch(form=0, inputs={"x": inputs["x"][i : i + 4]}, rows=None, size=4) for i in starts
        ]

    def run(self, weights: Mapping[str, Any], batch: Batch) -> dict[str, Any]:
        self.ran.append(dict(weights))
        return {"y": np.concatenate([batch.inputs["x"] @ weights[n] for n in NAMES], axis=1)}


def trials(seconds: float, ticks: float = 0.0) -> tuple[Trials, Products]:
    """`seconds` for all rows; a look at the clock adds `ticks`."""
    arrays = {n: DRAW.normal(size=layer(n).layer.shape).astype(np.float32) for n in NAMES}
    runner: Any = Products()
    inputs = {"x": DRAW.normal(size=(ROWS, 16)).astype(np.float32)}
    base: Any = SimpleNamespace(arrays=arrays, layers={n: layer(n) for n in NAMES})
    batches = runner.batches(inputs)
    part = Part(
        base=base,
        runner=runner,
        weights=arrays,
        inputs=[inputs],
        batches=batches,
        wanted=[runner.run(arrays, batch) for batch in batches],
        seconds=seconds,
    )
    pairs = [(name, Scheme.W8A8) for name in NAMES]
    clock = itertools.count(0.0, ticks or 0.001)
    made = Trials(
        [part],
        pairs,
        lambda name, scheme: Form(scheme=scheme, axes=(0,)),
        pairs,
        clock=lambda: next(clock),
    )
    return made, runner


def test_layers_are_tried_alone_on_all_rows_where_there_is_time() -> None:
    found, runner = trials(seconds=0.1)
    assert found.groups == [[(name, Scheme.W8A8)] for name in NAMES]
    assert (found.rows, found.estimated) == (ROWS, False)
    runner.ran.clear()
    error = found.of_group(found.groups[1])[NAMES[1], Scheme.W8A8]
    assert 0 < error.rms < 0.01
    assert all(ran[SWITCHES].tolist() == [False, True, False, False, False] for ran in runner.ran)


def test_rows_are_as_many_as_there_is_time_for() -> None:
    found, _ = trials(seconds=16.0)
    assert found.rows == 8 and not found.estimated  # 2.4 s for each of 5 layers: 6 rows


def test_layers_that_are_alike_are_tried_together_where_time_is_short() -> None:
    found, runner = trials(seconds=1000.0, ticks=30.0)
    assert [[name for name, _ in group] for group in found.groups] == [NAMES[:4], NAMES[4:]]
    assert (found.rows, found.estimated) == (4, True)
    errors = found.of_group(found.groups[0])
    whole = max(e.rms for e in found.errors(dict(found.groups[0])))
    assert {name for name, _ in errors} == set(NAMES[:4])
    assert all(e.rms == pytest.approx(whole / 2, rel=0.3) for e in errors.values())


def test_layers_that_nothing_reaches_are_rated_by_their_weights() -> None:
    arrays = {NAMES[0]: DRAW.normal(size=(16, 32)).astype(np.float32)}
    base: Any = SimpleNamespace(arrays=arrays, layers={NAMES[0]: layer(NAMES[0])})
    runner: Any = Products()
    part = Part(
        base=base, runner=runner, weights=arrays, inputs=[], batches=[], wanted=[], seconds=0.0
    )
    pairs = [(NAMES[0], Scheme.INT8)]
    found = Trials([part], pairs, lambda name, scheme: Form(scheme=scheme, axes=(0,)))
    error = found.of_group(pairs)[pairs[0]]
    assert error.output == "its weights" and 0 < error.rms < 0.01 and not runner.ran
