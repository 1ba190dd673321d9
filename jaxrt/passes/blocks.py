"""A program of many rows as a loop over blocks of few: what lies between stays in the cache.

Only for programs whose rows are proven independent: each block is a batch of its own.
"""

import dataclasses
import math
from typing import Any

import jax
from jax import lax
from jax.extend.core import jaxpr_as_fun

from jaxrt.passes.jaxprs import nested
from jaxrt.passes.prepare import Split
from jaxrt.program import Program


def fits(program: Program, block: Program, *, shared: frozenset[str]) -> bool:
    """Whether every input and output has `block`'s shape but for a multiple of its rows.

    `shared` inputs have no rows: they have equal shapes in both.
    """
    if program.input_names != block.input_names or program.output_names != block.output_names:
        return False
    if shared.issuperset(program.input_names):
        return False
    names = (*program.input_names, *program.output_names)
    pairs = zip(
        names,
        (*program.input_avals, *program.output_avals),
        (*block.input_avals, *block.output_avals),
        strict=True,
    )
    times = {_times(a, b) for name, a, b in pairs if name not in shared}
    return len(times) == 1 and None not in times


def _times(many: Any, few: Any) -> int | None:
    same = many.dtype == few.dtype and many.shape[1:] == few.shape[1:]
    if not (same and many.shape and few.shape) or few.shape[0] == 0 or many.shape[0] % few.shape[0]:
        return None
    return int(many.shape[0] // few.shape[0])


def looped(program: Program, block: Split, *, shared: frozenset[str]) -> Split:
    """`program` as a loop over blocks, prepared as one block is: `fits` must hold.

    What depends on weights alone was cut off before the loop, so it is in none of its rounds.
    """
    apply = block.apply
    weights = len(apply.weight_names)
    inner = jaxpr_as_fun(apply.jaxpr)
    has_rows = [name not in shared for name in apply.input_names]
    rows = next(a.shape[0] for a, h in zip(apply.input_avals, has_rows, strict=True) if h)

    def function(*arguments: Any) -> list[Any]:
        given = arguments[weights:]
        parts = [_cut(a, rows) for a, has in zip(given, has_rows, strict=True) if has]

        def one(pieces: list[Any]) -> list[Any]:
            left = iter(pieces)
            inputs = [next(left) if h else a for a, h in zip(given, has_rows, strict=True)]
            return list(inner(*arguments[:weights], *inputs))

        return [_joined(out) for out in lax.map(one, parts)]

    avals = (*apply.weight_avals, *program.input_avals)
    with jax.enable_x64(True):
        jaxpr = jax.make_jaxpr(function)(*avals)
    return dataclasses.replace(
        block, apply=dataclasses.replace(program, jaxpr=jaxpr, weight_names=apply.weight_names)
    )


def _cut(value: Any, rows: int) -> Any:
    """[n, ...] → [n / rows, rows, ...]."""
    return value.reshape(value.shape[0] // rows, rows, *value.shape[1:])


def _joined(value: Any) -> Any:
    """[times, rows, ...] → [times * rows, ...]."""
    return value.reshape(value.shape[0] * value.shape[1], *value.shape[2:])


def largest(program: Program) -> int:
    """Bytes of the largest value that the program computes."""
    avals: list[Any] = [v.aval for eqn in program.jaxpr.jaxpr.eqns for v in eqn.outvars]
    return max((math.prod(a.shape) * a.dtype.itemsize for a in avals), default=0)


def reuse(program: Program) -> float:
    """How often its products multiply each weight, on average; 0 without weights or products."""
    elements = sum(math.prod(a.shape) for a in program.weight_avals)
    return _multiplied(program.jaxpr.jaxpr) / elements if elements else 0.0


def _multiplied(jaxpr: Any) -> int:
    """Multiplications of its products; of a loop's body, once."""
    found = 0
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            (summed, _), _ = eqn.params["dimension_numbers"]
            shape = eqn.invars[0].aval.shape
            found += math.prod(eqn.outvars[0].aval.shape) * math.prod(shape[d] for d in summed)
        found += sum(_multiplied(body.jaxpr) for body in nested(eqn))
    return found
