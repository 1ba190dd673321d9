"""An inference request: JSON, and the bytes that may follow it → tensors and what is asked for."""

import base64
import binascii
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import simdjson

from jaxrt.errors import InvalidArgument
from jaxrt.serving.v2.datatypes import NAMES, Array, from_bytes
from jaxrt.specs import DTYPES, SignatureSpec

MAX_RANK = 64
"""numpy's."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    id: str | None
    signature: str
    """`parameters.signature_name`; the protocol itself knows no signatures."""
    tensors: "tuple[_Tensor, ...]"
    outputs: Mapping[str, str] | None
    """Name → form, of the outputs that are asked for; None for all."""
    form: str
    """Of outputs that do not say: `data`, `b64` or `binary`."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Tensor:
    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: bytes | memoryview | None
    data: Any
    """A simdjson.Array where there are no raw bytes."""


def parse(body: bytes, header: int | None, default_signature: str) -> Request:
    """`header`: how many bytes of the body are JSON; all without it. Raises InvalidArgument."""
    size = len(body) if header is None else header
    if not 0 <= size <= len(body):
        raise InvalidArgument(
            f"Inference-Header-Content-Length is {size}, the body has {len(body)} bytes"
        )
    try:
        found = simdjson.Parser().parse(body[:size])
    except (ValueError, RuntimeError) as error:
        raise InvalidArgument(f"the request is no JSON: {error}") from None
    if not isinstance(found, simdjson.Object):
        raise InvalidArgument("the request is no JSON object")
    parameters = _plain(found, "parameters", {})
    if not isinstance(parameters, dict):
        raise InvalidArgument("parameters: want an object")
    binary = memoryview(body)[size:]
    tensors = []
    for item in _items(found, "inputs"):
        tensor, binary = _tensor(item, binary)
        tensors.append(tensor)
    if len(binary):
        raise InvalidArgument(f"{len(binary)} bytes follow those of the inputs")
    form = _form(parameters, "binary_data_output", "b64_output", "data")
    outputs = None
    if "outputs" in found:
        outputs = {}
        for item in _items(found, "outputs"):
            asked = _plain(item, "parameters", {})
            outputs[_text(item, "name")] = _form(asked, "binary_data", "b64", form)
    return Request(
        id=_plain(found, "id", None),
        signature=parameters.get("signature_name", default_signature),
        tensors=tuple(tensors),
        outputs=outputs or None,
        form=form,
    )


def inputs(request: Request, spec: SignatureSpec) -> dict[str, Array]:
    """Alias → array. Raises InvalidArgument for an unknown name or another datatype or size."""
    found = {}
    for tensor in request.tensors:
        where = f"input {tensor.name!r}"
        known = spec.inputs.get(tensor.name)
        if known is None:
            raise InvalidArgument(f"{where}: unknown, want {', '.join(sorted(spec.inputs))}")
        wanted = NAMES.get(known.dtype)
        if tensor.datatype != wanted:
            raise InvalidArgument(f"{where}: datatype {tensor.datatype}, want {wanted}")
        if tensor.raw is not None:
            found[tensor.name] = from_bytes(where, tensor.raw, known.dtype, tensor.shape)
        else:
            found[tensor.name] = _array(where, tensor.data, known.dtype, tensor.shape)
    missing = sorted(spec.inputs.keys() - found.keys())
    if missing:
        raise InvalidArgument(f"inputs: {', '.join(missing)} missing")
    return found


def _items(found: Any, key: str) -> list[Any]:
    items = found.get(key)
    if not isinstance(items, simdjson.Array) or not all(
        isinstance(item, simdjson.Object) for item in items
    ):
        raise InvalidArgument(f"{key}: want a list of objects")
    return list(items)


def _plain(found: Any, key: str, default: Any) -> Any:
    value = found.get(key, default)
    if isinstance(value, simdjson.Object):
        return value.as_dict()
    return value.as_list() if isinstance(value, simdjson.Array) else value


def _text(found: Any, key: str) -> str:
    value = _plain(found, key, None)
    if not isinstance(value, str):
        raise InvalidArgument(f"{key} of a tensor: want a string, found {value!r}")
    return value


