"""Arrays as files of raw bytes: how weights, inputs and answers cross between the processes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxrt.specs import DTYPES

Array = np.ndarray[Any, Any]


def write(path: Path, array: Array) -> None:
    """Little-endian, C order, no header: dtype and shape travel in the message beside it."""
    # Not .npy: its header cannot name bfloat16 and the other dtypes of ml_dtypes.
    with path.open("wb") as file:
        file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def read(path: Path, dtype: str, shape: Sequence[int]) -> Array:
    """Memory-mapped, read-only. `dtype` is a key of jaxrt.specs.DTYPES with a numpy dtype."""
    carrier = DTYPES[dtype].numpy
    assert carrier is not None
    if 0 in shape:  # an empty file cannot be mapped
        empty = np.zeros(tuple(shape), carrier)
        empty.flags.writeable = False
        return empty
    raw = np.memmap(path, np.uint8, "r")
    return np.asarray(raw).view(carrier).reshape(tuple(shape))


def describe(name: str, array: Array, dtype: str, path: Path) -> dict[str, Any]:
    """The message beside the file; `load` reads it."""
    return {"name": name, "dtype": dtype, "shape": list(array.shape), "file": str(path)}


def load(described: Mapping[str, Any]) -> Array:
    return read(Path(described["file"]), described["dtype"], described["shape"])
