"""Batch norm folded into kernels: what scales and shifts channels moves into the weights.

    (conv(x, w) + b) * s + t  =  conv(x, w * s) + (b * s + t)

w * s and b * s + t depend on weights alone, so `prepare` computes them once. Dots likewise.
"""

import collections
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jax import lax
from jax.extend.core import Literal

from jaxrt.passes.convolution import REWRITABLE
from jaxrt.passes.fixed import fixed
from jaxrt.passes.jaxprs import variables
from jaxrt.passes.rewrite import Rules, Site, rewrite
from jaxrt.program import Program


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Linear:
    """A value that is `product(kernel) + shift`, by channel."""

    emit: Callable[[Any], Any]
    """Kernel → convolution or dot of the same x."""
    kernel: Any
    kernel_channel: int
    """The kernel's dimension of output channels."""
    channel: int
    """The value's."""
    product: Any
    """What `emit(kernel)` gave."""
    shift: Any = None
    """[channels], or None for zero."""
    value: Any = None


class _Folding:
    """The rules of one program, and the linear values they have seen."""

    def __init__(self, program: Program) -> None:
        self._fixed = fixed(program)
        jaxpr = program.jaxpr.jaxpr
        uses = [v for eqn in jaxpr.eqns for v in variables(eqn.invars)]
        self._uses = collections.Counter([*uses, *variables(jaxpr.outvars)])
        self._makers = {v: eqn for eqn in jaxpr.eqns for v in eqn.outvars}
        self._linear: dict[int, _Linear] = {}
        self.folded: set[int] = set()
        """Identities of the products that took a scale."""

    def rules(self) -> Rules:
        return {
            "conv_general_dilated": self._convolution,
            "dot_general": self._dot,
            "mul": self._mul,
            "div": self._div,
            "add": self._add,
            "sub": self._sub,
        }

    def _convolution(self, site: Site, x: Any, kernel: Any) -> Any:
        numbers = site.params["dimension_numbers"]
        return self._product(site, x, kernel, numbers.rhs_spec[0], numbers.out_spec[1])

    def _dot(self, site: Site, x: Any, kernel: Any) -> Any:
        (_, contracted), (batch, _) = site.params["dimension_numbers"]
        free = [d for d in range(kernel.ndim) if d not in contracted]
        if len(free) != 1 or batch:
            return None
        return self._product(site, x, kernel, free[0], site.avals[0].ndim - 1)

    def _product(self, site: Site, x: Any, kernel: Any, kernel_channel: int, channel: int) -> Any:
        types = {x.dtype.name, kernel.dtype.name, site.avals[0].dtype.name}
        if len(types) > 1 or types - set(REWRITABLE) or not self._own(site.eqn.invars[1]):
            return None
        emit = functools.partial(_emit, site, x)
        product = emit(kernel)
        return self._keep(
            _Linear(
                emit=emit,
                kernel=kernel,
                kernel_channel=kernel_channel,
                channel=channel,
                product=product,
                value=product,
            )
        )

    def _own(self, kernel: Any) -> bool:
        """Made of weights that nothing else needs: else both, scaled and not, would be stored."""
        if kernel not in self._fixed or self._uses[kernel] != 1:
            return False
        maker = self._makers.get(kernel)
        sources = [] if maker is None else variables(maker.invars)
        return all(self._own(v) for v in sources if v.aval.size * 2 > kernel.aval.size)

    def _keep(self, linear: _Linear) -> Any:
        # The value is held, so that no other object gets its id.
        self._linear[id(linear.value)] = linear
        return linear.value

    def _mul(self, site: Site, a: Any, b: Any) -> Any:
        found = self._scale(site, a, b, 0, 1)
        return self._scale(site, b, a, 1, 0) if found is None else found

    def _div(self, site: Site, a: Any, b: Any) -> Any:
        return self._scale(site, a, b, 0, 1, inverse=True)

    def _add(self, site: Site, a: Any, b: Any) -> Any:
        found = self._shift(site, a, b, 0, 1)
        return self._shift(site, b, a, 1, 0) if found is None else found

    def _sub(self, site: Site, a: Any, b: Any) -> Any:
        return self._shift(site, a, b, 0, 1, negative=True)

    def _parts(
        self, site: Site, value: Any, other: Any, at: int, other_at: int
    ) -> tuple[_Linear, Any] | None:
        """A linear value that only this equation takes, and the other operand by channel."""
        linear = self._linear.get(id(value))
        atoms = site.eqn.invars
        if linear is None or self._uses[atoms[at]] != 1:
            return None
        if linear.product.shape != site.avals[0].shape:
            return None
        channels = linear.product.shape[linear.channel]
        vector = self._by_channel(site, other, atoms[other_at], linear.channel, channels)
        return None if vector is None else (linear, vector)

    def _by_channel(self, site: Site, value: Any, atom: Any, channel: int, channels: int) -> Any:
        """`value` as a [channels] vector of weights; None where it is something else."""
        if not isinstance(atom, Literal) and atom not in self._fixed:
            return None
        source, dims = value, range(value.ndim)
        made = site.maker(value)
        if made and made.name == "broadcast_in_dim" and len(made.operands) == 1:
            source, dims = made.operands[0], made.params["broadcast_dimensions"]
        shape = np.shape(source)
        if any(n != 1 and d != channel for n, d in zip(shape, dims, strict=True)):
            return None
        if math.prod(shape) == 1:
            return lax.broadcast_in_dim(lax.reshape(source, ()), (channels,), ())
        return lax.reshape(source, (channels,))

    def _scale(
        self,
        site: Site,
        value: Any,
        other: Any,
        at: int,
        other_at: int,
        *,
        inverse: bool = False,
    ) -> Any:
        parts = self._parts(site, value, other, at, other_at)
        if parts is None:
            return None
        linear, vector = parts
        change = lax.div if inverse else lax.mul
        rows = lax.broadcast_in_dim(vector, linear.kernel.shape, (linear.kernel_channel,))
        kernel = change(linear.kernel, rows)
        shift = None if linear.shift is None else change(linear.shift, vector)
        self.folded.discard(id(linear.product))
        product = linear.emit(kernel)
        self.folded.add(id(product))
        return self._shifted(
            dataclasses.replace(linear, kernel=kernel, product=product, value=product), shift
        )

    def _shift(
        self,
        site: Site,
        value: Any,
        other: Any,
        at: int,
        other_at: int,
        *,
        negative: bool = False,
    ) -> Any:
        parts = self._parts(site, value, other, at, other_at)
        if parts is None:
            return None
        linear, vector = parts
        change = lax.sub if negative else lax.add
        if linear.shift is None:
            shift = lax.neg(vector) if negative else vector
        else:
            shift = change(linear.shift, vector)
        return self._shifted(linear, shift)

    def _shifted(self, linear: _Linear, shift: Any) -> Any:
        if shift is None:
            return self._keep(linear)
        shape = linear.product.shape
        value = lax.add(linear.product, lax.broadcast_in_dim(shift, shape, (linear.channel,)))
        return self._keep(dataclasses.replace(linear, shift=shift, value=value))


def _emit(site: Site, x: Any, kernel: Any) -> Any:
    return site.emit(site.eqn.primitive, x, kernel, **site.params)


def fold(program: Program) -> tuple[Program, int]:
    """The program with scales and shifts of channels in its kernels, and how many took a scale.

    A product that something else takes too stays as it is: it would be computed twice.
    """
    folding = _Folding(program)
    closed = rewrite(program.jaxpr, folding.rules())
    return dataclasses.replace(program, jaxpr=closed), len(folding.folded)
