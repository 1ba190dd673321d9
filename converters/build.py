"""SavedModel → artifact: reads, plans, converts, prepares the weights, compiles, checks, writes."""

import dataclasses
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
from jaxlib import version as jaxlib_version

from jaxrt import __version__
from jaxrt.artifact import ArtifactWriter
from jaxrt.buckets import Buckets
from jaxrt.converters import conversion, emit, hosting, planning, report, routes, trial
from jaxrt.converters.conversion import ConvertedSignature
from jaxrt.converters.records import Kind, ModelRecord
from jaxrt.converters.seams import Steps, TensorFlow
from jaxrt.errors import ConversionError, UsageError
from jaxrt.manifest import Manifest, SignatureEntry, Source, TargetRecord
from jaxrt.program import Shapes
from jaxrt.specs import SignatureSpec
from jaxrt.target import Target
from jaxrt.tuning.optimizer import Passes

INIT_OP = "__saved_model_init_op"
"""TF2's initializer stands among the signatures: metadata, nobody calls it."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What the user chose. `to_json` is part of the cache's key and of the manifest."""

    buckets: Buckets
    rules: tuple[planning.ShapeRule, ...] = ()
    tags: tuple[str, ...] = ("serve",)
    signatures: tuple[str, ...] = ()
    """Those to compile; empty: all."""
    optimize: bool = True
    """False: TensorFlow runs every signature as it is."""
    check: bool = True
    """Compare each signature with TensorFlow once."""
    passes: Passes = Passes()
    """What the `optimize` of a build was made with."""
    observed: Mapping[str, Sequence[Shapes]] = dataclasses.field(default_factory=dict)
    """Signature → shapes of its warm-up requests."""

    def to_json(self) -> dict[str, Any]:
        return {
            "batch_sizes": list(self.buckets.sizes),
            "shapes": [
                {"names": list(r.names), "sizes": [list(s) for s in r.sizes]} for r in self.rules
            ],
            "tags": list(self.tags),
            "signatures": list(self.signatures),
            "optimize": self.optimize,
            "check": self.check,
            "passes": self.passes.to_json(),
            "observed": {
                name: [{a: list(s) for a, s in found.items()} for found in shapes]
                for name, shapes in self.observed.items()
            },
        }


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Naming:
    """What the manifest says of the model: its name, and where it came from."""

    model: str
    path: str
    """As the user gave it."""
    content_sha256: str


def build(
    path: Path,
    writer: ArtifactWriter,
    *,
    naming: Naming,
    options: Options,
    target: Target,
    tensorflow: TensorFlow,
    steps: Steps,
    clock: Callable[[], float] = time.perf_counter,
    allow_empty: bool = False,
    optimize: conversion.Optimize = conversion.unchanged,
) -> Manifest:
    """Writes the artifact of the SavedModel at `path` and commits it.

    `allow_empty` accepts a model whose every signature was refused: a server shows its metadata
    and says why it does not run. Raises ConversionError otherwise; ModelError, UsageError.
    """
    started = clock()
    steps.step("read the SavedModel")
    model = tensorflow.open_model(path, options.tags)
    job = emit.Job(
        tensorflow=tensorflow,
        model=model,
        target=target,
        steps=steps,
        writer=writer,
        optimize=optimize,
    )
    chosen = _chosen(model, options)
    whole = {key: _plan(key, model.signatures[key], options) for key in chosen}
    ways = _routes(job, chosen, whole, options, allow_empty)
    parts = routes.parts(model, ways)
    plans = {key: _part_plan(part, whole[part.signature], options) for key, part in parts.items()}
    steps.total(_count(plans, chosen, options))
    converted = _converted(job, parts, plans)
    declined = {k: f.refused for k, f in converted.items() if f.refused and k in whole}
    unplanned = [k for k, part in parts.items() if part.stage is None and not plans[k].programs]
    declined |= routes.declined(tensorflow, model, unplanned)
    again = _routes(job, list(declined), whole, options, allow_empty, declined=declined)
    for key in [k for k, way in again.items() if way.stages]:
        ways[key] = again[key]  # what XLA declines is some of it
        del parts[key], plans[key], converted[key]
        cut = routes.parts(model, {key: ways[key]})
        plans |= {k: _part_plan(part, whole[key], options) for k, part in cut.items()}
        parts |= cut
        converted |= _converted(job, cut, plans)
    steps.step("prepare weights")
    weights = emit.prepare_weights(job, converted.values())
    compiled, failed = _compile(job, converted, weights)
    ways = routes.without(ways, parts, _failures(converted, failed))
    refused = {key: _refusal(model, key, ways) for key in model.signatures}
    signatures = {
        key: emit.signature(job, number, key, spec, ways.get(key), compiled, refused[key])
        for number, (key, spec) in enumerate(model.signatures.items())
    }
    built = trial.Built(job=job, compiled=compiled, arrays=weights.arrays)
    checks = {
        key: trial.signature(built, key, entry)
        for key, entry in signatures.items()
        if options.check and (entry.programs or entry.stages)
    }
    steps.step("write")
    if not allow_empty and not any(e.programs or e.stages for e in signatures.values()):
        raise _nothing(model, plans)
    if any(way.whole for way in ways.values()):
        hosting.copy_saved_model(path, writer)
    writer.weights(weights.arrays)
    writer.report(
        report.make(
            model=model,
            signatures=signatures,
            routes=ways,
            plans=plans,
            converted=converted,
            checks=checks,
            weights=weights,
            seconds=clock() - started,
        )
    )
    return writer.commit(_manifest(naming, options, target, signatures))


