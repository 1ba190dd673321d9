"""Reshapes as runs of dimensions that hold the same elements."""

import math
from collections.abc import Iterator, Sequence


def runs(before: Sequence[int], after: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """The shortest runs of two shapes of one size; dimensions of size 1 are in none."""
    ours = [d for d, size in enumerate(before) if size != 1]
    theirs = [d for d, size in enumerate(after) if size != 1]
    if 0 in (*before, *after):
        yield ours, theirs
        return
    while ours or theirs:
        left, right = [ours.pop(0)], [theirs.pop(0)]
        while (one := _size(before, left)) != (other := _size(after, right)):
            if one < other:
                left.append(ours.pop(0))
            else:
                right.append(theirs.pop(0))
        yield left, right


def _size(shape: Sequence[int], dims: Sequence[int]) -> int:
    return math.prod(shape[d] for d in dims)
