"""The contents of a lookup table, and finding in it."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxrt.specs import DTYPES

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


def _dtype(array: Array) -> str:
    if array.dtype == np.object_:
        return "string"
    return next(name for name, dtype in DTYPES.items() if dtype.numpy == array.dtype)
