"""ModelSpec: which signature of which version of which model a request asks for, and got."""

import dataclasses
import functools

from jaxrt.errors import InvalidArgument
from jaxrt.serving.engine.servable import Models, Servable
from jaxrt.serving.rpc.wire import BYTES, VARINT, delimited, fields, integer, text

DEFAULT_SIGNATURE = "serving_default"
_INT64_MAX = (1 << 63) - 1
_REMEMBERED = 512
"""Bytes of a message: a server is asked for few models, again and again."""


@dataclasses.dataclass(frozen=True, slots=True)
class ModelSpec:
    """tensorflow_serving/apis/model.proto; `version` and `label` exclude each other."""

    name: str = ""
    signature_name: str = ""
    version: int | None = None
    label: str | None = None

    @property
    def signature(self) -> str:
        return self.signature_name or DEFAULT_SIGNATURE


def read(serialized: bytes) -> ModelSpec:
    """Raises wire.Malformed."""
    return (_known if len(serialized) <= _REMEMBERED else _read)(serialized)


def _read(serialized: bytes) -> ModelSpec:
    name = signature = ""
    version: int | None = None
    label: str | None = None
    for number, wire, begin, end in fields(serialized, 0, len(serialized)):
        if wire != BYTES:
            continue
        match number:
            case 1:
                name = text(serialized, begin, end)
            case 2:
                # Two of them are merged, as protobuf does.
                version = version or 0
                label = None
                for inner, kind, value, _ in fields(serialized, begin, end):
                    if inner == 1 and kind == VARINT:
                        version = value if value <= _INT64_MAX else value - (1 << 64)
            case 3:
                signature = text(serialized, begin, end)
            case 4:
                label, version = text(serialized, begin, end), None
    return ModelSpec(name, signature, version, label)


_known = functools.lru_cache(maxsize=1024)(_read)


@functools.lru_cache(maxsize=1024)
def write(name: str, signature: str, version: int) -> bytes:
    """What answered: serialized."""
    wrapped = delimited(2, integer(1, version))
    return (
        (delimited(1, name.encode()) if name else b"")
        + wrapped
        + (delimited(3, signature.encode()) if signature else b"")
    )


def servable(models: Models, spec: ModelSpec) -> Servable:
    """Raises InvalidArgument without a name, and what Models.get raises."""
    if not spec.name:
        raise InvalidArgument("ModelSpec has no name specified.")
    return models.get(spec.name, version=spec.version, label=spec.label)
