"""Pruning: channels leave a program with all that hangs on them.

A channel (`jaxrt.passes.channels`) is dead where each equation that sums over it gains nothing
from it: its value is zero, or its row of weights is, or it is a constant that moves into the sums
that follow. The column of a kernel, its bias, what batch norm makes of both, and the row of the
next kernel go, and no output changes but by the order of sums. Taking channels that are merely
small is the same operation, with an error: the budget of a compression decides.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from jaxrt.passes import smaller
from jaxrt.passes.channels import Channels, Dim, Exit
from jaxrt.passes.constants import Constants
from jaxrt.passes.fills import Fill, Fills, Product, Whole, in_numpy, products
from jaxrt.passes.known import Known, Value
from jaxrt.passes.rewrite import inline
from jaxrt.program import Program

Array = np.ndarray[Any, Any]
Kept = Mapping[str, Mapping[int, Array]]
"""Weight → dimension → the indices that stay, ascending."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Channels that are made and used by the same weights, and of which any may be taken."""

    channels: Array
    """Their numbers in the Analysis."""
    weights: Mapping[str, tuple[int, ...]]
    """Weight → its dimensions that are these channels, among others."""
    ends: tuple[str, ...]
    """Those of `weights` whose products sum over the channels."""

    @property
    def size(self) -> int:
        return len(self.channels)


class Analysis:
    """A program without calls, its channels, and which of them are of which weights."""

    def __init__(self, program: Program) -> None:
        self.program = dataclasses.replace(program, jaxpr=inline(program.jaxpr))
        self.closed = self.program.jaxpr
        names = program.weight_names
        self.channels = Channels(self.closed, len(names))
        self.products = products(self.program, self.channels)
        self.exits: dict[int, list[Exit]] = {}
        """By the identity of the equation."""
        for end in self.channels.exits:
            self.exits.setdefault(id(end.eqn), []).append(end)
        self.named = {(id(p.exit.eqn), p.exit.left): p for p in self.products}
        invars: Any = self.closed.jaxpr.invars
        self.dims: dict[tuple[str, int], Array] = {
            (name, dim): self.channels.of((variable, dim))
            for name, variable in zip(names, invars, strict=False)
            for dim in range(variable.aval.ndim)
        }
        """(weight, dimension) → the channel of each index."""
        self.open = np.zeros(self.channels.count, bool)
        """[channel]: it is of a weight, and may be taken."""
        for found in self.dims.values():
            self.open[found] = True
        self.open &= ~self.channels.fixed

    def kept(self, gone: Array) -> dict[str, dict[int, Array]]:
        """`gone`: [channel] bool."""
        found: dict[str, dict[int, Array]] = {}
        for (name, dim), channels in self.dims.items():
            if gone[channels].any():
                found.setdefault(name, {})[dim] = np.flatnonzero(~gone[channels])
        return found

    def gone(self, kept: Kept) -> Array:
        """[channel] bool. Raises ValueError where dimensions that are tied keep different ones."""
        found = np.zeros(self.channels.count, bool)
        asked = {
            (name, dim): np.isin(np.arange(len(self.dims[name, dim])), indices, invert=True)
            for name, dims in kept.items()
            if (name, 0) in self.dims
            for dim, indices in dims.items()
        }
        for (name, dim), goes in asked.items():
            channels = self.dims[name, dim]
            if self.channels.fixed[channels[goes]].any():
                raise ValueError(f"weight {name!r}: dimension {dim} is no channels")
            found[channels[goes]] = True
        for (name, dim), goes in asked.items():
            if not np.array_equal(found[self.dims[name, dim]], goes):
                raise ValueError(f"weight {name!r}: dimension {dim} keeps other indices")
        return found

    def with_some(self, gone: Array) -> Array:
        """`gone` with one channel left in every dimension: many refuse sizes of 0."""
        gone = gone.copy()
        sized = [self.channels.of(dim) for dim in self.channels.dims()]
        while empty := [c[0] for c in sized if len(c) and gone[c].all()]:
            gone[empty] = False
        return gone


def groups(program: Program) -> tuple[Group, ...]:
    """Of channels that are ended by products with weights alone."""
    return groups_of(Analysis(program))


def groups_of(found: Analysis, *, ended: bool = True) -> tuple[Group, ...]:
    """`ended`: only channels that products with weights end, and nothing else."""
    right, ends = _ended(found)
    dims = list(found.dims)
    wanted = found.open & right if ended else found.open
    members: dict[int, list[int]] = {}
    for number, mine in enumerate(found.dims.values()):
        for channel in np.unique(mine[wanted[mine]]).tolist():
            members.setdefault(channel, []).append(number)
    by: dict[tuple[int, ...], list[int]] = {}
    for channel, places in members.items():
        by.setdefault(tuple(places), []).append(channel)
    out = []
    for numbers, channels in by.items():
        weights: dict[str, tuple[int, ...]] = {}
        for name, dim in (dims[n] for n in numbers):
            weights[name] = (*weights.get(name, ()), dim)
        taking = [ends.get(c, []) for c in channels]
        names = tuple(n for n in dict.fromkeys(n for t in taking for n in t) if n in weights)
        out.append(Group(channels=np.array(channels), weights=weights, ends=names))
    return tuple(sorted(out, key=lambda group: int(group.channels[0])))


