"""Which devices the models of a server run on, and how many replicas each has."""

import dataclasses
import itertools
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future

from jaxrt.artifact import Artifact
from jaxrt.cli.cluster import described
from jaxrt.compiler import avals
from jaxrt.entries import ProgramEntry
from jaxrt.errors import UsageError
from jaxrt.hosts import Answer, Hosts, SpannedProgram
from jaxrt.loader import alone
from jaxrt.occupancy import Occupancy
from jaxrt.parts import Part
from jaxrt.placed import Place
from jaxrt.program import Rows
from jaxrt.replicas import ReplicatedProgram
from jaxrt.running import Running
from jaxrt.serving.engine.servable import Loaded, OnDemand

log = logging.getLogger("jaxrt.serving")

AUTO = "auto"


def count(text: str) -> int | None:
    """`--replicas`: None for as many as there are devices for. Raises UsageError."""
    if text == AUTO:
        return None
    if not text.isdecimal() or not int(text):
        raise UsageError(f"--replicas {text!r}: want {AUTO} or a whole number from 1 up")
    return int(text)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Placing:
    """Equal for all models of a server."""

    several: bool
    """Whether there is more than one device: else nothing has to take turns."""
    replicas: int | None = 1
    """None: as many as there are devices for."""
    occupancy: Occupancy = dataclasses.field(default_factory=Occupancy)
    hosts: Hosts | None = None
    """The others, where several serve together."""

    def combine(self, entry: ProgramEntry, part: Part, places: Sequence[Place]) -> Running:
        """A program in all its places, as `loader.load` asks for it."""
        if not self.several:
            return alone(entry, part, places)
        programs = [program for program in part.programs if program is not None]
        return ReplicatedProgram(programs, places, self.occupancy)

    def begin(self, artifact: Artifact) -> "Spread":
        """To be called before an artifact is loaded: the other hosts load it meanwhile."""
        return Spread(self, artifact)

    def on_demand(self, compiler: OnDemand | None, places: Sequence[Place]) -> OnDemand | None:
        """What compiles shapes that nobody planned runs in the first place.

        None on a mesh of several devices, whose plan a shape alone cannot have.
        """
        if compiler is None or not self.several:
            return compiler
        if places[0].single:
            return _Placed(compiler, places[0], self.occupancy)
        log.info(
            "requests of shapes that nobody planned get 400: on a mesh of %s only planned shapes "
            "run; plan them with --shape and --batch-sizes",
            places[0].shape,
        )
        return None


class Spread:
    """A version on this host and, where there are others, on them."""

    def __init__(self, placing: Placing, artifact: Artifact) -> None:
        self._placing = placing
        self._hosts = placing.hosts
        self._asked: list[Future[Answer]] = []
        self._fields = {"model": next(_MODELS), "replicas": placing.replicas}
        if self._hosts is not None:
            fields = {**self._fields, **described(artifact), "do": "load"}
            self._asked = [self._hosts.ask(host, fields) for host in self._hosts.numbers]

    def combine(self, entry: ProgramEntry, part: Part, places: Sequence[Place]) -> Running:
        """As `loader.load` asks for it."""
        hosts = self._hosts
        if hosts is None:
            return self._placing.combine(entry, part, places)
        inputs = avals(entry.input_names, entry.input_shapes, entry.input_dtypes)
        outputs = avals(entry.output_names, entry.output_shapes, entry.output_dtypes)
        programs = [
            SpannedProgram(
                hosts,
                {**self._fields, "key": entry.key, "replica": number},
                program,
                entry=entry,
                inputs=inputs,
                outputs=outputs,
                place=place,
            )
            for number, (program, place) in enumerate(zip(part.programs, places, strict=True))
        ]
        return ReplicatedProgram(programs, places, self._placing.occupancy)

    def settle(self) -> None:
        """Returns when the others have loaded it. Raises DeviceError, Unavailable."""
        for future in self._asked:
            future.result()

    def close(self) -> None:
        """Lets the others forget it."""
        if self._hosts is not None:
            for host in self._hosts.numbers:
                self._hosts.ask(host, {**self._fields, "do": "unload"})


_MODELS = itertools.count()
"""Numbers that the hosts know versions by."""


class _Placed:
    """An OnDemand whose programs take turns with all others."""

    def __init__(self, compiler: OnDemand, place: Place, occupancy: Occupancy) -> None:
        self._compiler = compiler
        self._place = place
        self._occupancy = occupancy

    def compile(
        self,
        signature: str,
        shapes: Mapping[str, tuple[int, ...]],
        values: Mapping[str, bool],
    ) -> tuple[Loaded, Rows]:
        """As OnDemand says."""
        program, rows = self._compiler.compile(signature, shapes, values)
        return ReplicatedProgram([program], [self._place], self._occupancy), rows
