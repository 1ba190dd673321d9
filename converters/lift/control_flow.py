"""Loops, branches and calls."""

from jax import Array, lax

from jaxrt.converters.lift.evaluator import Scope, Value, rule
from jaxrt.converters.lift.module import Operation


@rule("stablehlo.while", scope=True)
def while_loop(op: Operation, scope: Scope, *carry: Value) -> list[Value]:
    """The regions see outer values, so closures carry them; tokens (None) are empty carries."""
    condition, body = op.regions

    def goes_on(values: list[Value]) -> Array:
        (result,) = scope.run(condition, values)
        found: Array = result
        return found

    def step(values: list[Value]) -> list[Value]:
        return scope.run(body, values)

    return lax.while_loop(goes_on, step, list(carry))


@rule("stablehlo.if", scope=True)
def if_(op: Operation, scope: Scope, predicate: Array) -> list[Value]:
    then, otherwise = op.regions
    return list(lax.cond(predicate, lambda: scope.run(then, []), lambda: scope.run(otherwise, [])))


@rule("stablehlo.case", scope=True)
def case(op: Operation, scope: Scope, index: Array) -> list[Value]:
    """An index out of range takes the last branch; lax.switch would clamp a negative one to 0."""
    last = len(op.regions) - 1
    inside = lax.bitwise_and(
        lax.ge(index, lax.full((), 0, index.dtype)), lax.le(index, lax.full((), last, index.dtype))
    )
    chosen = lax.select(inside, index, lax.full((), last, index.dtype))
    branches = [lambda region=region: scope.run(region, []) for region in op.regions]
    return list(lax.switch(chosen, branches))


@rule("func.call", "callee", "no_inline", scope=True)
@rule("call", "callee", scope=True)
def call(op: Operation, scope: Scope, *arguments: Value) -> list[Value]:
    return scope.call(op.attrs["callee"], arguments)


@rule("stablehlo.composite", "name", "decomposition", "composite_attributes", "version", scope=True)
def composite(op: Operation, scope: Scope, *arguments: Value) -> list[Value]:
    """By definition the same as its decomposition, whatever its name."""
    return scope.call(op.attrs["decomposition"], arguments)
