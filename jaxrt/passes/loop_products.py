"""Products of a loop's input with weights, taken out of the loop: one product for all steps.

A recurrent layer multiplies the x of each step with the same weights. Step t takes row t of the
product of all steps, by the index that it took x by: an index out of range is clamped alike.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun

from jaxrt.passes.jaxprs import bind, close, literal
from jaxrt.passes.rewrite import Site, evaluate, rewrite
from jaxrt.program import Program

LARGEST = 64 << 20
"""Bytes of one product of all steps."""

VIEWS = ("reshape", "squeeze")


@dataclasses.dataclass(frozen=True, slots=True)
class _Product:
    """An equation of the body that multiplies x of the step, and where its operands come from."""

    eqn: Any
    steps: int
    """The constant of the body that holds all x, [steps, rows, features]."""
    kernel: int
    """The constant that holds the weights."""
    index: Any
    """The variable that says which step it is."""
    cut: Any
    """The equation that takes the step's x."""


def hoist(program: Program) -> tuple[Program, int]:
    """The program with such products before its loops, and how many there were."""
    count = 0

    def rule(site: Site, *operands: Any) -> Any:
        nonlocal count
        body = close(site.params["body_jaxpr"])
        found = list(_products(site, body))
        count += len(found)
        return _loop(site, body, found, operands) if found else None

    closed = rewrite(program.jaxpr, {"while": rule})
    return (dataclasses.replace(program, jaxpr=closed), count) if count else (program, 0)


def _products(site: Site, body: ClosedJaxpr) -> Iterator[_Product]:
    jaxpr = body.jaxpr
    constants = {v: i for i, v in enumerate(jaxpr.invars[: site.params["body_nconsts"]])}
    makers: dict[Any, Any] = {v: eqn for eqn in jaxpr.eqns for v in eqn.outvars}
    counters = _counters(site, jaxpr, makers)
    for eqn in jaxpr.eqns:
        if eqn.primitive.name != "dot_general" or not _is_plain(eqn):
            continue
        x, kernel = eqn.invars
        cut = makers.get(x)
        while cut is not None and cut.primitive.name in VIEWS:
            cut = makers.get(cut.invars[0])
        if cut is None or cut.primitive.name != "dynamic_slice" or kernel not in constants:
            continue
        steps, index, *rest = cut.invars
        if steps not in constants or isinstance(index, Literal) or index not in counters:
            continue
        if not all(isinstance(at, Literal) and literal(at) == 0 for at in rest):
            continue
        if _is_worth(eqn, cut, counters[index]):
            yield _Product(eqn, constants[steps], constants[kernel], index, cut)


def _is_plain(eqn: Any) -> bool:
    """[rows, features] times a matrix."""
    x, kernel = eqn.invars
    (of_x, of_kernel), batch = eqn.params["dimension_numbers"]
    if isinstance(x, Literal) or isinstance(kernel, Literal):
        return False
    ranks = (len(x.aval.shape), len(kernel.aval.shape))
    return ranks == (2, 2) and batch == ((), ()) and tuple(of_x) == (1,) and len(of_kernel) == 1


def _is_worth(eqn: Any, cut: Any, bound: int) -> bool:
    """Whether a step takes one [rows, features] of all, and half of all steps at least may come."""
    steps, *shape = cut.invars[0].aval.shape
    out = eqn.outvars[0].aval
    size = steps * out.size * out.dtype.itemsize
    taken = tuple(cut.params["slice_sizes"]) == (1, *shape) == (1, *eqn.invars[0].aval.shape)
    return taken and 1 < steps <= 2 * bound and bool(size <= LARGEST)


def _counters(site: Site, body: Any, makers: Any) -> dict[Any, int]:
    """Variables of the body that go up by one a step, and the bound below which it goes on."""
    carried = body.invars[site.params["body_nconsts"] :]
    condition = close(site.params["cond_jaxpr"]).jaxpr
    seen = condition.invars[site.params["cond_nconsts"] :]
    bounds = {
        eqn.invars[0]: int(literal(eqn.invars[1]))
        for eqn in condition.eqns
        if eqn.primitive.name == "lt"
        and not isinstance(eqn.invars[0], Literal)
        and isinstance(eqn.invars[1], Literal)
        and np.asarray(literal(eqn.invars[1])).dtype.kind == "i"
    }
    return {
        var: bounds[tested]
        for var, out, tested in zip(carried, body.outvars, seen, strict=True)
        if tested in bounds and _is_next(makers.get(out) if out in makers else None, var)
    }


def _is_next(eqn: Any, var: Any) -> bool:
    if eqn is None or eqn.primitive.name != "add" or var.aval.shape:
        return False
    a, b = eqn.invars
    return a is var and isinstance(b, Literal) and literal(b) == 1


def _loop(
    site: Site, body: ClosedJaxpr, products: Sequence[_Product], operands: Sequence[Any]
) -> list[Any]:
    of_condition, of_body = site.params["cond_nconsts"], site.params["body_nconsts"]
    tested, rest = operands[:of_condition], operands[of_condition:]
    constants, carry = rest[:of_body], rest[of_body:]
    known = {id(p.eqn): (p, _all_steps(p, constants)) for p in products}
    condition = jaxpr_as_fun(close(site.params["cond_jaxpr"]))

    def goes_on(values: Any) -> Any:
        return condition(*tested, *values)[0]

    def step(values: Any) -> Any:
        given = dict(zip(body.jaxpr.invars, (*constants, *values), strict=True))

        def apply(eqn: Any, taken: list[Any]) -> list[Any]:
            if id(eqn) not in known:
                return bind(eqn.primitive, taken, eqn.params)
            product, rows = known[id(eqn)]
            return [_step(product, rows, given[product.index])]

        return evaluate(body, [*constants, *values], apply)

    return list(lax.while_loop(goes_on, step, list(carry)))


def _step(product: _Product, rows: Any, index: Any) -> Any:
    """One step of [steps, rows, columns], by an index that is clamped as that of x was."""
    primitive = product.cut.primitive
    zeros = [literal(at) for at in product.cut.invars[2:]]
    params = {**product.cut.params, "slice_sizes": (1, *rows.shape[1:])}
    (out,) = bind(primitive, [rows, index, *zeros], params)
    return lax.reshape(out, rows.shape[1:])


def _all_steps(product: _Product, constants: Sequence[Any]) -> Any:
    """[steps, rows, columns]."""
    x, kernel = constants[product.steps], constants[product.kernel]
    steps, rows, features = x.shape
    params = product.eqn.params
    out = lax.dot_general(
        lax.reshape(x, (steps * rows, features)),
        kernel,
        params["dimension_numbers"],
        precision=params["precision"],
        preferred_element_type=params["preferred_element_type"],
    )
    return lax.reshape(out, (steps, rows, out.shape[1]))
