"""The layers of a program whose weights can be held in fewer bits, each with a name.

A layer is a product, convolution or look-up with one operand that rests on weights alone. What is
held is that operand before it was only moved: a kernel with batch norm in it, a table that is
also multiplied with. One array is one layer, however many take it.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from jaxrt.compression.moves import Move, move_of
from jaxrt.passes.fixed import fixed
from jaxrt.passes.jaxprs import close, variables
from jaxrt.passes.prepare import SMALL
from jaxrt.passes.rewrite import inline
from jaxrt.passes.rows_control import scan_counts
from jaxrt.program import Program

WIDE = tuple(np.dtype(kind) for kind in ("float32", jnp.bfloat16, "float16", "float64"))
"""What weights have before: bfloat16 where the precision of products has rounded them."""

LARGE = 64 << 10
"""Bytes from which it is said why an array of weights is no layer."""

DOT, CONV, GATHER = "dot", "conv", "gather"

Scope = dict[Any, tuple[Any, Move | None]]
"""Variable → what it is a moved one of, and how; None: the same inside and outside of a loop."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """One array of weights that are multiplied with, or looked up."""

    name: str
    """The path of its largest weight; a second array of the same has `#2` at its end."""
    kind: str
    """DOT, CONV or GATHER: what first takes it."""
    shape: tuple[int, ...]
    nbytes: int
    """Before it is compressed."""
    flops: float
    """Of all that take it, once for each time they stand in the program."""
    rows: int
    """Positions that are multiplied with it, or looked up, a call."""
    weights: tuple[str, ...]
    """The SavedModel's, under it."""
    axes: tuple[int, ...]
    """Dimensions that are summed over, or make up a row of the table."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Use:
    """One equation that takes a layer's array, moved or as it is."""

    eqn: Any
    operand: int
    """Which of the equation's."""
    kind: str
    axes: tuple[int, ...]
    """Of the operand, as in Layer."""
    moves: tuple[Move, ...]
    """From the array to the operand."""
    is_nested: bool
    """In the body of a loop or branch."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A layer and where it is in the jaxpr that was searched."""

    layer: Layer
    variable: Any
    uses: tuple[Use, ...]


def layers(program: Program) -> tuple[Layer, ...]:
    """In the order of their first use; those of every batch size have the same names."""
    inlined = dataclasses.replace(program, jaxpr=inline(program.jaxpr))
    return tuple(found.layer for found in find(inlined))


def find(program: Program) -> tuple[Found, ...]:
    """`program` has no calls (`rewrite.inline`)."""
    search = _Search(program)
    taken: dict[str, int] = {}
    found = []
    for variable, uses in search.uses.items():
        if variable in search.returned or not _is_large(variable.aval):
            continue
        path = search.path(variable)
        taken[path] = taken.get(path, 0) + 1
        name = path if taken[path] == 1 else f"{path}#{taken[path]}"
        found.append(Found(layer=search.layer(variable, name), variable=variable, uses=tuple(uses)))
    return tuple(found)


def _is_large(aval: Any) -> bool:
    """A matrix that takes more than its scales would save."""
    wide = [n for n in aval.shape if n > 1]
    return aval.dtype in WIDE and len(wide) > 1 and aval.size * 4 > SMALL