def _form(parameters: Any, binary: str, b64: str, default: str) -> str:
    if not isinstance(parameters, dict):
        raise InvalidArgument("parameters: want an object")
    if binary in parameters:
        return "binary" if parameters[binary] is True else "data"
    if b64 in parameters:
        return "b64" if parameters[b64] is True else "data"
    return default


def _tensor(item: Any, binary: memoryview) -> tuple[_Tensor, memoryview]:
    """One input, and the bytes that are left for the others."""
    name, datatype = _text(item, "name"), _text(item, "datatype")
    shape = _plain(item, "shape", None)
    if (
        not isinstance(shape, list)
        or len(shape) > MAX_RANK
        or not all(type(n) is int and n >= 0 for n in shape)
    ):
        raise InvalidArgument(f"input {name!r}: shape {shape}, want a list of sizes")
    size = _plain(item, "parameters", {}).get("binary_data_size")
    raw: bytes | memoryview | None = None
    data = None
    if size is not None:
        if type(size) is not int or not 0 <= size <= len(binary):
            raise InvalidArgument(
                f"input {name!r}: binary_data_size {size}, {len(binary)} bytes are there"
            )
        raw, binary = binary[:size], binary[size:]
    elif "b64" in item:
        try:
            raw = base64.b64decode(_text(item, "b64"), validate=True)
        except (binascii.Error, ValueError):
            raise InvalidArgument(f"input {name!r}: b64 is no base64") from None
    else:
        data = item.get("data")
        if not isinstance(data, simdjson.Array):
            raise InvalidArgument(
                f"input {name!r}: want data (a list), b64 (a string) or binary_data_size"
            )
    found = _Tensor(name=name, datatype=datatype, shape=tuple(shape), raw=raw, data=data)
    return found, binary


def _array(where: str, data: Any, dtype: str, shape: tuple[int, ...]) -> Array:
    nested = len(data) > 0 and isinstance(data[0], simdjson.Array)
    array = _nested(where, data, dtype) if nested else _flat(where, data, dtype)
    if array.size != math.prod(shape) or (nested and array.shape != shape):
        raise InvalidArgument(
            f"{where}: data has shape {list(array.shape)}, want {list(shape)} or all of it flat"
        )
    return _narrowed(where, array, dtype).reshape(shape)


def _flat(where: str, data: Any, dtype: str) -> Array:
    if dtype in ("bool", "string") or len(data) == 0:
        return _nested(where, data, dtype)
    numpy = DTYPES[dtype].numpy
    assert numpy is not None
    kind = numpy.kind if numpy.kind in "iu" else "d"
    try:
        raw = data.as_buffer(of_type=kind)
    except (TypeError, ValueError):
        raise InvalidArgument(f"{where}: data has what is no {NAMES[dtype]}") from None
    found: Array = np.frombuffer(raw, {"i": np.int64, "u": np.uint64, "d": np.float64}[kind])
    return found


def _nested(where: str, data: Any, dtype: str) -> Array:
    numpy = DTYPES[dtype].numpy
    assert numpy is not None
    kinds = {"b": (bool,), "O": (str,), "i": (int,), "u": (int,)}.get(numpy.kind, (int, float))
    try:
        found = np.array(data.as_list(), np.object_)
        leaves = found.ravel().tolist()
        if not all(type(leaf) in kinds for leaf in leaves):
            raise ValueError
        if dtype == "string":
            strings = np.empty(len(leaves), np.object_)
            strings[:] = [leaf.encode() for leaf in leaves]
            return strings.reshape(found.shape)
        wide = {"i": np.int64, "u": np.uint64, "b": np.bool_}.get(numpy.kind, np.float64)
        return np.array(leaves, wide).reshape(found.shape)
    except (ValueError, OverflowError):
        raise InvalidArgument(
            f"{where}: data is ragged, or has what is no {NAMES[dtype]}"
        ) from None


def _narrowed(where: str, array: Array, dtype: str) -> Array:
    numpy = DTYPES[dtype].numpy
    if dtype == "string" or numpy is None or array.dtype == numpy:
        return array
    if numpy.kind in "iu" and array.size:
        limits = np.iinfo(numpy)
        if array.min() < limits.min or array.max() > limits.max:
            raise InvalidArgument(
                f"{where}: data is beyond the range of {NAMES[dtype]}, {limits.min} to {limits.max}"
            )
    with np.errstate(over="ignore"):  # beyond a float's range is infinite
        return array.astype(numpy)
