"""Channels: indices that keep their identity from the product that makes them to those that end
them.

Column k of a kernel, the bias added to it, the activation of the sum and row k of the next kernel
are one channel. It has a number, which all of them share, and may be taken from all at once. A
channel may be several indices of one dimension: the four gates of an LSTM's unit, the pixels of a
flattened image, the depth of an attention head.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jax.extend.core import Literal

from jaxrt.passes import channel_rules
from jaxrt.passes.jaxprs import ClosedJaxpr

Array = np.ndarray[Any, Any]
Dim = tuple[Any, int]
"""A variable of a jaxpr, and one of its dimensions."""


@dataclasses.dataclass(frozen=True, slots=True)
class Exit:
    """An equation that sums over channels."""

    eqn: Any
    left: Dim
    right: Dim | None
    """What is multiplied with `left` before; None: nothing."""
    is_nested: bool
    """In the body of a loop or branch."""


@dataclasses.dataclass(frozen=True, slots=True)
class _View:
    """A reshape of one dimension to several, or the other way round: channels lie along one."""

    one: Dim
    many: tuple[Dim, ...]


class Channels:
    """Every index of every dimension of a program without calls, and which are one channel."""

    def __init__(self, closed: ClosedJaxpr, weights: int) -> None:
        """`weights`: how many of the arguments are; the indices of the others are fixed."""
        self._starts: dict[Dim, int] = {}
        """Dimension → place of its first index. Place 0 stands for all indices of dimensions that
        are fixed, or nobody speaks of: the rows of a table may be many."""
        self._count = 1
        self._unseen: set[Dim] = set()
        self._ties: list[tuple[Array, Array]] = []
        self._fixed: list[Array] = [np.zeros(1, np.int64)]
        self._parents: dict[Dim, Dim] = {}
        self._whole_fixed: set[Dim] = set()
        self._carriers: set[Dim] = set()
        self._views: list[_View] = []
        self._depth = 0
        self.exits: list[Exit] = []
        jaxpr: Any = closed.jaxpr
        for variable in [*jaxpr.invars[weights:], *jaxpr.outvars]:
            self.fix(variable)
        self.walk(jaxpr.eqns)
        self._settle()
        self._labels = self._components()
        self.fixed: Array = np.zeros(self.count, bool)
        """[channel]: it may not be taken."""
        for places in self._fixed:
            self.fixed[self._labels[places]] = True

    @property
    def count(self) -> int:
        return int(self._labels.max(initial=-1)) + 1

    def of(self, dim: Dim) -> Array:
        """[size] the channel of each index."""
        size = dim[0].aval.shape[dim[1]]
        if dim not in self._starts:
            return np.full(size, self._labels[0])
        found: Array = self._labels[self._starts[dim] : self._starts[dim] + size]
        return found

    def is_fixed(self, dim: Dim) -> bool:
        """Whether no index of it may be taken."""
        return isinstance(dim[0], Literal) or bool(self.fixed[self.of(dim)].all())

    def dims(self) -> Iterator[Dim]:
        """Those of which something may be tied."""
        yield from self._starts

    def walk(self, eqns: Sequence[Any]) -> None:
        for eqn in eqns:
            channel_rules.RULES.get(eqn.primitive.name, channel_rules.fixed)(self, eqn)

    def inside(self, eqns: Sequence[Any]) -> None:
        """The body of a loop or branch."""
        self._depth += 1
        self.walk(eqns)
        self._depth -= 1

    def ends(self, eqn: Any, left: Dim, right: Dim | None) -> None:
        """`eqn` sums over these channels."""
        self.exits.append(Exit(eqn, left, right, self._depth > 0))

    def link(self, one: Dim, other: Dim) -> None:
        """The two dimensions are the same channels."""
        if isinstance(one[0], Literal):
            one, other = other, one
        if isinstance(other[0], Literal):
            if not isinstance(one[0], Literal) and np.shape(other[0].val):
                self.fix(one[0], [one[1]])
            return
        self._ties.append((self._places(one), self._places(other)))
        kept, joined = self._find(one), self._find(other)
        if kept != joined:
            self._parents[joined] = kept
            if joined in self._whole_fixed:
                self._whole_fixed.add(kept)
            if joined in self._carriers:
                self._carriers.add(kept)

    def tie(self, one: Dim, indices: Array, other: Dim, others: Array) -> None:
        """Index by index: the same channel."""
        if isinstance(one[0], Literal) or isinstance(other[0], Literal):
            for variable, dim in (one, other):
                self.fix(variable, [dim])
            return
        self._ties.append((self._places(one)[indices], self._places(other)[others]))

    def fix(self, atom: Any, dims: Sequence[int] | None = None) -> None:
        """Nothing may be taken from these dimensions, all of them when none are named."""
        if isinstance(atom, Literal):
            return
        for dim in range(len(atom.aval.shape)) if dims is None else dims:
            self._whole_fixed.add(self._find((atom, dim)))
            if (atom, dim) in self._starts:
                self._fixed.append(self._places((atom, dim)))
            else:
                self._unseen.add((atom, dim))

    def along(self, before: Any, after: Any, dims: Mapping[int, int]) -> None:
        """`dims`: dimension of `before` → dimension of `after`; the others of both are fixed."""
        for old, new in dims.items():
            self.link((before, old), (after, new))
        if not isinstance(before, Literal):
            self.fix(before, [d for d in range(before.aval.ndim) if d not in dims])
        self.fix(after, [d for d in range(after.aval.ndim) if d not in dims.values()])

    def view(self, one: Dim, many: Sequence[Dim]) -> None:
        """`one` holds all of `many`, the last fastest; which of them the channels are along is
        decided when all equations are known."""
        self._views.append(_View(one, tuple(many)))

    def _places(self, dim: Dim) -> Array:
        size = dim[0].aval.shape[dim[1]]
        if dim not in self._starts:
            self._starts[dim] = self._count
            self._count += size
            if dim in self._unseen:
                self._fixed.append(np.arange(self._starts[dim], self._count))
        return np.arange(self._starts[dim], self._starts[dim] + size)

    def _find(self, dim: Dim) -> Dim:
        """What stands for all the dimensions that are linked as wholes."""
        seen = []
        while (parent := self._parents.get(dim, dim)) != dim:
            seen.append(dim)
            dim = parent
        for one in seen:
            self._parents[one] = dim
        return dim

    def _settle(self) -> None:
        """Decides what the channels of each view are along: the one dimension that is not fixed.

        Of several, one that carries channels of another view, else the outermost: an attention
        head is a channel, its depth is not.
        """
        views = self._views
        while views:
            left = []
            for view in views:
                open_dims = [d for d in view.many if self._find(d) not in self._whole_fixed]
                if self._find(view.one) in self._whole_fixed or len(open_dims) < 2:
                    self._carry(view, open_dims[0] if open_dims else None)
                else:
                    left.append((view, open_dims))
            if left and len(left) == len(views):
                view, open_dims = left.pop(0)
                carrying = [d for d in open_dims if self._find(d) in self._carriers]
                self._carry(view, (carrying or open_dims)[0])
            views = [view for view, _ in left]

    def _carry(self, view: _View, chosen: Dim | None) -> None:
        is_fixed = self._find(view.one) in self._whole_fixed
        for variable, dim in view.many:
            if is_fixed or (variable, dim) != chosen:
                self.fix(variable, [dim])
        if chosen is None or is_fixed:
            self.fix(view.one[0], [view.one[1]])
            return
        sizes = [variable.aval.shape[dim] for variable, dim in view.many]
        number = view.many.index(chosen)
        inner = int(np.prod(sizes[number + 1 :], dtype=np.int64))
        everything = np.arange(int(np.prod(sizes, dtype=np.int64)))
        self.tie(view.one, everything, chosen, everything // inner % sizes[number])
        self._carriers.add(self._find(chosen))

    def _components(self) -> Array:
        """[place] → channel."""
        none = np.zeros(0, np.int64)
        ones = np.concatenate([none, *(a for a, _ in self._ties)])
        others = np.concatenate([none, *(b for _, b in self._ties)])
        return components(self._count, ones, others)


def components(count: int, ones: Array, others: Array) -> Array:
    """[count] the number of each node's component, where `ones` are tied to `others`."""
    roots = np.arange(count)
    while len(ones):
        left, right = roots[ones], roots[others]
        np.minimum.at(roots, np.maximum(left, right), np.minimum(left, right))
        while not np.array_equal(roots, further := roots[roots]):
            roots = further
        apart = roots[ones] != roots[others]
        ones, others = ones[apart], others[apart]
    return np.unique(roots, return_inverse=True)[1]
