"""SavedModel → artifact: reads, plans, converts, prepares the weights, compiles, checks, writes."""

import dataclasses
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from jaxlib import version as jaxlib_version

from jaxrt import __version__
from jaxrt.artifact import ArtifactWriter
from jaxrt.buckets import Buckets
from jaxrt.converters import conversion, emit, planning, report
from jaxrt.converters.conversion import ConvertedSignature
from jaxrt.converters.records import ModelRecord
from jaxrt.converters.seams import Steps, TensorFlow
from jaxrt.errors import ConversionError, UsageError
from jaxrt.manifest import Manifest, SignatureEntry, Source, TargetRecord
from jaxrt.program import Shapes
from jaxrt.target import Target

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
    check: bool = True
    """Compare each signature with TensorFlow once."""
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
            "check": self.check,
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
) -> Manifest:
    """Writes the artifact of the SavedModel at `path` and commits it.

    `allow_empty` accepts a model whose every signature was refused: a server shows its metadata
    and says why it does not run. Raises ConversionError otherwise; ModelError, UsageError.
    """
    started = clock()
    steps.step("read the SavedModel")
    model = tensorflow.open_model(path, options.tags)
    plans = _plans(model, options)
    steps.total(_count(plans, options))
    converted = {
        key: conversion.convert(tensorflow, model, key, plan, step=steps.step)
        for key, plan in plans.items()
    }
    job = emit.Job(tensorflow=tensorflow, model=model, target=target, steps=steps, writer=writer)
    steps.step("prepare weights")
    weights = emit.prepare_weights(job, converted.values())
    compiled, failed = _compile(job, converted, weights)
    converted |= {
        key: dataclasses.replace(converted[key], programs=(), refused=why)
        for key, why in failed.items()
    }
    if not allow_empty and not compiled:
        raise _nothing(model, plans, converted)
    checks = {
        key: emit.check_signature(job, key, found, weights.arrays)
        for key, found in compiled.items()
        if options.check
    }
    steps.step("write")
    refused = {key: _refusal(model, key, plans, converted) for key in model.signatures}
    writer.weights(weights.arrays)
    writer.report(
        report.make(
            model=model,
            refused=refused,
            plans=plans,
            converted=converted,
            compiled=compiled,
            checks=checks,
            weights=weights,
            seconds=clock() - started,
        )
    )
    signatures = {
        key: SignatureEntry(
            spec=spec,
            programs=compiled[key].entries if key in compiled else (),
            refused=refused[key],
        )
        for key, spec in model.signatures.items()
    }
    return writer.commit(_manifest(naming, options, target, signatures))


def _compile(
    job: emit.Job, converted: Mapping[str, ConvertedSignature], weights: emit.Prepared
) -> tuple[dict[str, emit.Compiled], dict[str, str]]:
    """The signatures that the target runs, and why it does not run the others."""
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


def _plans(model: ModelRecord, options: Options) -> dict[str, planning.Plan]:
    """The plan of every signature that somebody may call and TensorFlow may lower."""
    for wanted in options.signatures:
        if wanted not in model.signatures:
            known = ", ".join(k for k in model.signatures if k != INIT_OP) or "none"
            raise UsageError(f"{model.path}: no signature {wanted!r}; it has: {known}")
    return {
        key: planning.plan(
            key,
            spec,
            buckets=options.buckets,
            rules=options.rules,
            observed=options.observed.get(key, ()),
        )
        for key, spec in model.signatures.items()
        if key not in model.refused
        and key != INIT_OP
        and (not options.signatures or key in options.signatures)
    }


def _count(plans: Mapping[str, planning.Plan], options: Options) -> int:
    """Steps of a build: lifts (witnesses included), compiles, checks, and three more."""
    found = 3
    for plan in plans.values():
        variants = len({tuple(p.rebatch(0).shapes.items()) for p in plan.programs if p.batch})
        found += 2 * len(plan.programs) + variants + (options.check and bool(plan.programs))
    return found


def _refusal(
    model: ModelRecord,
    key: str,
    plans: Mapping[str, planning.Plan],
    converted: Mapping[str, ConvertedSignature],
) -> str | None:
    if key in model.refused:
        return model.refused[key].reason
    if key in plans:
        return converted[key].refused
    return "it is the initializer" if key == INIT_OP else "it was not chosen by --signature"


def _nothing(
    model: ModelRecord,
    plans: Mapping[str, planning.Plan],
    converted: Mapping[str, ConvertedSignature],
) -> ConversionError:
    reasons = [plan.unplanned for plan in plans.values() if plan.unplanned]
    reasons += [found.refused for found in converted.values() if found.refused]
    reasons += [f"signature {r.signature!r}: {r.reason}" for r in model.refused.values()]
    why = "; ".join(dict.fromkeys(reasons)) or "it has no signatures: save it with signatures=..."
    return ConversionError(f"{model.path}: nothing in it can be compiled: {why}")
