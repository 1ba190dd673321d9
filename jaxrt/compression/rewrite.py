"""The pass: programs that take weights in few bits, and widen them where they are used.

`w` becomes `decode(encode(w))`. What `encode` gives is stored (`jaxrt.passes.prepare` cuts there);
of `decode` the scales move behind the product, so that XLA reads the weights in few bits and
widens them inside the loop that multiplies.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import Literal

from jaxrt.compression import products, tables, vectors, words
from jaxrt.compression.forms import form_of
from jaxrt.compression.held import Held
from jaxrt.compression.layers import GATHER, Found, Layer, Use, find, moved
from jaxrt.compression.moves import Move
from jaxrt.compression.quantize import Form, encode
from jaxrt.compression.schemes import Rule, Scheme, rule_for
from jaxrt.passes.fixed import fixed
from jaxrt.passes.jaxprs import bind, variables
from jaxrt.passes.prepare import HELD
from jaxrt.passes.rewrite import evaluate, inline, prune, traced_like
from jaxrt.program import Program
from jaxrt.target import Target


def apply(
    program: Program, rules: Sequence[Rule], target: Target
) -> tuple[Program, tuple[Layer, ...]]:
    """The program with its layers as `rules` say, and those that are no longer float.

    Batch norm is to be folded before, as scales are those of the folded kernels.
    """
    program = dataclasses.replace(program, jaxpr=inline(program.jaxpr))
    chosen = {}
    for found in find(program):
        rule = rule_for(rules, found.layer.name)
        if rule is not None and rule.scheme is not Scheme.FLOAT:
            chosen[found.variable] = (found, form_of(found, rule))
    if not chosen:
        return program, ()
    writer = _Writer(program, chosen, target)
    with jax.enable_x64(True):
        closed = prune(traced_like(program.jaxpr, writer.write))
    changed = tuple(found.layer for found, _ in chosen.values())
    return dataclasses.replace(program, jaxpr=closed), changed


class _Writer:
    """Writes one program anew."""

    def __init__(
        self, program: Program, chosen: Mapping[Any, tuple[Found, Form]], target: Target
    ) -> None:
        self._closed = program.jaxpr
        self._known = fixed(program)
        self._moved = moved(program)
        self._chosen = chosen
        self._target = target
        self._uses: dict[int, tuple[Use, Any]] = {
            id(use.eqn): (use, variable)
            for variable, (found, _) in chosen.items()
            for use in found.uses
            if not use.is_nested
        }
        self._held: dict[Any, Held] = {}

    def write(self, *arguments: Any) -> list[Any]:
        self._held = {}
        for variable, value in zip(self._closed.jaxpr.invars, arguments, strict=True):
            self._hold(variable, value)
        return evaluate(self._closed, arguments, self._step)

    def _hold(self, variable: Any, value: Any) -> None:
        if variable in self._chosen:
            self._held[variable] = hold(*self._chosen[variable], value, self._target)

    def _step(self, eqn: Any, operands: list[Any]) -> list[Any]:
        if all(v in self._known for v in variables(eqn.outvars)):
            outs = bind(eqn.primitive, operands, eqn.params)
            for variable, value in zip(eqn.outvars, outs, strict=True):
                self._hold(variable, value)
            return outs
        given = [self._given(a, v) for a, v in zip(eqn.invars, operands, strict=True)]
        use, variable = self._uses.get(id(eqn), (None, None))
        if use is not None:
            write = tables.look_up if use.kind == GATHER else products.product
            found = write(use, given, self._held[variable], self._target)
            if found is not None:
                return [found]
        return bind(eqn.primitive, given, eqn.params)

    def _given(self, atom: Any, value: Any) -> Any:
        """A known array that is held: as it comes out of that."""
        moves: list[Any] = []
        while not isinstance(atom, Literal) and atom not in self._held and atom in self._moved:
            atom, move = self._moved[atom]
            moves.append(move)
        if isinstance(atom, Literal) or atom not in self._held:
            return value
        value = self._held[atom].decoded
        for move in reversed(moves):
            value = move.of(value)
        return value


def hold(found: Found, form: Form, value: Any, target: Target) -> Held:
    """A layer's array in few bits, turned where the target's products want it so."""
    shape, dtype, first = tuple(value.shape), value.dtype, None
    if vectors.is_turned(found.layer, form, target):
        value = lax.transpose(value, (1, 0))
        form = dataclasses.replace(form, axes=(1,))
        first = Move(tuple(value.shape), shape, (1, 0))
    parts = encode(value, form)
    rows = words.rows(found, form, target)
    parts = parts if rows is None else rows.pack(parts)
    named = tuple(checkpoint_name(part, HELD) for part in parts)
    return Held(parts=named, form=form, shape=shape, dtype=dtype, first=first, rows=rows)
