"""Arrays as files of raw bytes: how weights, inputs and answers cross between the processes."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxrt.specs import DTYPES

Array = np.ndarray[Any, Any]


def write(path: Path, array: Array) -> None:
    """Little-endian, C order, no header: dtype and shape travel in the message beside it.

    Strings, bytes or str objects: their bytes one behind another, and in a file beside it n + 1
    offsets, int64.
    """
    if array.dtype.kind in "OSU":
        values = [v.encode() if isinstance(v, str) else bytes(v) for v in array.ravel().tolist()]
        path.write_bytes(b"".join(values))
        ends = np.cumsum([0, *map(len, values)], dtype=np.int64)
        _offsets(path).write_bytes(ends.tobytes())
        return
    # Not .npy: its header cannot name bfloat16 and the other dtypes of ml_dtypes.
    with path.open("wb") as file:
        file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def read(path: Path, dtype: str, shape: Sequence[int]) -> Array:
    """Memory-mapped, read-only. `dtype` is a key of jaxrt.specs.DTYPES with a numpy dtype.

    Strings are an object array of bytes, copied.
    """
    if dtype == "string":
        blob, ends = path.read_bytes(), np.fromfile(_offsets(path), np.int64).tolist()
        strings = np.empty(len(ends) - 1, object)
        strings[:] = [blob[a:b] for a, b in itertools.pairwise(ends)]
        return strings.reshape(tuple(shape))
    carrier = DTYPES[dtype].numpy
    assert carrier is not None
    if 0 in shape:  # an empty file cannot be mapped
        empty = np.zeros(tuple(shape), carrier)
        empty.flags.writeable = False
        return empty
    raw = np.memmap(path, np.uint8, "r")
    return np.asarray(raw).view(carrier).reshape(tuple(shape))


def answered(value: Any) -> Array:
    """What TensorFlow answers with, as an array: a lone string is bytes, which numpy would cut."""
    return np.asarray(value, object if isinstance(value, bytes) else None)


def remove(path: Path) -> None:
    """What `write` wrote. Arrays that are mapped stay valid."""
    path.unlink()
    _offsets(path).unlink(missing_ok=True)


def _offsets(path: Path) -> Path:
    return path.with_name(f"{path.name}.offsets")


def describe(name: str, array: Array, dtype: str, path: Path) -> dict[str, Any]:
    """The message beside the file; `load` reads it."""
    return {"name": name, "dtype": dtype, "shape": list(array.shape), "file": str(path)}


def load(described: Mapping[str, Any]) -> Array:
    return read(Path(described["file"]), described["dtype"], described["shape"])
