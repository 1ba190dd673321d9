"""The items of one input in a row request, on their way to one tensor."""

from typing import Any

import numpy as np

from jaxrt.errors import InvalidArgument
from jaxrt.serving.rest.json_value import Value
from jaxrt.serving.rest.tensors import (
    WRAPPING,
    Array,
    Kinds,
    assemble,
    block,
    collect,
    shape_text,
)
from jaxrt.specs import DType


class Column:
    """All items have the shape of the first."""

    def __init__(self, dtype: DType, kinds: Kinds = WRAPPING) -> None:
        self.dtype = dtype
        self.kinds = kinds
        self.items = 0
        self.shape: tuple[int, ...] = ()
        self.size = 0
        self.chunks: list[list[Any] | Array] = []

    def add(self, value: Value) -> None:
        """Raises InvalidArgument or Unimplemented, after which the column is of no use."""
        shape, size = self._append(value)
        if self.items == 0:
            self.shape, self.size = shape, size
        elif size != self.size:
            raise InvalidArgument(f"Expecting tensor size: {self.size} but got: {size}")
        elif shape != self.shape:
            raise InvalidArgument(
                f"Expecting shape {shape_text(self.shape)} but got: {shape_text(shape)}"
            )
        self.items += 1

    def _append(self, value: Value) -> tuple[tuple[int, ...], int]:
        array = block(value, self.dtype, self.kinds)
        if array is not None:
            self.chunks.append(array.reshape(-1))
            return array.shape, array.size
        if not self.chunks or not isinstance(self.chunks[-1], list):
            self.chunks.append([])
        leaves = self.chunks[-1]
        assert isinstance(leaves, list)
        before = len(leaves)
        shape = collect(value, self.dtype, leaves, self.kinds)
        return shape, len(leaves) - before

    def stacked(self) -> Array:
        """[items, ...]."""
        parts = [assemble(c, self.dtype) if isinstance(c, list) else c for c in self.chunks]
        flat = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return flat.reshape(self.items, *self.shape)
