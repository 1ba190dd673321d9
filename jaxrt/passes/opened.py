"""Programs that tell what their products take, and that take other products: to try channels."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxrt.passes.fills import Fill, Product, Whole, in_numpy
from jaxrt.passes.jaxprs import ClosedJaxpr, bind
from jaxrt.passes.prune import Analysis
from jaxrt.passes.rewrite import evaluate
from jaxrt.passes.rewrite import prune as without_unused
from jaxrt.program import Program

Array = np.ndarray[Any, Any]

LARGEST = 1024
"""Channels of a product of which it is told how they go together, and not each alone."""


@dataclasses.dataclass(frozen=True, slots=True)
class Moments:
    """Of what enters one product, over rows and pixels."""

    count: int
    mean: Array
    """[size]"""
    covariance: Array
    """[size, size], or [size] the variances alone."""


@dataclasses.dataclass(frozen=True, slots=True)
class Opened:
    """A program in which the weights of some products are arguments, and what is added to them."""

    program: Program
    arrays: Mapping[str, Array]
    """Of the new arguments, with which the program computes what it did."""


def open_products(found: Analysis, weights: Mapping[str, Array]) -> Opened:
    """Its products that can be filled; weights by the product's name, sums by that and `+`."""
    program, closed = found.program, found.closed
    chosen = [p for p in found.products if p.is_fillable]
    arrays: dict[str, Array] = {}
    for product in chosen:
        array = operand(found, product, weights)
        arrays[product.name] = array
        zeros = np.zeros(array.shape[product.dim], array.dtype)
        arrays[f"{product.name}+"] = product.sums(array, zeros)
    names = list(arrays)
    count = len(program.weight_names)
    by_eqn = {id(p.exit.eqn): p for p in chosen}

    def function(*arguments: Any) -> list[Any]:
        more = dict(zip(names, arguments[count : count + len(names)], strict=True))

        def apply(eqn: Any, operands: list[Any]) -> list[Any]:
            product = by_eqn.get(id(eqn))
            if product is None:
                return bind(eqn.primitive, operands, eqn.params)
            operands[product.weight] = more[product.name]
            (out,) = bind(eqn.primitive, operands, eqn.params)
            return [out + jnp.broadcast_to(more[f"{product.name}+"].astype(out.dtype), out.shape)]

        return evaluate(closed, [*arguments[:count], *arguments[count + len(names) :]], apply)

    avals = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arrays.values()]
    given = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in closed.in_avals]
    with jax.enable_x64(True):
        opened: ClosedJaxpr = jax.make_jaxpr(function)(*given[:count], *avals, *given[count:])
    weight_names = (*program.weight_names, *names)
    return Opened(dataclasses.replace(program, jaxpr=opened, weight_names=weight_names), arrays)


def operand(found: Analysis, product: Product, weights: Mapping[str, Array]) -> Array:
    """The side of a product that rests on weights."""
    invars: Any = found.closed.jaxpr.invars
    names = found.program.weight_names
    whole = Whole(found.closed, {v: weights[n] for v, n in zip(invars, names, strict=False)})
    return in_numpy(lambda: whole(product.exit.eqn.invars[product.weight]))


def filled(product: Product, weight: Array, goes: Array, fill: Fill) -> dict[str, Array]:
    """The arguments of an opened program without the channels `goes`, [size] bool."""
    rows = np.moveaxis(np.array(weight), product.dim, 0)
    if fill.mix is not None:
        rows[~goes] += np.tensordot(fill.mix, rows[goes], 1).astype(rows.dtype)
    lost = np.where(goes, fill.values, 0)
    added = product.sums(weight, lost.astype(weight.dtype))
    rows[goes] = 0
    return {product.name: np.moveaxis(rows, 0, product.dim), f"{product.name}+": added}


class Observed:
    """Sums up what enters products, batch by batch."""

    def __init__(self, found: Analysis, names: Sequence[str]) -> None:
        """`names` of the products that matter."""
        self._products = [p for p in found.products if p.is_fillable and p.name in names]
        self._run = jax.jit(_moments(found, self._products))
        self._sums: dict[str, tuple[int, Array, Array]] = {}
        self.rows = 0

    def add(self, weights: Sequence[Any], inputs: Sequence[Any]) -> None:
        with jax.enable_x64(True):
            results = self._run(*weights, *inputs)
        self.rows += max((len(x) for x in inputs if np.ndim(x)), default=1)
        for product, (total, square) in zip(self._products, results, strict=True):
            variable, dim = product.data
            rows = variable.aval.size // variable.aval.shape[dim]
            count, sums, squares = self._sums.get(product.name, (0, np.zeros(()), np.zeros(())))
            self._sums[product.name] = (
                count + rows,
                sums + np.asarray(total, np.float64),
                squares + np.asarray(square, np.float64),
            )

    def moments(self) -> dict[str, Moments]:
        """By product."""
        found = {}
        for name, (count, sums, squares) in self._sums.items():
            mean = sums / count
            outer = np.outer(mean, mean) if squares.ndim == 2 else mean**2
            found[name] = Moments(count, mean, squares / count - outer)
        return found


def _moments(found: Analysis, products: Sequence[Product]) -> Any:
    by_eqn = {id(p.exit.eqn): p for p in products}
    closed = found.closed

    def function(*arguments: Any) -> list[Any]:
        seen: dict[str, Any] = {}

        def apply(eqn: Any, operands: list[Any]) -> list[Any]:
            if (product := by_eqn.get(id(eqn))) is not None:
                seen[product.name] = _sums(operands[1 - product.weight], product.data[1])
            return bind(eqn.primitive, operands, eqn.params)

        evaluate(without_unused(closed), arguments, apply)
        return [seen[p.name] for p in products]

    return function


def _sums(data: Any, dim: int) -> tuple[Any, Any]:
    size = data.shape[dim]
    rows = jnp.moveaxis(data, dim, -1).reshape(-1, size).astype(jnp.float32)
    if size > LARGEST:
        return rows.sum(axis=0), (rows * rows).sum(axis=0)
    square = lax.dot_general(rows, rows, (((0,), (0,)), ((), ())), precision=lax.Precision.HIGHEST)
    return rows.sum(axis=0), square
