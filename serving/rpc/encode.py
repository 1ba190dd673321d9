"""An array → a serialized TensorProto, as TensorFlow's Tensor::AsProtoField writes it."""

import functools
from typing import Any

import numpy as np

from jaxrt.serving.rpc import varints
from jaxrt.serving.rpc.datatypes import Coding, Datatype
from jaxrt.serving.rpc.wire import delimited, head, integer, number

Array = np.ndarray[Any, Any]
Chunk = bytes | memoryview

_DTYPE, _SHAPE, _CONTENT = 1, 2, 4
_JOINED = 16 << 10
"""Bytes up to which a copy costs less than one more chunk."""


def tensor(array: Array, datatype: Datatype, *, content: bool) -> list[Chunk]:
    """The message in one or more chunks; large numbers are not copied.

    `content`: in `tensor_content` instead of the typed field. A tensor of nothing has neither.
    """
    start = _start(datatype.number, array.shape)
    if not array.size:
        return [start]
    if datatype.coding is Coding.STRING:
        values = array.ravel().tolist()
        return [start + (_string_content(values) if content else _strings(values))]
    flat = np.ascontiguousarray(array).reshape(-1)
    assert datatype.dtype.numpy is not None
    if content:
        field, numbers = _CONTENT, flat
    elif datatype.coding in (Coding.FIXED, Coding.OCTET):
        field, numbers = datatype.field, flat
    elif datatype.coding is Coding.BITS:
        field, numbers = datatype.field, varints.encode(flat.view(np.uint16))
    else:
        field, numbers = datatype.field, varints.encode(_plain(flat))
    start += head(field, numbers.nbytes)
    if numbers.nbytes <= _JOINED:
        return [start + numbers.tobytes()]
    return [start, numbers.view(np.uint8).data]


@functools.lru_cache(maxsize=4096)
def _start(dtype: int, shape: tuple[int, ...]) -> bytes:
    """The dtype and the shape; that of a scalar is there, and empty."""
    dims = b"".join(delimited(2, integer(1, size)) for size in shape)
    return integer(_DTYPE, dtype) + delimited(_SHAPE, dims)


def _plain(flat: Array) -> Array:
    """Of a dtype that numpy itself has: four-bit integers are not."""
    return flat if flat.dtype.kind in "iub" else flat.astype(np.int8)


def _strings(values: list[bytes]) -> bytes:
    return b"".join([delimited(8, value) for value in values])


def _string_content(values: list[bytes]) -> bytes:
    sizes = b"".join([number(len(value)) for value in values])
    return delimited(_CONTENT, sizes + b"".join(values))
