"""Which plan is chosen, by what a compiler says that is made up here."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import mesh_programs
import pytest

from jaxrt.compiler import Stats
from jaxrt.errors import DeviceError
from jaxrt.mesh import MeshShape
from jaxrt.program import Program
from jaxrt.tpu import choose as module
from jaxrt.tpu.aot import Compiled
from jaxrt.tpu.choose import CLEARLY, COMPILED, Considered, Goal, Wishes, choose
from jaxrt.tpu.cost import REACHED
from jaxrt.tpu.plan import Plan, plans
from jaxrt.tpu.topology import Topology, parse

SLICE = parse("v5e:2x2")
program = functools.cache(mesh_programs.program)


def _compiled(seconds: float, memory: int = 1 << 20) -> Compiled:
    """A program whose bytes take so many seconds to read."""
    nbytes = seconds * SLICE.chip.memory_bandwidth * REACHED
    stats = Stats(
        flops=0.0,
        bytes_accessed=nbytes,
        argument_bytes=memory,
        output_bytes=0,
        temp_bytes=0,
        code_bytes=0,
        compile_seconds=0.0,
    )
    return Compiled(
        portable=b"",
        executable=b"",
        stats=stats,
        collectives={},
        exchanges=(),
        results=(),
        loaded=None,
    )


Answer = Callable[[Plan], Compiled]


def _chosen(
    monkeypatch: pytest.MonkeyPatch, answer: Answer, wishes: Wishes | None = None
) -> list[Considered]:
    def compile_for(
        _: Program, plan: Plan, topology: Topology, attached: Sequence[Any] | None
    ) -> Compiled:
        assert (topology, attached) == (SLICE, None)
        return answer(plan)

    monkeypatch.setattr(module, "compile_for", compile_for)
    return choose(program("encoder"), SLICE, wishes or Wishes(goal=Goal.LATENCY), None)


def test_what_the_compiler_says_decides_not_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[Plan] = []

    def later_is_faster(plan: Plan) -> Compiled:
        order.append(plan)
        return _compiled(1.0 / len(order) ** 2)

    found = _chosen(monkeypatch, later_is_faster)
    assert 2 <= len(order) <= COMPILED
    assert found[0].plan is order[-1]
    assert found[0].seconds == pytest.approx(1.0 / len(order) ** 2)
    estimates = [plan.estimate.seconds for plan in order]
    assert estimates == sorted(estimates)


def test_what_does_not_fit_or_compile_falls_out_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[Plan] = []

    def first_are_refused(plan: Plan) -> Compiled:
        order.append(plan)
        if len(order) == 1:
            raise DeviceError("too large by a bit")
        return _compiled(1e-6 if len(order) == 2 else 1.0, (17 << 30) * (len(order) == 2))

    wide = Wishes(goal=Goal.LATENCY)
    monkeypatch.setattr(module, "WORTH", 100.0)
    found = _chosen(monkeypatch, first_are_refused, wide)
    assert len(order) == 3
    assert found[0].plan is order[2] and not found[0].refused
    refused = {id(one.plan): one.refused for one in found}
    assert refused[id(order[0])] == "too large by a bit"
    assert refused[id(order[1])] == "a device needs 17.00 GiB for it"


def _considered(plan: Plan, seconds: float, replicas: int) -> Considered:
    return Considered(plan=plan, replicas=replicas, compiled=_compiled(seconds), seconds=seconds)


@pytest.mark.parametrize(
    ("gain", "replicas"), [(0.9, 1), (1.0, 1), (CLEARLY - 0.01, 1), (CLEARLY + 0.01, 4)]
)
def test_replicas_are_taken_when_they_answer_a_tenth_more_rows(gain: float, replicas: int) -> None:
    split = plans(program("encoder"), SLICE, bf16=False, mesh=MeshShape(data=4))[0]
    alone = plans(program("encoder"), SLICE, bf16=False, devices=1)[0]
    found = module._best([_considered(split, 1.0, 1), _considered(alone, 4.0 / gain, 4)])
    assert found.replicas == replicas


def test_of_plans_as_fast_the_one_that_holds_half_of_its_weights_wins() -> None:
    whole = plans(program("encoder"), SLICE, bf16=False, mesh=MeshShape(data=4))[0]
    halved = plans(program("encoder"), SLICE, bf16=False, mesh=MeshShape(model=4))[0]
    assert halved.weight_bytes < 0.5 * whole.weight_bytes
    as_fast = [_considered(whole, 1.0, 1), _considered(halved, 1.05, 1)]
    assert module._best(as_fast).plan is halved
    slower = [_considered(whole, 1.0, 1), _considered(halved, 1.2, 1)]
    assert module._best(slower).plan is whole


def test_latency_never_runs_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    found = _chosen(monkeypatch, lambda plan: _compiled(1.0))
    assert {one.replicas for one in found} == {1}
    assert {one.plan.mesh.devices for one in found} == {SLICE.devices}


def test_a_mesh_that_the_user_wants_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    wishes = Wishes(mesh=MeshShape(data=2, model=2))
    found = _chosen(monkeypatch, lambda plan: _compiled(1.0), wishes)
    assert {str(one.plan.mesh) for one in found} == {"2×2"}
