"""Arrays of strings in a weights file: their bytes one after another, and where each ends."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxrt.converters.host.tensorproto import strings

Array = np.ndarray[Any, Any]

BYTES, OFFSETS, SHAPE = ".bytes", ".offsets", ".shape"


def stored(name: str, array: Array) -> dict[str, Array]:
    """`name` → array; of strings uint8[b], int64[n + 1] and the shape, under names of their own."""
    if array.dtype != np.object_:
        return {name: array}
    values = array.ravel().tolist()
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum([len(value) for value in values], out=offsets[1:])
    return {
        name + BYTES: np.frombuffer(b"".join(values), np.uint8),
        name + OFFSETS: offsets,
        name + SHAPE: np.asarray(array.shape, np.int64),
    }


def restored(name: str, arrays: Mapping[str, Array]) -> Array:
    """What was stored under `name`. Raises KeyError with the name that is not there."""
    if name in arrays:
        return arrays[name]
    data, bounds = arrays[name + BYTES].tobytes(), arrays[name + OFFSETS].tolist()
    values = [data[begin:end] for begin, end in zip(bounds, bounds[1:], strict=False)]
    return strings(values).reshape(arrays[name + SHAPE].tolist())
