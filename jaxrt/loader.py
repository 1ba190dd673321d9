"""Artifact → programs that run: executables where they fit this machine, recompiled where not."""

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping

from jaxrt import compiler
from jaxrt.artifact import Artifact
from jaxrt.compiler import LoadedProgram
from jaxrt.errors import ArtifactError, DeviceError
from jaxrt.manifest import ProgramEntry
from jaxrt.program import Rows
from jaxrt.specs import SignatureSpec
from jaxrt.target import Target

log = logging.getLogger("jaxrt.loader")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LoadedEntry:
    """One program, loaded, with what its manifest says."""

    entry: ProgramEntry
    program: LoadedProgram
    rows: Rows
    recompiled: str | None
    """Why the executable of the artifact was not used; None when it was."""
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LoadedSignature:
    spec: SignatureSpec
    programs: tuple[LoadedEntry, ...]
    refused: str | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LoadedModel:
    signatures: Mapping[str, LoadedSignature]
    weights: compiler.Weights

    @property
    def entries(self) -> list[LoadedEntry]:
        return [e for s in self.signatures.values() for e in s.programs]


def load(
    artifact: Artifact, target: Target, *, step: Callable[[str], None] = lambda text: None
) -> LoadedModel:
    """Every program of an artifact on the target's device, weights placed once.

    Raises DeviceError when the artifact is for another platform, ArtifactError when neither the
    executable nor the portable program can be used.
    """
    wanted = artifact.manifest.target
    if wanted.platform != target.platform:
        raise DeviceError(
            f"{artifact.path}: compiled for {wanted.platform}, the device here is "
            f"{target.platform}; serve it with --device {wanted.platform}, or compile it with "
            f"--device {target.platform}"
        )
    weights = compiler.Weights(target)
    signatures = {}
    for name, signature in artifact.manifest.signatures.items():
        entries = []
        for entry in signature.programs:
            step(entry.key)
            entries.append(_load_entry(artifact, entry, weights, target))
        signatures[name] = LoadedSignature(
            spec=signature.spec, programs=tuple(entries), refused=signature.refused
        )
    return LoadedModel(signatures=signatures, weights=weights)


def _load_entry(
    artifact: Artifact, entry: ProgramEntry, weights: compiler.Weights, target: Target
) -> LoadedEntry:
    started = time.perf_counter()
    executable, why = _executable(artifact, entry, target)
    try:
        weights.place({name: artifact.weights[name] for name in entry.weights})
    except KeyError as error:
        raise ArtifactError(
            f"{artifact.path}: program {entry.key} wants weight {error}, which weights.safetensors "
            "does not have; recompile with `jaxrt compile`"
        ) from error
    program = LoadedProgram(
        executable,
        weights=weights.bind(entry.weights),
        inputs=compiler.avals(entry.input_names, entry.input_shapes, entry.input_dtypes),
        outputs=compiler.avals(entry.output_names, entry.output_shapes, entry.output_dtypes),
        target=target,
    )
    return LoadedEntry(
        entry=entry,
        program=program,
        rows=Rows(entry.rows),
        recompiled=why,
        seconds=time.perf_counter() - started,
    )


def _executable(
    artifact: Artifact, entry: ProgramEntry, target: Target
) -> tuple[object, str | None]:
    """The executable and, when it had to be compiled again, why."""
    if entry.executable is None:
        why = "the artifact has none"
    elif entry.executable.key != target.fingerprint:
        why = f"made for another runtime or processor ({entry.executable.key})"
    else:
        content = artifact.executable(entry.key)
        assert content is not None
        try:
            return compiler.load_executable(content, target), None
        except RuntimeError as error:
            why = f"the runtime refuses it: {str(error).splitlines()[0]}"
    log.warning(
        "%s: executable %s is not used: %s; compiling its portable program",
        artifact.path,
        entry.key,
        why,
    )
    try:
        return compiler.compile_portable(artifact.portable(entry.key), target).loaded, why
    except ArtifactError as error:
        raise ArtifactError(f"{artifact.path / entry.portable}: {error}") from error
