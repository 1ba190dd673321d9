"""Propagation: how the layouts of a program's weights and inputs make those of all its values.

A walk over the jaxpr in its order. A value is split along at most one dimension per mesh axis. What
rests on weights alone (`Free`) takes whatever layout its first user wants, down to the weight. Each
rule says which layouts it wants of its operands, which its results have, and which exchanges that
takes; a primitive without a rule wants everything whole along the model axis.

The pairing is that of Megatron-LM (arXiv 1909.08053, section 3): a product whose activations are
whole is split by columns, one whose activations are split along the contraction by rows, and only
the latter exchanges anything: one all-reduce.
"""

import dataclasses
import enum
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jax.extend.core import Literal

from jaxrt.mesh import DATA, MeshShape, Spec
from jaxrt.passes.jaxprs import ClosedJaxpr
from jaxrt.tpu.layout import Collective, fitting, parts, reshard, whole


@dataclasses.dataclass(frozen=True, slots=True)
class Free:
    """A value made of weights alone: each is (its variable, dimension here → dimension there)."""

    leaves: tuple[tuple[Any, Mapping[int, int]], ...]

    def mapped(self, dims: Mapping[int, int]) -> "Free":
        """After an operation whose dimension d is the old one dims[d]."""
        return Free(
            tuple(
                (leaf, {new: have[old] for new, old in dims.items() if old in have})
                for leaf, have in self.leaves
            )
        )

    @property
    def largest(self) -> Any:
        """The weight that most of the value is: the others are its scales. None: constants."""
        return max((leaf for leaf, _ in self.leaves), key=lambda v: int(v.aval.size), default=None)


def joined(values: Sequence[Free]) -> Free:
    """What several values of weights make together: values in few bits and their scales."""
    leaves: list[tuple[Any, Mapping[int, int]]] = []
    for value in values:
        leaves += [leaf for leaf in value.leaves if leaf not in leaves]
    return Free(tuple(leaves))


Layout = Spec | Free


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """What a plan decides about weights; rules ask it."""

    columns: bool = True
    """Whether products may be split by columns and rows at all."""
    kept_whole: frozenset[Any] = frozenset()
    """Weights of products, by variable, that stay whole."""
    tables: int | None = None
    """Tables of embeddings from this many bytes up are split; None: none is."""
    table_rows: bool = True
    """By rows where those divide, else by columns; or the other way round."""
    forced: Mapping[Any, Spec] = dataclasses.field(default_factory=dict)
    """Weights, by variable, whose layout the user chose."""


