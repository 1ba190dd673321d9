"""The walk under the row proof: one transfer rule per primitive, and nothing else is believed."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from jaxrt.passes import layout
from jaxrt.passes.jaxprs import ClosedJaxpr
from jaxrt.passes.layout import Mix, Value


@dataclasses.dataclass(frozen=True, slots=True)
class Site:
    """One equation under analysis, as its rule sees it."""

    eqn: Any
    analysis: "Analysis"

    @property
    def params(self) -> Mapping[str, Any]:
        params: Mapping[str, Any] = self.eqn.params
        return params

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of the operands."""
        return [tuple(v.aval.shape) for v in self.eqn.invars]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the first result."""
        return tuple(self.eqn.outvars[0].aval.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the first result."""
        found: np.dtype[Any] = np.dtype(self.eqn.outvars[0].aval.dtype)
        return found


Rule = Callable[..., Value | Sequence[Value]]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Registers `rule(site, *values)` for primitives; it raises Mix where rows are mixed."""

    def register(function: Rule) -> Rule:
        for name in names:
            if name in RULES:
                raise ValueError(f"{name} already has a rule, {RULES[name].__name__}")
            RULES[name] = function
        return function

    return register


class Analysis:
    """The layouts of one program at one batch size; `facts` covers nested jaxprs too."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.facts: dict[Any, Value] = {}

    def run(self, jaxpr: Any, consts: Sequence[Any], args: Sequence[Value]) -> list[Value]:
        """Layouts of the results of an open jaxpr."""
        env: dict[Any, Value] = {}

        def write(var: Any, value: Value) -> None:
            env[var] = value
            known = self.facts.get(var)
            # A loop's body is walked more than once: what holds each time is kept.
            self.facts[var] = value if known is None else layout.join(known, value)

        for var, const in zip(jaxpr.constvars, consts, strict=True):
            write(var, of_array(const))
        for var, value in zip(jaxpr.invars, args, strict=True):
            write(var, value)
        for eqn in jaxpr.eqns:
            values = [_read(env, atom) for atom in eqn.invars]
            for var, value in zip(eqn.outvars, self._step(eqn, values), strict=True):
                write(var, value)
        return [_read(env, atom) for atom in jaxpr.outvars]

    def closed(self, closed: ClosedJaxpr, args: Sequence[Value]) -> list[Value]:
        return self.run(closed.jaxpr, closed.consts, args)

    def _step(self, eqn: Any, values: Sequence[Value]) -> Sequence[Value]:
        name = eqn.primitive.name
        function = RULES.get(name)
        spared = getattr(function, "sees_mixed", False)
        if all(math.prod(getattr(v.aval, "shape", ())) == 0 for v in eqn.outvars):
            return [layout.of_empty(v.aval.shape) for v in eqn.outvars]
        try:
            if not spared and (found := [v.mixed for v in values if v.mixed]):
                return [Value(mixed=found[0])] * len(eqn.outvars)
            if function is None:
                raise Mix("is not known to keep rows apart")
            out = function(Site(eqn, self), *values)
        except Mix as error:
            reason = str(error)
            described = reason if reason.startswith("`") else f"{describe(eqn)} {reason}"
            return [Value(mixed=described, parts=error.parts)] * len(eqn.outvars)
        outs = [out] if isinstance(out, Value) else list(out)
        return [_checked(v, o.aval) for v, o in zip(outs, eqn.outvars, strict=True)]


def _checked(value: Value, aval: Any) -> Value:
    """Empty arrays carry nothing; any other layout must have the shape of its value."""
    shape = tuple(getattr(aval, "shape", ()))
    if value.mixed:
        return value
    if math.prod(shape) == 0:
        return layout.of_empty(shape)
    found = tuple(layout.size_of(axis) for axis in value.axes)
    if found != shape:
        raise AssertionError(f"layout of sizes {found} for a value of shape {shape}")
    return value


def sees_mixed(function: Rule) -> Rule:
    """Marks a rule that handles mixed operands itself."""
    function.sees_mixed = True  # type: ignore[attr-defined]
    return function


def describe(eqn: Any) -> str:
    """An equation in one phrase: its primitive, types and the scope it came from."""
    ins = ", ".join(v.aval.str_short(short_dtypes=True) for v in eqn.invars[:3])
    outs = ", ".join(v.aval.str_short(short_dtypes=True) for v in eqn.outvars[:1])
    more = ", ..." if len(eqn.invars) > 3 else ""
    scope = str(eqn.source_info.name_stack)
    return f"`{eqn.primitive.name} {ins}{more} -> {outs}`" + (f" in {scope}" if scope else "")


def _read(env: Mapping[Any, Value], atom: Any) -> Value:
    return of_array(atom.val) if isinstance(atom, Literal) else env[atom]


def of_array(array: Any) -> Value:
    """The layout of a known constant: sameness and counting are read off its elements."""
    if jnp.issubdtype(getattr(array, "dtype", np.float32), jax.dtypes.extended):
        return Value(mixed="a random key")
    found = np.asarray(array)
    if found.size == 0:
        return layout.of_empty(found.shape)
    first = found.reshape(-1)[0]
    if (found == first).all():
        plain = found.dtype.kind in "biuf"
        return layout.splat(found.shape, first.item() if plain else None)
    for i, n in enumerate(found.shape):
        if found.dtype.kind in "iu" and n > 1 and (value := _counting(found, i)):
            return value
    axes = [
        layout.same(n) if _uniform(found, i) else layout.varies(n)
        for i, n in enumerate(found.shape)
    ]
    return Value(axes=tuple(axes))


def _uniform(array: np.ndarray[Any, Any], axis: int) -> bool:
    return bool((array == np.take(array, [0], axis)).all())


def _counting(array: np.ndarray[Any, Any], axis: int) -> Value | None:
    """[.., n, ..] that is scale * position + offset along `axis` and the same elsewhere."""
    line = np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis])
    first = [int(n) for n in line[0]]
    scale = first[1] - first[0]
    if first != [first[0] + scale * i for i in range(len(first))] or (line != line[:1]).any():
        return None
    axes = [layout.same(n) for n in array.shape]
    axes[axis] = (layout.Factor(array.shape[axis], layout.Tag.COUNTS),)
    return Value(axes=tuple(axes), affine=(scale, first[0]))
