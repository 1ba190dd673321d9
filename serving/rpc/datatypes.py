"""TensorFlow's dtypes as TensorProto carries them: their numbers, and the fields of their values.

Facts of tensorflow/core/framework/types.proto, tensor.proto and tensor.cc.
"""

import dataclasses
import enum

from jaxrt.specs import BY_PROTO, DTYPES, DType


class Coding(enum.Enum):
    """How the typed field of a dtype holds values."""

    FIXED = "the numbers themselves, packed"
    VARINT = "integers, packed"
    BITS = "the bits of a number of 16 bits, as packed integers"
    STRING = "one field a value"
    OCTET = "one byte a value, in one field of bytes"


@dataclasses.dataclass(frozen=True, slots=True)
class Datatype:
    """One dtype: its number in the enum DataType, and its typed field."""

    number: int
    dtype: DType
    field: int
    coding: Coding


def _table() -> dict[int, Datatype]:
    half, single, double, integers, strings = 13, 5, 6, 7, 8
    pairs, int64s, bools, double_pairs, uint32s, uint64s, octets = 9, 10, 11, 12, 16, 17, 18
    rows = [
        (1, "DT_FLOAT", single, Coding.FIXED),
        (2, "DT_DOUBLE", double, Coding.FIXED),
        (3, "DT_INT32", integers, Coding.VARINT),
        (4, "DT_UINT8", integers, Coding.VARINT),
        (5, "DT_INT16", integers, Coding.VARINT),
        (6, "DT_INT8", integers, Coding.VARINT),
        (7, "DT_STRING", strings, Coding.STRING),
        (8, "DT_COMPLEX64", pairs, Coding.FIXED),
        (9, "DT_INT64", int64s, Coding.VARINT),
        (10, "DT_BOOL", bools, Coding.VARINT),
        (11, "DT_QINT8", integers, Coding.VARINT),
        (12, "DT_QUINT8", integers, Coding.VARINT),
        (13, "DT_QINT32", integers, Coding.VARINT),
        (14, "DT_BFLOAT16", half, Coding.BITS),
        (15, "DT_QINT16", integers, Coding.VARINT),
        (16, "DT_QUINT16", integers, Coding.VARINT),
        (17, "DT_UINT16", integers, Coding.VARINT),
        (18, "DT_COMPLEX128", double_pairs, Coding.FIXED),
        (19, "DT_HALF", half, Coding.BITS),
        (22, "DT_UINT32", uint32s, Coding.VARINT),
        (23, "DT_UINT64", uint64s, Coding.VARINT),
        (24, "DT_FLOAT8_E5M2", octets, Coding.OCTET),
        (25, "DT_FLOAT8_E4M3FN", octets, Coding.OCTET),
        (29, "DT_INT4", integers, Coding.VARINT),
        (30, "DT_UINT4", integers, Coding.VARINT),
    ]
    return {row[0]: Datatype(row[0], BY_PROTO[row[1]], row[2], row[3]) for row in rows}


DATATYPES: dict[int, Datatype] = _table()
BY_NAME: dict[str, Datatype] = {found.dtype.name: found for found in DATATYPES.values()}
"""By the key of DTYPES."""

REF = 100
"""What a reference dtype's number is higher by."""

NUMBERS: dict[str, int] = {
    **{DTYPES[name].proto: found.number for name, found in BY_NAME.items()},
    "DT_INVALID": 0,
    "DT_RESOURCE": 20,
    "DT_VARIANT": 21,
}
"""Every dtype that a signature may name, also those that no request can carry."""
