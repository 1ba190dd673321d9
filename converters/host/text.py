"""How TensorFlow prints values in its messages."""

from collections.abc import Iterator
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def summary(array: Array, limit: int) -> str:
    """Tensor::SummarizeValue of tensorflow/core/framework/tensor.cc: at most `limit` elements.

    A negative limit prints all.
    """
    limit = array.size if limit < 0 else min(limit, array.size)
    if array.dtype.kind == "c":
        return _unprinted(array, limit)
    cells = iter([_element(value) for value in array.ravel()[:limit]])
    text = _nested(list(array.shape), limit, 0, cells, True)[0] if array.ndim else next(cells, "")
    return text + ("..." if array.size > limit else "")


def _nested(
    shape: list[int], limit: int, done: int, cells: Iterator[str], outermost: bool
) -> tuple[str, int]:
    """What a dimension prints once `done` elements are printed, and how many are afterwards."""
    if done >= limit:
        return "", done
    if len(shape) == 1:
        count = min(shape[0], limit - done)
        text = " ".join(next(cells) for _ in range(count))
        return text + ("..." if count < shape[0] and not outermost else ""), done + count
    found = ""
    for _ in range(shape[0]):
        if done < limit:
            text, done = _nested(shape[1:], limit, done, cells, False)
            found += f"[{text}]"
    return found, done


def _element(value: Any) -> str:
    if isinstance(value, bytes):
        return escaped(value)
    if isinstance(value, bool | np.bool_):
        return "1" if value else "0"
    if isinstance(value, np.floating) or type(value).__name__ == "bfloat16":
        digits = (15, 17) if isinstance(value, np.float64) else (6, 9)
        text = f"{float(value):.{digits[0]}g}"
        return text if type(value)(text) == value else f"{float(value):.{digits[1]}g}"
    return str(value)


def escaped(value: bytes) -> str:
    """absl::Utf8SafeCEscape: control characters in octal, all above ASCII as it is."""
    named = {9: b"\\t", 10: b"\\n", 13: b"\\r", 34: b'\\"', 39: b"\\'", 92: b"\\\\"}
    cells = (named.get(b) or (bytes([b]) if b >= 32 and b != 127 else b"\\%03o" % b) for b in value)
    return raw(b"".join(cells))


def raw(value: bytes) -> str:
    """Bytes within a message: what is not UTF-8 survives as lone surrogates."""
    return value.decode("utf-8", "surrogateescape")


def format_summary(array: Array, edge: int) -> str:
    """SummarizeValue as StringFormat and PrintV2 want it: `edge` elements at both ends of a side.

    A negative `edge` prints all.
    """
    edge = array.size if edge < 0 else min(edge, array.size)
    if array.dtype.kind == "c":
        return f"[{_unprinted(array, edge)}]"
    return _bracketed(array, edge, 0)


def _unprinted(array: Array, limit: int) -> str:
    """Of complex numbers."""
    return " ".join("?" * limit) + ("..." if limit < array.size else "")


def _bracketed(array: Array, edge: int, depth: int) -> str:
    if not array.ndim:
        value = array.item() if array.dtype == np.object_ else array[()]
        return f'"{escaped(value)}"' if isinstance(value, bytes) else _element(value)
    space = " " if array.ndim == 1 else "\n" * (array.ndim - 1) + " " * (depth + 1)
    count = len(array)
    shown = [i for i in range(count) if i < edge or i >= max(edge, count - edge)]
    cells = [_bracketed(array[i : i + 1].reshape(array.shape[1:]), edge, depth + 1) for i in shown]
    if count > 2 * edge:
        cells.insert(edge, "..." if edge else f"{space}...")
    return f"[{space.join(cells)}]"
