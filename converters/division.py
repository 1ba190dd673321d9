"""Which signatures of a model go whole to the device, in stages, or to TensorFlow; and why."""

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from jaxrt.converters import conversion, emit, planning, routes
from jaxrt.converters.conversion import ConvertedSignature
from jaxrt.converters.options import Options
from jaxrt.converters.records import Kind, ModelRecord
from jaxrt.errors import UsageError
from jaxrt.specs import SignatureSpec

INIT_OP = "__saved_model_init_op"
"""TF2's initializer stands among the signatures: metadata, nobody calls it."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Divided:
    """A model's signatures, each with its way; and the parts of them that the device computes."""

    ways: Mapping[str, routes.Route]
    parts: Mapping[str, routes.DevicePart]
    plans: Mapping[str, planning.Plan]
    """Of the parts."""
    converted: Mapping[str, ConvertedSignature]
    """The parts, lifted."""


def divide(job: emit.Job, options: Options, *, keep_open: bool) -> Divided:
    """Asks TensorFlow's bridge and lifts; what is declined is cut, what cannot be is left whole.

    `keep_open`: signatures whose sizes nobody planned stay as they are, to be compiled when
    requests tell the sizes. Otherwise TensorFlow runs them. Raises UsageError for a signature that
    was chosen and is not there.
    """
    chosen = _chosen(job.model, options)
    whole = {key: _plan(key, job.model.signatures[key], options) for key in chosen}
    ways = _routes(job, chosen, whole, options, keep_open)
    parts = routes.parts(job.model, ways)
    plans = {key: _part_plan(part, whole[part.signature], options) for key, part in parts.items()}
    job.steps.total(_count(plans, chosen, options))
    converted = _converted(job, parts, plans)
    declined = {k: f.refused for k, f in converted.items() if f.refused and k in whole}
    unplanned = [k for k, part in parts.items() if part.stage is None and not plans[k].programs]
    declined |= routes.declined(job.tensorflow, job.model, unplanned)
    again = _routes(job, list(declined), whole, options, keep_open, declined=declined)
    for key in [k for k, way in again.items() if way.stages]:
        ways[key] = again[key]  # what XLA declines is some of it
        del parts[key], plans[key], converted[key]
        cut = routes.parts(job.model, {key: ways[key]})
        plans |= {k: _part_plan(part, whole[key], options) for k, part in cut.items()}
        parts |= cut
        converted |= _converted(job, cut, plans)
    if not keep_open:
        for key in {parts[k].signature for k, plan in plans.items() if not plan.programs}:
            why = whole[key].unplanned or "Nobody planned the sizes of one of its stages"
            ways[key] = routes.Route(signature=key, whole=f"{why}.")
        parts = {k: part for k, part in parts.items() if ways[part.signature].whole is None}
        plans = {k: plans[k] for k in parts}
        converted = {k: converted[k] for k in parts}
    return Divided(ways=ways, parts=parts, plans=plans, converted=converted)


def _routes(
    job: emit.Job,
    signatures: Sequence[str],
    whole: Mapping[str, planning.Plan],
    options: Options,
    keep_open: bool,
    *,
    declined: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, routes.Route]:
    return routes.route(
        job.tensorflow,
        job.model,
        signatures,
        optimize=options.optimize,
        open_sizes=lambda key: keep_open or bool(whole[key].programs),
        declined=declined,
    )


def _converted(
    job: emit.Job, parts: Mapping[str, routes.DevicePart], plans: Mapping[str, planning.Plan]
) -> dict[str, ConvertedSignature]:
    lowerer = routes.PartLowerer(job.tensorflow, parts)
    return {
        key: conversion.convert(
            lowerer,
            job.model,
            key,
            plans[key],
            step=job.steps.step,
            optimize=job.optimize,
            sliced=job.target.platform == "cpu" and job.target.num_devices == 1,
        )
        for key in parts
    }


def _chosen(model: ModelRecord, options: Options) -> list[str]:
    """The signatures that somebody may call; raises UsageError for one that is not there."""
    for wanted in options.signatures:
        if wanted not in model.signatures:
            known = ", ".join(k for k in model.signatures if k != INIT_OP) or "none"
            raise UsageError(f"{model.path}: no signature {wanted!r}; it has: {known}")
    return [
        key
        for key in model.signatures
        if key != INIT_OP
        and (not options.signatures or key in options.signatures)
        and not (key in model.refused and model.refused[key].kind is Kind.ENCODING)
    ]


def _plan(key: str, spec: SignatureSpec, options: Options) -> planning.Plan:
    return planning.plan(
        key,
        spec,
        buckets=options.buckets,
        rules=options.rules,
        observed=options.observed.get(key, ()),
    )


def _part_plan(part: routes.DevicePart, whole: planning.Plan, options: Options) -> planning.Plan:
    """`whole`: that of its signature."""
    if part.stage is None:
        return whole
    if part.like:
        return planning.of_stage(part.spec, part.like, whole)
    return planning.plan(part.key, part.spec, buckets=options.buckets)


def _count(plans: Mapping[str, planning.Plan], chosen: Sequence[str], options: Options) -> int:
    """Steps of a build: lifts (witnesses included), compiles, checks, and three more."""
    unplanned = {key for key in chosen if key in plans and not plans[key].programs}
    found = 3 + (len(set(chosen) - unplanned) if options.check else 0)
    for plan in plans.values():
        variants = len({tuple(p.rebatch(0).shapes.items()) for p in plan.programs if p.batch})
        found += 2 * len(plan.programs) + variants
    return found
