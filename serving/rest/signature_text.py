"""A signature as protobuf's DebugString prints it, for error messages."""

import functools
from typing import Any

from google.protobuf import text_format

from jaxrt.serving.textproto import Field, Messages, message_type
from jaxrt.specs import BY_PROTO, DTYPES, SignatureSpec, TensorSpec

# tensorflow/core/protobuf/meta_graph.proto and core/framework/tensor_shape.proto.
_MESSAGES: Messages = {
    "Dim": (Field("size", 1, "int64"), Field("name", 2, "string")),
    "TensorShape": (Field("dim", 2, "Dim", repeated=True), Field("unknown_rank", 3, "bool")),
    "TensorInfo": (
        Field("name", 1, "string"),
        Field("dtype", 2, "DataType"),
        Field("tensor_shape", 3, "TensorShape"),
    ),
    "SignatureDef": (
        Field("inputs", 1, "TensorInfo", key="string"),
        Field("outputs", 2, "TensorInfo", key="string"),
        Field("method_name", 3, "string"),
    ),
}
_REF = "_REF"


def signature_text(spec: SignatureSpec) -> str:
    """Several lines, the last with its line break; the defaults of inputs are left out."""
    message = _signature_def()()
    for tensors, entries in ((spec.inputs, message.inputs), (spec.outputs, message.outputs)):
        for alias, tensor in tensors.items():
            _fill(entries[alias], tensor)
    message.method_name = spec.method_name
    return text_format.MessageToString(message, as_utf8=False)


def _fill(info: Any, tensor: TensorSpec) -> None:
    info.name = tensor.name
    info.dtype = _numbers()[
        DTYPES[tensor.declared or tensor.dtype].proto + (_REF if tensor.is_ref else "")
    ]
    info.tensor_shape.unknown_rank = tensor.dims is None
    for dim in tensor.dims or ():
        info.tensor_shape.dim.add(size=dim.size, name=dim.name)


@functools.cache
def _numbers() -> dict[str, int]:
    """DataType's names, numbered for this process alone: only the names are printed."""
    names = sorted(BY_PROTO, key=lambda name: name != "DT_INVALID")  # proto3 wants a 0 first
    return {name: n for n, name in enumerate(names + [name + _REF for name in names])}


@functools.cache
def _signature_def() -> type[Any]:
    return message_type("jaxrt.signature", "SignatureDef", _MESSAGES, {"DataType": _numbers()})
