"""Signatures cut into stages: host and device parts, each batching by itself."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from jaxrt.errors import InvalidArgument
from jaxrt.serving.engine.pipeline import HostStage
from jaxrt.serving.engine.scheduler import Scheduler
from jaxrt.serving.engine.servable import (
    HostTensors,
    Rows,
    SignaturePrograms,
    StagePrograms,
)
from jaxrt.serving.engine.version import Version
from jaxrt.serving.engine.warmup import warm
from jaxrt.specs import Dim, SignatureSpec, TensorSpec, stage_key

VOCABULARY = {b"a": 1, b"b": 2}


def spec(
    inputs: Mapping[str, tuple[str, tuple[int, ...]]],
    outputs: Mapping[str, tuple[str, tuple[int, ...]]],
) -> SignatureSpec:
    def tensors(found: Mapping[str, tuple[str, tuple[int, ...]]]) -> dict[str, TensorSpec]:
        return {
            name: TensorSpec(name=name, dtype=dtype, dims=tuple(Dim(d) for d in dims))
            for name, (dtype, dims) in found.items()
        }

    return SignatureSpec(inputs=tensors(inputs), outputs=tensors(outputs))


class Lookup:
    """words [n] → ids [n]; refuses the word `poison`."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def run(self, inputs: HostTensors) -> HostTensors:
        words = inputs["words"]
        self.batches.append(len(words))
        if b"poison" in words.tolist():
            raise InvalidArgument("poison is no word")
        return {"%0": np.array([VOCABULARY.get(w, 0) for w in words.tolist()], np.int64)}


class Labels:
    def run(self, inputs: HostTensors) -> HostTensors:
        return {"label": np.array([b"n%d" % v for v in inputs["score"]], object)}


class Times10:
    """A device program: ids [rows] → score [rows]."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    @property
    def input_shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {"%0": (self.rows,)}

    @property
    def output_shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {"score": (self.rows,)}

    def run(self, inputs: HostTensors) -> HostTensors:
        assert inputs["%0"].shape == (self.rows,)
        return {"score": inputs["%0"] * 10}


def signature(lookup: Lookup, rows: Rows = Rows.INDEPENDENT) -> SignaturePrograms:
    ids, score = ("int64", (-1,)), ("int64", (-1,))
    words, label = ("string", (-1,)), ("string", (-1,))
    return SignaturePrograms(
        spec=spec({"words": words}, {"score": score, "label": label}),
        stages=[
            StagePrograms(spec=spec({"words": words}, {"%0": ids}), host=lookup, rows=rows),
            StagePrograms(
                spec=spec({"%0": ids}, {"score": score}),
                programs=[(Times10(n), Rows.INDEPENDENT) for n in (1, 4)],
            ),
            StagePrograms(spec=spec({"score": score}, {"label": label}), host=Labels(), rows=rows),
        ],
    )


def words(*found: bytes) -> dict[str, np.ndarray[Any, Any]]:
    return {"words": np.array(found, object)}


def run(signature: SignaturePrograms, scenario: Any) -> None:
    async def whole() -> None:
        device, host = Scheduler(), Scheduler(name="host", threads=2)
        version = Version(
            name="m",
            version=1,
            signatures={"s": signature},
            scheduler=device,
            host_scheduler=host,
        )
        await scenario(version)
        assert await version.drain(20) and await device.drain(20) and await host.drain(20)

    asyncio.run(whole())


def test_stages_run_in_order_and_outputs_of_any_stage_are_answered() -> None:
    async def scenario(version: Version) -> None:
        got = await version.predict("s", words(b"a", b"zz", b"b"), deadline=None)
        assert got["score"].tolist() == [10, 0, 20]
        assert got["label"].tolist() == [b"n10", b"n0", b"n20"]
        assert list(got) == ["score", "label"]

    run(signature(Lookup()), scenario)


def test_many_requests_get_their_own_rows() -> None:
    async def scenario(version: Version) -> None:
        asked = [
            version.predict("s", words(*[b"a"] * (i % 7 + 1), b"b"), deadline=None)
            for i in range(40)
        ]
        for i, got in enumerate(await asyncio.gather(*asked)):
            assert got["score"].tolist() == [10] * (i % 7 + 1) + [20]

    run(signature(Lookup()), scenario)


def test_a_bad_request_fails_alone() -> None:
    async def scenario(version: Version) -> None:
        asked = [
            version.predict("s", words(b"poison" if i == 3 else b"a"), deadline=None)
            for i in range(8)
        ]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(answers[3], InvalidArgument)
        assert all(isinstance(a, dict) for i, a in enumerate(answers) if i != 3)

    run(signature(Lookup()), scenario)


def test_dependent_host_stages_never_see_strangers() -> None:
    lookup = Lookup()

    async def scenario(version: Version) -> None:
        await asyncio.gather(
            *(version.predict("s", words(b"a", b"b"), deadline=None) for _ in range(5))
        )
        assert lookup.batches == [2] * 5

    run(signature(lookup, Rows.DEPENDENT), scenario)


def test_warm_up_runs_the_device_stages() -> None:
    async def scenario(version: Version) -> None:
        warmed = await warm(version)
        assert {w.signature for w in warmed} == {stage_key("s", 1)}
        assert [w.shapes for w in warmed] == [{"%0": (1,)}, {"%0": (4,)}]

    run(signature(Lookup()), scenario)


def test_host_stages_want_a_host_scheduler() -> None:
    async def whole() -> None:
        scheduler = Scheduler()
        with pytest.raises(ValueError, match="wants a host_scheduler"):
            Version(name="m", version=1, signatures={"s": signature(Lookup())}, scheduler=scheduler)
        await scheduler.drain(20)

    asyncio.run(whole())


class Slow:
    """xs [n] → themselves, at a millisecond of work a row."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def run(self, inputs: HostTensors) -> HostTensors:
        self.batches.append(len(inputs["xs"]))
        end = time.thread_time() + 0.001 * len(inputs["xs"])
        while time.thread_time() < end:
            pass
        return {"ys": inputs["xs"]}


def test_rows_that_take_long_on_the_host_are_spread_over_its_threads() -> None:
    slow = Slow()

    async def whole() -> None:
        host = Scheduler(name="host", threads=2)
        signature = spec({"xs": ("int64", (-1,))}, {"ys": ("int64", (-1,))})
        stage = HostStage(
            "a stage", StagePrograms(spec=signature, host=slow, rows=Rows.INDEPENDENT), host
        )
        for _ in range(3):  # a first run says nothing, the second is measured
            answers = await asyncio.gather(
                *(stage.run({"xs": np.array([i], np.int64)}, None) for i in range(8))
            )
            assert [a["ys"].tolist() for a in answers] == [[i] for i in range(8)]
        assert max(slow.batches[-8:]) == 1
        assert await host.drain(10)

    asyncio.run(whole())
