"""Hashes of strings, and crosses of features."""

import itertools
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxrt.converters.host.farmhash import fingerprint64, fingerprint_concat64
from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.ops_math import shape_text
from jaxrt.converters.host.rules import Array, op, string_array
from jaxrt.converters.host.siphash import siphash
from jaxrt.errors import InvalidArgument

_INT64_MAX = (1 << 63) - 1
_MASK = (1 << 64) - 1


def _buckets(x: Array, count: int, hashed: Callable[[bytes], int]) -> Array:
    found = [hashed(value) % count for value in x.ravel().tolist()]
    return np.asarray(found, np.int64).reshape(x.shape)


@op("StringToHashBucketFast", rowwise=True)
def hash_bucket_fast(node: Node, x: Array) -> Array:
    return _buckets(x, node.attrs["num_buckets"], fingerprint64)


@op("StringToHashBucketStrong", rowwise=True)
def hash_bucket_strong(node: Node, x: Array) -> Array:
    first, second = node.attrs["key"]
    return _buckets(x, node.attrs["num_buckets"], lambda value: siphash(value, first, second))


@op("Fingerprint")
def fingerprint(node: Node, data: Array, method: Array) -> Array:
    """[n, ...] → uint8[n, 8], little-endian."""
    if method.item() != b"farmhash64":
        raise InvalidArgument(f"Unsupported fingerprint method: {method.item().decode()}")
    rows = [_row(data[i : i + 1].ravel()) for i in range(len(data))]
    flat = b"".join(struct.pack("<Q", fingerprint64(row)) for row in rows)
    return np.frombuffer(flat, np.uint8).reshape(len(data), 8)


def _row(values: Array) -> bytes:
    """What is hashed of a row [n]; of several strings their hashes."""
    if values.dtype != np.object_:
        return values.tobytes()
    cells: list[bytes] = values.tolist()
    if len(cells) == 1:
        return cells[0]
    return b"".join(struct.pack("<Q", fingerprint64(cell)) for cell in cells)


Column = list[list[Any]]
"""The features of each row of the batch."""


def _columns(node: Node, inputs: Sequence[Array]) -> list[Column]:
    """Sparse columns come first, then dense ones: matrices."""
    count = node.attrs["N"]
    indices, values, shapes = (
        inputs[:count],
        inputs[count : 2 * count],
        inputs[2 * count : 3 * count],
    )
    dense = inputs[3 * count :]
    rows = int(shapes[0][0]) if count else (len(dense[0]) if dense else 0)
    found = []
    for at, (where, what, shape) in enumerate(zip(indices, values, shapes, strict=True)):
        if int(shape[0]) != rows:
            raise InvalidArgument(
                f"Expected batch size {rows} got {int(shape[0])} at position {at}"
            )
        column: Column = [[] for _ in range(rows)]
        for row, value in zip(where[:, 0].tolist(), what.tolist(), strict=True):
            column[row].append(value)
        found.append(column)
    for at, matrix in enumerate(dense):
        if matrix.ndim != 2:
            raise InvalidArgument(
                "Dense inputs should be a matrix but received shape "
                f"{shape_text(matrix)} at position {at}"
            )
        if len(matrix) != rows:
            raise InvalidArgument(
                f"Expected batch size {rows} got {len(matrix)} at dense tensor {at}"
            )
        found.append(matrix.tolist())
    return found


def _crossed(
    columns: list[Column], cross: Callable[[tuple[Any, ...]], Any], dtype: Any
) -> tuple[Array, Array, Array]:
    """All combinations of a row's features, the last column's running fastest."""
    rows = len(columns[0]) if columns else 0
    values: list[Any] = []
    indices: list[tuple[int, int]] = []
    longest = 0
    for row in range(rows):
        found = [cross(features) for features in itertools.product(*(c[row] for c in columns))]
        indices += [(row, at) for at in range(len(found))]
        values += found
        longest = max(longest, len(found))
    array = string_array(values, (len(values),)) if dtype is object else np.asarray(values, dtype)
    return (
        np.asarray(indices, np.int64).reshape(-1, 2),
        array,
        np.asarray([rows, longest], np.int64),
    )


def _text(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _joined(separator: bytes) -> Callable[[tuple[Any, ...]], bytes]:
    return lambda features: separator.join(map(_text, features))


def _bucket(hashed: int, count: int) -> int:
    return hashed % (count if count > 0 else _INT64_MAX)


@op("SparseCross")
def sparse_cross(node: Node, *inputs: Array) -> tuple[Array, Array, Array]:
    columns = _columns(node, inputs)
    if node.attrs["out_type"] == "string":
        return _crossed(columns, _joined(b"_X_"), object)
    count, key = node.attrs["num_buckets"], node.attrs["hash_key"] & _MASK

    def cross(features: tuple[Any, ...]) -> int:
        hashed = key
        for feature in features:
            hashed = fingerprint_concat64(hashed, _feature(feature))
        return _bucket(hashed, count)

    return _crossed(columns, cross, np.int64)


def _feature(value: Any) -> int:
    return fingerprint64(value) if isinstance(value, bytes) else value & _MASK


@op("SparseCrossV2")
def sparse_cross_v2(node: Node, *inputs: Array) -> tuple[Array, Array, Array]:
    return _crossed(_columns(node, inputs[:-1]), _joined(inputs[-1].item()), object)


@op("SparseCrossHashed")
def sparse_cross_hashed(node: Node, *inputs: Array) -> tuple[Array, Array, Array]:
    *inputs_, buckets, strong, salt = inputs
    columns, sparse, count = _columns(node, inputs_), node.attrs["N"], int(buckets)
    if salt.size != 2:
        raise InvalidArgument(f'Input "salt" must have length 2 but has length {salt.size}')
    first, second = salt.tolist()

    def feature(at: int, value: Any) -> int:
        if strong:
            return siphash(_key(value), first, second)
        # A sparse number is hashed, a dense one is not: sparse_cross_op.cc, Feature.
        return fingerprint64(_key(value)) if at < sparse else _feature(value)

    def cross(features: tuple[Any, ...]) -> int:
        hashed = feature(0, features[0])
        for at, value in enumerate(features[1:], 1):
            hashed = fingerprint_concat64(hashed, feature(at, value))
        return _bucket(hashed, count)

    return _crossed(columns, cross, np.int64)


def _key(value: Any) -> bytes:
    """Of a number its low four bytes: the kernel takes the size of the enum DataType."""
    return value if isinstance(value, bytes) else struct.pack("<q", value)[:4]


@op("StringToHashBucket")
def hash_bucket(node: Node, x: Array) -> Array:
    return _buckets(x, node.attrs["num_buckets"], _hash64)


def _hash64(data: bytes) -> int:
    """MurmurHash64A under TensorFlow's seed."""
    mul, whole = 0xC6A4A7935BD1E995, len(data) & ~7
    found = 0xDECAFCAFFE ^ (len(data) * mul) & _MASK
    for at in range(0, whole, 8):
        word = (int.from_bytes(data[at : at + 8], "little") * mul) & _MASK
        word = ((word ^ word >> 47) * mul) & _MASK
        found = ((found ^ word) * mul) & _MASK
    if whole < len(data):
        found = ((found ^ int.from_bytes(data[whole:], "little")) * mul) & _MASK
    found = ((found ^ found >> 47) * mul) & _MASK
    return found ^ found >> 47
