"""Programs that round activations where they are told to at run time: one for all choices.

Weights stay floats that the caller has put through their few bits. Sums of such floats are those of
integers but for the last bits, so that answers are those of the real program of few bits.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import lax

from jaxrt.compression import products, rewrite
from jaxrt.compression.layers import GATHER, Found, Use, find
from jaxrt.compression.quantize import Form, decode, rows
from jaxrt.compression.schemes import Scheme
from jaxrt.passes.jaxprs import bind
from jaxrt.passes.rewrite import evaluate, inline, prune
from jaxrt.program import Program
from jaxrt.target import Target

SWITCHES = "jaxrt/switches"
"""The weight with the switches, bool[n]."""


def write(program: Program, switches: Sequence[tuple[str, Form]], target: Target) -> Program:
    """The program with one more weight, SWITCHES: where its i-th is set, what is multiplied with
    the layer `switches[i][0]` is rounded as it is with that layer held in `switches[i][1]`.

    As it is, without calls, where no such form rounds anything.
    """
    program = dataclasses.replace(program, jaxpr=inline(program.jaxpr))
    writer = _Writer(program, switches, target)
    count = len(program.weight_names)
    avals = list(program.avals)
    avals.insert(count, jax.ShapeDtypeStruct((len(switches),), np.dtype(bool)))
    with jax.enable_x64(True):
        closed = prune(jax.make_jaxpr(writer.write)(*avals))
    if not writer.is_used:
        return program
    names = (*program.weight_names, SWITCHES)
    return dataclasses.replace(program, jaxpr=closed, weight_names=names)


class _Writer:
    def __init__(
        self, program: Program, switches: Sequence[tuple[str, Form]], target: Target
    ) -> None:
        self._closed = program.jaxpr
        self._count = len(program.weight_names)
        self._target = target
        self._uses: dict[int, tuple[Found, Use]] = {}
        self._forms: dict[Any, list[tuple[int, Form]]] = {}
        for found in find(program):
            forms = [(i, f) for i, (name, f) in enumerate(switches) if name == found.layer.name]
            self._forms[found.variable] = forms
            for use in found.uses if forms else ():
                if use.kind != GATHER and not use.is_nested:
                    self._uses[id(use.eqn)] = (found, use)
        self.is_used = False
        """Whether what was written asks for switches."""

    def write(self, *arguments: Any) -> list[Any]:
        self._arrays: dict[Any, Any] = {}
        self._switches = arguments[self._count]
        given = (*arguments[: self._count], *arguments[self._count + 1 :])
        self._note(self._closed.jaxpr.invars, given)
        return evaluate(self._closed, given, self._step)

    def _note(self, variables: Sequence[Any], values: Sequence[Any]) -> None:
        for variable, value in zip(variables, values, strict=True):
            if variable in self._forms:
                self._arrays[variable] = value

    def _step(self, eqn: Any, operands: list[Any]) -> list[Any]:
        if id(eqn) in self._uses:
            found, use = self._uses[id(eqn)]
            operands = list(operands)
            operands[1 - use.operand] = self._switched(found, use, operands)
        outs = bind(eqn.primitive, operands, eqn.params)
        self._note(eqn.outvars, outs)
        return outs

    def _switched(self, found: Found, use: Use, operands: Sequence[Any]) -> Any:
        plain = value = operands[1 - use.operand]
        for place, form in self._forms[found.variable]:
            held = rewrite.hold(found, form, self._arrays[found.variable], self._target)
            how = products.rounded(use, operands, held, self._target)
            if how is not None:
                self.is_used = True
                is_on = lax.index_in_dim(self._switches, place, keepdims=False)
                value = lax.cond(
                    is_on, functools.partial(_rounded, *how, plain), lambda same: same, value
                )
        return value


def _rounded(scheme: Scheme, axes: tuple[int, ...], plain: Any, _: Any) -> Any:
    """A branch, so that it takes no time where it is off."""
    few = decode(rows(plain, axes, scheme), Form(scheme=scheme, axes=axes), plain.shape)
    return lax.convert_element_type(few, plain.dtype)
