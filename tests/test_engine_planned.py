"""Programs for one value of a bool: each request finds its own, and meets only its like."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import numpy as np
import pytest

from jaxrt.buckets import Buckets
from jaxrt.errors import InvalidArgument
from jaxrt.serving.engine.planned import Planned
from jaxrt.serving.engine.scheduler import Scheduler
from jaxrt.serving.engine.servable import HostTensors, Loaded, Rows, SignaturePrograms
from jaxrt.serving.engine.version import Version
from jaxrt.serving.engine.warmup import warm
from jaxrt.specs import Dim, SignatureSpec, TensorSpec

X = TensorSpec(name="x:0", dtype="float32", dims=(Dim(-1), Dim(-1)))
FLAG = TensorSpec(name="flag:0", dtype="bool", dims=())
SPEC = SignatureSpec(inputs={"x": X, "flag": FLAG}, outputs={"y": X})

Case = tuple[int, bool, Rows]
"""Rows of a program, the value that it is for, and its verdict."""


class Program:
    """y = x + 1 for False, -x for True; ignores the flag that it gets."""

    def __init__(self, rows: int, value: bool, width: int = 2) -> None:
        self.input_shapes: Mapping[str, tuple[int, ...]] = {"x": (rows, width), "flag": ()}
        self.output_shapes = {"y": (rows, width)}
        self.value = value
        self.runs = 0

    def run(self, inputs: HostTensors) -> HostTensors:
        assert {a: x.shape for a, x in inputs.items()} == self.input_shapes
        self.runs += 1
        return {"y": -inputs["x"] if self.value else inputs["x"] + 1}


def signature(*cases: Case) -> SignaturePrograms:
    return SignaturePrograms(
        spec=SPEC,
        programs=[(Program(n, value), rows) for n, value, rows in cases],
        fixed=[{"flag": value} for _, value, _ in cases],
    )


BOTH = ((1, False, Rows.INDEPENDENT), (4, False, Rows.INDEPENDENT), (1, True, Rows.DEPENDENT))


class OnDemand:
    """Compiles a program for the value asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[int, ...], Mapping[str, bool]]] = []

    def compile(
        self, signature: str, shapes: Mapping[str, tuple[int, ...]], values: Mapping[str, bool]
    ) -> tuple[Loaded, Rows]:
        self.asked.append((shapes["x"], values))
        rows, width = shapes["x"]
        verdict = Rows.DEPENDENT if values["flag"] else Rows.INDEPENDENT
        return Program(rows, values["flag"], width), verdict


def given(rows: int, value: bool, width: int = 2) -> dict[str, np.ndarray[Any, Any]]:
    x = np.arange(rows * width, dtype=np.float32).reshape(rows, width)
    return {"x": x, "flag": np.asarray(value)}


def want(inputs: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = -inputs["x"] if inputs["flag"] else inputs["x"] + 1
    return found


def run(scenario: Callable[[Scheduler], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        scheduler = Scheduler()
        try:
            await scenario(scheduler)
        finally:
            await scheduler.drain(20)

    asyncio.run(asyncio.wait_for(whole(), 60))


def test_requests_of_both_values_never_share_a_batch() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        found = signature(*BOTH, (4, True, Rows.INDEPENDENT))
        model = Version(name="m", version=1, signatures={"s": found}, scheduler=scheduler)
        asked = [given(rows, value) for rows in (4, 1, 3, 9) for value in (False, True)] * 5
        answers = await asyncio.gather(*(model.predict("s", a, deadline=None) for a in asked))
        for inputs, answer in zip(asked, answers, strict=True):
            np.testing.assert_array_equal(answer["y"], want(inputs))

    run(scenario)


def test_each_value_has_the_sizes_of_its_own_programs() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        model = Version(
            name="m", version=1, signatures={"s": signature(*BOTH)}, scheduler=scheduler
        )
        inputs = given(3, False)
        answer = await model.predict("s", inputs, deadline=None)
        np.testing.assert_array_equal(answer["y"], want(inputs))
        with pytest.raises(InvalidArgument, match=r"no compiled program for x=\[3,2\], flag=true"):
            await model.predict("s", given(3, True), deadline=None)

    run(scenario)


def test_every_program_is_warmed_under_its_value() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        model = Version(
            name="m", version=1, signatures={"s": signature(*BOTH)}, scheduler=scheduler
        )
        warmed = await warm(model)
        found = sorted((w.values["flag"], w.shapes["x"][0]) for w in warmed)
        assert found == [(False, 1), (False, 4), (True, 1)]

    run(scenario)


def test_shapes_nobody_planned_are_compiled_once_for_each_value() -> None:
    async def scenario(scheduler: Scheduler) -> None:
        compiler = OnDemand()
        model = Version(
            name="m",
            version=1,
            signatures={"s": signature(*BOTH)},
            scheduler=scheduler,
            on_demand=compiler,
            batch_sizes=Buckets(sizes=(4,)),
        )
        for _ in range(2):
            for value in (False, True):
                inputs = given(3, value, width=5)
                answer = await model.predict("s", inputs, deadline=None)
                np.testing.assert_array_equal(answer["y"], want(inputs))
        # Rows that depend on each other are not padded: True is compiled for its very size.
        assert compiler.asked == [
            ((4, 5), {"flag": False}),
            ((4, 5), {"flag": True}),
            ((3, 5), {"flag": True}),
        ]
        await model.drain(10)

    run(scenario)


def test_programs_that_fix_other_inputs_than_others_are_refused() -> None:
    mixed = SignaturePrograms(
        spec=SPEC,
        programs=[(Program(1, False), Rows.INDEPENDENT), (Program(4, False), Rows.INDEPENDENT)],
        fixed=[{"flag": False}, {}],
    )
    with pytest.raises(ValueError, match="want one"):
        Planned("m", mixed)
