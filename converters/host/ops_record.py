"""Bytes as tensors: cut to one length, decompressed, parsed, and back."""

import base64
import zlib
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from jaxrt.converters.host import tensorproto
from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.ops_math import shape_text
from jaxrt.converters.host.ops_shape import numpy_dtype
from jaxrt.converters.host.protos import message_class
from jaxrt.converters.host.rules import Array, map_strings, op
from jaxrt.errors import InvalidArgument, ModelError
from jaxrt.specs import DTYPES


@op("DecodePaddedRaw", little_endian=True)
def decode_padded_raw(node: Node, x: Array, length: Array) -> Array:
    """[...] string → [..., n]: what is too long is cut, what is too short filled with zeros."""
    dtype = numpy_dtype(node.attrs["out_type"])
    if length.ndim:
        raise InvalidArgument(f"k must be scalar, got shape {shape_text(length)}")
    size = int(length)
    if size % dtype.itemsize:
        raise InvalidArgument(
            f"fixed_length ({size}) must be a multiple of the size of out_type ({dtype.itemsize})"
        )
    if size <= 0:
        raise InvalidArgument(f"fixed_length ({size}) must be greater than zero.")
    flat = b"".join(value[:size].ljust(size, b"\0") for value in x.ravel().tolist())
    found = np.frombuffer(flat, dtype)
    if not node.attrs["little_endian"]:
        found = found.byteswap()
    return found.reshape(*x.shape, size // dtype.itemsize)


@op("ParseTensor")
def parse_tensor(node: Node, serialized: Array) -> Array:
    """[] string, a TensorProto → the tensor."""
    if serialized.ndim:
        raise InvalidArgument(
            f"Expected `serialized` to be a scalar, got shape: {shape_text(serialized)}"
        )
    data, wanted = serialized.item(), node.attrs["out_type"]
    proto = message_class("Tensor")()
    try:
        proto.ParseFromString(data)
    except DecodeError:
        shown = base64.b64encode(data).decode()
        raise InvalidArgument(
            f"Could not parse `serialized` as TensorProto, base64: {shown}"
        ) from None
    try:
        dtype = tensorproto.dtype_name(proto.dtype)
        found = tensorproto.array(proto)
    except (ModelError, ValueError, KeyError):
        raise InvalidArgument("Cannot parse tensor from proto: its values do not fit") from None
    if dtype != wanted:
        raise InvalidArgument(
            f"Type mismatch between parsed tensor ({DTYPES[dtype].text}) and dtype"
            f" ({DTYPES[wanted].text})"
        )
    return found


def _covers(node: Node) -> bool:
    return node.attrs.get("compression_type", b"") in (b"", b"ZLIB", b"GZIP")


@op("DecodeCompressed", rowwise=True, covers=_covers, compression_type=b"")
def decode_compressed(node: Node, x: Array) -> Array:
    """[...] string, one stream each."""
    if not node.attrs["compression_type"]:
        return x
    window: Any = {b"ZLIB": 15, b"GZIP": 31}[node.attrs["compression_type"]]

    def inflate(value: bytes) -> bytes:
        try:
            return zlib.decompressobj(window).decompress(value)
        except zlib.error as error:
            raise InvalidArgument(f"inflate() failed: {error}") from None

    return map_strings(inflate, x)
