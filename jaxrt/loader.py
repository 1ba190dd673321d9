"""Artifact → programs that run: executables where they fit this machine, recompiled where not."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from jaxrt import placed
from jaxrt.artifact import Artifact
from jaxrt.entries import HostEntry, ProgramEntry, StageEntry
from jaxrt.errors import DeviceError
from jaxrt.parts import Part, Parts
from jaxrt.parts import program as program
from jaxrt.placed import Array, Place, Weights
from jaxrt.program import Rows
from jaxrt.running import Running
from jaxrt.specs import SignatureSpec, stage_key
from jaxrt.target import Target


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LoadedEntry:
    """One program, loaded, with what its manifest says."""

    entry: ProgramEntry
    program: Running
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
    places: tuple[Place, ...]
    """One for each replica."""
    held: tuple[Weights, ...]
    """The weights of each replica that has devices in this process."""

    @property
    def weights(self) -> Weights:
        """Those of the first replica."""
        return self.held[0]

    @property
    def nbytes(self) -> int:
        """Of the weights on all devices of this process."""
        return sum(weights.nbytes for weights in self.held)

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


Combine = Callable[[ProgramEntry, Part, Sequence[Place]], Running]
"""One program in all its places → what runs it."""


def alone(entry: ProgramEntry, part: Part, places: Sequence[Place]) -> Running:
    """The first place's."""
    program = part.programs[0]
    assert program is not None
    return program


def load(
    artifact: Artifact,
    target: Target,
    *,
    open_host: Callable[[HostEntry], HostProgram],
    open_fallback: Callable[[HostEntry], HostProgram | None] = lambda entry: None,
    step: Callable[[str], None] = lambda text: None,
    replicas: int | None = 1,
    combine: Combine = alone,
) -> LoadedModel:
    """Every program of an artifact on the target's devices, weights placed once for each replica.

    `open_host` makes what runs a host segment; it is called only where there is one.
    `open_fallback` makes what runs whole signatures at shapes that no program takes, or declines.
    `replicas`: None for as many as there are devices for; `combine` makes one program of them.

    Raises DeviceError when the artifact is for another platform or more devices, ArtifactError
    when neither the executable nor the portable program can be used.
    """
    where = places(artifact, target, replicas)
    programs = _Programs(Parts(artifact, target, where, step), where, combine)
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
    return LoadedModel(signatures=signatures, places=where, held=programs.held)


def places(artifact: Artifact, target: Target, replicas: int | None) -> tuple[Place, ...]:
    """Where the programs of an artifact run. Raises DeviceError as `load` says."""
    wanted = artifact.manifest.target
    if wanted.platform != target.platform:
        raise DeviceError(
            f"{artifact.path}: compiled for {wanted.platform}, the device here is "
            f"{target.platform}; serve it with --device {wanted.platform}, or compile it with "
            f"--device {target.platform}"
        )
    return placed.places(target, artifact.manifest.mesh, replicas, str(artifact.path))


class _Programs:
    """Programs that also take and give the same names are one: their requests share batches."""

    def __init__(self, parts: Parts, where: Sequence[Place], combine: Combine) -> None:
        self._parts = parts
        self._where = where
        self._combine = combine
        self._loaded: list[LoadedEntry] = []

    @property
    def held(self) -> tuple[Weights, ...]:
        return tuple(weights for weights in self._parts.weights if weights is not None)

    def load(self, entries: Sequence[ProgramEntry]) -> tuple[LoadedEntry, ...]:
        return tuple(self._entry(entry) for entry in entries)

    def _entry(self, entry: ProgramEntry) -> LoadedEntry:
        part = self._parts.load(entry)
        same = (e.program for e in self._loaded if _same(e.entry, entry))
        loaded = LoadedEntry(
            entry=entry,
            program=next(same, None) or self._combine(entry, part, self._where),
            rows=Rows(entry.rows),
            recompiled=part.recompiled,
            seconds=part.seconds,
        )
        self._loaded.append(loaded)
        return loaded


def _same(one: ProgramEntry, other: ProgramEntry) -> bool:
    """Whether one loaded program answers for both."""
    return dataclasses.replace(one, key=other.key, stats=other.stats) == other
