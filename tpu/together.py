"""The programs of one artifact laid out together: one mesh, and one layout for each weight."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrt.compiler import Built
from jaxrt.layouts import Asked
from jaxrt.mesh import MeshRecord, MeshShape, Spec
from jaxrt.tpu import overrides, shown
from jaxrt.tpu.aot import Compiled, compile_for, too_large
from jaxrt.tpu.choose import Considered, Goal, Wishes, choose, memory
from jaxrt.tpu.overrides import Rule, WeightPolicy
from jaxrt.tpu.plan import Plan, plans
from jaxrt.tpu.topology import Topology


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Orders:
    """What the user says of meshes and layouts."""

    goal: Goal = Goal.THROUGHPUT
    rules: tuple[Rule, ...] = ()
    """The first that finds a weight's name in the artifact decides."""
    policy: WeightPolicy | None = None
    mesh: MeshShape | None = None


class Together:
    """`jaxrt.layouts.LaidOut` on the devices of a topology, here or elsewhere."""

    def __init__(
        self,
        asked: Sequence[Asked],
        topology: Topology,
        orders: Orders,
        attached: Sequence[Any] | None,
    ) -> None:
        """`attached`: the devices, where they are this machine's.

        Raises DeviceError when nothing fits the memory, UsageError for a rule that finds no weight.
        """
        self._topology = topology
        self._attached = attached
        self._specs = _ordered(asked, orders)
        self._plans: dict[int, Plan] = {}
        self._compiled: dict[int, Compiled] = {}
        self._considered: list[Considered] = []
        if asked:
            self._choose(_anchor(asked, orders.goal), orders)
            for one in asked:
                if id(one.program) not in self._plans:
                    self._plan(one)
        self._report = None
        if self._considered:
            self._report = shown.plan(
                self._considered, topology, orders.goal, _weights(asked), self._specs
            )

    @property
    def mesh(self) -> MeshRecord | None:
        """As LaidOut says."""
        chosen = self._chosen
        if chosen is None or chosen.plan.mesh.devices * chosen.replicas == 1:
            return None
        return MeshRecord(shape=chosen.plan.mesh, replicas=chosen.replicas)

    @property
    def weights(self) -> Mapping[str, Spec]:
        """As LaidOut says."""
        return {name: spec for name, spec in self._specs.items() if any(spec)}

    @property
    def report(self) -> Mapping[str, Any] | None:
        """As LaidOut says; `jaxrt.tpu.shown` has the fields."""
        return self._report

    def build(self, asked: Asked) -> Built:
        """As LaidOut says."""
        plan = self._plans[id(asked.program)]
        compiled = self._compiled.pop(id(asked.program), None)
        if compiled is None:
            compiled = compile_for(asked.program, plan, self._topology, self._attached)
        if (needed := memory(compiled)) > (room := self._topology.device_bytes):
            raise too_large(asked.program, plan, self._topology, needed, room)
        return Built(
            portable=compiled.portable,
            executable=compiled.executable,
            stats=compiled.stats,
            loaded=compiled.loaded,
            input_layouts=tuple(
                shown.real(plan.inputs[name], plan.mesh) for name in asked.program.input_names
            ),
            output_layouts=tuple(shown.real(spec, plan.mesh) for spec in compiled.results),
            report=shown.program(plan, compiled, self._topology),
        )

    @property
    def _chosen(self) -> Considered | None:
        return self._considered[0] if self._considered else None

    def _choose(self, anchor: Asked, orders: Orders) -> None:
        wishes = Wishes(goal=orders.goal, mesh=orders.mesh, forced=self._forced(anchor))
        self._considered = choose(anchor.program, self._topology, wishes, self._attached)
        chosen = self._considered[0]
        if not self._keep(anchor, chosen.plan):  # equal weights are one, and it was split twice
            self._plan(anchor)
        elif chosen.compiled is not None:
            self._compiled[id(anchor.program)] = chosen.compiled

    def _plan(self, one: Asked) -> None:
        assert self._chosen is not None
        chosen = self._chosen.plan
        while True:
            found = plans(
                one.program,
                self._topology,
                bf16=False,
                forced=self._forced(one),
                mesh=chosen.mesh,
            )
            same = [plan for plan in found if plan.tried == chosen.tried]
            if self._keep(one, (same or found)[0]):
                return

    def _keep(self, one: Asked, plan: Plan) -> bool:
        """Takes over the layouts of a plan; False where it gives a weight two of them."""
        agreed = True
        for name, stored in zip(one.program.weight_names, one.stored, strict=True):
            spec = shown.real(plan.weights[name], plan.mesh)
            agreed = self._decided(stored, spec) == spec and agreed
        self._plans[id(one.program)] = plan
        return agreed

    def _decided(self, stored: str, spec: Spec) -> Spec:
        mesh = self._considered[0].plan.mesh
        before = self._specs.setdefault(stored, spec)
        self._specs[stored] = shown.real(before, mesh)
        return self._specs[stored]

    def _forced(self, one: Asked) -> dict[str, Spec]:
        return {
            name: self._specs[stored]
            for name, stored in zip(one.program.weight_names, one.stored, strict=True)
            if stored in self._specs
        }


def _ordered(asked: Sequence[Asked], orders: Orders) -> dict[str, Spec]:
    """The layouts that the user decided, by stored name."""
    shapes = {name: tuple(aval.shape) for name, aval in _weights(asked).items()}
    return overrides.forced(shapes, orders.rules, orders.policy)


def _weights(asked: Sequence[Asked]) -> dict[str, Any]:
    """Stored name → aval, of all programs."""
    return {
        stored: aval
        for one in asked
        for stored, aval in zip(one.stored, one.program.weight_avals, strict=True)
    }


def _anchor(asked: Sequence[Asked], goal: Goal) -> Asked:
    """The program that the mesh is chosen for: with the most weights, at the goal's batch size."""
    sign = -1 if goal is Goal.LATENCY else 1

    def key(one: Asked) -> tuple[int, int]:
        program = one.program
        return _nbytes(program.weight_avals), sign * _nbytes(program.input_avals)

    return max(asked, key=key)


def _nbytes(avals: Sequence[Any]) -> int:
    return sum(aval.size * aval.dtype.itemsize for aval in avals)
