"""What the engine serves: the seams between HTTP, batching and loaded programs."""

import dataclasses
import enum
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from jaxrt.errors import Code
from jaxrt.program import Rows as Rows
from jaxrt.specs import SignatureSpec

HostTensors = Mapping[str, np.ndarray[Any, Any]]
"""Input or output alias → array on the host; strings are object arrays of bytes."""


class Loaded(Protocol):
    """A compiled program on its device, weights bound: exact shapes in, exact shapes out.

    Implemented by `jaxrt.compiler`; a test passes a fake. `run` blocks, may be called
    by several threads at once, and never compiles. Later runs leave the arrays it gave alone:
    requests keep views of them.
    """

    @property
    def input_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Alias → full shape, batch first."""

    @property
    def output_shapes(self) -> Mapping[str, tuple[int, ...]]: ...

    def run(self, inputs: HostTensors) -> HostTensors: ...


class OnDemand(Protocol):
    """Compiles a shape nobody planned; blocks for seconds, so never on the event loop."""

    def compile(
        self,
        signature: str,
        shapes: Mapping[str, tuple[int, ...]],
        values: Mapping[str, bool],
    ) -> tuple[Loaded, Rows]:
        """For requests of these shapes, and of these values of scalar inputs.

        Raises ConversionError when the signature cannot take these shapes.
        """


class HostProgram(Protocol):
    """A host segment: takes any shape its graph takes; several threads may run it at once."""

    def run(self, inputs: HostTensors) -> HostTensors:
        """Raises RequestError leaves for what the request is to blame for."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StagePrograms:
    """One segment of a signature that is cut: on the host, or on the device."""

    spec: SignatureSpec
    """The values it takes and gives, by name; aliases at the signature's ends."""
    programs: Sequence[tuple[Loaded, Rows]] = ()
    """Of a device stage."""
    fixed: Sequence[Mapping[str, bool]] = ()
    """As in SignaturePrograms."""
    host: HostProgram | None = None
    rows: Rows = Rows.DEPENDENT
    """Of a host stage: whether requests may share a run."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SignaturePrograms:
    """One signature of a version: its planned programs or its stages, or why it has none."""

    spec: SignatureSpec
    programs: Sequence[tuple[Loaded, Rows]] = ()
    fixed: Sequence[Mapping[str, bool]] = ()
    """For each program, the scalar inputs that it is made for one value of; empty: for none."""
    refused: str | None = None
    """One sentence: why nothing of this signature was compiled."""
    stages: Sequence[StagePrograms] = ()
    """In the order they run; empty where one device program is the whole signature."""
    fallback: HostProgram | None = None
    """Answers requests of shapes that no program takes, one at a time."""


class State(enum.Enum):
    """tensorflow_serving/apis/get_model_status.proto, ModelVersionStatus.State."""

    UNKNOWN = "UNKNOWN"
    START = "START"
    LOADING = "LOADING"
    AVAILABLE = "AVAILABLE"
    UNLOADING = "UNLOADING"
    END = "END"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class VersionStatus:
    version: int
    state: State
    code: Code = Code.OK
    message: str = ""


class Servable(Protocol):
    """One version of one model, ready for requests."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> int: ...

    @property
    def signatures(self) -> Mapping[str, SignatureSpec]: ...

    @property
    def startable(self) -> Collection[str]:
        """The signatures for which `start` may ever begin a request."""

    async def predict(
        self, signature: str, inputs: HostTensors, *, deadline: float | None
    ) -> HostTensors:
        """Inputs by alias → all outputs of the signature by alias.

        `deadline` is a time.monotonic() instant, None for no limit. Cancelling the task drops the
        work if it has not started. Raises RequestError leaves (InvalidArgument, Unavailable when
        the queue is full or the server drains, DeadlineExceeded, Unimplemented for a refused
        signature).
        """

    def start(
        self,
        signature: str,
        inputs: HostTensors,
        *,
        deadline: float | None,
        told: Callable[[HostTensors | Exception], None],
    ) -> "Begun | None":
        """`predict` for what is soon done: nothing waits, and `told` gets the answer.

        On the event loop, in a later turn than this one; None, and nothing has happened, if
        `predict` has to be asked. Raises InvalidArgument for what `predict` would refuse.
        """


class Begun(Protocol):
    """A request that was begun."""

    def cancel(self) -> object:
        """Nobody waits for the answer any more, and nobody is told it."""


class Models(Protocol):
    """The models of this server, as the REST layer looks them up."""

    def get(self, name: str, *, version: int | None = None, label: str | None = None) -> Servable:
        """The servable for a request: the highest AVAILABLE version when neither is given.

        Raises NotFound `Servable not found for request: Latest(m)` / `Specific(m, 99)` and
        InvalidArgument `Unrecognized servable version label: X` (also for an unknown model).
        """

    def status(self, name: str, version: int | None = None) -> Sequence[VersionStatus]:
        """All known versions, descending.

        Raises NotFound `Could not find any versions of model M` / `Could not find version V of
        model M`.
        """

    def ready(self) -> bool:
        """Every configured model has an AVAILABLE version and the server is not draining."""
