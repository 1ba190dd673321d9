"""What is known of arrays along their dimensions: indices at which all elements are one value."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Known:
    """Along one dimension: where all elements at an index are one value, and which."""

    mask: Array
    """[size] bool"""
    values: Array
    """[size]; anything where `mask` is false."""

    def zeros(self) -> Array:
        found: Array = self.mask & (self.values == 0)
        return found

    def where(self, mask: Array) -> "Known":
        return Known(self.mask & mask, self.values)

    def taken(self, indices: Any) -> "Known":
        return Known(self.mask[indices], self.values[indices])


@dataclasses.dataclass(frozen=True, slots=True)
class Value:
    """What is known of one array."""

    shape: tuple[int, ...]
    dtype: Any
    dims: Mapping[int, Known]
    """Dimension → what is known along it; those of which nothing is known are left out."""
    uniform: Any = None
    """The one value of all elements, if it is known."""

    def along(self, dim: int) -> Known:
        size = self.shape[dim]
        if self.uniform is not None:
            return Known(np.ones(size, bool), np.full(size, self.uniform, self.dtype))
        nothing = Known(np.zeros(size, bool), np.zeros(size, self.dtype))
        return self.dims.get(dim, nothing)


def unknown(variable: Any) -> Value:
    return Value(tuple(variable.aval.shape), variable.aval.dtype, {})


def like(variable: Any, dims: Mapping[int, Known], uniform: Any = None) -> Value:
    return Value(tuple(variable.aval.shape), variable.aval.dtype, dims, uniform)


def same(out: Any, values: Sequence[Value]) -> Value:
    """What is known of all, and the same."""
    first = values[0]
    if any(v.uniform is None or v.uniform != first.uniform for v in values):
        one = None
    else:
        one = first.uniform
    dims = {}
    for dim in range(out.aval.ndim):
        found = [v.along(dim) for v in values]
        if all(len(k.mask) == len(found[0].mask) for k in found):
            mask = np.all([k.mask & (k.values == found[0].values) for k in found], axis=0)
            dims[dim] = Known(mask, found[0].values)
    return like(out, dims, one)
