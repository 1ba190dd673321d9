"""GetModelMetadata: the signatures of a version, as one message in another."""

from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format

from jaxrt.errors import InvalidArgument
from jaxrt.serving.engine.servable import Servable
from jaxrt.serving.rpc.datatypes import NUMBERS, REF
from jaxrt.serving.rpc.messages import PACKAGE, message
from jaxrt.specs import DTYPES, SignatureSpec, TensorSpec

FIELD = "signature_def"
_TYPE_URL = f"type.googleapis.com/{PACKAGE}.SignatureDefMap"


def check(fields: list[str]) -> None:
    """Raises InvalidArgument unless a request asks for what there is."""
    if not fields:
        raise InvalidArgument("GetModelMetadataRequest must specify at least one metadata_field")
    for field in fields:
        if field != FIELD:
            raise InvalidArgument(f"Metadata field {field} is not supported")


def response(servable: Servable) -> bytes:
    """The serialized GetModelMetadataResponse: all signatures."""
    signatures = message("SignatureDefMap")()
    for name, spec in servable.signatures.items():
        _fill(signatures.signature_def[name], spec)
    found = message("GetModelMetadataResponse")()
    found.model_spec.name = servable.name
    found.model_spec.version.value = servable.version
    packed = found.metadata[FIELD]
    packed.type_url = _TYPE_URL
    packed.value = signatures.SerializeToString()
    serialized: bytes = found.SerializeToString()
    return serialized


def _fill(signature: Any, spec: SignatureSpec) -> None:
    _fill_tensors(signature.inputs, spec.inputs)
    _fill_tensors(signature.outputs, spec.outputs)
    signature.method_name = spec.method_name
    for alias, value in spec.defaults.items():
        json_format.ParseDict(value, signature.defaults[alias], ignore_unknown_fields=True)


def _fill_tensors(entries: Any, specs: Mapping[str, TensorSpec]) -> None:
    for alias, spec in specs.items():
        info = entries[alias]
        info.name = spec.name
        number = NUMBERS[DTYPES[spec.declared or spec.dtype].proto]
        info.dtype = number + REF if spec.is_ref else number
        info.tensor_shape.unknown_rank = spec.dims is None
        for dim in spec.dims or ():
            info.tensor_shape.dim.add(size=dim.size, name=dim.name)
