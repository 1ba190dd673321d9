"""The model status answer."""

from jaxrt.errors import Code
from jaxrt.serving.engine.servable import State, VersionStatus
from jaxrt.serving.rest.status import status_body


def test_versions_are_listed_as_protobuf_prints_them() -> None:
    versions = [
        VersionStatus(version=124, state=State.AVAILABLE),
        VersionStatus(version=3, state=State.END, code=Code.NOT_FOUND, message='no "x"'),
    ]
    assert status_body(versions).decode() == (
        '{\n "model_version_status": [\n'
        '  {\n   "version": "124",\n   "state": "AVAILABLE",\n'
        '   "status": {\n    "error_code": "OK",\n    "error_message": ""\n   }\n  },\n'
        '  {\n   "version": "3",\n   "state": "END",\n'
        '   "status": {\n    "error_code": "NOT_FOUND",\n    "error_message": "no \\"x\\""\n   }\n'
        "  }\n ]\n}\n"
    )
