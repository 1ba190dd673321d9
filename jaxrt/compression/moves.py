"""What only moves the elements of an array: with it, dimensions that share a scale move too."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

from jax import lax

Shape = tuple[int, ...]

_VIEWS = frozenset({"reshape", "squeeze", "expand_dims", "broadcast_in_dim", "copy", "copy_p"})


@dataclasses.dataclass(frozen=True, slots=True)
class Move:
    """A transposition, or a view of the same elements in their order."""

    before: Shape
    after: Shape
    order: Shape | None = None
    """Of a transposition: dimension of the result → of the operand."""

    def axes_before(self, axes: Sequence[int]) -> Shape | None:
        """The operand's dimensions that are `axes` of the result; None where they are parts."""
        if self.order is not None:
            return tuple(sorted(self.order[a] for a in axes))
        return _through(self.after, self.before, axes)

    def axes_after(self, axes: Sequence[int]) -> Shape | None:
        if self.order is not None:
            return tuple(sorted(self.order.index(a) for a in axes))
        return _through(self.before, self.after, axes)

    def of(self, value: Any) -> Any:
        """An array of the shape `before` → of the shape `after`; of any dtype."""
        if self.order is not None:
            return lax.transpose(value, self.order)
        return lax.reshape(value, self.after)

    def of_scale(self, scale: Any, axes_after: Sequence[int]) -> Any:
        """Scales of size 1 along the operand's axes → along the result's."""
        if self.order is not None:
            return lax.transpose(scale, self.order)
        return lax.reshape(scale, kept(self.after, axes_after))


def kept(shape: Sequence[int], axes: Sequence[int]) -> Shape:
    """`shape` with size 1 along `axes`."""
    return tuple(1 if d in axes else n for d, n in enumerate(shape))


def move_of(eqn: Any) -> Move | None:
    """Of an equation; None where it computes something or has several operands."""
    name = eqn.primitive.name
    if name not in _VIEWS | {"transpose"} or len(eqn.invars) != 1:
        return None
    before, after = eqn.invars[0].aval, eqn.outvars[0].aval
    if before.dtype != after.dtype or before.size != after.size or not before.size:
        return None
    order = tuple(eqn.params["permutation"]) if name == "transpose" else None
    return Move(tuple(before.shape), tuple(after.shape), order)


def _through(source: Shape, result: Shape, axes: Sequence[int]) -> Shape | None:
    """Dimensions of `result` that hold what `axes` of `source` do; sizes of 1 hold nothing."""
    found: list[int] = []
    for ours, theirs in _runs(source, result):
        inside = [d in axes for d in ours if source[d] > 1]
        if any(inside) and not all(inside):
            return None
        found += [d for d in theirs if any(inside) and result[d] > 1]
    return tuple(found)


def _runs(a: Shape, b: Shape) -> Iterator[tuple[list[int], list[int]]]:
    """Runs of dimensions of two shapes of one size that hold the same elements, the shortest."""
    i = j = 0
    while i < len(a) or j < len(b):
        ours, theirs = [i] if i < len(a) else [], [j] if j < len(b) else []
        i, j = i + 1, j + 1
        while (left := math.prod(a[d] for d in ours)) != (right := math.prod(b[d] for d in theirs)):
            if left < right:
                ours.append(i)
                i += 1
            else:
                theirs.append(j)
                j += 1
        yield ours, theirs
