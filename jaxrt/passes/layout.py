"""Where the rows of a batch sit in a value: the abstract domain of the row proof.

Each axis of a value is a product of factors, major to minor, as a reshape sees it: [B*T, H] is
((rows B, varies T), (varies H)). A value holds at most one factor of rows: along it, row i is a
function of row i of the inputs alone. A value without one depends on no input; its factors say
whether it is the same along them. Layouts come from the flow of data, never from a size, so a
dimension that happens to equal the batch is not mistaken for it.
"""

import dataclasses
import enum
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple


class Tag(enum.Enum):
    """How a value changes along a factor."""

    ROWS = "rows"
    """One step is one row of the batch."""
    SAME = "same"
    """It does not change."""
    VARIES = "varies"
    """It changes by position."""
    COUNTS = "counts"
    """It is `scale * position + offset`, and does not change along any other factor."""


class Factor(NamedTuple):
    size: int
    tag: Tag


Axis = tuple[Factor, ...]
Scalar = bool | int | float


class Mix(Exception):
    """Rows meet, or a row meets its position: the message says how.

    `parts` are those of the value that is mixed as a whole: see `Value.parts`.
    """

    def __init__(self, reason: str, parts: "tuple[int, tuple[Value, ...]] | None" = None) -> None:
        super().__init__(reason)
        self.parts = parts


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Value:
    """What is known of one value; `axes` has one entry per dimension."""

    axes: tuple[Axis, ...] = ()
    mixed: str | None = None
    """Why rows are mixed in it; then nothing else is known but `parts`."""
    const: Scalar | None = None
    """Every element equals it."""
    affine: tuple[int, int] = (1, 0)
    """(scale, offset) of the factor that counts, where there is one."""
    parts: tuple[int, tuple["Value", ...]] | None = None
    """(axis, pieces) of a concatenation: columns of an index, of which one may be row numbers."""

    @property
    def rows_axis(self) -> int | None:
        """The dimension that carries the rows."""
        for i, axis in enumerate(self.axes):
            if has_rows(axis):
                return i
        return None

    @property
    def counts(self) -> tuple[int, Factor] | None:
        """(dimension, factor) that counts."""
        for i, axis in enumerate(self.axes):
            for factor in axis:
                if factor.tag is Tag.COUNTS:
                    return i, factor
        return None


def has_rows(axis: Axis) -> bool:
    return any(f.tag is Tag.ROWS for f in axis)


def size_of(axis: Axis) -> int:
    return math.prod(f.size for f in axis)


def tidy(factors: Iterable[Factor]) -> Axis:
    """Drops factors of one step that are not rows, and merges neighbours of one kind."""
    out: list[Factor] = []
    for factor in factors:
        if factor.size == 1 and factor.tag is not Tag.ROWS:
            continue
        mergeable = factor.tag in (Tag.SAME, Tag.VARIES)
        if out and mergeable and out[-1].tag is factor.tag:
            out[-1] = Factor(out[-1].size * factor.size, factor.tag)
        else:
            out.append(factor)
    return tuple(out)


def same(size: int) -> Axis:
    return tidy([Factor(size, Tag.SAME)])


def varies(size: int) -> Axis:
    return tidy([Factor(size, Tag.VARIES)])


def retag(axis: Axis, old: Tag, new: Tag) -> Axis:
    return tidy(Factor(f.size, new if f.tag is old else f.tag) for f in axis)


def settle(axis: Axis) -> Axis:
    """Forgets counting: what any operation but a few does to it."""
    return retag(axis, Tag.COUNTS, Tag.VARIES)


def spread(axis: Axis, size: int) -> Axis:
    """An axis without rows, cut, padded or permuted to `size`; only sameness survives."""
    if has_rows(axis):
        raise Mix("cuts, pads or permutes the axis of the rows")
    return same(size) if all(f.tag is Tag.SAME for f in axis) else varies(size)


def of_input(shape: Sequence[int]) -> Value:
    """An input of shape [batch, ...]."""
    batch, *rest = shape
    return Value(axes=((Factor(batch, Tag.ROWS),), *(varies(n) for n in rest)))


def of_weight(shape: Sequence[int]) -> Value:
    return Value(axes=tuple(varies(n) for n in shape))


def splat(shape: Sequence[int], const: Scalar | None = None) -> Value:
    return Value(axes=tuple(same(n) for n in shape), const=const)


def single(axes: Sequence[Axis]) -> tuple[Axis, ...]:
    """`axes`, or Mix where rows stand in it twice."""
    if sum(f.tag is Tag.ROWS for axis in axes for f in axis) > 1:
        raise Mix("pairs every row with every other")
    return tuple(axes)


def _blend(a: Tag, b: Tag) -> Tag:
    tags = {a, b}
    if tags == {Tag.SAME}:
        return Tag.SAME
    if Tag.ROWS not in tags:
        return Tag.VARIES
    if tags <= {Tag.ROWS, Tag.SAME}:
        return Tag.ROWS
    raise Mix("joins rows with a value that depends on the position in the batch")


