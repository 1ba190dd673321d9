"""The answer of GET /v1/models/M[/versions/V]."""

import json
from collections.abc import Sequence

from jaxrt.serving.engine.servable import VersionStatus


def status_body(versions: Sequence[VersionStatus]) -> bytes:
    """GetModelStatusResponse as protobuf's JSON printer lays it out."""
    listed = [
        {
            "version": str(status.version),
            "state": status.state.value,
            "status": {"error_code": status.code.name, "error_message": status.message},
        }
        for status in versions
    ]
    return (json.dumps({"model_version_status": listed}, indent=1) + "\n").encode()
