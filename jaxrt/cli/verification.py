"""Runs an artifact and TensorFlow side by side."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxrt import loader, target
from jaxrt.artifact import open_artifact
from jaxrt.cli import building, console, hosts
from jaxrt.cli.tables import shapes
from jaxrt.converters import check
from jaxrt.converters.seams import TensorFlow
from jaxrt.errors import ModelError, VerificationError
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
    relative: float,
    seed: int,
    device: str,
    steps: console.Steps,
) -> list[Result]:
    """Every program of the artifact on random inputs, and TensorFlow on the same.

    Raises VerificationError when not one output could be compared; ArtifactError, ModelError.
    """
    model = building.saved_model(against)
    with open_artifact(artifact) as opened, building.Bridges() as bridges:
        loaded = loader.load(opened, target.select(device), open_host=hosts.opener(opened))
        if not loaded.entries:
            raise VerificationError(f"{artifact}: it holds no program, so nothing was compared")
        steps.total(len(loaded.entries) + 1)
        steps.step("start TensorFlow")
        tensorflow: TensorFlow = bridges.start()
        record = tensorflow.open_model(model.path, opened.manifest.source.tags)
        results = []
        for key, signature in loaded.signatures.items():
            if signature.programs and _face(signature.spec) != _face(record.signatures.get(key)):
                raise ModelError(
                    f"{against}: no signature {key!r} with the inputs and outputs that {artifact} "
                    "has; pass the model it was made from"
                )
            for entry in signature.programs:
                steps.step(f"{key} {shapes(entry.entry)}")
                run = functools.partial(tensorflow.run, record, key)
                results += _compare(key, signature.spec, entry, run, seed, relative)
    if not results:
        raise VerificationError(
            f"{artifact}: every signature is cut into stages, and those are not compared yet; the "
            "cut itself was held against TensorFlow when it was compiled"
        )
    if not any(result.error for result in results):
        raise VerificationError(
            f"{artifact}: no output could be compared, first {results[0].signature!r} at "
            f"{results[0].shapes}: {results[0].said}"
        )
    return results


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
    relative: float,
) -> list[Result]:
    """The outputs of one program, or one line that says why they cannot be compared."""
    at = shapes(entry.entry)
    if entry.entry.random:
        said = "not compared: it draws random numbers"
        return [Result(signature=key, shapes=at, error=None, said=said)]
    try:
        inputs, want = check.sample_and_run(spec, entry.entry.input_shapes, seed, tensorflow)
    except ModelError as error:  # its process may also die of them
        said = f"not compared: TensorFlow does not run it: {error}"
        return [Result(signature=key, shapes=at, error=None, said=said)]
    return [
        Result(
            signature=key,
            shapes=at,
            error=error,
            said="ok" if error.ok else error.problem or "past the tolerance",
        )
        for error in check.compare(entry.program.run(inputs), want, relative)
    ]
