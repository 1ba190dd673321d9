"""The pass that writes each convolution in the form chosen for its shape."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from jax import lax
from jax.ad_checkpoint import checkpoint_name

from jaxrt.passes.convolution import Convolution, canonical, convolution_of
from jaxrt.passes.convolution_table import LOWERINGS, XLA, Lowering
from jaxrt.passes.fixed import fixed
from jaxrt.passes.jaxprs import ClosedJaxpr, nested
from jaxrt.passes.prepare import PINNED
from jaxrt.passes.rewrite import Site, rewrite
from jaxrt.passes.simplify import simplify
from jaxrt.program import Program

Choose = Callable[[Convolution], str]
"""Convolution → a name of `convolution_table.LOWERINGS` that fits it."""


def convolutions(program: Program) -> tuple[Convolution, ...]:
    """Those that `lower` asks about, in order, repeated as they are repeated."""
    known = fixed(program)
    found = (
        convolution_of(eqn, fixed=eqn.invars[1] in known)
        for eqn in _equations(program.jaxpr)
        if eqn.primitive.name == "conv_general_dilated"
    )
    return tuple(conv for conv in found if conv is not None)


def _equations(closed: ClosedJaxpr) -> Iterator[Any]:
    for eqn in closed.jaxpr.eqns:
        yield eqn
        for body in nested(eqn):
            yield from _equations(body)


def lower(program: Program, choose: Choose) -> Program:
    """The program with its convolutions lowered as `choose` says."""
    known = fixed(program)
    written = False

    def rule(site: Site, x: Any, kernel: Any) -> Any:
        nonlocal written
        conv = convolution_of(site.eqn, fixed=site.eqn.invars[1] in known)
        name = XLA if conv is None else choose(conv)
        if conv is None or name == XLA:
            return None
        written = True
        return write(LOWERINGS[name], conv, site.eqn, x, kernel)

    closed = rewrite(program.jaxpr, {"conv_general_dilated": rule})
    return simplify(dataclasses.replace(program, jaxpr=closed)) if written else program


def write(lowering: Lowering, conv: Convolution, eqn: Any, x: Any, kernel: Any) -> Any:
    """One convolution by one lowering, from and to the layout of its equation."""
    of_x, of_kernel, of_y = canonical(eqn)
    weights = lowering.transform(_transposed(kernel, of_kernel))
    if lowering.transforms:
        weights = checkpoint_name(weights, PINNED)
    return _transposed(lowering.apply(conv, _transposed(x, of_x), weights), of_y)


def _transposed(value: Any, order: tuple[int, ...]) -> Any:
    return value if order == tuple(range(len(order))) else lax.transpose(value, order)
