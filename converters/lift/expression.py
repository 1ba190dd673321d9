"""What a region of scalars computes, as trees that can be compared and searched."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxrt.converters.lift import module

LIMIT = 4096
"""Nodes of a tree: shared parts are repeated in it, so a region may blow up; past this, none."""


@dataclasses.dataclass(frozen=True, slots=True)
class Argument:
    """Argument `number` of the region."""

    number: int


@dataclasses.dataclass(frozen=True, slots=True)
class Apply:
    """An op on operands; equal where the op, its attributes and its operands are."""

    name: str
    dtype: Any
    attributes: Any
    operands: tuple["Expression", ...]
    op: module.Operation = dataclasses.field(compare=False)
    size: int = dataclasses.field(compare=False)


Expression = Argument | Apply


def of(block: module.Block, functions: Mapping[str, module.Block]) -> list[Expression] | None:
    """One expression per result of a block; None where it has loops, branches or outer values."""
    return _results(block, functions, [Argument(n) for n in range(len(block.arguments))])


def _results(
    block: module.Block, functions: Mapping[str, module.Block], arguments: list[Expression]
) -> list[Expression] | None:
    env = dict(zip(block.arguments, arguments, strict=True))
    types = dict(zip(block.arguments, block.types, strict=True))
    for op in block.operations:
        if any(number not in env for number in op.operands):
            return None
        operands = [env[number] for number in op.operands]
        if op.name == "func.call":
            results = _results(functions[op.attrs["callee"]], functions, operands)
        elif op.name in _CASTS and types[op.operands[0]] == op.types[0]:
            results = operands
        else:
            results = _apply(op, operands)
        if results is None:
            return None
        env.update(zip(op.results, results, strict=True))
        types.update(zip(op.results, op.types, strict=True))
    if any(number not in env for number in block.returns):
        return None
    return [env[number] for number in block.returns]


_CASTS = ("stablehlo.convert", "stablehlo.reshape", "stablehlo.bitcast_convert")
"""Of one type to itself: nothing happens."""


def _apply(op: module.Operation, operands: list[Expression]) -> list[Expression] | None:
    size = 1 + sum(e.size for e in operands if isinstance(e, Apply))
    if op.regions or len(op.types) != 1 or size > LIMIT:
        return None
    if not isinstance(op.types[0], module.Aval):
        return None
    attributes = _frozen(op.attrs)
    return [Apply(op.name, op.types[0].dtype, attributes, tuple(operands), op, size)]


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return tuple(sorted((k, _frozen(v)) for k, v in value.items()))
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.shape, value.tobytes())
    return value


def walk(expression: Expression) -> Iterator[Expression]:
    """The expression and all its parts."""
    yield expression
    if isinstance(expression, Apply):
        for operand in expression.operands:
            yield from walk(operand)


def arguments(expression: Expression) -> set[int]:
    """The numbers of the arguments it depends on."""
    return {e.number for e in walk(expression) if isinstance(e, Argument)}


def block(expression: Expression, parameter: module.Type) -> module.Block:
    """An expression of one argument → a block that computes it."""
    # Negative: the numbers of a module start at 0, and none of its values is seen here.
    numbers: dict[Expression, int] = {}
    ops = []

    def number(part: Expression) -> int:
        if isinstance(part, Argument):
            return -1
        if part not in numbers:
            operands = tuple(number(operand) for operand in part.operands)
            numbers[part] = -2 - len(numbers)
            ops.append(dataclasses.replace(part.op, operands=operands, results=(numbers[part],)))
        return numbers[part]

    returns = (number(expression),)
    return module.Block((-1,), (parameter,), tuple(ops), returns)
