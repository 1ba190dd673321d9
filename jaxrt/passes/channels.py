"""Channels: dimensions that keep their identity from the product that makes them to those that end
them.

The columns of a kernel, the bias added to them, the activation of the sum and the rows of the next
kernel are one channel dimension: a `Group`. Its index k may be taken from all its members at once.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jax.extend.core import Literal

from jaxrt.passes.jaxprs import ClosedJaxpr
from jaxrt.passes.rows_elementwise import FOLDS, PLAIN

Dim = tuple[Any, int]
"""A variable of a jaxpr, and one of its dimensions."""

ELEMENTWISE = (
    PLAIN
    | FOLDS.keys()
    | {"convert_element_type", "select_n", "clamp", "copy", "copy_p", "name", "stop_gradient"}
)


@dataclasses.dataclass(frozen=True, slots=True)
class Exit:
    """A product that sums over a channel dimension: (left, its dimension), (right, its)."""

    left: Dim
    right: Dim


class Channels:
    """The groups of one program without calls; union-find over the dimensions of its values."""

    def __init__(self, closed: ClosedJaxpr, weights: int) -> None:
        """`weights`: how many of the arguments are; the dimensions of the others are fixed."""
        self._parents: dict[Dim, Dim] = {}
        self._fixed: set[Dim] = set()
        self.exits: list[Exit] = []
        jaxpr = closed.jaxpr
        for variable in [*jaxpr.invars[weights:], *jaxpr.outvars]:
            self.fix(variable)
        for eqn in jaxpr.eqns:
            _RULES.get(eqn.primitive.name, _fixed)(self, eqn)

    def find(self, dim: Dim) -> Dim:
        """What stands for the whole group."""
        seen = []
        while (parent := self._parents.get(dim, dim)) != dim:
            seen.append(dim)
            dim = parent
        for one in seen:
            self._parents[one] = dim
        return dim

    def is_fixed(self, dim: Dim) -> bool:
        return self.find(dim) in self._fixed

    def link(self, one: Dim, other: Dim) -> None:
        """The two are the same channels."""
        if isinstance(one[0], Literal) or isinstance(other[0], Literal):
            return
        kept, joined = self.find(one), self.find(other)
        if kept != joined:
            self._parents[joined] = kept
            if joined in self._fixed:
                self._fixed.add(kept)

    def fix(self, atom: Any, dims: Sequence[int] | None = None) -> None:
        """Nothing may be taken from these dimensions, all of them when none are named."""
        if isinstance(atom, Literal):
            return
        for dim in range(len(atom.aval.shape)) if dims is None else dims:
            self._fixed.add(self.find((atom, dim)))

    def along(self, before: Any, after: Any, dims: Mapping[int, int]) -> None:
        """`dims`: dimension of `before` → dimension of `after`; the others of both are fixed."""
        for old, new in dims.items():
            self.link((before, old), (after, new))
        self.fix(before, [d for d in range(before.aval.ndim) if d not in dims])
        self.fix(after, [d for d in range(after.aval.ndim) if d not in dims.values()])


def _fixed(channels: Channels, eqn: Any) -> None:
    """Of a primitive without a rule."""
    for atom in [*eqn.invars, *eqn.outvars]:
        channels.fix(atom)


def _elementwise(channels: Channels, eqn: Any) -> None:
    (out,) = eqn.outvars
    for atom in eqn.invars:
        if atom.aval.shape and atom.aval.ndim != out.aval.ndim:
            channels.fix(atom)
            channels.fix(out)
            continue
        for dim, size in enumerate(atom.aval.shape):
            if size == out.aval.shape[dim]:
                channels.link((out, dim), (atom, dim))
            else:  # newer jax repeats dimensions of size 1
                channels.fix(atom, [dim])


def _transpose(channels: Channels, eqn: Any) -> None:
    (before,), (after,) = eqn.invars, eqn.outvars
    order = eqn.params["permutation"]
    channels.along(before, after, {old: new for new, old in enumerate(order)})


def _broadcast(channels: Channels, eqn: Any) -> None:
    before, (after,) = eqn.invars[0], eqn.outvars
    for old, new in enumerate(eqn.params["broadcast_dimensions"]):
        if before.aval.shape[old] == after.aval.shape[new]:
            channels.link((before, old), (after, new))
        else:
            channels.fix(before, [old])


def _reshape(channels: Channels, eqn: Any) -> None:
    before, (after,) = eqn.invars[0], eqn.outvars
    same = unchanged(before.aval.shape, after.aval.shape)
    channels.along(before, after, same)


def unchanged(before: Sequence[int], after: Sequence[int]) -> dict[int, int]:
    """Old dimension → new one, of those that a reshape neither splits nor merges."""
    found = {}
    ends_before, ends_after = _ends(before), _ends(after)
    for old, ends in ends_before.items():
        for new, others in ends_after.items():
            if ends == others:
                found[old] = new
    return found


def _ends(shape: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Dimension → products of the sizes before it, and up to it; those of size 1 are left out."""
    found, before = {}, 1
    for dim, size in enumerate(shape):
        if size != 1:
            found[dim] = (before, before * size)
        before *= size
    return found


def _squeeze(channels: Channels, eqn: Any) -> None:
    before, (after,) = eqn.invars[0], eqn.outvars
    gone = {d % before.aval.ndim for d in eqn.params["dimensions"]}
    kept = [d for d in range(before.aval.ndim) if d not in gone]
    channels.along(before, after, {old: new for new, old in enumerate(kept)})


