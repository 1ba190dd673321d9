"""Every error jaxrt raises on purpose, in one tree.

    JaxrtError
    ├── UsageError            the command line or a configuration file is wrong
    ├── ModelError            the SavedModel cannot be read
    │   └── ConversionError   it was read, and a signature cannot be compiled
    │       └── UnsupportedOps
    ├── ArtifactError         the artifact is missing, truncated, altered or of another version
    ├── DeviceError           the wanted device is not attached
    ├── VerificationError     the answers differ from TensorFlow's by more than the tolerance
    └── RequestError          one request fails, with a canonical status code
        ├── InvalidArgument, NotFound, DeadlineExceeded, Cancelled, ResourceExhausted,
        └── FailedPrecondition, Unimplemented, Internal, Unavailable

Messages say where, what was found, what was wanted and what to do, on one line.
"""

import enum
from collections.abc import Sequence
from typing import ClassVar


class JaxrtError(Exception):
    """Base of the tree; `exit_code` is what the command line exits with."""

    exit_code: ClassVar[int] = 1


class UsageError(JaxrtError):
    """A flag or a configuration file is wrong."""

    exit_code = 2


class ModelError(JaxrtError):
    """The SavedModel cannot be read."""

    exit_code = 3


class ConversionError(ModelError):
    """The SavedModel was read, but something in it cannot be compiled."""

    exit_code = 4


class UnsupportedOps(ConversionError):
    """Ops or attributes that no rule knows: all of them in one error."""

    def __init__(self, where: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(f"{where}: {len(self.problems)} unsupported: " + "; ".join(self.problems))


class ArtifactError(JaxrtError):
    """The artifact is missing, truncated, altered, or of a version this jaxrt does not read."""

    exit_code = 5


class DeviceError(JaxrtError):
    """The wanted device is not attached, or cannot hold the model."""

    exit_code = 6


class VerificationError(JaxrtError):
    """Answers differ from TensorFlow's by more than the tolerance."""

    exit_code = 1


class Code(enum.Enum):
    """Canonical status codes, by the numbers of google/rpc/code.proto."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class RequestError(JaxrtError):
    """One request fails; `code` decides the HTTP or gRPC status."""

    code: ClassVar[Code] = Code.UNKNOWN


class InvalidArgument(RequestError):
    """The request does not fit the signature."""

    code = Code.INVALID_ARGUMENT


class NotFound(RequestError):
    """No such model, version or signature."""

    code = Code.NOT_FOUND


class DeadlineExceeded(RequestError):
    """The answer was not ready in time."""

    code = Code.DEADLINE_EXCEEDED


class Cancelled(RequestError):
    """The client hung up before the answer was ready."""

    code = Code.CANCELLED


class ResourceExhausted(RequestError):
    """A limit of the server was hit by this request."""

    code = Code.RESOURCE_EXHAUSTED


class FailedPrecondition(RequestError):
    """The model is not in a state that allows the request."""

    code = Code.FAILED_PRECONDITION


class Unimplemented(RequestError):
    """The request is understood and cannot be served by this build or model."""

    code = Code.UNIMPLEMENTED


class Internal(RequestError):
    """The server is at fault."""

    code = Code.INTERNAL


class Unavailable(RequestError):
    """The server is full or shutting down: try again."""

    code = Code.UNAVAILABLE