def _routes(
    job: emit.Job,
    signatures: Sequence[str],
    whole: Mapping[str, planning.Plan],
    options: Options,
    allow_empty: bool,
    *,
    declined: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, routes.Route]:
    return routes.route(
        job.tensorflow,
        job.model,
        signatures,
        optimize=options.optimize,
        open_sizes=lambda key: allow_empty or bool(whole[key].programs),
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
        )
        for key in parts
    }


def _compile(
    job: emit.Job, converted: Mapping[str, ConvertedSignature], weights: emit.Prepared
) -> tuple[dict[str, emit.Compiled], dict[str, str]]:
    """The parts that the target runs, and why it does not run the others."""
    compiled, failed = {}, {}
    for number, (key, found) in enumerate(converted.items()):
        if found.programs:
            try:
                compiled[key] = emit.compile_signature(
                    job, number, key, found.programs, weights.stored
                )
            except ConversionError as error:
                failed[key] = str(error)
    return compiled, failed


def _failures(
    converted: Mapping[str, ConvertedSignature],
    failed: Mapping[str, str],
) -> dict[str, str]:
    """Part → why the device does not run it."""
    refused = {key: found.refused for key, found in converted.items() if found.refused}
    return {**refused, **failed}


def tools() -> dict[str, str]:
    """Versions of what made an artifact."""
    found = {
        "jax": jax.__version__,
        "jaxlib": jaxlib_version.__version__,
        "python": platform.python_version(),
    }
    for package in ("tensorflow-cpu", "tensorflow"):
        try:
            found["tensorflow"] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _manifest(
    naming: Naming,
    options: Options,
    target: Target,
    signatures: Mapping[str, SignatureEntry],
) -> Manifest:
    return Manifest(
        jaxrt=__version__,
        model=naming.model,
        tools=tools(),
        source=Source(path=naming.path, sha256=naming.content_sha256, tags=options.tags),
        options=options.to_json(),
        target=TargetRecord(
            platform=target.platform,
            device_kind=target.device_kind,
            fingerprint={"key": target.fingerprint, "features": target.features},
        ),
        signatures=signatures,
    )


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


def _refusal(model: ModelRecord, key: str, ways: Mapping[str, routes.Route]) -> str | None:
    if key in ways:
        return None
    if key in model.refused:
        return model.refused[key].reason
    return "it is the initializer" if key == INIT_OP else "it was not chosen by --signature"


def _nothing(model: ModelRecord, plans: Mapping[str, planning.Plan]) -> ConversionError:
    reasons = [plan.unplanned for plan in plans.values() if plan.unplanned]
    reasons += [
        f"signature {key!r}: {refused.reason}"
        for key, refused in model.refused.items()
        if key != INIT_OP
    ]
    why = "; ".join(dict.fromkeys(reasons)) or "it has no signatures: save it with signatures=..."
    return ConversionError(f"{model.path}: nothing in it can be served: {why}")
