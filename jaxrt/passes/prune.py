"""Pruning: channels leave a program with all that hangs on them.

Channel k of a group (`jaxrt.passes.channels`) is dead where each product that sums over the group
has a zero there on one side: the column of a kernel, its bias, what batch norm makes of both, and
the row of the next kernel go, and no output changes but by the order of sums. Taking channels that
are merely small is the same operation, with an error: `weakest` offers them, the budget of a
compression decides.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.extend.core import Literal

from jaxrt.passes.channels import Channels, Dim
from jaxrt.passes.jaxprs import ClosedJaxpr, bind, literal
from jaxrt.passes.rewrite import evaluate, inline, traced_like
from jaxrt.passes.rewrite import prune as without_unused
from jaxrt.program import Program

Array = np.ndarray[Any, Any]
Kept = Mapping[str, Mapping[int, Array]]
"""Weight → dimension → the indices that stay, ascending."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Channels that may be taken."""

    size: int
    weights: Mapping[str, int]
    """Weight → its dimension that is these channels."""
    ends: tuple[str, ...]
    """Those of `weights` whose products sum over the channels."""


class _Analysis:
    """A program without calls, its channels, and which of its arguments are what."""

    def __init__(self, program: Program) -> None:
        self.closed = inline(program.jaxpr)
        names = program.weight_names
        self.jaxpr = self.closed.jaxpr
        self.channels = Channels(self.closed, len(names))
        self.weights: dict[Any, str] = dict(zip(self.jaxpr.invars, names, strict=False))
        self.members: dict[Dim, list[Dim]] = {}
        """Group → dimensions of weights in it."""
        for variable in self.weights:
            for dim in range(variable.aval.ndim):
                if not self.channels.is_fixed((variable, dim)):
                    self.members.setdefault(self.channels.find((variable, dim)), []).append(
                        (variable, dim)
                    )

    def usable(self) -> dict[Dim, list[Dim]]:
        """Groups that a product ends, and in which no weight comes with two dimensions."""
        ended = {self.channels.find(e.left) for e in self.channels.exits}
        return {
            group: dims
            for group, dims in self.members.items()
            if group in ended and len({v for v, _ in dims}) == len(dims)
        }


def groups(program: Program) -> tuple[Group, ...]:
    """Every group whose channels may be taken: ended by products with weights alone."""
    found = _Analysis(program)
    out = []
    for group, dims in found.usable().items():
        exits = [e for e in found.channels.exits if found.channels.find(e.left) == group]
        ends = [found.weights.get(v) for e in exits for v in (e.left[0], e.right[0])]
        names = [name for name in ends if name is not None]
        if len(names) < len(exits):
            continue  # a product of two activations, or of a kernel that was computed
        size = dims[0][0].aval.shape[dims[0][1]]
        weights = {found.weights[v]: dim for v, dim in dims}
        out.append(Group(size=size, weights=weights, ends=tuple(dict.fromkeys(names))))
    return tuple(out)


def dead(program: Program, weights: Mapping[str, Array]) -> dict[str, dict[int, Array]]:
    """What stays when every dead channel is taken; groups without one are left out."""
    found = _Analysis(program)
    kept: dict[str, dict[int, Array]] = {}
    while True:
        more = _dead_once(found, masked(weights, kept))
        grown = {name: {**kept.get(name, {}), **dims} for name, dims in more.items()}
        if not _is_smaller(kept, grown):
            return kept
        kept = {**kept, **grown}


def _is_smaller(before: Kept, after: Kept) -> bool:
    return any(
        dim not in before.get(name, {}) or len(before[name][dim]) > len(indices)
        for name, dims in after.items()
        for dim, indices in dims.items()
    )


def _dead_once(found: _Analysis, weights: Mapping[str, Array]) -> dict[str, dict[int, Array]]:
    zeros = _Zeros(found, weights)
    kept: dict[str, dict[int, Array]] = {}
    for group, dims in found.usable().items():
        exits = [e for e in found.channels.exits if found.channels.find(e.left) == group]
        gone = np.all([zeros.of(*e.left) | zeros.of(*e.right) for e in exits], axis=0)
        if not gone.any():
            continue
        # A dimension of size 0 is refused by too many: the last one stays.
        stays = np.flatnonzero(~gone) if not gone.all() else np.array([0])
        for variable, dim in dims:
            kept.setdefault(found.weights[variable], {})[dim] = stays
    return kept


