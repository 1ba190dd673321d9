"""The contents of a lookup table: finding in it, and its file."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jaxrt.converters.host import strings
from jaxrt.errors import ArtifactError
from jaxrt.specs import DTYPES
from jaxrt.weights import open_weights, write_weights

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """Keys [n] are unique, values [n, ...] lie beside them; both in the order they were put in."""

    keys: Array
    values: Array
    default: Array | None = None
    """What a missing key gives; None: each lookup says (a static table's does, always)."""

    @property
    def key_dtype(self) -> str:
        """A key of DTYPES."""
        return _dtype(self.keys)

    @property
    def value_dtype(self) -> str:
        """A key of DTYPES."""
        return _dtype(self.values)

    def __len__(self) -> int:
        return len(self.keys)

    def find(self, keys: Array, default: Array) -> Array:
        """[...] of keys → [..., *shape of a value]; `default` has one value's shape."""
        at = self._places(keys.ravel())
        found = self._padded(default)[at]  # -1 is the last one: the default
        return found.reshape(*keys.shape, *self.values.shape[1:])

    def _padded(self, default: Array) -> Array:
        missing = default.reshape(1, *self.values.shape[1:])
        return np.concatenate([self.values, missing.astype(self.values.dtype)])

    def _places(self, keys: Array) -> Array:
        """Where each key lies; -1 where it does not."""
        if self.keys.dtype.kind not in "iu" or len(keys) < 64:
            get = self._index.get
            return np.fromiter((get(key, -1) for key in keys.tolist()), np.int64, len(keys))
        if not len(self.keys):
            return np.full(len(keys), -1, np.int64)
        order, ordered = self._sorted
        near = np.minimum(np.searchsorted(ordered, keys), len(ordered) - 1)
        return np.where(ordered[near] == keys, order[near], -1)

    @functools.cached_property
    def _index(self) -> Mapping[Any, int]:
        return {key: at for at, key in enumerate(self.keys.tolist())}

    @functools.cached_property
    def _sorted(self) -> tuple[Array, Array]:
        order = np.argsort(self.keys, kind="stable")
        return order, self.keys[order]


class Contents(Protocol):
    """What a file holds: keys [n] and values [n, ...], strings as object arrays of bytes."""

    @property
    def keys(self) -> Array: ...

    @property
    def values(self) -> Array: ...


def write(path: Path, contents: Contents) -> None:
    """One safetensors file; the order stays."""
    arrays = {
        **strings.stored("keys", np.asarray(contents.keys)),
        **strings.stored("values", np.asarray(contents.values)),
    }
    write_weights(path, arrays)


def read(path: Path) -> Table:
    """Raises ArtifactError where the file is no table."""
    found = open_weights(path)
    try:
        keys, values = strings.restored("keys", found), strings.restored("values", found)
    except KeyError as error:
        raise ArtifactError(
            f"{path}: has no {error}, want the keys and values of a table; build it again"
        ) from None
    if keys.ndim != 1 or values.shape[:1] != keys.shape:
        raise ArtifactError(
            f"{path}: {list(keys.shape)} keys for {list(values.shape)} values, want one each; "
            "build it again"
        )
    return Table(keys, values)


def _dtype(array: Array) -> str:
    if array.dtype == np.object_:
        return "string"
    return next(name for name, dtype in DTYPES.items() if dtype.numpy == array.dtype)
