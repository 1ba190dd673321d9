"""Automatic sharding: candidate plans for a program, scored, best first."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxrt.errors import DeviceError
from jaxrt.mesh import DATA, MeshShape, Spec
from jaxrt.passes.jaxprs import ClosedJaxpr
from jaxrt.passes.rewrite import inline
from jaxrt.program import Program
from jaxrt.tpu import rules_dense, rules_shape
from jaxrt.tpu.cost import Estimate, estimate
from jaxrt.tpu.layout import Collective, parts, whole
from jaxrt.tpu.propagation import Policy, Walk, walk
from jaxrt.tpu.remedies import remedies
from jaxrt.tpu.topology import Topology

RULES = {**rules_shape.RULES, **rules_dense.RULES}
TABLE_BYTES = 1 << 20
"""Smaller tables stay whole: an exchange for each look-up would cost more."""
SMALL = 1 << 16
"""Weights of products of up to so many elements may stay whole to save an exchange; in however
many bits they are held, so that a model in few bits is split as in float."""
TENSOR_PARALLEL = "tensor parallel"
ROOM = 0.9
"""Share of a device's memory that weights may take; the rest is for activations and code."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How one program is laid out on a mesh."""

    label: str
    """What it does: `batch split`, `tensor parallel, tables by rows`."""
    tried: str
    """Label of the candidate that it was made of, which may want what the program has not."""
    mesh: MeshShape
    weights: Mapping[str, Spec]
    inputs: Mapping[str, Spec]
    constraints: Mapping[tuple[int, int], Spec]
    """Number of an equation of the inlined jaxpr, and of its result → the layout it is held to."""
    scopes: Mapping[int, str]
    """Number of an equation → the weight that it uses, or that was used last before it."""
    collectives: tuple[Collective, ...]
    """Expected; the compiler may merge some."""
    weight_bytes: int
    """On one device."""
    estimate: Estimate
    certain: bool
    """Every layout along the batch is known: constraints may say that a dimension is whole."""

    @property
    def batch_split(self) -> bool:
        return any(DATA in spec for spec in self.inputs.values())


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A mesh and a policy for it; the variables in the policy are those of one program."""

    label: str
    mesh: MeshShape
    policy: Policy


@dataclasses.dataclass(frozen=True, slots=True)
class Inlined:
    """A program without calls, as plans number its equations."""

    program: Program
    jaxpr: ClosedJaxpr

    @property
    def weight_variables(self) -> dict[str, Any]:
        return dict(zip(self.program.weight_names, self.jaxpr.jaxpr.invars, strict=False))


def inlined(program: Program) -> Inlined:
    return Inlined(program, inline(program.jaxpr))


def candidates(
    inlined_program: Inlined, devices: int, forced: Mapping[str, Spec] | None = None
) -> Iterator[Candidate]:
    """From the batch split over all devices to the weights split over all of them."""
    variables = inlined_program.weight_variables
    chosen = {variables[name]: spec for name, spec in (forced or {}).items()}
    yield Candidate(
        label="batch split",
        mesh=MeshShape(data=devices),
        policy=Policy(columns=False, forced=chosen),
    )
    if devices == 1:
        return
    for model in (n for n in range(2, devices + 1) if devices % n == 0):
        mesh = MeshShape(data=devices // model, model=model)
        for rows in (True, False):
            tables = "rows" if rows else "columns"
            policy = Policy(tables=TABLE_BYTES, table_rows=rows, forced=chosen)
            both = f"{TENSOR_PARALLEL}, tables by {tables}"
            yield Candidate(label=both, mesh=mesh, policy=policy)
            yield Candidate(
                label=f"tables by {tables}",
                mesh=mesh,
                policy=dataclasses.replace(policy, columns=False),
            )
    spread = {
        variable: _largest(variable.aval.shape, devices)
        for variable in variables.values()
        if variable not in chosen
    }
    yield Candidate(
        label="fully sharded weights",
        mesh=MeshShape(data=devices),
        policy=Policy(columns=False, forced={**spread, **chosen}),
    )


def lay_out(found: Inlined, candidate: Candidate, topology: Topology, *, bf16: bool) -> Plan:
    """One candidate, propagated and estimated."""
    program = found.program
    specs = [_input(aval.shape, candidate) for aval in program.input_avals]
    state = walk(
        found.jaxpr,
        mesh=candidate.mesh,
        policy=candidate.policy,
        weights=program.weight_names,
        inputs=specs,
        rules=RULES,
    )
    names = found.weight_variables
    return Plan(
        label=_label(candidate, state),
        tried=candidate.label,
        mesh=candidate.mesh,
        weights={name: state.weights[variable] for name, variable in names.items()},
        inputs=dict(zip(program.input_names, specs, strict=True)),
        constraints=dict(state.constraints),
        scopes=dict(state.scopes),
        collectives=tuple(state.collectives),
        weight_bytes=_weight_bytes(state, names.values()),
        estimate=estimate(state, topology.chip, bf16=bf16),
        certain=not state.opaque,
    )


def plans(
    program: Program,
    topology: Topology,
    *,
    bf16: bool,
    weight_scale: float = 1.0,
    forced: Mapping[str, Spec] | None = None,
    devices: int | None = None,
    mesh: MeshShape | None = None,
) -> list[Plan]:
    """Every candidate whose weights fit a device, fastest first.

    `weight_scale`: bytes of a weight as stored, to those of the program. `devices`: how many to
    use, all of the topology when left out; `mesh`: the only one to consider. Raises DeviceError
    that says by how much the best one is too large.
    """
    found = inlined(program)
    used = mesh.devices if mesh else devices or topology.devices
    made = [
        lay_out(found, _refined(found, c, topology, bf16=bf16), topology, bf16=bf16)
        for c in candidates(found, used, forced)
        if mesh is None or c.mesh == mesh
    ]
    room = topology.device_bytes * ROOM
    fitting_plans = [plan for plan in made if plan.weight_bytes * weight_scale <= room]
    if not fitting_plans:
        least = min(made, key=lambda plan: plan.weight_bytes)
        raise DeviceError(_too_large(program, least, topology, weight_scale))
    # Of equals the first: plans come from the simplest to the most cut up.
    return sorted(fitting_plans, key=lambda plan: plan.estimate.seconds)


def _too_large(program: Program, plan: Plan, topology: Topology, scale: float) -> str:
    held = plan.weight_bytes * scale
    room = topology.device_bytes * ROOM
    helps = remedies(program, plan.weights, plan.mesh.sizes, topology, share=ROOM, scale=scale)
    return (
        f"{topology.name}: the weights take {held / 2**30:.2f} GiB of each device however they "
        f"are split, {(held - room) / 2**30:.2f} GiB more than the {room / 2**30:.2f} GiB there "
        f"is for them; {helps}"
    )


def _refined(found: Inlined, candidate: Candidate, topology: Topology, *, bf16: bool) -> Candidate:
    """Without splits of products that cost more than they save, tried shape by shape."""
    if not candidate.policy.columns or candidate.mesh.model == 1:
        return candidate
    best = candidate
    seconds = lay_out(found, best, topology, bf16=bf16).estimate.seconds
    for group in _alike(found):
        whole_too = candidate.policy.kept_whole | best.policy.kept_whole | group
        tried = dataclasses.replace(
            best, policy=dataclasses.replace(best.policy, kept_whole=whole_too)
        )
        found_seconds = lay_out(found, tried, topology, bf16=bf16).estimate.seconds
        if found_seconds < seconds:
            best, seconds = tried, found_seconds
    return best


def _alike(found: Inlined) -> list[frozenset[Any]]:
    """Small weights by shape, smallest first: layers that repeat are judged together.

    Large ones stay split, for what they take of the memory and of its bandwidth.
    """
    groups: dict[tuple[Any, ...], set[Any]] = {}
    for variable in found.weight_variables.values():
        if len(variable.aval.shape) >= 2 and variable.aval.size <= SMALL:
            groups.setdefault(tuple(variable.aval.shape), set()).add(variable)
    ordered = sorted(groups.items(), key=lambda item: math.prod(item[0]))
    return [frozenset(group) for _, group in ordered]


def _label(candidate: Candidate, state: Walk) -> str:
    """Of what became of a candidate: its tables as they are split, if any is."""
    if candidate.policy.tables is None:
        return candidate.label
    found = [way for way in ("rows", "columns") if way in state.tables.values()]
    named = [TENSOR_PARALLEL] if candidate.policy.columns else []
    named += [f"tables by {' and '.join(found)}"] if found else []
    return ", ".join(named) or "weights whole"


def _input(shape: Sequence[int], candidate: Candidate) -> Spec:
    data = candidate.mesh.data
    if not shape or data == 1 or shape[0] % data:
        return whole(len(shape))
    return (DATA, *whole(len(shape) - 1))


def _largest(shape: Sequence[int], devices: int) -> Spec:
    dims = [d for d, size in enumerate(shape) if size % devices == 0]
    largest = max(dims, key=lambda d: shape[d], default=None)
    return tuple(DATA if d == largest else None for d in range(len(shape)))


def _weight_bytes(state: Walk, variables: Any) -> int:
    return sum(
        math.ceil(v.aval.size * v.aval.dtype.itemsize / parts(state.weights[v], state.sizes))
        for v in variables
    )
