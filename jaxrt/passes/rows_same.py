"""Whether two programs of one signature, lifted at two batch sizes, are one function of a row.

TensorFlow's bridge folds shapes into constants: `switch(shape(x)[0] % 3)` keeps rows apart at each
batch size and is another function at each. So the graphs are walked from their outputs, side by
side: same primitives, parameters and constants; only what follows the rows may follow the batch.
"""

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.extend.core import Jaxpr, Literal

from jaxrt.passes import layout
from jaxrt.passes.jaxprs import literal, nested
from jaxrt.passes.layout import Value
from jaxrt.passes.rewrite import inline
from jaxrt.passes.rows_params import consumed, plain_params
from jaxrt.passes.rows_rules import analyse
from jaxrt.passes.rows_walk import Analysis, describe, of_array
from jaxrt.program import Program

TRANSPARENT = frozenset({"reshape", "broadcast_in_dim", "squeeze", "expand_dims", "copy"})
"""At batch 1 XLA's builders leave these out where they change nothing but dimensions of one."""


class _Differs(Exception):
    """The message says where."""


def same_function(a: Program, b: Program, shared: frozenset[str] = frozenset()) -> str | None:
    """None where `a` and `b` compute one function of each row; else the first difference."""
    if (a.input_names, a.output_names) != (b.input_names, b.output_names):
        return "the inputs or outputs have other names"
    sides = [_side(a, shared), _side(b, shared)]
    try:
        _compare(sides[0], sides[1])
    except _Differs as error:
        sizes = f"between batch {sides[0].batch} and {sides[1].batch}"
        return f"{error.args[0]} differs {sizes}" + "".join(f": {m}" for m in error.args[1:])
    return None


@dataclasses.dataclass(frozen=True, slots=True)
class _Side:
    """One of the two programs, with its layouts and where each variable comes from."""

    batch: int
    analysis: Analysis
    jaxpr: Jaxpr
    names: dict[Any, str]
    """Argument → its name, or its place in the loop that owns it."""
    consts: dict[Any, Any]
    makers: dict[Any, tuple[Any, int]]
    """Variable → (equation, which of its results)."""

    def add(self, jaxpr: Jaxpr, consts: Sequence[Any], names: Sequence[str]) -> None:
        self.names.update(zip(jaxpr.invars, names, strict=True))
        self.consts.update(zip(jaxpr.constvars, consts, strict=True))
        for eqn in jaxpr.eqns:
            self.makers.update((v, (eqn, i)) for i, v in enumerate(eqn.outvars))

    def fact(self, atom: Any) -> Value:
        if isinstance(atom, Literal):
            return of_array(atom.val)
        return self.analysis.facts.get(atom, Value(mixed="unknown"))

    def array(self, atom: Any) -> np.ndarray[Any, Any] | None:
        """The elements of a constant."""
        if isinstance(atom, Literal):
            return literal(atom)
        found = self.consts.get(atom)
        return None if found is None else np.asarray(found)


def _side(program: Program, shared: frozenset[str]) -> _Side:
    inlined = dataclasses.replace(program, jaxpr=inline(program.jaxpr))
    named = zip(inlined.input_names, inlined.input_avals, strict=True)
    batch = next((a.shape[0] for n, a in named if n not in shared and a.shape), 1)
    analysis, _ = analyse(inlined, batch, shared)
    side = _Side(batch, analysis, inlined.jaxpr.jaxpr, {}, {}, {})
    side.add(side.jaxpr, inlined.jaxpr.consts, [*program.weight_names, *program.input_names])
    return side


def _compare(a: _Side, b: _Side) -> None:
    walk = _Walk(a, b, loose=1 in (a.batch, b.batch) and a.batch != b.batch)
    walk.results(a.jaxpr.outvars, b.jaxpr.outvars)
    walk.drain()


