"""Artifact → programs that run: executables where they fit this machine, recompiled where not."""

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from jaxrt import compiler
from jaxrt.artifact import Artifact
from jaxrt.compiler import LoadedProgram
from jaxrt.errors import ArtifactError, DeviceError
from jaxrt.manifest import HostEntry, ProgramEntry, StageEntry
from jaxrt.program import Rows
from jaxrt.specs import SignatureSpec, stage_key
from jaxrt.target import Target

log = logging.getLogger("jaxrt.loader")

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LoadedEntry:
    """One program, loaded, with what its manifest says."""

    entry: ProgramEntry
    program: LoadedProgram
    rows: Rows
    recompiled: str | None
    """Why the executable of the artifact was not used; None when it was."""
    seconds: float


class HostProgram(Protocol):
    """A host segment, loaded; `jaxrt.converters.host` has them."""

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]: ...


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LoadedStage:
    """One segment of a signature that is cut; `host` is None for a device segment."""

    entry: StageEntry
    programs: tuple[LoadedEntry, ...]
    host: HostProgram | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LoadedSignature:
    spec: SignatureSpec
    programs: tuple[LoadedEntry, ...]
    refused: str | None
    stages: tuple[LoadedStage, ...] = ()
    fallback: HostProgram | None = None
    """Answers shapes that no program takes."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LoadedModel:
    signatures: Mapping[str, LoadedSignature]
    weights: compiler.Weights

    @property
    def parts(self) -> dict[str, tuple[LoadedEntry, ...]]:
        """Signature, or device stage by its `stage_key` → its programs."""
        found = {}
        for name, signature in self.signatures.items():
            found[name] = signature.programs
            for number, stage in enumerate(signature.stages):
                found[stage_key(name, number)] = stage.programs
        return found

    @property
    def entries(self) -> list[LoadedEntry]:
        return [entry for entries in self.parts.values() for entry in entries]


def load(
    artifact: Artifact,
    target: Target,
    *,
    open_host: Callable[[HostEntry], HostProgram],
    open_fallback: Callable[[HostEntry], HostProgram | None] = lambda entry: None,
    step: Callable[[str], None] = lambda text: None,
) -> LoadedModel:
    """Every program of an artifact on the target's device, weights placed once.

    `open_host` makes what runs a host segment; it is called only where there is one.
    `open_fallback` makes what runs whole signatures at shapes that no program takes, or declines.

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
    programs = _Programs(artifact, weights, target, step)
    signatures = {}
    for name, signature in artifact.manifest.signatures.items():
        stages = [
            LoadedStage(
                entry=stage,
                programs=programs.load(stage.programs),
                host=open_host(stage.host) if stage.host else None,
            )
            for stage in signature.stages
        ]
        signatures[name] = LoadedSignature(
            spec=signature.spec,
            programs=programs.load(signature.programs),
            refused=signature.refused,
            stages=tuple(stages),
            fallback=open_fallback(signature.fallback) if signature.fallback else None,
        )
    return LoadedModel(signatures=signatures, weights=weights)


def program(
    executable: object, entry: ProgramEntry, weights: compiler.Weights, target: Target
) -> LoadedProgram:
    """An executable as what its entry says that it takes and gives; its weights are placed."""
    return LoadedProgram(
        executable,
        weights=weights.bind(entry.weights),
        inputs=compiler.avals(entry.input_names, entry.input_shapes, entry.input_dtypes),
        outputs=compiler.avals(entry.output_names, entry.output_shapes, entry.output_dtypes),
        target=target,
    )


class _Programs:
    """Loads each file once: signatures of the same function share an executable.

    Those that also take and give the same names share all, and so their requests share batches.
    """

    def __init__(
        self,
        artifact: Artifact,
        weights: compiler.Weights,
        target: Target,
        step: Callable[[str], None],
    ) -> None:
        self._artifact = artifact
        self._weights = weights
        self._target = target
        self._step = step
        self._executables: dict[str, tuple[object, str | None]] = {}
        """By the file of the portable program."""
        self._loaded: list[LoadedEntry] = []

    def load(self, entries: Sequence[ProgramEntry]) -> tuple[LoadedEntry, ...]:
        return tuple(self._entry(entry) for entry in entries)

    def _entry(self, entry: ProgramEntry) -> LoadedEntry:
        self._step(entry.key)
        started = time.perf_counter()
        if entry.portable not in self._executables:
            found = _executable(self._artifact, entry, self._target)
            self._executables[entry.portable] = found
        executable, why = self._executables[entry.portable]
        same = (e.program for e in self._loaded if _same(e.entry, entry))
        loaded = LoadedEntry(
            entry=entry,
            program=next(same, None) or self._program(executable, entry),
            rows=Rows(entry.rows),
            recompiled=why,
            seconds=time.perf_counter() - started,
        )
        self._loaded.append(loaded)
        return loaded

    def _program(self, executable: object, entry: ProgramEntry) -> LoadedProgram:
        arrays = self._artifact.weights
        try:
            self._weights.place({name: arrays[name] for name in entry.weights})
        except KeyError as error:
            raise ArtifactError(
                f"{self._artifact.path}: program {entry.key} wants weight {error}, which "
                "weights.safetensors does not have; recompile with `jaxrt compile`"
            ) from error
        return program(executable, entry, self._weights, self._target)


def _same(one: ProgramEntry, other: ProgramEntry) -> bool:
    """Whether one loaded program answers for both."""
    return dataclasses.replace(one, key=other.key, stats=other.stats) == other


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
