"""Output tensors → the body of a predict answer, byte for byte as TF Serving lays it out."""

import base64
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxrt.errors import InvalidArgument
from jaxrt.serving.engine.servable import HostTensors
from jaxrt.serving.rest.json_string import quoted
from jaxrt.serving.rest.layout import INDENT, Indented, Inline, Layout, frame
from jaxrt.serving.rest.number_block import written
from jaxrt.specs import DTYPES, TensorSpec

_NUMBERS = frozenset(
    ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64", "bool")
)
_ROWS, _OBJECTS = Inline(1), Inline(3)
_TENSOR, _MEMBER = Indented(1), Indented(2)
_BYTES_PER_NUMBER = 12
"""About what a float32 takes in an answer."""

Array = np.ndarray[Any, Any]


def encoded_size(outputs: HostTensors) -> int:
    """About how many bytes the answer will have."""
    size = 0
    for array in outputs.values():
        if array.dtype.kind == "O":
            size += sum(map(len, array.ravel().tolist()))
        size += array.size * _BYTES_PER_NUMBER
    return size


def rows(outputs: HostTensors, specs: Mapping[str, TensorSpec]) -> bytes:
    """`{"predictions": [...]}`: item i holds row i of every output, alone without its name.

    Raises InvalidArgument if an output has no batch dimension, if outputs differ in it, or for a
    dtype that TF Serving cannot write.
    """
    if _batch(outputs) == 0:
        return b'{\n    "predictions": []\n}'
    if len(outputs) == 1:
        ((name, array),) = outputs.items()
        items = _tensor(name, array, specs[name], _ROWS)
        return b'{\n    "predictions": ' + items[:-1] + b"\n    ]\n}"
    columns = {name: _items(name, array, specs[name], _OBJECTS) for name, array in outputs.items()}
    names = [INDENT * 3 + quoted(_utf8(name)) + b": " for name in columns]
    objects = (
        b"\n" + INDENT * 2 + b"{\n" + b",\n".join(map(bytes.__add__, names, row)) + b"\n        }"
        for row in zip(*columns.values(), strict=True)
    )
    return b'{\n    "predictions": [' + b",".join(objects) + b"\n    ]\n}"


def columns(outputs: HostTensors, specs: Mapping[str, TensorSpec]) -> bytes:
    """`{"outputs": ...}`: the tensor, or an object of name → tensor. Raises InvalidArgument."""
    _some(outputs)
    if len(outputs) == 1:
        ((name, array),) = outputs.items()
        return b'{\n    "outputs": ' + _tensor(name, array, specs[name], _TENSOR) + b"\n}"
    members = (
        INDENT * 2 + quoted(_utf8(name)) + b": " + _tensor(name, array, specs[name], _MEMBER)
        for name, array in outputs.items()
    )
    return b'{\n    "outputs": {\n' + b",\n".join(members) + b"\n    }\n}"


def _some(outputs: HostTensors) -> None:
    if not outputs:
        raise InvalidArgument("Cannot convert empty tensor map to JSON")


def _batch(outputs: HostTensors) -> int:
    _some(outputs)
    batch = -1
    # TF Serving's order is that of a hash map; from the last name on is what it was seen to do.
    for name, array in (
        sorted(outputs.items(), reverse=True) if len(outputs) > 1 else outputs.items()
    ):
        if array.ndim == 0:
            raise InvalidArgument(f"Tensor name: {name} has no shape information ")
        if batch not in (-1, array.shape[0]):
            raise InvalidArgument(
                f"Tensor name: {name} has inconsistent batch size: {array.shape[0]}"
                f" expecting: {batch}"
            )
        batch = array.shape[0]
    return batch


def _items(name: str, array: Array, spec: TensorSpec, layout: Layout) -> Sequence[bytes]:
    """[n, ...] → n texts."""
    rank = _text_rank(array.shape[1:])
    start, gaps, end = frame(layout, rank)
    apart = (*gaps, end + b"\0" + start)
    text = _leaves(name, array, spec, layout.level + rank, array.shape[: rank + 1], apart)
    return (start + text + end).split(b"\0")


def _tensor(name: str, array: Array, spec: TensorSpec, layout: Layout) -> bytes:
    rank = _text_rank(array.shape)
    start, gaps, end = frame(layout, rank)
    return start + _leaves(name, array, spec, layout.level + rank, array.shape[:rank], gaps) + end


def _text_rank(shape: tuple[int, ...]) -> int:
    """How many dimensions are written out: an empty list, `[]`, is a leaf."""
    return shape.index(0) if 0 in shape else len(shape)


def _leaves(
    name: str,
    array: Array,
    spec: TensorSpec,
    depth: int,
    shape: tuple[int, ...],
    gaps: Sequence[bytes],
) -> bytes:
    """The leaves of a tensor of `shape`; `gaps[k]` where the innermost k dimensions end."""
    if array.size == 0:
        count = math.prod(shape)
        return _interleave([b"[]"] * count, _closed(shape, count), gaps)
    if spec.dtype == "string":
        strings = array.ravel().tolist()
        texts = _base64(strings, depth) if name.endswith("_bytes") else map(quoted, strings)
        return _interleave(texts, _closed(shape, array.size), gaps)
    if spec.dtype not in _NUMBERS:
        raise InvalidArgument(
            f"Failed to write JSON value for tensor type: {DTYPES[spec.dtype].text}"
        )
    kind = DTYPES[spec.dtype].numpy
    return written(array if array.dtype is kind else np.asarray(array, kind), gaps)


def _closed(shape: tuple[int, ...], count: int) -> np.ndarray[Any, np.dtype[np.intp]]:
    """[count - 1]: how many of the innermost dimensions end between two leaves."""
    closed = np.zeros(count, np.intp)
    step = 1
    for size in reversed(shape):
        step *= size
        closed[step - 1 :: step] += 1
    return closed[:-1]


def _interleave(
    texts: Iterable[bytes], closed: np.ndarray[Any, Any], separators: Sequence[bytes]
) -> bytes:
    gaps = itertools.chain(map(separators.__getitem__, closed.tolist()), (b"",))
    return b"".join(map(bytes.__add__, texts, gaps))


def _base64(strings: Iterable[bytes], depth: int) -> Iterable[bytes]:
    opening, closing = b"{\n" + INDENT * (depth + 1) + b'"b64": "', b'"\n' + INDENT * depth + b"}"
    return (opening + base64.b64encode(string) + closing for string in strings)


def _utf8(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
