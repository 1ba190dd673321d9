"""Collectives of a program for one device: each talks to itself alone."""

from typing import Any

import numpy as np
from jax import Array, lax

from jaxrt.converters.lift.evaluator import rule
from jaxrt.converters.lift.module import Operation


def _alone(op: Operation) -> str | None:
    """Groups of one process; an empty list means one group of all, and there is one process."""
    groups = np.asarray(op.attrs.get("replica_groups", np.zeros((0, 0), np.int64)))
    if groups.size and groups.shape[-1] != 1:
        return f"over {groups.shape[-1]} devices: a serving program runs on one"
    return None


def _same(op: Operation, values: tuple[Any, ...]) -> list[Any]:
    for value, wanted in zip(values, op.avals, strict=True):
        if value.shape != wanted.shape:
            raise ValueError(f"{value.shape} becomes {wanted.shape}: more than one device")
    return list(values)


_GROUPS = ("replica_groups", "channel_handle", "channel_id", "use_global_device_ids")


@rule("stablehlo.all_reduce", *_GROUPS, check=_alone)
@rule("stablehlo.all_gather", *_GROUPS, "all_gather_dim", check=_alone)
@rule("stablehlo.reduce_scatter", *_GROUPS, "scatter_dimension", check=_alone)
@rule("stablehlo.collective_broadcast", *_GROUPS, check=_alone)
@rule(
    "stablehlo.all_to_all",
    *_GROUPS,
    "split_dimension",
    "concat_dimension",
    "split_count",
    check=_alone,
)
@rule("stablehlo.cross-replica-sum", "replica_groups", check=_alone)
def identity(op: Operation, *values: Array) -> list[Array]:
    return _same(op, values)


def _to_itself(op: Operation) -> str | None:
    pairs = np.asarray(op.attrs["source_target_pairs"]).tolist()
    if any(pair != [0, 0] for pair in pairs):
        return f"sends {pairs}: a serving program runs on one device"
    return None


@rule(
    "stablehlo.collective_permute",
    "source_target_pairs",
    "channel_handle",
    "channel_id",
    check=_to_itself,
)
def collective_permute(op: Operation, *values: Array) -> list[Array]:
    """Zeros where nobody sends."""
    if np.asarray(op.attrs["source_target_pairs"]).size:
        return _same(op, values)
    return [lax.full(v.shape, 0, v.dtype) for v in values]


@rule("stablehlo.replica_id")
@rule("stablehlo.partition_id")
def process(op: Operation) -> Array:
    return lax.full((), 0, op.aval.dtype)
