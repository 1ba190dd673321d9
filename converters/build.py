"""SavedModel → artifact: reads, plans, converts, prepares the weights, compiles, checks, writes."""

import platform
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

import jax
from jaxlib import version as jaxlib_version

from jaxrt import __version__, layouts
from jaxrt.artifact import ArtifactWriter
from jaxrt.converters import (
    compressions,
    conversion,
    division,
    emit,
    hosting,
    making,
    margins,
    planning,
    report,
    routes,
    trial,
)
from jaxrt.converters.conversion import ConvertedSignature
from jaxrt.converters.counted import Counted
from jaxrt.converters.division import INIT_OP
from jaxrt.converters.options import Naming as Naming
from jaxrt.converters.options import Options as Options
from jaxrt.converters.records import ModelRecord
from jaxrt.converters.seams import Steps, TensorFlow
from jaxrt.errors import ConversionError
from jaxrt.manifest import Manifest, SignatureEntry, Source, TargetRecord
from jaxrt.target import Target


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
    lay_out: layouts.LayOut | None = None,
) -> Manifest:
    """Writes the artifact of the SavedModel at `path` and commits it.

    `allow_empty` accepts a model whose every signature was refused: a server shows its metadata
    and says why it does not run. `lay_out`: for one attached device when left out. Raises
    ConversionError otherwise; ModelError, UsageError; DeviceError for what does not fit the target.
    """
    started = clock()
    steps.step("read the SavedModel")
    model = tensorflow.open_model(path, options.tags)
    job = emit.Job(
        tensorflow=tensorflow,
        model=model,
        target=target,
        steps=Counted(steps),
        writer=writer,
        optimize=optimize,
        lay_out=lay_out or layouts.here(target),
    )
    found = division.divide(job, options, keep_open=allow_empty)
    made = making.make(job, found, options)
    found, weights, laid_out, compiled = made.found, made.weights, made.laid_out, made.compiled
    ways = routes.without(found.ways, found.parts, _failures(found.converted, made.failed))
    refused = {key: _refusal(model, key, ways) for key in model.signatures}
    signatures = {
        key: emit.signature(job, number, key, spec, ways.get(key), compiled, refused[key])
        for number, (key, spec) in enumerate(model.signatures.items())
    }
    if options.fallback and not allow_empty:
        signatures = {
            key: hosting.with_fallback(model, key, entry, options.rules)
            for key, entry in signatures.items()
        }
    compression = compressions.make(made)
    built = trial.Built(
        job=job,
        compiled=compiled,
        arrays=weights.arrays,
        precision=options.passes.rounding.on(target.platform),
        mesh=laid_out.mesh,
        layouts=laid_out.weights,
        margins=margins.margins(compression, {}),
        samples=made.compression.data.samples if made.compression else {},
    )
    checks = {
        key: trial.signature(built, key, entry)
        for key, entry in signatures.items()
        if options.check and (entry.programs or entry.stages)
    }
    steps.step("write")
    if not allow_empty and not any(e.programs or e.stages for e in signatures.values()):
        raise _nothing(model, found.plans)
    if any(way.whole for way in ways.values()) or any(e.fallback for e in signatures.values()):
        hosting.copy_saved_model(path, writer)
    writer.weights(weights.arrays)
    writer.report(
        report.make(
            model=model,
            signatures=signatures,
            routes=ways,
            plans=found.plans,
            converted=found.converted,
            checks=checks,
            weights=weights,
            seconds=clock() - started,
            plan=laid_out.report,
            compiled=compiled,
            compression=compression,
        )
    )
    return writer.commit(_manifest(naming, options, target, signatures, laid_out))


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
    laid_out: layouts.LaidOut,
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
            fingerprint={
                "key": target.fingerprint,
                "features": target.features,
                "topology": target.topology,
                "devices": target.num_devices,
            },
        ),
        signatures=signatures,
        mesh=laid_out.mesh,
        layouts=laid_out.weights,
    )


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
