"""A plan put to work: shardings for a program's arguments, constraints for what is between."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxrt.mesh import DATA, MODEL, MeshShape, Spec
from jaxrt.passes.jaxprs import RANDOM, bind
from jaxrt.passes.rewrite import evaluate, inline
from jaxrt.program import Program
from jaxrt.tpu.layout import whole
from jaxrt.tpu.plan import Plan


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Sharded:
    """A function of (*weights, *inputs) with the shardings of its arguments and results."""

    function: Any
    arguments: tuple[NamedSharding, ...]
    results: tuple[NamedSharding, ...]
    results_as: tuple[Spec, ...]
    """The layouts of the results."""

    def jit(self) -> Any:
        """The jitted function: to be lowered with the program's avals."""
        return jax.jit(
            self.function,
            in_shardings=self.arguments,
            out_shardings=self.results,
            keep_unused=True,
        )


def mesh_of(shape: MeshShape, devices: Sequence[Any]) -> Mesh:
    """The devices as `data` × `model`; neighbours in their order share a weight."""
    grid = np.array(list(devices)[: shape.devices]).reshape(shape.data, shape.model)
    return Mesh(grid, (DATA, MODEL))


def partition_spec(spec: Spec) -> PartitionSpec:
    return PartitionSpec(*spec)


def sharded(program: Program, plan: Plan, mesh: Mesh) -> Sharded:
    """The program as `plan` lays it out. Results are whole, or split where the batch is."""
    closed = inline(program.jaxpr)
    numbers = {id(eqn): number for number, eqn in enumerate(closed.jaxpr.eqns)}

    def named(spec: Spec) -> NamedSharding:
        return NamedSharding(mesh, partition_spec(spec))

    def held(value: Any, spec: Spec) -> Any:
        free = PartitionSpec.UNCONSTRAINED
        axes = [axis if axis or plan.certain else free for axis in spec]
        return lax.with_sharding_constraint(value, NamedSharding(mesh, PartitionSpec(*axes)))

    def apply(eqn: Any, operands: list[Any]) -> list[Any]:
        number = numbers[id(eqn)]
        with jax.named_scope(plan.scopes.get(number) or "inputs"):
            results = bind(eqn.primitive, operands, eqn.params)
        for place, result in enumerate(results):
            if eqn.primitive.name in RANDOM and mesh.size > 1:
                # All devices draw all numbers: those of one device, and libtpu 0.0.52 aborts
                # (hlo_sharding.h, ReplicateOnLastTileDim) where rng_uniform is split.
                results[place] = lax.with_sharding_constraint(result, named(whole(result.ndim)))
            spec = plan.constraints.get((number, place))
            if spec is not None and mesh.size > 1:
                results[place] = held(result, spec)
        return results

    def function(*arguments: Any) -> tuple[Any, ...]:
        return tuple(evaluate(closed, arguments, apply))

    arguments = [*(plan.weights[n] for n in program.weight_names)]
    arguments += [plan.inputs[n] for n in program.input_names]
    results = [_result(aval.shape, program, plan) for aval in program.output_avals]
    return Sharded(
        function=function,
        arguments=tuple(named(spec) for spec in arguments),
        results=tuple(named(spec) for spec in results),
        results_as=tuple(results),
    )


def _result(shape: Sequence[int], program: Program, plan: Plan) -> Spec:
    batches = {a.shape[0] for a in program.input_avals if a.shape}
    by_rows = plan.batch_split and shape and shape[0] in batches
    if not by_rows or shape[0] % plan.mesh.data:
        return whole(len(shape))
    return (DATA, *whole(len(shape) - 1))
