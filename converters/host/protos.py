"""GraphDef's messages, for a reader that has protobuf and no TensorFlow."""

import functools
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Proto = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "jaxrt.graph"

# Message → field → (number, type), by the .proto files of tensorflow/core/framework. A type ending
# in [] is repeated, one starting with ? is in the message's oneof: it is known whether it is set.
# What is not listed is skipped as an unknown field. A map is a list of entries on the wire.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Dim": {"size": (1, "int64"), "name": (2, "string")},
    "TensorShape": {"dim": (2, "Dim[]"), "unknown_rank": (3, "bool")},
    "Tensor": {
        "dtype": (1, "int32"),
        "tensor_shape": (2, "TensorShape"),
        "tensor_content": (4, "bytes"),
        "float_val": (5, "float[]"),
        "double_val": (6, "double[]"),
        "int_val": (7, "int32[]"),
        "string_val": (8, "bytes[]"),
        "scomplex_val": (9, "float[]"),
        "int64_val": (10, "int64[]"),
        "bool_val": (11, "bool[]"),
        "dcomplex_val": (12, "double[]"),
        "half_val": (13, "int32[]"),
        "uint32_val": (16, "uint32[]"),
        "uint64_val": (17, "uint64[]"),
        "float8_val": (18, "bytes"),
    },
    "List": {
        "s": (2, "bytes[]"),
        "i": (3, "int64[]"),
        "f": (4, "float[]"),
        "b": (5, "bool[]"),
        "type": (6, "int32[]"),
        "shape": (7, "TensorShape[]"),
        "tensor": (8, "Tensor[]"),
        "func": (9, "NameAttrList[]"),
    },
    "NameAttrList": {"name": (1, "string"), "attr": (2, "Attr[]")},
    "AttrValue": {
        "list": (1, "?List"),
        "s": (2, "?bytes"),
        "i": (3, "?int64"),
        "f": (4, "?float"),
        "b": (5, "?bool"),
        "type": (6, "?int32"),
        "shape": (7, "?TensorShape"),
        "tensor": (8, "?Tensor"),
        "placeholder": (9, "?string"),
        "func": (10, "?NameAttrList"),
    },
    "Attr": {"key": (1, "string"), "value": (2, "AttrValue")},
    "Node": {
        "name": (1, "string"),
        "op": (2, "string"),
        "input": (3, "string[]"),
        "device": (4, "string"),
        "attr": (5, "Attr[]"),
    },
    "Arg": {
        "name": (1, "string"),
        "type": (3, "int32"),
        "type_attr": (4, "string"),
        "number_attr": (5, "string"),
        "type_list_attr": (6, "string"),
    },
    "OpDef": {
        "name": (1, "string"),
        "input_arg": (2, "Arg[]"),
        "output_arg": (3, "Arg[]"),
        "control_output": (20, "string[]"),
    },
    "Ret": {"key": (1, "string"), "value": (2, "string")},
    "Function": {
        "signature": (1, "OpDef"),
        "node_def": (3, "Node[]"),
        "ret": (4, "Ret[]"),
        "attr": (5, "Attr[]"),
        "control_ret": (6, "Ret[]"),
    },
    "Library": {"function": (1, "Function[]")},
    "Graph": {"node": (1, "Node[]"), "library": (2, "Library")},
}

_SCALARS = {
    "bool": _Proto.TYPE_BOOL,
    "bytes": _Proto.TYPE_BYTES,
    "double": _Proto.TYPE_DOUBLE,
    "float": _Proto.TYPE_FLOAT,
    "int32": _Proto.TYPE_INT32,
    "int64": _Proto.TYPE_INT64,
    "string": _Proto.TYPE_STRING,
    "uint32": _Proto.TYPE_UINT32,
    "uint64": _Proto.TYPE_UINT64,
}


@functools.cache
def message_class(name: str) -> Any:
    """The class of `Graph`, `Tensor` or another message, in a pool of its own."""
    file = descriptor_pb2.FileDescriptorProto(
        name="jaxrt/graph.proto", package=_PACKAGE, syntax="proto3"
    )
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        if any(kind.startswith("?") for _, kind in fields.values()):
            described.oneof_decl.add(name="value")
        for field, (number, kind) in fields.items():
            described.field.append(_field(field, number, kind))
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


def _field(name: str, number: int, kind: str) -> descriptor_pb2.FieldDescriptorProto:
    proto = _Proto(name=name, number=number)
    proto.label = _Proto.LABEL_REPEATED if kind.endswith("[]") else _Proto.LABEL_OPTIONAL
    if kind.startswith("?"):
        proto.oneof_index = 0
    kind = kind.removeprefix("?").removesuffix("[]")
    if kind in _MESSAGES:
        proto.type = _Proto.TYPE_MESSAGE
        proto.type_name = f".{_PACKAGE}.{kind}"
    else:
        proto.type = _SCALARS[kind]
    return proto
