"""The programs of an artifact in every place they run: executables and weights, each loaded once.

Executables are used where they fit this machine, and compiled again where not.
"""

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from jaxrt import compiler
from jaxrt.artifact import Artifact
from jaxrt.checkpoint import Checkpoint
from jaxrt.entries import ProgramEntry
from jaxrt.errors import ArtifactError
from jaxrt.placed import Place, Weights
from jaxrt.running import LoadedProgram, ShardedProgram
from jaxrt.slices import Sliced, sliced
from jaxrt.target import Target

log = logging.getLogger("jaxrt.loader")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One program of an artifact, in every place that has devices in this process."""

    programs: tuple[LoadedProgram | ShardedProgram | Sliced | None, ...]
    """By the number of the place."""
    recompiled: str | None
    """Why the executable of the artifact was not used; None when it was."""
    seconds: float


class Parts:
    """Loads each file once for every place: signatures of the same function share executables."""

    def __init__(
        self,
        artifact: Artifact,
        target: Target,
        places: Sequence[Place],
        step: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._artifact = artifact
        self._target = target
        self._step = step
        layouts = artifact.manifest.layouts
        self.weights = [Weights(target, p, layouts) if p.here else None for p in places]
        """Of each place; None: all its devices are other processes'."""
        self._executables: dict[str, tuple[list[object], str | None]] = {}
        """By the file of the portable program."""

    def load(self, entry: ProgramEntry) -> Part:
        """Raises ArtifactError when neither executable nor portable program can be used."""
        self._step(entry.key)
        started = time.perf_counter()
        if entry.portable not in self._executables:
            self._executables[entry.portable] = self._load(entry)
        executables, why = self._executables[entry.portable]
        loaded = iter(executables)
        programs = tuple(
            None if weights is None else self._program(next(loaded), entry, weights)
            for weights in self.weights
        )
        return Part(programs=programs, recompiled=why, seconds=time.perf_counter() - started)

    def _load(self, entry: ProgramEntry) -> tuple[list[object], str | None]:
        """An executable for each place here and, when they had to be compiled again, why."""
        held = [weights for weights in self.weights if weights is not None]
        why = self._unfit(entry)
        if why is None:
            content = self._artifact.executable(entry.key)
            assert content is not None
            try:
                return [self._executable(content, weights) for weights in held], None
            except RuntimeError as error:
                why = f"the runtime refuses it: {str(error).splitlines()[0]}"
        log.warning(
            "%s: executable %s is not used: %s; compiling its portable program",
            self._artifact.path,
            entry.key,
            why,
        )
        data = self._artifact.portable(entry.key)
        try:
            return [self._compile(data, entry, weights) for weights in held], why
        except ArtifactError as error:
            raise ArtifactError(f"{self._artifact.path / entry.portable}: {error}") from error

    def _unfit(self, entry: ProgramEntry) -> str | None:
        if entry.executable is None:
            return "the artifact has none"
        if entry.executable.key != self._target.fingerprint:
            return f"made for another runtime or processor ({entry.executable.key})"
        return None

    def _executable(self, content: bytes, weights: Weights) -> object:
        return compiler.load_executable(content, self._target, weights.place_of)

    def _compile(self, data: bytes, entry: ProgramEntry, weights: Weights) -> object:
        place = weights.place_of
        inputs = [place.sharding(entry.input_layouts.get(n, ())) for n in entry.input_names]
        arguments = [*(weights.sharding(name) for name in entry.weights), *inputs]
        return compiler.compile_portable(data, self._target, place, arguments).loaded

    def _program(
        self, executable: object, entry: ProgramEntry, weights: Weights
    ) -> LoadedProgram | ShardedProgram | Sliced:
        stored = self._artifact.weights
        try:
            if isinstance(stored, Checkpoint):
                missing = [name for name in self._names if name not in weights]
                weights.adopt(stored.restore({name: weights.sharding(name) for name in missing}))
            else:
                weights.place({name: stored[name] for name in entry.weights})
        except KeyError as error:
            raise ArtifactError(
                f"{self._artifact.path}: program {entry.key} wants weight {error}, which "
                "weights.safetensors does not have; recompile with `jaxrt compile`"
            ) from error
        return program(executable, entry, weights, self._target)

    @property
    def _names(self) -> list[str]:
        """Of the weights of all programs: a checkpoint is read in one go."""
        programs = self._artifact.manifest.programs
        return list(dict.fromkeys(name for program in programs for name in program.weights))


def program(
    executable: Any, entry: ProgramEntry, weights: Weights, target: Target
) -> LoadedProgram | ShardedProgram | Sliced:
    """An executable as what its entry says that it takes and gives; its weights are placed."""
    inputs = compiler.avals(entry.input_names, entry.input_shapes, entry.input_dtypes)
    outputs = compiler.avals(entry.output_names, entry.output_shapes, entry.output_dtypes)
    place = weights.place_of
    bound = weights.bind(entry.weights)
    if place.single and place.processes == (place.process,):
        whole, times = {"inputs": inputs, "outputs": outputs}, entry.slices
        each = {kind: sliced(avals, times) for kind, avals in whole.items()} if times > 1 else whole
        one = LoadedProgram(executable, weights=bound, **each, target=target, place=place)
        return Sliced(one, times, **whole) if times > 1 else one
    return ShardedProgram(
        executable,
        weights=bound,
        inputs=inputs,
        outputs=outputs,
        place=place,
        input_layouts=entry.input_layouts,
        output_layouts=entry.output_layouts,
    )
