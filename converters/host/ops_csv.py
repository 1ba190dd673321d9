"""Lines of comma-separated values. Kernel: tensorflow/core/kernels/decode_csv_op.cc."""

from typing import Any

import numpy as np

from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.ops_number import parsed
from jaxrt.converters.host.ops_shape import numpy_dtype
from jaxrt.converters.host.rules import Array, op, string_array
from jaxrt.converters.host.text import raw
from jaxrt.errors import InvalidArgument

_QUOTE, _LINES = ord('"'), b"\r\n"
_NAMES = {"int32": "int32", "int64": "int64", "float32": "float", "float64": "double"}


@op(
    "DecodeCSV", rowwise=True,
    field_delim=b",", use_quote_delim=True, na_value=b"", select_cols=(),
)  # fmt: skip
def decode_csv(node: Node, records: Array, *defaults: Array) -> tuple[Array, ...]:
    """[...] string → one array [...] a column."""
    for at, default in enumerate(defaults):
        if default.size > 1:
            raise InvalidArgument(
                f"There should only be 1 default per field but field {at} has {default.size}"
            )
    types, rows = node.attrs["OUT_TYPE"], []
    for at, record in enumerate(records.ravel().tolist()):
        fields = _chosen(node, _fields(node, record))
        if len(fields) != len(types):
            raise InvalidArgument(
                f"Expect {len(types)} fields but have {len(fields)} in record {at}"
            )
        rows.append(
            [
                _value(node, field, dtype, default, column, at)
                for column, (field, dtype, default) in enumerate(
                    zip(fields, types, defaults, strict=True)
                )
            ]
        )
    return tuple(
        _column([row[column] for row in rows], dtype, records.shape)
        for column, dtype in enumerate(types)
    )


def _column(values: list[Any], dtype: str, shape: tuple[int, ...]) -> Array:
    if dtype == "string":
        return string_array(values, shape)
    return np.array(values, numpy_dtype(dtype)).reshape(shape)


def _chosen(node: Node, fields: list[bytes]) -> list[bytes]:
    columns = node.attrs["select_cols"]
    return [fields[at] for at in columns if at < len(fields)] if columns else fields


def _value(node: Node, field: bytes, dtype: str, default: Array, column: int, record: int) -> Any:
    if not field or field == node.attrs["na_value"]:
        if default.size != 1:
            raise InvalidArgument(f"Field {column} is required but missing in record {record}!")
        return default.item() if dtype == "string" else default.reshape(())[()]
    if dtype == "string":
        return field
    found = parsed(field, numpy_dtype(dtype))
    if found is None:
        raise InvalidArgument(
            f"Field {column} in record {record} is not a valid {_NAMES[dtype]}: {raw(field)}"
        )
    return found


def _fields(node: Node, record: bytes) -> list[bytes]:
    delimiter, quotes = node.attrs["field_delim"], node.attrs["use_quote_delim"]
    found: list[bytes] = []
    at = 0
    while at < len(record):
        if record[at] in _LINES:
            at += 1
        elif quotes and record[at] == _QUOTE:
            field, at = _quoted(record, at + 1, delimiter)
            found.append(field)
        else:
            end = record.find(delimiter, at)
            field = record[at : end if end >= 0 else len(record)]
            if b"\n" in field or b"\r" in field or (quotes and b'"' in field):
                raise InvalidArgument("Unquoted fields cannot have quotes/CRLFs inside")
            found.append(field)
            at += len(field) + 1
    return [*found, b""] if record.endswith(delimiter) else found


def _quoted(record: bytes, at: int, delimiter: bytes) -> tuple[bytes, int]:
    """The field that begins behind a quote, and where the next one does."""
    mark, field = delimiter[0], bytearray()
    while at < len(record) - 1 and (record[at] != _QUOTE or record[at + 1] != mark):
        if record[at] != _QUOTE:
            field.append(record[at])
            at += 1
        elif record[at + 1] == _QUOTE:
            field.append(_QUOTE)
            at += 2
        else:
            raise InvalidArgument("Quote inside a string has to be escaped by another quote")
    closed = at < len(record) and record[at] == _QUOTE
    if not closed or not (at == len(record) - 1 or record[at + 1] == mark):
        raise InvalidArgument("Quoted field has to end with quote followed by delim or end")
    return bytes(field), at + 2
