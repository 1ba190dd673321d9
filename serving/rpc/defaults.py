"""Default values of inputs, as signatures hold them: TensorProto in protobuf's JSON mapping."""

import functools
import json
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format

from jaxrt.serving.rpc.messages import message


def default(value: Mapping[str, Any]) -> tuple[bytes, int, int]:
    """The serialized TensorProto, and where in it the message begins and ends."""
    serialized = _serialized(json.dumps(value, sort_keys=True))
    return serialized, 0, len(serialized)


@functools.lru_cache(maxsize=1024)
def _serialized(text: str) -> bytes:
    # What has no value here (version_number, handles of resources) is unknown to our message.
    parsed = json_format.Parse(text, message("TensorProto")(), ignore_unknown_fields=True)
    found: bytes = parsed.SerializeToString()
    return found
