"""Which channels have the same known value at every place, whatever finite inputs come.

The column of a kernel is zero, its bias is not: the channel is the activation of its bias, in
every row and pixel. What sums over it can take that into its own bias (`jaxrt.passes.fills`).
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

from jaxrt.passes import known_rules
from jaxrt.passes.channel_rules import ELEMENTWISE
from jaxrt.passes.channels import Channels
from jaxrt.passes.jaxprs import ClosedJaxpr, bind, close, literal
from jaxrt.passes.known import Known, Value, like, same, unknown
from jaxrt.passes.rows_control import scan_counts

Array = np.ndarray[Any, Any]

FEW = 64
"""Elements of a dimension that are looked at before all."""

ROUNDS = 64
"""Of a loop, until what it carries is settled: each can only lose channels."""


See = Callable[[Any, Sequence[Value], Value], Value]
"""(equation outside of loops, its operands, its result) → its result: somebody looks on."""
Watch = Callable[[Any, Sequence[Value], bool], None]
"""(equation, its operands, whether it is in a loop): once for each, with what holds in the end."""


class Constants:
    """The walk over one program."""

    def __init__(
        self,
        channels: Channels,
        watch: Watch = lambda eqn, operands, is_nested: None,
        see: See = lambda eqn, operands, made: made,
    ) -> None:
        self._channels = channels
        self._watch = watch
        self._see = see

    def run(self, closed: ClosedJaxpr, weights: Sequence[Array]) -> None:
        """`weights`: the first arguments; nothing is known of the others."""
        jaxpr = closed.jaxpr
        env: dict[Any, Value] = {}
        for variable, array in zip(jaxpr.invars, weights, strict=False):
            env[variable] = self._of_array(variable, array)
        for variable, const in zip(jaxpr.constvars, closed.consts, strict=True):
            env[variable] = self._of_array(variable, np.asarray(const))
        self._walk(jaxpr.eqns, env, depth=0, watched=True)

    def _walk(self, eqns: Sequence[Any], env: dict[Any, Value], depth: int, watched: bool) -> None:
        for eqn in eqns:
            operands = [_read(env, atom) for atom in eqn.invars]
            if watched:
                self._watch(eqn, operands, depth > 0)
            if (loop := _LOOPS.get(eqn.primitive.name)) is not None:
                made = loop(self, eqn, operands, depth, watched)
            elif len(eqn.outvars) == 1:
                made = [self._made(eqn, operands)]
                if depth == 0:
                    made = [self._see(eqn, operands, made[0])]
            else:
                made = [unknown(v) for v in eqn.outvars]
            for variable, value in zip(eqn.outvars, made, strict=True):
                env[variable] = self._only_channels(variable, value)

    def _made(self, eqn: Any, operands: Sequence[Value]) -> Value:
        name, (out,) = eqn.primitive.name, eqn.outvars
        if name in ELEMENTWISE:
            return _elementwise(self._channels, eqn, operands)
        rule = known_rules.RULES.get(name)
        return unknown(out) if rule is None else rule(eqn, operands)

    def _only_channels(self, variable: Any, value: Value) -> Value:
        """Without dimensions of which nothing may be taken, or nothing is known."""
        dims = {
            d: known
            for d, known in value.dims.items()
            if known.mask.any() and not self._channels.is_fixed((variable, d))
        }
        return dataclasses.replace(value, dims=dims)

    def _of_array(self, variable: Any, array: Array) -> Value:
        dims = {
            dim: _constant(array, dim)
            for dim in range(array.ndim)
            if array.size and not self._channels.is_fixed((variable, dim))
        }
        flat = array.reshape(-1)
        is_one = array.size and all((part == flat[0]).all() for part in (flat[:FEW], flat))
        one = flat[0] if is_one else None
        return Value(array.shape, array.dtype, dims, one)

    def body(self, closed: Any, values: Sequence[Value], depth: int, watched: bool) -> list[Value]:
        """The results of a loop's or branch's jaxpr."""
        jaxpr = close(closed).jaxpr
        env = dict(zip(jaxpr.invars, values, strict=True))
        self._walk(jaxpr.eqns, env, depth + 1, watched)
        return [_read(env, atom) for atom in jaxpr.outvars]


def _constant(array: Array, dim: int) -> Known:
    """Where all elements at an index of `dim` are one value: few are looked at first, since large
    tables seldom have any."""
    others = tuple(d for d in range(array.ndim) if d != dim)
    first, some = (
        array[tuple(slice(None) if d == dim else slice(n) for d in range(array.ndim))]
        for n in (1, FEW)
    )
    mask = (some == first).all(axis=others)
    left = np.flatnonzero(mask)
    if len(left) and some.size < array.size:
        rows = np.take(array, left, axis=dim)
        mask[left] = (rows == np.take(first, left, axis=dim)).all(axis=others)
    return Known(mask, first.reshape(-1).copy())


def _read(env: Mapping[Any, Value], atom: Any) -> Value:
    if isinstance(atom, Literal):
        array = literal(atom)
        one = array.reshape(-1)[0] if array.size == 1 else None
        return Value(array.shape, array.dtype, {}, one)
    return env[atom] if atom in env else unknown(atom)


def _elementwise(channels: Channels, eqn: Any, operands: Sequence[Value]) -> Value:
    (out,) = eqn.outvars
    name = eqn.primitive.name
    if all(value.uniform is not None for value in operands):
        return like(out, {}, _computed(eqn, [np.asarray(v.uniform, v.dtype) for v in operands])[()])
    dims = {}
    for dim in range(out.aval.ndim):
        if channels.is_fixed((out, dim)):
            continue
        found = [_operand(value, dim, out.aval.shape) for value in operands]
        if any(known.mask.any() for known in found):
            dims[dim] = _joined(eqn, found, out.aval.dtype)
    zero = name == "mul" and any(v.uniform is not None and v.uniform == 0 for v in operands)
    return like(out, dims, out.aval.dtype.type(0) if zero else None)


def _operand(value: Value, dim: int, shape: Sequence[int]) -> Known:
    """Along a dimension of the result."""
    if value.shape and value.shape[dim] == shape[dim]:
        return value.along(dim)
    one = value.uniform
    size = shape[dim]
    filler = np.zeros(size, value.dtype) if one is None else np.full(size, one, value.dtype)
    return Known(np.full(size, one is not None), filler)


def _joined(eqn: Any, found: Sequence[Known], dtype: Any) -> Known:
    name = eqn.primitive.name
    mask = np.all([known.mask for known in found], axis=0)
    values = np.zeros(len(mask), dtype)
    if mask.any():
        values[mask] = _computed(eqn, [known.values[mask] for known in found])
    if name == "mul":
        zeros = np.any([known.zeros() for known in found], axis=0) & ~mask
        values[zeros] = 0
        mask = mask | zeros
    elif name == "select_n":  # whatever decides: all that may be chosen is the same
        cases = found[1:]
        same = np.all([known.mask & (known.values == cases[0].values) for known in cases], axis=0)
        values[same] = cases[0].values[same]
        mask = mask | same
    return Known(mask, values)


def _computed(eqn: Any, operands: Sequence[Array]) -> Array:
    """By the primitive itself."""
    with jax.enable_x64(True), jax.default_device(jax.local_devices(backend="cpu")[0]):
        (found,) = bind(eqn.primitive, [jax.numpy.asarray(x) for x in operands], eqn.params)
        return np.asarray(found)


def _settled(
    outs: Sequence[Any], carried: Sequence[Value], step: Callable[[list[Value]], list[Value]]
) -> list[Value]:
    """What stays known from round to round."""
    found = list(carried)
    for _ in range(ROUNDS):
        after = [same(v, [a, b]) for v, a, b in zip(outs, found, step(found), strict=True)]
        if all(_is_same(a, b) for a, b in zip(found, after, strict=True)):
            return after
        found = after
    return [unknown(v) for v in outs]


def _is_same(one: Value, other: Value) -> bool:
    return one.uniform is other.uniform and all(
        np.array_equal(one.along(d).mask, other.along(d).mask) for d in range(len(one.shape))
    )


def _while(
    walk: Constants, eqn: Any, operands: Sequence[Value], depth: int, watched: bool
) -> list[Value]:
    params = eqn.params
    first = params["cond_nconsts"]
    second = first + params["body_nconsts"]
    consts = operands[first:second]

    def step(carried: Sequence[Value], watched: bool = False) -> list[Value]:
        return walk.body(params["body_jaxpr"], [*consts, *carried], depth, watched)

    outs = close(params["body_jaxpr"]).jaxpr.outvars
    settled = _settled(outs, operands[second:], step)
    if watched:
        step(settled, watched=True)
        walk.body(params["cond_jaxpr"], [*operands[:first], *settled], depth, watched)
    return settled


def _scan(
    walk: Constants, eqn: Any, operands: Sequence[Value], depth: int, watched: bool
) -> list[Value]:
    consts, count = scan_counts(eqn)
    body = close(eqn.params["jaxpr"]).jaxpr
    walked = [
        Value(v.shape[1:], v.dtype, {d - 1: k for d, k in v.dims.items() if d}, v.uniform)
        for v in operands[consts + count :]
    ]

    def step(carried: Sequence[Value], watched: bool = False) -> list[Value]:
        return walk.body(body, [*operands[:consts], *carried, *walked], depth, watched)

    carried = operands[consts : consts + count]
    settled = _settled(body.outvars[:count], carried, lambda values: step(values)[:count])
    stacks = [
        like(outer, {d + 1: k for d, k in v.dims.items()}, v.uniform)
        for outer, v in zip(
            eqn.outvars[count:], step(settled, watched=watched)[count:], strict=True
        )
    ]
    return [*settled, *stacks]


def _cond(
    walk: Constants, eqn: Any, operands: Sequence[Value], depth: int, watched: bool
) -> list[Value]:
    branches = [
        walk.body(branch, operands[1:], depth, watched) for branch in eqn.params["branches"]
    ]
    return [
        same(variable, values)
        for variable, values in zip(eqn.outvars, zip(*branches, strict=True), strict=True)
    ]


_LOOPS: dict[str, Callable[..., list[Value]]] = {"while": _while, "scan": _scan, "cond": _cond}
