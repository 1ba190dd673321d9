"""Runs an artifact and TensorFlow side by side."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxrt import loader, target
from jaxrt.artifact import open_artifact
from jaxrt.cli import building, console, hosts, stagewise
from jaxrt.cli.tables import shapes
from jaxrt.converters import check
from jaxrt.converters.margins import Margins, margins
from jaxrt.converters.records import ModelRecord
from jaxrt.converters.seams import TensorFlow
from jaxrt.errors import ModelError, VerificationError
from jaxrt.manifest import Manifest
from jaxrt.passes.precision import Precision, Rounding
from jaxrt.specs import SignatureSpec


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """One output of one program; or one program that could not be compared."""

    signature: str
    shapes: str
    error: check.OutputError | None
    said: str

    @property
    def ok(self) -> bool:
        return self.error is None or self.error.ok


def verify(
    artifact: Path,
    against: Path,
    *,
    relative: float | None,
    seed: int,
    device: str,
    steps: console.Steps,
) -> list[Result]:
    """Every program and every signature in stages on made-up inputs, and TensorFlow on the same.

    `relative`: the tolerance; None: that of the precision the artifact was made at, and, where its
    weights are in few bits, the error that was recorded then, times a margin.
    Raises VerificationError when not one output could be compared; ArtifactError, ModelError.
    """
    model = building.saved_model(against)
    attached = target.select(device)  # first: weights of a mesh are read with jax
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(open_artifact(artifact))
        bridges = stack.enter_context(building.Bridges())
        loaded = loader.load(opened, attached, open_host=hosts.opener(opened))
        if not any(s.programs or s.stages for s in loaded.signatures.values()):
            raise VerificationError(f"{artifact}: it holds no program, so nothing was compared")
        steps.total(_count(loaded) + 1)
        steps.step("start TensorFlow")
        tensorflow: TensorFlow = bridges.start()
        record = tensorflow.open_model(model.path, opened.manifest.source.tags)
        server = stack.enter_context(stagewise.Server(opened.manifest.model, loaded))
        at_precision = check.Allowed.at(_precision(opened.manifest), relative)
        recorded = None if relative is not None else _recorded(opened.report())
        results = []
        for key, signature in loaded.signatures.items():
            allowed = at_precision
            if recorded is not None:
                allowed = allowed.compressed(recorded.of(key, signature.spec.outputs))
            if signature.programs or signature.stages:
                _check_face(key, signature.spec, record, artifact)
            for entry in signature.programs:
                steps.step(f"{key} {shapes(entry.entry)}")
                run = functools.partial(tensorflow.run, record, key)
                results += _compare(key, signature.spec, entry, run, seed, allowed)
            if signature.stages:
                steps.step(f"{key}, stage by stage")
                sample = functools.partial(tensorflow.sample, record, key, seed=seed)
                results += _staged(server, key, record, sample, allowed)
    if not any(result.error for result in results):
        where = f"{results[0].signature!r} {results[0].shapes}".rstrip()
        raise VerificationError(
            f"{artifact}: no output could be compared, first {where}: {results[0].said}"
        )
    return results


def _precision(manifest: Manifest) -> Precision:
    """What the products of an artifact were made at; those of earlier versions are exact."""
    passes = manifest.options.get("passes") or {}
    if "rounding" not in passes:
        return Precision.F32
    return Rounding.from_json(passes["rounding"]).on(manifest.target.platform)


def _recorded(report: Mapping[str, Any]) -> Margins | None:
    """What compression did to answers when the artifact was made: to calibration data, and to the
    random inputs that are drawn here too."""
    checked = {
        key: found["against_tensorflow"] or {} for key, found in report["signatures"].items()
    }
    random = {key: found["random"] for key, found in checked.items() if "random" in found}
    return margins(report.get("compression"), random)


def _check_face(key: str, spec: SignatureSpec, record: ModelRecord, artifact: Path) -> None:
    """Raises ModelError unless the SavedModel has the signature with the same dtypes."""
    if _face(spec) != _face(record.signatures.get(key)):
        raise ModelError(
            f"{record.path}: no signature {key!r} with the inputs and outputs that {artifact} "
            "has; pass the model it was made from"
        )


def _count(model: loader.LoadedModel) -> int:
    """Programs of whole signatures, and signatures in stages."""
    return sum(len(s.programs) + bool(s.stages) for s in model.signatures.values())


def _staged(
    server: stagewise.Server,
    key: str,
    record: ModelRecord,
    samples: stagewise.Samples,
    allowed: check.Allowed,
) -> list[Result]:
    """The outputs of a signature in stages, at several sizes."""
    if reason := check.incomparable(record.ops.get(key, ())):
        return _results(key, "", reason)
    return [
        result
        for at, found in server.compare(key, samples, allowed)
        for result in _results(key, at, found)
    ]


def _face(spec: SignatureSpec | None) -> list[dict[str, str]]:
    """Inputs and outputs, alias → dtype."""
    sides = () if spec is None else (spec.inputs, spec.outputs)
    return [{alias: tensor.dtype for alias, tensor in side.items()} for side in sides]


def _compare(
    key: str,
    spec: SignatureSpec,
    entry: loader.LoadedEntry,
    tensorflow: Callable[[Mapping[str, np.ndarray[Any, Any]]], Mapping[str, Any]],
    seed: int,
    allowed: check.Allowed,
) -> list[Result]:
    """The outputs of one program, or one line that says why they cannot be compared."""
    at = shapes(entry.entry)
    if entry.entry.random:
        return _results(key, at, "it draws random numbers")
    try:
        inputs, want = check.sample_and_run(
            spec, entry.entry.input_shapes, seed, tensorflow, fixed=entry.entry.values
        )
    except ModelError as error:  # its process may also die of them
        return _results(key, at, f"TensorFlow does not run it: {error}")
    return _results(key, at, check.compare(entry.program.run(inputs), want, allowed))


def _results(key: str, at: str, found: list[check.OutputError] | str) -> list[Result]:
    """Errors of outputs, or why there are none."""
    if isinstance(found, str):
        return [Result(signature=key, shapes=at, error=None, said=f"not compared: {found}")]
    return [
        Result(
            signature=key,
            shapes=at,
            error=error,
            said=error.verdict,
        )
        for error in found
    ]
