"""Loops whose lists grow: the device runs their first steps, the host what is beyond."""

import concurrent.futures
import multiprocessing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import decoder_models
import numpy as np
import pytest
from served_stages import Served

from jaxrt.buckets import Buckets
from jaxrt.converters import conversion, planning, routes
from jaxrt.converters.host import graph, native
from jaxrt.converters.records import ModelRecord
from jaxrt.converters.worker import Bridge

STEPS = 64
"""Of a loop on the device."""
LENGTHS = ([3, 1, 4, 2, 5], [64, 1, 0, 2, 63], [65, 3, 64, 1, 2], [7, 140, 2, 66, 100])
"""How many steps the rows of a request ask for."""
PARTED = ("all_done", "any_left", "counted")


@pytest.fixture(scope="module")
def bridge() -> Iterator[Bridge]:
    with Bridge(timeout=300) as started:
        yield started


@pytest.fixture(scope="module")
def model(bridge: Bridge, tmp_path_factory: pytest.TempPathFactory) -> ModelRecord:
    return bridge.open_model(decoder_models.build(tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="module")
def served(bridge: Bridge, model: ModelRecord) -> Iterator[Any]:
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as host:
        yield lambda signature: Served(bridge, host, model, signature)


def request(lengths: Sequence[int], limit: int | None = None) -> dict[str, Any]:
    given: dict[str, Any] = {"left": np.asarray(lengths, np.float32)}
    return given if limit is None else {**given, "limit": np.int32(limit)}


@pytest.mark.parametrize("signature", PARTED)
def test_the_loop_runs_on_the_device(served: Any, signature: str) -> None:
    found = served(signature)
    assert found.places == ["device", "host"]
    assert "While" in found.ops("device")
    assert found.stages[0].counts["MatMul"] == 1
    assert "for loops of more steps than the device runs: While" in found.stages[1].why


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_rows_end_the_loop_of_their_request_when_all_are_done(
    served: Any, lengths: list[int]
) -> None:
    got = served("all_done").check(request(lengths, 1000))
    assert got["steps"] == max(lengths)


@pytest.mark.parametrize("limit", [1, 2, STEPS - 1, STEPS, STEPS + 1, 150])
def test_a_number_that_rows_share_ends_the_loop(served: Any, limit: int) -> None:
    got = served("all_done").check(request([500, 2, 7, 1, 90], limit))
    assert got["steps"] == limit
    served("counted").check(request([1, 2, 3, 4, 5], limit))


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_rows_that_have_steps_left_keep_the_loop_going(served: Any, lengths: list[int]) -> None:
    got = served("any_left").check(request(lengths))
    assert got["wide"].shape == (5, max(lengths), 4)
    assert got["over"].tolist() == [n - max(lengths) for n in lengths]


def test_rows_that_are_done_at_once_leave_the_states_as_they_were(served: Any) -> None:
    found = served("any_left")
    given = found.run(request([1, -3]))
    assert given["over"].tolist() == [0, -4]


@pytest.mark.parametrize("signature", PARTED)
@pytest.mark.parametrize("lengths", LENGTHS[1:3], ids=str)
def test_the_host_needs_no_tensorflow_to_go_on(
    bridge: Bridge, served: Any, signature: str, lengths: list[int]
) -> None:
    found = served(signature)
    given = request(lengths, None if signature == "any_left" else 70)
    last = found.stages[1]
    crossing = found.first(given)
    parsed = graph.parse(Path(last.graph).read_bytes())
    feeds, fetches = dict(last.feeds), dict(last.fetches)
    assert native.missing(parsed, tuple(fetches.values()), tuple(feeds.values())) == ()
    assert native.inexact(parsed, tuple(fetches.values()), tuple(feeds.values())) == ()
    values = {**given, **crossing}
    answers = native.Executor(parsed, feeds, fetches, {}).run({n: values[n] for n in feeds})
    want = found.run(given)
    assert {v.name for v in last.outputs} <= set(answers)
    for name, value in want.items():
        got = (answers | crossing)[name]
        np.testing.assert_allclose(got, value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("signature", PARTED)
def test_strangers_may_share_a_run_of_the_device(
    bridge: Bridge, model: ModelRecord, signature: str
) -> None:
    ways = routes.route(bridge, model, [signature], optimize=True)
    parts = routes.parts(model, ways)
    (part,) = parts.values()
    plan = planning.plan(part.key, part.spec, buckets=Buckets(sizes=(1, 4)))
    lowerer = routes.PartLowerer(bridge, parts)
    found = conversion.convert(lowerer, model, part.key, plan)
    assert [p.rows.reason for p in found.programs if not p.rows.independent] == []
    assert len(found.programs) == 2


@pytest.mark.parametrize("signature", ["summed", "averaged"])
def test_rows_that_decide_in_another_way_leave_the_loop_on_the_host(
    served: Any, signature: str
) -> None:
    found = served(signature)
    assert "XLA would keep the first size of a list that grows: " in found.stages[-1].why
    found.check(request([3, 1, 4, 2, 5]))