def _ended(found: Analysis) -> tuple[Array, dict[int, list[str]]]:
    """[channel]: something sums over it, and only products with weights; and those weights."""
    some = np.zeros(found.channels.count, bool)
    other = np.zeros(found.channels.count, bool)
    names = {
        id(variable): name
        for variable, name in zip(
            found.closed.jaxpr.invars, found.program.weight_names, strict=False
        )
    }
    ends: dict[int, list[str]] = {}
    products = {(id(p.exit.eqn), p.exit.left): p.name.rpartition("#")[0] for p in found.products}
    for end in found.channels.exits:
        channels = found.channels.of(end.left)
        name = products.get((id(end.eqn), end.left))
        if end.is_nested and end.right is not None:
            name = _weight_inside(found, end, names)
        (other if name is None else some)[channels] = True
        for channel in np.unique(channels).tolist() if name else ():
            ends.setdefault(channel, []).append(name or "")
    return some & ~other, ends


def _weight_inside(found: Analysis, end: Exit, names: Mapping[int, str]) -> str | None:
    """The weight that a loop's product takes: what shares its sizes and its channels."""
    for side in (end.right, end.left):
        assert side is not None
        variable = side[0]
        dims = [found.channels.of((variable, d)) for d in range(variable.aval.ndim)]
        for name in names.values():
            mine = [c for (n, _), c in found.dims.items() if n == name]
            if len(mine) == len(dims) and all(map(np.array_equal, mine, dims)):
                return name
    return None


def dead(program: Program, weights: Mapping[str, Array]) -> dict[str, dict[int, Array]]:
    """What stays when every dead channel is taken; dimensions without one are left out."""
    found = Analysis(program)
    return found.kept(dying(found, weights))


def dying(found: Analysis, weights: Mapping[str, Array]) -> Array:
    """[channel] bool: what changes no output."""
    gone = np.zeros(found.channels.count, bool)
    while True:
        values = _Ends(found, weights, gone)
        values.run(weights)
        if gone.any():
            values.run(masked(weights, found.kept(gone)), only_weights=True)
        more = found.with_some(gone | (found.open & ~values.needed()))
        if not (more & ~gone).any():
            return gone
        gone = more


def constants(program: Program, weights: Mapping[str, Array], kept: Kept) -> dict[str, Fill]:
    """What dead channels leave in the sums over them, by product."""
    found = Analysis(program)
    gone = found.gone(kept)
    values = _Ends(found, weights, gone)
    if gone.any():
        values.run(weights)
    return values.fills