class Unit(enum.Enum):
    """Which of a chip's rates a product runs at."""

    DEFAULT = "default"
    """f32 operands that the chip may round."""
    EXACT = "exact"
    BF16 = "bf16"
    INT8 = "int8"
    FP8 = "fp8"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What one equation costs one device."""

    flops: float
    nbytes: float
    scope: str
    unit: Unit = Unit.DEFAULT


@dataclasses.dataclass(kw_only=True, slots=True)
class Walk:
    """The state of one propagation."""

    mesh: MeshShape
    policy: Policy
    layouts: dict[Any, Layout] = dataclasses.field(default_factory=dict)
    weights: dict[Any, Spec] = dataclasses.field(default_factory=dict)
    """Weights, by variable, whose layout some user decided."""
    constraints: dict[tuple[int, int], Spec] = dataclasses.field(default_factory=dict)
    """Number of an equation and of its result → the layout to hold it to."""
    collectives: list[Collective] = dataclasses.field(default_factory=list)
    sums: dict[Any, list[Collective]] = dataclasses.field(default_factory=dict)
    """Results that all-reduces added up, by variable."""
    work: list[Work] = dataclasses.field(default_factory=list)
    scopes: dict[int, str] = dataclasses.field(default_factory=dict)
    """Number of an equation → the weight that was met last."""
    opaque: bool = False
    """Values were met whose layout is unknown."""
    tables: dict[Any, str] = dataclasses.field(default_factory=dict)
    """Split tables, by variable → `rows` or `columns`."""
    names: Mapping[Any, str] = dataclasses.field(default_factory=dict)
    """Of the weights, by variable."""
    scope: str = ""
    """The weight that was met last: names the layer."""
    number: int = 0
    """Of the equation at hand."""

    @property
    def sizes(self) -> Mapping[str, int]:
        return self.mesh.sizes

    def read(self, atom: Any) -> Layout:
        return whole(_rank(atom)) if isinstance(atom, Literal) else self.layouts[atom]

    def spec(self, atom: Any) -> Spec:
        """The layout as it is; a free value that nobody wanted yet stays whole here."""
        found = self.read(atom)
        return self.settle(atom, whole(len(atom.aval.shape))) if isinstance(found, Free) else found

    def settle(self, atom: Any, wanted: Spec) -> Spec:
        """Brings a value into a layout, or as near to it as sizes allow; gives that."""
        shape, itemsize = atom.aval.shape, atom.aval.dtype.itemsize
        wanted = fitting(shape, wanted, self.sizes)
        found = self.read(atom)
        if isinstance(found, Free):
            return self._demand(found, wanted, shape)
        self.exchange(reshard(shape, itemsize, found, wanted, self.sizes))
        return wanted

    def exchange(self, collectives: Any) -> None:
        for collective in collectives:
            if self.sizes[collective.axis] > 1:
                self.collectives.append(dataclasses.replace(collective, scope=self.scope))

    def reduce_over(
        self, axes: Sequence[str | None], shape: Sequence[int], spec: Spec, item: int
    ) -> list[Collective]:
        """The all-reduce of a result that every device along `axes` has a part of the sum of."""
        before = len(self.collectives)
        nbytes = math.prod(shape) * item / max(parts(spec, self.sizes), 1)
        for axis in dict.fromkeys(a for a in axes if a is not None):
            self.exchange([Collective(kind="all-reduce", axis=axis, nbytes=nbytes)])
        return self.collectives[before:]

    def add_up(self, left: Any, right: Any) -> None:
        """Two products with parts of one weight that are added: XLA adds before it exchanges."""
        first, second = self.sums.get(left), self.sums.get(right)
        if left is not right and first and first == second:
            for collective in first:
                self.collectives.remove(collective)

    def hold(self, result: int, spec: Spec) -> None:
        """Has the compiler keep to the layout of a result of the equation at hand."""
        self.constraints[self.number, result] = spec

    def cost(self, flops: float, nbytes: float, unit: Unit = Unit.DEFAULT) -> None:
        self.work.append(Work(flops=flops, nbytes=nbytes, scope=self.scope, unit=unit))

    def local_bytes(self, aval: Any, spec: Spec) -> float:
        nbytes: int = math.prod(aval.shape) * aval.dtype.itemsize
        return nbytes / max(parts(spec, self.sizes), 1)

    def read_bytes(self, atom: Any, spec: Spec) -> float:
        """What a device reads for an operand laid out as `spec`: of weights what is stored."""
        found = self.read(atom)
        if not isinstance(found, Free) or not found.leaves:
            return self.local_bytes(atom.aval, spec)
        leaves = dict.fromkeys(leaf for leaf, _ in found.leaves)
        return sum(self.local_bytes(v.aval, self.weights[v]) for v in leaves)

    def _demand(self, free: Free, wanted: Spec, shape: Sequence[int]) -> Spec:
        kept = list(wanted)
        for leaf, dims in free.leaves:
            spec: list[str | None] = [None] * len(leaf.aval.shape)
            for here, there in dims.items():
                spec[there] = wanted[here]
            asked = fitting(leaf.aval.shape, tuple(spec), self.sizes)
            self.scope = self.names.get(leaf, self.scope)
            decided = self.weights.setdefault(leaf, asked)
            if decided != asked:
                item = leaf.aval.dtype.itemsize
                self.exchange(reshard(leaf.aval.shape, item, decided, asked, self.sizes))
            for here, there in dims.items():
                if asked[there] is None:
                    kept[here] = None
        return tuple(kept)


Rule = Callable[[Walk, Any], list[Layout]]


def walk(
    closed: ClosedJaxpr,
    *,
    mesh: MeshShape,
    policy: Policy,
    weights: Sequence[str],
    inputs: Sequence[Spec],
    rules: Mapping[str, Rule],
) -> Walk:
    """Propagates through a program without calls whose first arguments are the `weights`.

    `inputs` are the layouts of the others. Results end whole along the model axis.
    """
    variables: Any = closed.jaxpr.invars
    count = len(weights)
    names = dict(zip(variables, weights, strict=False))
    state = Walk(mesh=mesh, policy=policy, names=names)
    _arguments(state, variables[:count], variables[count:], inputs)
    for variable, const in zip(closed.jaxpr.constvars, closed.consts, strict=True):
        state.layouts[variable] = whole(len(getattr(const, "shape", ())))
    for number, eqn in enumerate(closed.jaxpr.eqns):
        state.number = number
        found = rules.get(eqn.primitive.name, _unknown)(state, eqn)
        state.layouts.update(zip(eqn.outvars, found, strict=True))
        state.scopes[number] = state.scope
    for atom in closed.jaxpr.outvars:
        if not isinstance(atom, Literal):
            spec = state.spec(atom)
            rows = [axis if d == 0 and axis == DATA else None for d, axis in enumerate(spec)]
            state.settle(atom, tuple(rows))
    for variable in variables[:count]:
        state.weights.setdefault(variable, whole(_rank(variable)))
    return state


def _arguments(
    state: Walk, weights: Sequence[Any], inputs: Sequence[Any], specs: Sequence[Spec]
) -> None:
    for variable in weights:
        places = {d: d for d in range(_rank(variable))}
        state.layouts[variable] = Free(((variable, places),))
        if variable in state.policy.forced:
            wanted = state.policy.forced[variable]
            state.weights[variable] = fitting(variable.aval.shape, wanted, state.sizes)
    for variable, spec in zip(inputs, specs, strict=True):
        state.layouts[variable] = fitting(variable.aval.shape, spec, state.sizes)


def _rank(atom: Any) -> int:
    return len(atom.aval.shape)


def _unknown(state: Walk, eqn: Any) -> list[Layout]:
    """Loops, sorts and the like: whole along the model axis; along the batch, as XLA sees fit."""
    for atom in eqn.invars:
        if not isinstance(atom, Literal):
            spec = state.spec(atom)
            state.settle(atom, tuple(axis if axis == DATA else None for axis in spec))
            state.opaque = state.opaque or DATA in spec
    return [whole(len(v.aval.shape)) for v in eqn.outvars]
