"""Layouts: over which mesh axis each dimension is split, and what changing that costs."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

from jaxrt.mesh import Spec


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Collective:
    """One exchange between the devices along a mesh axis."""

    kind: str
    """all-reduce, all-gather or all-to-all."""
    axis: str
    nbytes: float
    """Of the array on one device: before an all-reduce, after the others."""
    scope: str = ""
    """The weight that was met last before it: names the layer."""


def whole(rank: int) -> Spec:
    """Every device has all of it."""
    return (None,) * rank


def parts(spec: Spec, sizes: Mapping[str, int]) -> int:
    """Into how many different pieces an array is cut."""
    return math.prod(sizes[axis] for axis in spec if axis is not None)


def fits(shape: Sequence[int], spec: Spec, sizes: Mapping[str, int]) -> bool:
    """Whether every split dimension divides evenly, and no axis comes twice."""
    axes = [axis for axis in spec if axis is not None]
    return len(axes) == len(set(axes)) and all(
        axis is None or size % sizes[axis] == 0 for size, axis in zip(shape, spec, strict=True)
    )


def fitting(shape: Sequence[int], spec: Spec, sizes: Mapping[str, int]) -> Spec:
    """`spec` without the axes that do not divide their dimension, or that came before."""
    seen: set[str] = set()
    found: list[str | None] = []
    for size, axis in zip(shape, spec, strict=True):
        kept = axis if axis is not None and axis not in seen and size % sizes[axis] == 0 else None
        seen |= {kept} if kept else set()
        found.append(kept)
    return tuple(found)


def reshard(
    shape: Sequence[int], itemsize: int, before: Spec, after: Spec, sizes: Mapping[str, int]
) -> Iterator[Collective]:
    """What bringing an array from one layout into another exchanges; cutting it further is free."""
    nbytes = math.prod(shape) * itemsize
    moved = {axis for axis in before if axis is not None} & {a for a in after if a is not None}
    local = nbytes / max(parts(before, sizes), 1)
    for dim, axis in enumerate(before):
        if axis is None or after[dim] == axis:
            continue
        if axis in moved:
            yield Collective(kind="all-to-all", axis=axis, nbytes=local)
        else:
            local *= sizes[axis]
            yield Collective(kind="all-gather", axis=axis, nbytes=local)


def reshaped(before: Sequence[int], after: Sequence[int]) -> dict[int, int]:
    """New dimension → old dimension whose splitting it carries on, of a reshape.

    Sizes are compared from the left in groups of equal products; within a group only the first
    dimension that is not 1 keeps the elements of a piece together.
    """
    found: dict[int, int] = {}
    for old, new in _groups(before, after):
        first_old = next((d for d in old if before[d] != 1), None)
        first_new = next((d for d in new if after[d] != 1), None)
        if first_old is not None and first_new is not None:
            found[first_new] = first_old
    return found


def _groups(before: Sequence[int], after: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """The smallest runs of old and new dimensions of equal product."""
    i = j = 0
    while i < len(before) or j < len(after):
        old, new, left, right = [], [], 1, 1
        while True:
            if left <= right and i < len(before):
                left *= before[i]
                old.append(i)
                i += 1
            elif j < len(after):
                right *= after[j]
                new.append(j)
                j += 1
            elif i < len(before):
                left *= before[i]
                old.append(i)
                i += 1
            else:
                break
            if left == right and old and new:
                break
        yield old, new
