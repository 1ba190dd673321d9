"""How TensorFlow prints values in its messages."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def summary(array: Array, limit: int) -> str:
    """Tensor::SummarizeValue of tensorflow/core/framework/tensor.cc, at most `limit` a dimension.

    A negative limit prints all. Strings stand in quotes from rank 1 up and print raw as scalars.
    """
    if limit < 0:
        limit = array.size
    if not array.ndim:
        return _element(array[()], False)
    return _nested(array, limit)


def _nested(array: Array, limit: int) -> str:
    if array.ndim == 1:
        cells = [_element(value, True) for value in array[:limit]]
        return " ".join(cells) + ("..." if len(array) > limit else "")
    rows = [f"[{_nested(row, limit)}]" for row in array[:limit]]
    return "".join(rows) + ("..." if len(array) > limit else "")


def _element(value: Any, quoted: bool) -> str:
    if isinstance(value, bytes):
        text = escaped(value)
        return f'"{text}"' if quoted else text
    if isinstance(value, bool | np.bool_):
        return "1" if value else "0"
    if isinstance(value, np.floating):
        return f"{float(value):g}"
    return str(value)


def escaped(value: bytes) -> str:
    """absl::CEscape: what is not printable ASCII in octal."""
    named = {9: "\\t", 10: "\\n", 13: "\\r", 34: '\\"', 39: "\\'", 92: "\\\\"}
    return "".join(named.get(b) or (chr(b) if 32 <= b < 127 else f"\\{b:03o}") for b in value)


def raw(value: bytes) -> str:
    """Bytes within a message: what is not UTF-8 survives as lone surrogates."""
    return value.decode("utf-8", "surrogateescape")