def weakest(
    program: Program, weights: Mapping[str, Array], share: float
) -> dict[str, dict[int, Array]]:
    """What stays when `share` of each group's channels go, those of the smallest norms.

    A channel's norm is the product of its L2 norms in all the weights of its group: what it can
    add to the sums that end it.
    """
    kept: dict[str, dict[int, Array]] = {}
    for group in groups(program):
        score = np.ones(group.size)
        for name, dim in group.weights.items():
            if weights[name].ndim > 1:  # kernels; the zero of a bias says nothing
                rows = np.moveaxis(weights[name], dim, 0).reshape(group.size, -1)
                score *= np.linalg.norm(rows.astype(np.float64), axis=1)
        count = max(1, group.size - int(group.size * share))
        stays = np.sort(np.argsort(-score, kind="stable")[:count])
        if count < group.size:
            for name, dim in group.weights.items():
                kept.setdefault(name, {})[dim] = stays
    return kept


def masked(weights: Mapping[str, Array], kept: Kept) -> dict[str, Array]:
    """The weights with zeros where channels go: the unpruned program then gives what the pruned
    one will."""
    found = dict(weights)
    for name, dims in kept.items():
        array = np.array(found[name])
        for dim, indices in dims.items():
            gone = np.setdiff1d(np.arange(array.shape[dim]), indices)
            np.moveaxis(array, dim, 0)[gone] = 0
        found[name] = array
    return found


def apply(program: Program, kept: Kept) -> Program:
    """The same program on slices of its weights: `jaxrt.passes.prepare` then stores the slices.

    Raises ValueError where members of a group keep different indices.
    """
    found = _Analysis(program)
    stays: dict[Dim, Array] = {}
    for variable, name in found.weights.items():
        for dim, indices in kept.get(name, {}).items():
            group = found.channels.find((variable, dim))
            if found.channels.is_fixed(group):
                raise ValueError(f"weight {name!r}: dimension {dim} is no channels")
            if not np.array_equal(stays.setdefault(group, indices), indices):
                raise ValueError(f"weight {name!r}: dimension {dim} keeps other indices")
    if not stays:
        return program
    whole = ClosedJaxpr(found.jaxpr, found.closed.consts)

    def function(*arguments: Any) -> list[Any]:
        cut = _Cut(found.channels, stays)
        given = [
            cut.sliced(variable, value)
            for variable, value in zip(found.jaxpr.invars, arguments, strict=True)
        ]
        consts = zip(found.jaxpr.constvars, whole.consts, strict=True)
        smaller = ClosedJaxpr(found.jaxpr, [cut.sliced(v, c) for v, c in consts])
        return evaluate(smaller, given, cut.bind)

    with jax.enable_x64(True):
        closed = without_unused(traced_like(program.jaxpr, function))
    return dataclasses.replace(program, jaxpr=closed)


class _Cut:
    """Equations at their smaller sizes."""

    def __init__(self, channels: Channels, stays: Mapping[Dim, Array]) -> None:
        self._channels = channels
        self._stays = stays

    def shape(self, atom: Any) -> tuple[int, ...]:
        """What is left of it."""
        if isinstance(atom, Literal):
            return tuple(np.shape(literal(atom)))
        found = (self._stays.get(self._channels.find((atom, d))) for d in range(atom.aval.ndim))
        return tuple(
            size if indices is None else len(indices)
            for size, indices in zip(atom.aval.shape, found, strict=True)
        )

    def sliced(self, variable: Any, value: Any) -> Any:
        for dim in range(variable.aval.ndim):
            indices = self._stays.get(self._channels.find((variable, dim)))
            if indices is not None:
                value = _taken(value, dim, indices)
        return value

    def bind(self, eqn: Any, operands: list[Any]) -> list[Any]:
        params = dict(eqn.params)
        name = eqn.primitive.name
        if name in ("broadcast_in_dim", "iota"):
            params["shape"] = self.shape(eqn.outvars[0])
        elif name == "reshape":
            params["new_sizes"] = self.shape(eqn.outvars[0])
        elif name == "slice":
            params["limit_indices"] = self._limits(eqn, params["limit_indices"])
        elif name in ("dynamic_slice", "gather"):
            params["slice_sizes"] = self._limits(eqn, params["slice_sizes"])
        elif name == "conv_general_dilated" and params["feature_group_count"] > 1:
            feature = params["dimension_numbers"].lhs_spec[1]
            if params["feature_group_count"] == eqn.invars[0].aval.shape[feature]:
                params["feature_group_count"] = self.shape(eqn.invars[0])[feature]
        return bind(eqn.primitive, operands, params)

    def _limits(self, eqn: Any, limits: Sequence[int]) -> tuple[int, ...]:
        """Of the dimensions that became smaller: all of what is left."""
        before, after = eqn.invars[0].aval.shape, self.shape(eqn.invars[0])
        return tuple(
            limit if old == new else new
            for limit, old, new in zip(limits, before, after, strict=True)
        )


