"""Buckets: the compiled batch sizes (`allowed_batch_sizes`), and how rows are laid into them."""

import bisect
import dataclasses
from typing import Any

import numpy as np

from jaxrt.errors import InvalidArgument


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Buckets:
    """The compiled batch sizes: positive, strictly increasing."""

    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.sizes or list(self.sizes) != sorted({n for n in self.sizes if n > 0}):
            raise ValueError(
                f"batch sizes {self.sizes}: want increasing sizes from 1 up; "
                "pass --batch-sizes 1,8,32"
            )

    @property
    def largest(self) -> int:
        return self.sizes[-1]

    def fit(self, rows: int) -> int:
        """The smallest bucket that holds `rows`."""
        if rows > self.largest:
            raise InvalidArgument(f"{rows} rows are more than the largest bucket, {self.largest}")
        return self.sizes[bisect.bisect_left(self.sizes, rows)]

    def split(self, rows: int) -> list[int]:
        """How `rows` above the largest bucket are cut: whole largest buckets, then the rest."""
        whole, rest = divmod(rows, self.largest)
        return [self.largest] * whole + ([rest] if rest else [])


def pad(rows: np.ndarray[Any, Any], bucket: int) -> np.ndarray[Any, Any]:
    """[n, ...] -> [bucket, ...], by repeating the first row."""
    # A real row, not zeros: an all-zero row can be an id no embedding has, or divide by zero.
    if len(rows) == bucket:
        return rows
    return np.concatenate([rows, np.repeat(rows[:1], bucket - len(rows), axis=0)])
