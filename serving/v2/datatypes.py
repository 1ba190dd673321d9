"""The protocol's datatypes, and tensors as the bytes that its binary extension carries.

https://github.com/kserve/open-inference-protocol and, for bytes, Triton's "Binary tensor data
extension": little endian, row by row; BYTES as four bytes of length before each element.
"""

import math
import struct
from typing import Any

import numpy as np

from jaxrt.errors import InvalidArgument
from jaxrt.specs import DTYPES

Array = np.ndarray[Any, Any]

NAMES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "bfloat16": "BF16",
    "float32": "FP32",
    "float64": "FP64",
    "string": "BYTES",
}
"""Our dtype → the protocol's; other dtypes it has no name for."""


def from_bytes(where: str, raw: bytes | memoryview, dtype: str, shape: tuple[int, ...]) -> Array:
    """Raw bytes → [*shape] of a key of NAMES, without a copy. Raises InvalidArgument."""
    count = math.prod(shape)
    if dtype == "string":
        return _strings(where, bytes(raw), count).reshape(shape)
    numpy = DTYPES[dtype].numpy
    assert numpy is not None
    if len(raw) != count * numpy.itemsize:
        raise InvalidArgument(
            f"{where}: {len(raw)} bytes given, shape {list(shape)} of {NAMES[dtype]} takes "
            f"{count * numpy.itemsize}"
        )
    if dtype == "bool":  # any other byte than 0 is true
        return np.frombuffer(raw, np.uint8).astype(np.bool_).reshape(shape)
    return np.frombuffer(raw, numpy.newbyteorder("<")).astype(numpy, copy=False).reshape(shape)


def to_bytes(array: Array) -> bytes:
    """[...] → raw bytes; object arrays hold bytes."""
    if array.dtype.kind == "O":
        return b"".join(struct.pack("<I", len(item)) + item for item in array.ravel().tolist())
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()


def _strings(where: str, raw: bytes, count: int) -> Array:
    found = np.empty(count, np.object_)
    at = 0
    for index in range(count):
        size = struct.unpack_from("<I", raw, at)[0] if at + 4 <= len(raw) else len(raw)
        if at + 4 + size > len(raw):
            raise InvalidArgument(
                f"{where}: its bytes end in element {index} of {count}; want each element after "
                "four bytes of its length"
            )
        found[index] = raw[at + 4 : at + 4 + size]
        at += 4 + size
    if at != len(raw):
        raise InvalidArgument(f"{where}: {len(raw) - at} bytes follow its {count} elements")
    return found
