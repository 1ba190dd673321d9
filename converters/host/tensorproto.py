"""A TensorProto as an array."""

import math
from typing import Any

import ml_dtypes
import numpy as np

from jaxrt.errors import ModelError
from jaxrt.specs import BY_PROTO, DTYPES

Array = np.ndarray[Any, Any]

# tensorflow/core/framework/types.proto; a reference type is its base plus 100.
_PROTOS = {
    1: "DT_FLOAT",
    2: "DT_DOUBLE",
    3: "DT_INT32",
    4: "DT_UINT8",
    5: "DT_INT16",
    6: "DT_INT8",
    7: "DT_STRING",
    8: "DT_COMPLEX64",
    9: "DT_INT64",
    10: "DT_BOOL",
    11: "DT_QINT8",
    12: "DT_QUINT8",
    13: "DT_QINT32",
    14: "DT_BFLOAT16",
    15: "DT_QINT16",
    16: "DT_QUINT16",
    17: "DT_UINT16",
    18: "DT_COMPLEX128",
    19: "DT_HALF",
    20: "DT_RESOURCE",
    21: "DT_VARIANT",
    22: "DT_UINT32",
    23: "DT_UINT64",
    24: "DT_FLOAT8_E5M2",
    25: "DT_FLOAT8_E4M3FN",
    29: "DT_INT4",
    30: "DT_UINT4",
}

_FIELDS = {
    "float32": "float_val",
    "float64": "double_val",
    "complex64": "scomplex_val",
    "complex128": "dcomplex_val",
    "int64": "int64_val",
    "bool": "bool_val",
    "float16": "half_val",
    "bfloat16": "half_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    "string": "string_val",
}
"""Where the values of a dtype lie; all others are in int_val."""


def dtype_name(number: int) -> str:
    """A DataType's number → a key of DTYPES; `invalid` where jaxrt knows no such dtype."""
    proto = _PROTOS.get(number % 100)
    return BY_PROTO[proto].name if proto else "invalid"


def shape_tuple(shape: Any) -> tuple[int | None, ...] | None:
    """A TensorShapeProto → sizes, None for an unknown one; None for an unknown rank."""
    if shape.unknown_rank:
        return None
    return tuple(None if dim.size < 0 else dim.size for dim in shape.dim)


def array(tensor: Any) -> Array:
    """A TensorProto → array of its shape and dtype; strings are bytes objects.

    Fewer values than elements: the last one fills the rest, none at all is zeros
    (tensorflow/core/framework/tensor.cc, FromProtoField). A resource or a variant, whose value no
    array carries, becomes an array of None. Raises ModelError where bytes and shape differ.
    """
    name = dtype_name(tensor.dtype)
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    if name in ("resource", "variant", "invalid"):
        return np.full(shape, None, object)
    count = math.prod(shape)
    values = _content(tensor, name) if tensor.tensor_content else _values(tensor, name)
    if tensor.tensor_content and len(values) != count:
        raise ModelError(
            f"a constant of {name}{list(shape)}: {len(tensor.tensor_content)} bytes do not hold "
            f"{count} elements; export the model again"
        )
    if len(values) < count:
        fill = values[-1:] if len(values) else _zero(name)
        values = np.concatenate([values, np.repeat(fill, count - len(values))])
    found: Array = values[:count].reshape(shape)
    found.flags.writeable = False
    return found


def _zero(name: str) -> Array:
    return strings([b""]) if name == "string" else np.zeros(1, DTYPES[name].numpy)


def _content(tensor: Any, name: str) -> Array:
    dtype = DTYPES[name].numpy
    if name == "string" or len(tensor.tensor_content) % np.dtype(dtype).itemsize:
        raise ModelError(f"a constant of {name}: its bytes cannot be read; export the model again")
    return np.frombuffer(tensor.tensor_content, dtype)


def _values(tensor: Any, name: str) -> Array:
    if name in ("float8_e5m2", "float8_e4m3fn"):
        return np.frombuffer(tensor.float8_val, DTYPES[name].numpy)
    values = getattr(tensor, _FIELDS.get(name, "int_val"))
    match name:
        case "string":
            return strings(values)
        case "float16":
            return np.array(values, np.uint16).view(np.float16)
        case "bfloat16":
            return np.array(values, np.uint16).view(ml_dtypes.bfloat16)
        case "complex64":
            return np.array(values, np.float32).view(np.complex64)
        case "complex128":
            return np.array(values, np.float64).view(np.complex128)
        case "bool" | "float32" | "float64" | "int64" | "uint32" | "uint64" | "int32":
            return np.array(values, DTYPES[name].numpy)
    return np.array(values, np.int64).astype(DTYPES[name].numpy)  # C++ narrows, it does not check


def strings(values: Any) -> Array:
    """A sequence of bytes → object[n]; numpy would make a padded S dtype of them."""
    found: Array = np.empty(len(values), object)
    found[:] = values
    return found
