"""The value of a `stablehlo.constant` as a numpy array, for every dtype."""

import re
from typing import Any

import numpy as np
from jaxlib.mlir import ir

from jaxrt.errors import ConversionError

_LITERAL = re.compile(r"\bdense<(.*?)>\s*:\s*tensor<", re.DOTALL)
_RESOURCE = re.compile(r"\bdense_resource<(.*?)>\s*:\s*tensor<", re.DOTALL)
_TOKEN = re.compile(r"0x[0-9A-Fa-f]+|true|false|[-+]?[0-9][0-9.]*(?:[eE][-+]?[0-9]+)?")

_ALIGNMENT_BYTES = 4
"""A resource blob starts with its alignment, a little-endian u32 (MLIR's AsmResourceBlob)."""

_SUB_BYTE = {"int2": (2, True), "uint2": (2, False), "int4": (4, True), "uint4": (4, False)}
"""Bits, and whether the highest of them is a sign. MLIR stores one such element a byte."""


def dense(op: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """The `value` attribute of an MLIR constant op → array of `shape` and `dtype`.

    Raises ConversionError when the literal does not hold as many elements as its type.
    """
    if 0 in shape:
        return np.zeros(shape, dtype)
    return _native(op, shape, dtype) if dtype.kind in "biuf" else _from_text(op, shape, dtype)


def _native(op: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    try:
        found = op.attributes["value"]
        if isinstance(found, (ir.DenseFPElementsAttr, ir.DenseIntElementsAttr)):
            return np.array(found).astype(dtype, copy=False).reshape(shape)
    except TypeError:
        pass  # jaxlib's attribute classes cover the builtin widths only; the text covers all.
    return _from_text(op, shape, dtype)


def _from_text(op: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """bf16, f8, i2, i4, complex and resources: jaxlib gives no buffer, but prints exactly."""
    text = op.get_asm()
    if resource := _RESOURCE.search(text):
        return _from_raw(_resource(op, resource[1]), shape, dtype)
    literal = _LITERAL.search(text)
    if literal is None:
        raise ConversionError(f"constant {text[:200]}: want dense<...> or dense_resource<...>")
    body = literal[1]
    if body.startswith('"0x'):
        return _from_raw(bytes.fromhex(body[3:-1]), shape, dtype)
    return _fill(_from_tokens(_TOKEN.findall(body), dtype), shape)


def _from_raw(raw: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Little-endian elements; of one that has fewer than eight bits, the low bits of a byte."""
    if dtype.name in _SUB_BYTE:
        bits, signed = _SUB_BYTE[dtype.name]
        low = np.frombuffer(raw, np.uint8).astype(np.int16) & ((1 << bits) - 1)
        sign = 1 << (bits - 1)
        return _fill(((low ^ sign) - sign if signed else low).astype(np.int8).astype(dtype), shape)
    return _fill(np.frombuffer(raw, dtype), shape)


def _from_tokens(tokens: list[str], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Printed elements → [n]; a complex one is two tokens, `0x...` the bits of a NaN or Inf."""
    if dtype.kind == "c":
        part = np.dtype(np.float32 if dtype.itemsize == 8 else np.float64)
        return _from_tokens(tokens, part).view(dtype)
    if dtype.name in _SUB_BYTE:
        return np.array([int(t) for t in tokens], np.int8).astype(dtype)
    # The decimal identifies the value among those of its type, so f64 in between is harmless.
    values = np.array([0.0 if t.startswith("0x") else float(t) for t in tokens]).astype(dtype)
    for index, token in enumerate(tokens):
        if token.startswith("0x"):
            raw = int(token, 16).to_bytes(dtype.itemsize, "little")
            values[index] = np.frombuffer(raw, dtype)[0]
    return values


def _fill(values: np.ndarray[Any, Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """One element is a splat; else there are as many as the shape holds."""
    size = int(np.prod(shape))
    if values.size not in (1, size):
        raise ConversionError(f"constant: {values.size} elements found, shape {shape} wants {size}")
    return np.array(np.broadcast_to(values, (size,)) if values.size == 1 else values).reshape(shape)


def _resource(op: Any, name: str) -> bytes:
    """Resources stand at the end of the printed module: `name: "0x<alignment><elements>"`."""
    root = op
    while root.parent is not None:
        root = root.parent
    found = re.search(rf'\b{re.escape(name)}: "0x([0-9A-Fa-f]*)"', root.get_asm())
    if found is None:
        raise ConversionError(f"constant: resource {name!r} is not in the module")
    return bytes.fromhex(found[1])[_ALIGNMENT_BYTES:]