class _Ends:
    """What sums over channels gain from each."""

    def __init__(self, found: Analysis, weights: Mapping[str, Array], gone: Array) -> None:
        self._found = found
        self._gone = gone
        self._good: dict[tuple[int, Dim], Array] = {}
        self.fills: dict[str, Fill] = {}
        invars = found.closed.jaxpr.invars
        given = {
            variable: weights[name]
            for variable, name in zip(invars, found.program.weight_names, strict=False)
        }
        self._whole = Whole(found.closed, given)

    def run(self, weights: Mapping[str, Array], *, only_weights: bool = False) -> None:
        """`only_weights`: what weights' rows alone tell."""
        self._only = only_weights
        walk = Constants(self._found.channels, self._watch, self._see)
        walk.run(self._found.closed, [weights[n] for n in self._found.program.weight_names])

    def needed(self) -> Array:
        """[channel]: something gains from it."""
        needed = np.zeros(self._found.channels.count, bool)
        for end in self._found.channels.exits:
            good = self._good.get((id(end.eqn), end.left))
            channels = self._found.channels.of(end.left)
            needed[channels if good is None else channels[~good]] = True
        return needed

    def _watch(self, eqn: Any, operands: Sequence[Value], is_nested: bool) -> None:
        for end in self._found.exits.get(id(eqn), ()):
            key = (id(eqn), end.left)
            left = operands[0].along(end.left[1])
            good = left.zeros() if not self._only else np.zeros(len(left.mask), bool)
            if end.right is not None:
                right = operands[1].along(end.right[1])
                repeat = len(left.mask) // len(right.mask)  # of groups
                right = Known(np.tile(right.mask, repeat), np.tile(right.values, repeat))
                good = self._of_product(key, end, left, right, good)
            if self._only:
                good = good | self._good.get(key, np.zeros(len(good), bool))
            self._good[key] = good

    def _of_product(
        self, key: tuple[int, Dim], end: Exit, left: Known, right: Known, good: Array
    ) -> Array:
        product = self._found.named.get(key)
        if self._only:
            if end.is_nested:
                return left.zeros() | right.zeros()
            if product is None:
                return good
            return right.zeros() if product.weight == 1 else left.zeros()
        good = good | right.zeros()
        if product is None or not (product.is_exact and product.is_fillable):
            return good
        data = left if product.weight == 1 else right
        known = data.mask & np.isfinite(data.values)
        goes = self._gone[self._found.channels.of(end.left)] & known & (data.values != 0)
        if goes.any():
            self.fills[product.name] = Fill(np.where(goes, data.values, 0))
        return good | known

    def _see(self, eqn: Any, operands: Sequence[Value], made: Value) -> Value:
        """With what constants that are gone add to the sums."""
        for end in self._found.exits.get(id(eqn), ()):
            product = self._found.named.get((id(eqn), end.left))
            if product is not None and (fill := self.fills.get(product.name)) is not None:
                made = self._filled(product, fill, made)
        return made

    def _filled(self, product: Product, fill: Fill, made: Value) -> Value:
        weight = in_numpy(lambda: self._whole(product.exit.eqn.invars[product.weight]))
        added = product.sums(weight, fill.values)
        goes = self._gone[self._found.channels.of(product.data)]
        left = np.moveaxis(weight, product.dim, 0)[~goes]
        shown = np.moveaxis(left, 0, product.dim)
        rest = product.sums(np.abs(shown), np.ones(shown.shape[product.dim], shown.dtype)) == 0
        dims = {}
        for dim in range(len(made.shape)):
            if added.shape[dim] == made.shape[dim] > 1:
                rows = np.moveaxis(added, dim, 0).reshape(made.shape[dim], -1)
                zeros = np.moveaxis(rest, dim, 0).reshape(made.shape[dim], -1).all(axis=1)
                dims[dim] = Known(zeros & (rows == rows[:, :1]).all(axis=1), rows[:, 0])
        return dataclasses.replace(made, dims=dims, uniform=None)


def norms(found: Analysis, group: Group, weights: Mapping[str, Array]) -> Array:
    """[group's channels]: the product of a channel's L2 norms in all the weights of its group,
    which is what it can add to the sums that end it."""
    score = np.ones(group.size)
    for name, dims in group.weights.items():
        if weights[name].ndim < 2:  # the zero of a bias says nothing
            continue
        for dim in dims:
            rows = np.moveaxis(weights[name], dim, 0).reshape(weights[name].shape[dim], -1)
            squares = (rows.astype(np.float64) ** 2).sum(axis=1)
            summed = np.zeros(found.channels.count)
            np.add.at(summed, found.dims[name, dim], squares)
            score *= np.sqrt(summed[group.channels])
    return score


def flops(found: Analysis, gone: Array) -> float:
    """Of all products and convolutions without the channels `gone`, [channel] bool; those in the
    body of a loop count once."""

    def size(atom: Any, dims: Sequence[int]) -> float:
        sizes = (float((~gone[found.channels.of((atom, d))]).sum()) for d in dims)
        return math.prod(sizes)

    total = 0.0
    for ends in found.exits.values():
        eqn, out = ends[0].eqn, ends[0].eqn.outvars[0]
        if eqn.primitive.name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            total += 2 * size(out, range(out.aval.ndim)) * size(eqn.invars[0], contracted)
        elif eqn.primitive.name == "conv_general_dilated":
            kernel, spec = eqn.invars[1], eqn.params["dimension_numbers"].rhs_spec
            total += 2 * size(out, range(out.aval.ndim)) * size(kernel, spec[1:])
    return total


def masked(weights: Mapping[str, Array], kept: Kept) -> dict[str, Array]:
    """The weights with zeros where channels go: the unpruned program then gives what the pruned
    one will, where channels leave nothing in the sums over them."""
    found = dict(weights)
    for name, dims in kept.items():
        if name not in found:
            continue
        array = np.array(found[name])
        for dim, indices in dims.items():
            gone = np.setdiff1d(np.arange(array.shape[dim]), indices)
            np.moveaxis(array, dim, 0)[gone] = 0
        found[name] = array
    return found


def apply(program: Program, kept: Kept, fills: Fills = MappingProxyType({})) -> Program:
    """The same program on slices of its weights: `jaxrt.passes.prepare` then stores the slices.

    Raises ValueError where dimensions that are tied keep different indices.
    """
    found = Analysis(program)
    gone = found.gone(kept)
    if not gone.any():
        return program
    return smaller.without(found.program, found.channels, gone, found.products, fills)
