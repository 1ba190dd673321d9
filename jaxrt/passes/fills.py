"""Products with weights that sum over channels, and what stands in them for channels that go.

A channel that is taken leaves a hole in the sums: nothing where it was zero, a constant that
belongs into the next bias where it was constant, and, of what changes, its mean, or a mixture of
the channels that stay, which goes into the weights of those.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Literal

from jaxrt.passes.channels import Channels, Exit
from jaxrt.passes.fixed import fixed
from jaxrt.passes.jaxprs import ClosedJaxpr, bind, literal, variables
from jaxrt.program import Program

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Fill:
    """What stands for the channels that go, at one product."""

    values: Array
    """[size] a constant for each index that goes; 0 for those that stay."""
    mix: Array | None = None
    """[those that stay, those that go]: how much of each is in each, beside the constant."""


Fills = Mapping[str, Fill]
"""By the name of the product."""


@dataclasses.dataclass(frozen=True, slots=True)
class Product:
    """An Exit outside of loops, one side of which rests on weights alone."""

    name: str
    """The weight's, and which of the products with it this is: `dense/kernel#0`."""
    exit: Exit
    weight: int
    """Which operand of the equation rests on weights."""

    @property
    def dim(self) -> int:
        """The weight's, that is summed over."""
        side = self.exit.right if self.weight == 1 else self.exit.left
        assert side is not None
        return side[1]

    @property
    def data(self) -> tuple[Any, int]:
        """The other operand and its dimension."""
        side = self.exit.left if self.weight == 1 else self.exit.right
        assert side is not None
        return side

    @property
    def is_exact(self) -> bool:
        """Whether a constant adds the same to every sum: not at the edges of a padded image."""
        eqn = self.exit.eqn
        if eqn.primitive.name == "dot_general":
            return True
        plain = all(n == 1 for n in eqn.params["lhs_dilation"])
        one_group = eqn.params["feature_group_count"] == 1
        return plain and one_group and all(tuple(p) == (0, 0) for p in eqn.params["padding"])

    @property
    def is_fillable(self) -> bool:
        """Whether a constant can be added at all."""
        eqn = self.exit.eqn
        if eqn.primitive.name == "dot_general":
            (contracted, _), batch = eqn.params["dimension_numbers"]
            return len(contracted) == 1 and not any(batch)
        return bool(eqn.params["feature_group_count"] == 1)

    def sums(self, weight: Any, values: Any) -> Any:
        """What constants along `dim` add to the result; it broadcasts to its shape.

        `weight`: the operand, or some indices of it along `dim`, as many as `values`.
        """
        eqn = self.exit.eqn
        out = eqn.outvars[0].aval
        if eqn.primitive.name == "conv_general_dilated":
            numbers = eqn.params["dimension_numbers"]
            spatial = numbers.rhs_spec[2:]
            added = _product(weight.sum(axis=tuple(spatial), keepdims=True), values, self.dim)
            shape = [1] * out.ndim
            shape[numbers.out_spec[1]] = weight.shape[numbers.rhs_spec[0]]
            return added.reshape(shape)
        contracted = eqn.params["dimension_numbers"][0][self.weight]
        others = tuple(d for d in contracted if d != self.dim)
        added = _product(weight.sum(axis=others, keepdims=True), values, self.dim)
        free = tuple(n for d, n in enumerate(weight.shape) if d not in contracted)
        ones = (1,) * (out.ndim - len(free))
        return added.reshape((*ones, *free) if self.weight == 1 else (*free, *ones))

    def mixed(self, weight: Any, fill: Fill, stays: Array, goes: Array) -> Any:
        """The rows of those that stay, with what is mixed of the others."""
        kept = _rows(weight, self.dim, stays)
        if fill.mix is None:
            return kept
        lost = jnp.moveaxis(_rows(weight, self.dim, goes), self.dim, 0)
        added = lax.dot_general(
            fill.mix.astype(lost.dtype),
            lost,
            (((1,), (0,)), ((), ())),
            precision=lax.Precision.HIGHEST,
        )
        return kept + jnp.moveaxis(added, 0, self.dim)


def _rows(weight: Any, dim: int, indices: Array) -> Any:
    return jnp.take(weight, indices.astype(np.int32), axis=dim, mode="clip")


def _product(weight: Any, values: Any, dim: int) -> Any:
    shape = [1] * weight.ndim
    shape[dim] = len(values)
    return (weight * values.astype(weight.dtype).reshape(shape)).sum(axis=dim)


def products(program: Program, channels: Channels) -> tuple[Product, ...]:
    """In the order of the program, which has no calls; two programs of one function name theirs
    the same."""
    known = fixed(program)
    under = _under(program)
    counts: dict[str, int] = {}
    found = []
    for end in channels.exits:
        if end.is_nested or end.right is None:
            continue
        sides = (end.left[0], end.right[0])
        resting = [i for i, v in enumerate(sides) if v in known and under.get(v)]
        if len(resting) != 1:
            continue
        weight = under[sides[resting[0]]]
        number = counts[weight] = counts.get(weight, -1) + 1
        found.append(Product(f"{weight}#{number}", end, resting[0]))
    return tuple(found)


def _under(program: Program) -> dict[Any, str]:
    """Variable → the first weight under it."""
    jaxpr = program.jaxpr.jaxpr
    found = dict(zip(jaxpr.invars, program.weight_names, strict=False))
    for eqn in jaxpr.eqns:
        names = [found[v] for v in variables(eqn.invars) if v in found]
        found |= dict.fromkeys(eqn.outvars, names[0]) if names else {}
    return found


class Whole:
    """Values of variables that rest on weights, as they were before channels went."""

    def __init__(self, closed: ClosedJaxpr, weights: Mapping[Any, Any]) -> None:
        """`weights`: of the variables; arrays, or what stands for them while jax traces."""
        jaxpr = closed.jaxpr
        self._values = {**weights, **dict(zip(jaxpr.constvars, closed.consts, strict=True))}
        self._makers = {v: eqn for eqn in jaxpr.eqns for v in eqn.outvars}

    def __call__(self, atom: Any) -> Any:
        if isinstance(atom, Literal):
            return literal(atom)
        if atom not in self._values:
            eqn = self._makers[atom]
            given = [jnp.asarray(self(operand)) for operand in eqn.invars]
            self._values |= zip(eqn.outvars, bind(eqn.primitive, given, eqn.params), strict=True)
        return self._values[atom]


def in_numpy(value: Callable[[], Any]) -> Array:
    """What jax computes on the CPU."""
    cpu = jax.local_devices(backend="cpu")[0]
    with jax.enable_x64(True), jax.default_device(cpu):
        return np.asarray(value())