def _pairs(a: Axis, b: Axis) -> Iterator[tuple[int, Tag, Tag]]:
    """Both axes cut at the same places, minor to major."""
    left, right = list(a), list(b)
    if size_of(a) != size_of(b):
        raise AssertionError(f"axes of sizes {size_of(a)} and {size_of(b)} in one operation")
    while left or right:
        x = left.pop() if left else Factor(1, Tag.SAME)
        y = right.pop() if right else Factor(1, Tag.SAME)
        if (x.size == 1) != (y.size == 1):
            # Rows of a batch of one: they take no room, so the other side waits.
            if x.size == 1:
                right.append(y)
                y = Factor(1, Tag.SAME)
            else:
                left.append(x)
                x = Factor(1, Tag.SAME)
        step = min(x.size, y.size)
        if x.size % step or y.size % step:
            raise Mix("lays rows beside an axis that is cut differently")
        x, y = _cut(left, x, step), _cut(right, y, step)
        yield step, x.tag, y.tag


def _cut(rest: list[Factor], factor: Factor, step: int) -> Factor:
    if factor.size == step:
        return factor
    if factor.tag is Tag.ROWS:
        raise Mix("cuts the axis of the rows into pieces")
    tag = Tag.VARIES if factor.tag is Tag.COUNTS else factor.tag
    rest.append(Factor(factor.size // step, tag))
    return Factor(step, tag)


def blend(a: Axis, b: Axis) -> Axis:
    """Two axes of one size, joined element by element; raises Mix where rows meet positions."""
    if not has_rows(a) and not has_rows(b):
        try:
            return tidy([Factor(n, _blend(s, t)) for n, s, t in _pairs(a, b)][::-1])
        except Mix:  # Factors that do not divide: no rows are at stake.
            return varies(size_of(a))
    return tidy([Factor(n, _blend(s, t)) for n, s, t in _pairs(a, b)][::-1])


def combine(values: Sequence[Value], rank: int) -> tuple[Axis, ...]:
    """The layout of an elementwise operation; scalars and axes of one step go with any size."""
    full = [v.axes for v in values if len(v.axes) == rank] or [()]
    axes = []
    for parts in zip(*full, strict=True):
        size = max(size_of(axis) for axis in parts)
        axis, *others = (settle(_grown(part, size)) for part in parts)
        for other in others:
            axis = blend(axis, other)
        axes.append(axis)
    return single(axes)


def fit(value: Value, shape: Sequence[int]) -> Value:
    """`value` as an operand of an elementwise operation that gives `shape`, of the same rank."""
    axes = tuple(_grown(a, n) for a, n in zip(value.axes, shape, strict=True))
    return value if axes == value.axes else dataclasses.replace(value, axes=axes, parts=None)


def _grown(axis: Axis, size: int) -> Axis:
    return axis if size_of(axis) == size else tidy([*axis, Factor(size, Tag.SAME)])


def join(a: Value, b: Value) -> Value:
    """What holds of a value that is either `a` or `b`."""
    if a == b:
        return a
    if a.mixed or b.mixed:
        return Value(mixed=a.mixed or b.mixed)
    try:
        axes = combine([a, b], len(a.axes))
    except Mix as error:
        return Value(mixed=str(error))
    known = a.const is not None and a.const == b.const
    return Value(axes=axes, const=a.const if known else None)


def reshape(axes: Sequence[Axis], shape: Sequence[int]) -> tuple[Axis, ...]:
    """The same factors in order, dealt out to new dimensions."""
    queue = [f for axis in axes for f in axis][::-1]
    out = []
    for size in shape:
        axis: list[Factor] = []
        if size == 1 and queue and queue[-1].size == 1:
            axis.append(queue.pop())
        need = size
        while need > 1:
            factor = _fitting(queue, need)
            axis.append(factor)
            need //= factor.size
        out.append(tidy(axis))
    if queue:  # Rows of a batch of one, left behind the last dimension.
        if not out:
            raise Mix("takes the only row out of its axis")
        out[-1] = tidy([*out[-1], *queue[::-1]])
    return tuple(out)


def _fitting(queue: list[Factor], need: int) -> Factor:
    """The next factor, cut or merged so that it divides `need`."""
    factor = queue.pop()
    while need % factor.size and factor.size % need:
        if factor.tag is Tag.ROWS or not queue or queue[-1].tag is Tag.ROWS:
            raise Mix("cuts the axis of the rows into pieces")
        factor = Factor(factor.size * queue.pop().size, Tag.VARIES)
    if factor.size <= need:
        return factor
    if factor.tag is Tag.ROWS:
        raise Mix("cuts the axis of the rows into pieces")
    tag = Tag.VARIES if factor.tag is Tag.COUNTS else factor.tag
    queue.append(Factor(factor.size // need, tag))
    return Factor(need, tag)


def signature(axes: Sequence[Axis]) -> tuple[tuple[int, ...], ...]:
    """Sizes with the rows left out: per dimension (all,), or (before, after) where rows are."""
    out: list[tuple[int, ...]] = []
    for axis in axes:
        if not has_rows(axis):
            out.append((size_of(axis),))
            continue
        at = next(i for i, f in enumerate(axis) if f.tag is Tag.ROWS)
        out.append((size_of(axis[:at]), size_of(axis[at + 1 :])))
    return tuple(out)


def of_empty(shape: Sequence[int]) -> Value:
    """A value without elements agrees with anything."""
    return Value(axes=tuple((Factor(n, Tag.SAME),) if n != 1 else () for n in shape))