def _expand(channels: Channels, eqn: Any) -> None:
    before, (after,) = eqn.invars[0], eqn.outvars
    added = {d % after.aval.ndim for d in eqn.params["dimensions"]}
    kept = [d for d in range(after.aval.ndim) if d not in added]
    channels.along(before, after, dict(enumerate(kept)))


def _reduce(channels: Channels, eqn: Any) -> None:
    before, (after,) = eqn.invars[0], eqn.outvars
    kept = [d for d in range(before.aval.ndim) if d not in eqn.params["axes"]]
    channels.along(before, after, {old: new for new, old in enumerate(kept)})


def _same_sizes(channels: Channels, eqn: Any) -> None:
    """Windows, padding, slices: a dimension that they leave whole keeps its channels."""
    before, (after,) = eqn.invars[0], eqn.outvars
    kept = [d for d in range(before.aval.ndim) if _untouched(eqn, d)]
    channels.along(before, after, {d: d for d in kept})
    for atom in eqn.invars[1:]:
        channels.fix(atom)


def _untouched(eqn: Any, dim: int) -> bool:
    params = eqn.params
    if "padding_config" in params:
        return bool(params["padding_config"][dim] == (0, 0, 0))
    if "window_dimensions" in params:
        one = (params["window_dimensions"][dim], params["window_strides"][dim])
        return one == (1, 1) and tuple(params["padding"][dim]) == (0, 0)
    size = eqn.invars[0].aval.shape[dim]
    if "limit_indices" in params:
        start, limit = params["start_indices"][dim], params["limit_indices"][dim]
        return (start, limit) == (0, size) and bool((params["strides"] or {dim: 1})[dim] == 1)
    return bool(params["slice_sizes"][dim] == size)


def _concatenate(channels: Channels, eqn: Any) -> None:
    (after,), along = eqn.outvars, eqn.params["dimension"]
    for before in eqn.invars:
        dims = {d: d for d in range(after.aval.ndim) if d != along}
        if not isinstance(before, Literal):
            channels.along(before, after, dims)


def _dot(channels: Channels, eqn: Any) -> None:
    (left, right), (out,) = eqn.invars, eqn.outvars
    (left_sum, right_sum), (left_batch, right_batch) = eqn.params["dimension_numbers"]
    for one, other in zip(left_sum, right_sum, strict=True):
        channels.link((left, one), (right, other))
        channels.exits.append(Exit((left, one), (right, other)))
    place = 0
    for one, other in zip(left_batch, right_batch, strict=True):
        channels.link((left, one), (right, other))
        channels.link((left, one), (out, place))
        place += 1
    for operand, gone in ((left, (*left_sum, *left_batch)), (right, (*right_sum, *right_batch))):
        for dim in (d for d in range(operand.aval.ndim) if d not in gone):
            channels.link((operand, dim), (out, place))
            place += 1


def _convolution(channels: Channels, eqn: Any) -> None:
    (left, right), (out,) = eqn.invars, eqn.outvars
    numbers, groups = eqn.params["dimension_numbers"], eqn.params["feature_group_count"]
    given, kernel, made = numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec
    for atom, spec in ((left, given), (right, kernel), (out, made)):
        channels.fix(atom, spec[2:])
    channels.link((left, given[0]), (out, made[0]))
    depthwise = groups == left.aval.shape[given[1]] == right.aval.shape[kernel[0]]
    if depthwise:
        channels.link((left, given[1]), (right, kernel[0]))
        channels.link((right, kernel[0]), (out, made[1]))
        channels.fix(right, [kernel[1]])
    elif groups == 1 and eqn.params["batch_group_count"] == 1:
        channels.link((left, given[1]), (right, kernel[1]))
        channels.exits.append(Exit((left, given[1]), (right, kernel[1])))
        channels.link((right, kernel[0]), (out, made[1]))
    else:
        _fixed(channels, eqn)


def _gather(channels: Channels, eqn: Any) -> None:
    (table, numbers), (out,) = eqn.invars, eqn.outvars
    params = eqn.params["dimension_numbers"]
    gone = {*params.collapsed_slice_dims, *getattr(params, "operand_batching_dims", ())}
    passed = [d for d in range(table.aval.ndim) if d not in gone]
    sizes = eqn.params["slice_sizes"]
    dims = {
        old: new
        for old, new in zip(passed, params.offset_dims, strict=True)
        if sizes[old] == table.aval.shape[old] and old not in params.start_index_map
    }
    channels.along(table, out, dims)
    channels.fix(numbers)


def _iota(channels: Channels, eqn: Any) -> None:
    channels.fix(eqn.outvars[0], [eqn.params["dimension"]])


_RULES: dict[str, Callable[[Channels, Any], None]] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(
        ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or"),
        _reduce,
    ),
    **dict.fromkeys(
        ("pad", "slice", "dynamic_slice", "reduce_window_max", "reduce_window_min"), _same_sizes
    ),
    "reduce_window_sum": _same_sizes,
    "transpose": _transpose,
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "expand_dims": _expand,
    "concatenate": _concatenate,
    "dot_general": _dot,
    "conv_general_dilated": _convolution,
    "gather": _gather,
    "iota": _iota,
}
