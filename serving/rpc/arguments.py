"""--grpc_channel_arguments: what of gRPC's server arguments has a meaning here.

Names and defaults are facts of grpc/impl/channel_arg_names.h.
"""

import dataclasses
from collections.abc import Sequence

from jaxrt.errors import UsageError

LARGEST_MESSAGE = (1 << 31) - 1

_FIELDS = {
    "grpc.max_concurrent_streams": "max_concurrent_streams",
    "grpc.max_receive_message_length": "max_receive_message_length",
    "grpc.max_message_length": "max_receive_message_length",
    "grpc.max_send_message_length": "max_send_message_length",
    "grpc.max_connection_idle_ms": "max_connection_idle_ms",
}
_UNLIMITED = -1


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Arguments:
    """Limits of the server. Sizes in bytes."""

    max_concurrent_streams: int = 10_000
    """Calls of one connection under way. gRPC's own default is no limit."""
    max_receive_message_length: int = LARGEST_MESSAGE
    max_send_message_length: int = LARGEST_MESSAGE
    max_connection_idle_ms: int = LARGEST_MESSAGE
    """How long a connection without calls is kept; the default is for ever."""


def parse(text: str) -> tuple[Arguments, Sequence[str]]:
    """`key=value,key=value` → the arguments, and the keys that have no effect here.

    Raises UsageError for what is not in that form, and for values out of range.
    """
    values: dict[str, int] = {}
    idle: list[str] = []
    for pair in filter(None, text.split(",")):
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(
                f"--grpc_channel_arguments: {pair!r} is not key=value; want "
                "grpc.max_concurrent_streams=100,..."
            )
        if key in _FIELDS:
            values[_FIELDS[key]] = _number(key, value)
        else:
            idle.append(key)
    return Arguments(**values), tuple(idle)


def _number(key: str, value: str) -> int:
    try:
        number = int(value)
    except ValueError:
        number = _UNLIMITED - 1
    if not _UNLIMITED <= number <= LARGEST_MESSAGE:
        raise UsageError(
            f"--grpc_channel_arguments: {key}={value}, want a number from -1 (no limit) to 2^31-1"
        )
    return LARGEST_MESSAGE if number == _UNLIMITED else number