class _Search:
    """The uses of known arrays in one program."""

    def __init__(self, program: Program) -> None:
        jaxpr: Any = program.jaxpr.jaxpr
        self._known = fixed(program)
        self._under: dict[Any, dict[str, int]] = {
            var: {name: var.aval.size}
            for name, var in zip(program.weight_names, jaxpr.invars, strict=False)
        }
        self._axes: dict[Any, tuple[int, ...]] = {}
        self._flops: dict[Any, float] = {}
        self._rows: dict[Any, int] = {}
        self.uses: dict[Any, list[Use]] = {}
        top: Scope = {}
        for eqn in jaxpr.eqns:
            names = {k: n for v in variables(eqn.invars) for k, n in self._under.get(v, {}).items()}
            self._under |= dict.fromkeys(eqn.outvars, names)
        self._look(jaxpr.eqns, top, is_nested=False)
        self.returned = {_source(v, top) for v in variables(jaxpr.outvars)}

    def _look(self, eqns: Sequence[Any], scope: Scope, *, is_nested: bool) -> None:
        for eqn in eqns:
            if (move := move_of(eqn)) and not isinstance(eqn.invars[0], Literal):
                scope[eqn.outvars[0]] = (eqn.invars[0], move)
            for take in _takes(eqn):
                others = [v for i, v in enumerate(eqn.invars) if i != take.operand]
                if not all(self._is_known(v, scope) for v in others):
                    self._add(eqn, take, scope, is_nested)
            for body, given in bodies(eqn):
                inner = dict(scope)
                for variable, atom in given.items():
                    inner.pop(variable, None)
                    if not isinstance(atom, Literal):
                        inner[variable] = (atom, None)
                self._look(body.eqns, inner, is_nested=True)

    def _is_known(self, atom: Any, scope: Scope) -> bool:
        return isinstance(atom, Literal) or _source(atom, scope) in self._known

    def _add(self, eqn: Any, take: "Take", scope: Scope, is_nested: bool) -> None:
        atom = eqn.invars[take.operand]
        if isinstance(atom, Literal):
            return
        variable, axes, moves = _back(atom, take.axes, scope)
        if variable not in self._known or not self._under.get(variable):
            return
        use = Use(
            eqn=eqn,
            operand=take.operand,
            kind=take.kind,
            axes=take.axes,
            moves=moves,
            is_nested=is_nested,
        )
        self.uses.setdefault(variable, []).append(use)
        self._axes.setdefault(variable, axes)
        self._flops[variable] = self._flops.get(variable, 0.0) + take.flops
        self._rows[variable] = max(self._rows.get(variable, 0), take.rows)

    def path(self, variable: Any) -> str:
        """The largest weight under it, the first of equals."""
        names = self._under[variable]
        return max(names, key=names.__getitem__)

    def layer(self, variable: Any, name: str) -> Layer:
        return Layer(
            name=name,
            kind=self.uses[variable][0].kind,
            shape=tuple(variable.aval.shape),
            nbytes=variable.aval.size * variable.aval.dtype.itemsize,
            flops=self._flops[variable],
            rows=self._rows[variable],
            weights=tuple(self._under[variable]),
            axes=self._axes[variable],
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Other:
    """A large array of weights that is no layer."""

    weight: str
    shape: tuple[int, ...]
    nbytes: int
    why: str
    """`not a layer: used by add, mul`."""


def others(program: Program) -> tuple[Other, ...]:
    """Arguments of LARGE bytes or more that nothing multiplies with or looks up; in their order."""
    inlined = dataclasses.replace(program, jaxpr=inline(program.jaxpr))
    jaxpr: Any = inlined.jaxpr.jaxpr
    layered = {weight for found in find(inlined) for weight in found.layer.weights}
    out = []
    for name, variable in zip(program.weight_names, jaxpr.invars, strict=False):
        aval = variable.aval
        nbytes = aval.size * aval.dtype.itemsize
        if nbytes >= LARGE and name not in layered:
            why = f"not a layer: {_used(jaxpr, variable)}"
            if aval.dtype not in WIDE:
                why += f", of {aval.dtype.name}"
            out.append(Other(weight=name, shape=tuple(aval.shape), nbytes=nbytes, why=why))
    return tuple(out)


def _used(jaxpr: Any, variable: Any) -> str:
    """`used by add, mul`: what takes it, moved or as it is."""
    same = {variable}
    names: dict[str, None] = {}
    for eqn in jaxpr.eqns:
        if not same.intersection(variables(eqn.invars)):
            continue
        if move_of(eqn):
            same.add(eqn.outvars[0])
        else:
            names[eqn.primitive.name] = None
    if same.intersection(variables(jaxpr.outvars)):
        names["an output"] = None
    return f"used by {', '.join(names)}" if names else "used by nothing"


def moved(program: Program) -> Scope:
    """Top-level variable that is another one moved → that, and how."""
    return {
        eqn.outvars[0]: (eqn.invars[0], move)
        for eqn in program.jaxpr.jaxpr.eqns
        if (move := move_of(eqn)) and not isinstance(eqn.invars[0], Literal)
    }


def _source(atom: Any, scope: Scope) -> Any:
    """Where an array was before all moves."""
    while atom in scope:
        atom = scope[atom][0]
    return atom


def _back(atom: Any, axes: tuple[int, ...], scope: Scope) -> tuple[Any, Any, tuple[Move, ...]]:
    """Where it was before those moves that take `axes` as wholes, its axes there, the moves."""
    moves: list[Move] = []
    while atom in scope:
        source, move = scope[atom]
        before = axes if move is None else move.axes_before(axes)
        if before is None:
            break
        atom, axes = source, before
        moves = moves if move is None else [move, *moves]
    return atom, axes, tuple(moves)


@dataclasses.dataclass(frozen=True, slots=True)
class Take:
    """That an equation may take weights as one of its operands."""

    operand: int
    kind: str
    axes: tuple[int, ...]
    flops: float
    rows: int


def _takes(eqn: Any) -> Iterator[Take]:
    name = eqn.primitive.name
    if name == "dot_general":
        yield from _product(eqn)
    elif name == "conv_general_dilated":
        kernel, out = eqn.invars[1].aval, eqn.outvars[0].aval
        channel = eqn.params["dimension_numbers"].rhs_spec[0]
        features = kernel.shape[channel]
        axes = tuple(d for d in range(kernel.ndim) if d != channel)
        rows = out.size // max(1, features)
        yield Take(1, CONV, axes, 2.0 * rows * kernel.size, rows)
    elif name == "gather":
        numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
        if set(numbers.start_index_map) == set(numbers.collapsed_slice_dims):
            axes = tuple(d for d in range(len(sizes)) if d not in numbers.collapsed_slice_dims)
            yield Take(0, GATHER, axes, 0.0, math.prod(eqn.invars[1].aval.shape[:-1]))


def _product(eqn: Any) -> Iterator[Take]:
    contracted, _ = eqn.params["dimension_numbers"]
    terms = math.prod(eqn.invars[0].aval.shape[d] for d in contracted[0])
    flops = 2.0 * eqn.outvars[0].aval.size * terms
    for operand in (1, 0):
        shape = eqn.invars[operand].aval.shape
        kept = math.prod(n for d, n in enumerate(shape) if d not in contracted[operand])
        rows = eqn.outvars[0].aval.size // max(1, kept)
        yield Take(operand, DOT, tuple(sorted(contracted[operand])), flops, rows)


def bodies(eqn: Any) -> Iterator[tuple[Any, dict[Any, Any]]]:
    """Jaxprs of a loop or branches, and which of their arguments stay what the equation is given.

    Values that change from round to round are not among them.
    """
    params, given = eqn.params, eqn.invars
    match eqn.primitive.name:
        case "scan":
            body = close(params["jaxpr"]).jaxpr
            count, _ = scan_counts(eqn)
            yield body, dict(zip(body.invars[:count], given[:count], strict=True))
        case "while":
            body = close(params["body_jaxpr"]).jaxpr
            first, count = params["cond_nconsts"], params["body_nconsts"]
            yield body, dict(zip(body.invars[:count], given[first : first + count], strict=True))
        case "cond":
            for branch in params["branches"]:
                body = close(branch).jaxpr
                yield body, dict(zip(body.invars, given[1:], strict=True))