def _taken(value: Any, dim: int, indices: Array) -> Any:
    """As slices where the indices allow few; else rows of a gather."""
    if len(indices) == indices[-1] - indices[0] + 1:
        return lax.slice_in_dim(value, int(indices[0]), int(indices[-1]) + 1, axis=dim)
    return jax.numpy.take(value, indices.astype(np.int32), axis=dim, mode="clip")


_BOTH = frozenset({"add", "add_any", "sub", "max", "min", "select_n", "concatenate", "pad"})
_EITHER = frozenset({"mul", "dot_general", "conv_general_dilated"})
_NAMES = """
abs neg sign floor ceil round sqrt cbrt square erf sin sinh asin asinh tan tanh atan atanh expm1
log1p convert_element_type copy copy_p name stop_gradient reduce_precision transpose
broadcast_in_dim reshape squeeze expand_dims reduce_sum reduce_max reduce_min reduce_window_max
reduce_window_min reduce_window_sum slice dynamic_slice
"""
_FIRST = frozenset(_NAMES.split())
"""What gives 0 where all, one or the first of its operands is 0."""


class _Zeros:
    """Where values are zero for whatever finite inputs, along their channels."""

    def __init__(self, found: _Analysis, weights: Mapping[str, Array]) -> None:
        self._channels = found.channels
        self._known: dict[Dim, Array] = {}
        self._scalars: dict[Any, bool] = {}
        for variable, name in found.weights.items():
            self._take(variable, weights[name])
        for variable, value in zip(found.jaxpr.constvars, found.closed.consts, strict=True):
            self._take(variable, np.asarray(value))
        for eqn in found.jaxpr.eqns:
            if len(eqn.outvars) == 1:
                self._follow(eqn)

    def of(self, atom: Any, dim: int) -> Array:
        """[channels] bool."""
        missing = np.zeros(atom.aval.shape[dim], bool)
        return missing if isinstance(atom, Literal) else self._known.get((atom, dim), missing)

    def _take(self, variable: Any, array: Array) -> None:
        if array.ndim == 0:
            self._scalars[variable] = not array.any()
        for dim in range(array.ndim):
            if not self._channels.is_fixed((variable, dim)):
                others = tuple(d for d in range(array.ndim) if d != dim)
                self._known[(variable, dim)] = ~(array != 0).any(axis=others)

    def _follow(self, eqn: Any) -> None:
        name, (out,) = eqn.primitive.name, eqn.outvars
        operands = eqn.invars
        if name == "select_n":
            operands = operands[1:]
        elif name in _FIRST:
            operands = operands[:1]
        elif name not in _BOTH | _EITHER:
            return
        if not out.aval.shape:
            self._scalars[out] = False
        for dim in range(out.aval.ndim):
            if self._channels.is_fixed((out, dim)):
                continue
            found = [self._operand(atom, (out, dim)) for atom in operands]
            join = np.any if name in _EITHER else np.all
            self._known[(out, dim)] = join(found, axis=0)

    def _operand(self, atom: Any, channel: Dim) -> Array:
        """Where an operand is zero along the channels of a result; a scalar: everywhere or not."""
        size = channel[0].aval.shape[channel[1]]
        if isinstance(atom, Literal):
            return np.full(size, not literal(atom).any())
        if not atom.aval.shape:
            return np.full(size, self._scalars.get(atom, False))
        group = self._channels.find(channel)
        dims = [d for d in range(atom.aval.ndim) if self._channels.find((atom, d)) == group]
        if len(dims) != 1:
            return np.zeros(size, bool)
        return self.of(atom, dims[0])
