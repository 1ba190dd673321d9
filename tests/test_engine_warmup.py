"""How many batches run side by side: chosen by what warm-up measured."""

import asyncio
from collections.abc import Mapping

import pytest

from jaxrt.serving.engine import warmup
from jaxrt.serving.engine.lane import Lane
from jaxrt.serving.engine.scheduler import Scheduler
from jaxrt.serving.engine.servable import HostTensors, Rows, SignaturePrograms
from jaxrt.serving.engine.version import Version
from jaxrt.specs import Dim, SignatureSpec, TensorSpec

X = TensorSpec(name="x", dtype="float32", dims=(Dim(-1, "batch"),))


class Program:
    """[n] → itself, in some seconds of a clock that it moves."""

    def __init__(self, rows: int, now: list[float], seconds: float) -> None:
        self._shapes = {"x": (rows,)}
        self._now = now
        self._seconds = seconds

    @property
    def input_shapes(self) -> Mapping[str, tuple[int, ...]]:
        return self._shapes

    @property
    def output_shapes(self) -> Mapping[str, tuple[int, ...]]:
        return self._shapes

    def run(self, inputs: HostTensors) -> HostTensors:
        self._now[0] += self._seconds
        return inputs


@pytest.mark.parametrize(
    ("together", "chosen"),
    [
        ({}, 1),
        ({2: 0.011}, 2),
        ({2: 0.0195}, 1),  # 3 % more rows a second, at twice the time for each
        ({2: 0.012, 4: 0.020}, 4),
        ({2: 0.012, 4: 0.040}, 2),
        ({2: 0.030, 4: 0.060}, 1),
    ],
)
def test_most_rows_a_second_win_if_clearly(together: Mapping[int, float], chosen: int) -> None:
    assert warmup.width(0.010, together) == chosen


def served(
    seconds: float, found: Mapping[int, float], monkeypatch: pytest.MonkeyPatch, *, gently: bool
) -> tuple[list[warmup.Warmed], list[Lane], list[int]]:
    """Warms a model of buckets 1 and 8 up, where batches at once were measured so."""
    asked = []

    async def together(
        version: Version, one: Lane, inputs: HostTensors, rows: int, count: int, alone: float
    ) -> float:
        asked.append(count)
        return found[count]

    async def scenario() -> tuple[list[warmup.Warmed], list[Lane]]:
        now = [0.0]
        scheduler = Scheduler(most=4, clock=lambda: now[0])
        programs = [(Program(n, now, seconds), Rows.INDEPENDENT) for n in (1, 8)]
        signature = SignaturePrograms(
            spec=SignatureSpec(inputs={"x": X}, outputs={"x": X}), programs=programs
        )
        version = Version(name="m", version=1, signatures={"s": signature}, scheduler=scheduler)
        warmed = await warmup.warm(version, gently=gently)
        assert await scheduler.drain(20)
        return warmed, version.lanes()["s"]

    monkeypatch.setattr(warmup, "_together", together)
    monkeypatch.setattr(asyncio, "sleep", lambda seconds: _nothing())
    return (*asyncio.run(scenario()), asked)


async def _nothing() -> None: ...


def test_what_gains_is_served_so_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    warmed, lanes, asked = served(0.01, {2: 0.012, 4: 0.04}, monkeypatch, gently=False)
    assert asked == [2, 4, 2, 4]
    assert [w.at_once for w in warmed] == [2, 2]
    assert [lane.at_once for lane in lanes] == [{1: 2, 8: 2}]


@pytest.mark.parametrize(("seconds", "gently"), [(0.06, False), (0.01, True)])
def test_long_programs_and_busy_servers_are_not_asked(
    seconds: float, gently: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    warmed, lanes, asked = served(seconds, {}, monkeypatch, gently=gently)
    assert asked == []
    assert [w.at_once for w in warmed] == [1, 1]
    assert [lane.at_once for lane in lanes] == [{}]


def test_batches_at_once_are_measured_as_requests_run() -> None:
    async def scenario() -> None:
        now = [0.0]
        scheduler = Scheduler(most=2, clock=lambda: now[0])
        program = Program(8, now, 0.01)
        signature = SignaturePrograms(
            spec=SignatureSpec(inputs={"x": X}, outputs={"x": X}),
            programs=[(program, Rows.INDEPENDENT)],
        )
        version = Version(name="m", version=1, signatures={"s": signature}, scheduler=scheduler)
        (warmed,) = await warmup.warm(version)
        assert warmed.at_once == 1  # two of them take twice the time
        assert await scheduler.drain(20)

    asyncio.run(scenario())