class _Walk:
    """A queue of pairs that must be equal; each is looked at once."""

    def __init__(self, a: _Side, b: _Side, *, loose: bool) -> None:
        self.a, self.b, self.loose = a, b, loose
        self.queue: collections.deque[tuple[Any, Any]] = collections.deque()
        self.seen: set[tuple[int, int]] = set()

    def results(self, left: Sequence[Any], right: Sequence[Any]) -> None:
        if len(left) != len(right):
            raise _Differs("the number of values", f"{len(left)} vs {len(right)}")
        self.queue.extend(zip(left, right, strict=True))

    def drain(self) -> None:
        while self.queue:
            x, y = self.queue.popleft()
            if (id(x), id(y)) not in self.seen:
                self.seen.add((id(x), id(y)))
                self.pair(x, y)

    def pair(self, x: Any, y: Any) -> None:
        if x.aval.dtype != y.aval.dtype:
            raise _Differs("the dtype of a value", f"{x.aval.dtype} vs {y.aval.dtype}")
        if self.equal_by_facts(x, y):
            return
        if self.loose:
            x, y = _through(self.a, x), _through(self.b, y)
        left, right = self.a.array(x), self.b.array(y)
        if left is not None and right is not None:
            self.constants(left, right)
            return
        made, other = self.a.makers.get(_key(x)), self.b.makers.get(_key(y))
        if made is None or other is None:
            self.leaves(x, y)
            return
        self.layouts(x, y, made[0])
        self.equations(made, other)

    def equal_by_facts(self, x: Any, y: Any) -> bool:
        """Both the same constant everywhere, or both the row's own number."""
        p, q = self.a.fact(x), self.b.fact(y)
        if p.mixed or q.mixed:
            return False
        if p.const is not None and p.const == q.const:
            return True
        return _is_number(p, self.a.batch) and _is_number(q, self.b.batch) and p.affine == q.affine

    def constants(self, left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> None:
        core_left, core_right = _core(left, self.loose), _core(right, self.loose)
        if core_left.shape != core_right.shape:
            raise _Differs("a constant's shape", f"{left.shape} vs {right.shape}")
        equal = core_left.tobytes() == core_right.tobytes()
        if not equal:
            shown = [str(c.reshape(-1)[0]) if c.size == 1 else "…" for c in (core_left, core_right)]
            raise _Differs("a constant", f"{shown[0]} vs {shown[1]}")

    def leaves(self, x: Any, y: Any) -> None:
        p, q = self.a.names.get(_key(x)), self.b.names.get(_key(y))
        if p is None or p != q:
            raise _Differs("the graph", f"{self.spell(self.a, x)} vs {self.spell(self.b, y)}")

    def spell(self, side: _Side, atom: Any) -> str:
        if (array := side.array(atom)) is not None:
            return f"constant {array.reshape(-1)[0]}" if array.size else "an empty constant"
        made = side.makers.get(_key(atom))
        return describe(made[0]) if made else repr(side.names.get(_key(atom)))

    def layouts(self, x: Any, y: Any, eqn: Any) -> None:
        p, q = self.a.fact(x), self.b.fact(y)
        if self.loose or p.mixed or q.mixed or (p.rows_axis is None and q.rows_axis is None):
            return
        if layout.signature(p.axes) != layout.signature(q.axes):
            raise _Differs(f"the layout of rows in {describe(eqn)}")

    def equations(self, made: tuple[Any, int], other: tuple[Any, int]) -> None:
        (left, i), (right, j) = made, other
        if left.primitive.name != right.primitive.name or i != j:
            raise _Differs("the graph", f"{describe(left)} vs {describe(right)}")
        if (id(left), id(right)) in self.seen:
            return
        self.seen.add((id(left), id(right)))
        if len(left.invars) != len(right.invars):
            raise _Differs("the number of operands", describe(left), describe(right))
        facts = [[s.fact(v) for v in e.invars] for s, e in ((self.a, left), (self.b, right))]
        p, q = plain_params(left, facts[0]), plain_params(right, facts[1])
        for name in p.keys() | q.keys():
            if p.get(name) != q.get(name):
                shown = f"{p.get(name)} vs {q.get(name)}"
                raise _Differs(f"{name} of {describe(left)}", shown)
        self.consumption(left, right, facts)
        self.bodies(left, right)
        self.results(left.invars, right.invars)

    def consumption(self, left: Any, right: Any, facts: list[list[Value]]) -> None:
        """An axis that an operation uses up must not follow the batch, unless rows are on it."""
        for k, (x, y) in enumerate(zip(left.invars, right.invars, strict=True)):
            axes = consumed(left, k) | consumed(right, k)
            for at in axes:
                sizes = [v.aval.shape[at] if at < len(v.aval.shape) else 1 for v in (x, y)]
                rows = [_rows_at(side[k], at) for side in facts]
                if k == 0 and left.primitive.name.startswith("scatter"):
                    # Into zeros, at the row's own number: the rows are on the result.
                    made = [self.a.fact(left.outvars[0]), self.b.fact(right.outvars[0])]
                    rows = [_rows_at(value, at) for value in made]
                if sizes[0] != sizes[1] and not (any(rows) if self.loose else all(rows)):
                    shown = f"{sizes[0]} vs {sizes[1]}"
                    raise _Differs(f"axis {at} of operand {k} of {describe(left)}", shown)

    def bodies(self, left: Any, right: Any) -> None:
        for p, q in zip(nested(left), nested(right), strict=True):
            # Bodies are closed, so a pair met inside one never meets another's arguments.
            names = [f"argument {n}" for n in range(len(p.jaxpr.invars))]
            self.a.add(p.jaxpr, p.consts, names)
            self.b.add(q.jaxpr, q.consts, names)
            self.results(p.jaxpr.outvars, q.jaxpr.outvars)


def _key(atom: Any) -> Any:
    return None if isinstance(atom, Literal) else atom


def _rows_at(value: Value, axis: int) -> bool:
    return axis < len(value.axes) and layout.has_rows(value.axes[axis])


def _is_number(value: Value, batch: int) -> bool:
    if batch == 1:
        return value.const == 0
    counts = value.counts
    return counts is not None and counts[1].size == batch and value.affine == (1, 0)


def _through(side: _Side, atom: Any) -> Any:
    """The value under operations that only move dimensions of one."""
    while (made := side.makers.get(_key(atom))) and made[0].primitive.name in TRANSPARENT:
        atom = made[0].invars[0]
    return atom


def _core(array: np.ndarray[Any, Any], loose: bool) -> np.ndarray[Any, Any]:
    """A constant with every axis along which it is the same cut to one step."""
    for axis in range(array.ndim):
        if array.shape[axis] > 1 and (array == np.take(array, [0], axis)).all():
            array = np.take(array, [0], axis)
    return np.squeeze(array) if loose else array
