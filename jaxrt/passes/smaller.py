"""Programs without channels: the same equations at smaller sizes."""

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Literal

from jaxrt.passes.channels import Channels
from jaxrt.passes.fills import Fill, Fills, Product, Whole
from jaxrt.passes.jaxprs import ClosedJaxpr, bind, close, is_jaxpr, literal
from jaxrt.passes.rewrite import evaluate, traced_like
from jaxrt.passes.rewrite import prune as without_unused
from jaxrt.program import Program

Array = np.ndarray[Any, Any]


def without(
    program: Program,
    channels: Channels,
    gone: Array,
    products: Sequence[Product] = (),
    fills: Fills = MappingProxyType({}),
) -> Program:
    """`program` has no calls; `gone`: [channel] bool. It still takes whole weights, and slices."""
    closed = program.jaxpr
    jaxpr = closed.jaxpr
    filled = {id(p.exit.eqn): (p, fills[p.name]) for p in products if p.name in fills}

    def function(*arguments: Any) -> list[Any]:
        whole = Whole(closed, dict(zip(jaxpr.invars, arguments, strict=True)))
        cut = _Cut(channels, gone, filled, whole)
        given = [cut.sliced(v, a) for v, a in zip(jaxpr.invars, arguments, strict=True)]
        consts = [cut.sliced(v, c) for v, c in zip(jaxpr.constvars, closed.consts, strict=True)]
        return evaluate(ClosedJaxpr(jaxpr, consts), given, cut.bind)

    with jax.enable_x64(True):
        smaller = without_unused(traced_like(closed, function))
    return dataclasses.replace(program, jaxpr=smaller)


class _Cut:
    """Equations at their smaller sizes."""

    def __init__(
        self,
        channels: Channels,
        gone: Array,
        filled: Mapping[int, tuple[Product, Fill]],
        whole: Whole,
    ) -> None:
        self._channels = channels
        self._gone = gone
        self._filled = filled
        self._whole = whole

    def stays(self, dim: tuple[Any, int]) -> Array:
        """[size] bool."""
        found: Array = ~self._gone[self._channels.of(dim)]
        return found

    def shape(self, atom: Any) -> tuple[int, ...]:
        """What is left of it."""
        if isinstance(atom, Literal):
            return tuple(np.shape(literal(atom)))
        return tuple(int(self.stays((atom, d)).sum()) for d in range(atom.aval.ndim))

    def sliced(self, variable: Any, value: Any) -> Any:
        for dim in range(variable.aval.ndim):
            stays = self.stays((variable, dim))
            if not stays.all():
                value = _taken(value, dim, np.flatnonzero(stays))
        return value

    def bind(self, eqn: Any, operands: list[Any]) -> list[Any]:
        params = dict(eqn.params)
        name = eqn.primitive.name
        if name in ("broadcast_in_dim", "iota"):
            params["shape"] = self.shape(eqn.outvars[0])
        elif name == "reshape":
            params["new_sizes"] = self.shape(eqn.outvars[0])
        elif name == "slice":
            for edge in ("start_indices", "limit_indices"):
                params[edge] = self._edges(eqn, params[edge])
        elif name == "split":
            params["sizes"] = tuple(self.shape(v)[params["axis"]] for v in eqn.outvars)
        elif name in ("dynamic_slice", "gather"):
            ends = self._edges(eqn, params["slice_sizes"])
            params["slice_sizes"] = ends
        elif name == "conv_general_dilated" and params["feature_group_count"] > 1:
            numbers = params["dimension_numbers"]
            if eqn.invars[1].aval.shape[numbers.rhs_spec[1]] == 1:
                features = self.shape(eqn.invars[0])[numbers.lhs_spec[1]]
                params["feature_group_count"] = features
        elif name in ("while", "scan", "cond"):
            params = {key: self._nested(value) for key, value in params.items()}
        if (filled := self._filled.get(id(eqn))) is not None:
            return [self._with_fill(eqn, operands, params, *filled)]
        return bind(eqn.primitive, operands, params)

    def _edges(self, eqn: Any, edges: Sequence[int]) -> tuple[int, ...]:
        """Of the first operand: how many stay before each."""
        atom = eqn.invars[0]
        return tuple(int(self.stays((atom, d))[:edge].sum()) for d, edge in enumerate(edges))

    def _with_fill(
        self, eqn: Any, operands: list[Any], params: dict[str, Any], product: Product, fill: Fill
    ) -> Any:
        atom = eqn.invars[product.weight]
        stays = self.stays((atom, product.dim))
        weight = self._whole(atom)
        for dim in range(atom.aval.ndim):
            kept = self.stays((atom, dim))
            if dim != product.dim and not kept.all():
                weight = _taken(weight, dim, np.flatnonzero(kept))
        goes = np.flatnonzero(~stays)
        operands = list(operands)
        operands[product.weight] = product.mixed(weight, fill, np.flatnonzero(stays), goes)
        (out,) = bind(eqn.primitive, operands, params)
        if not fill.values[goes].any():
            return out
        lost = jnp.take(weight, goes.astype(np.int32), axis=product.dim, mode="clip")
        added = product.sums(lost, jnp.asarray(fill.values[goes]))
        return out + jnp.broadcast_to(added.astype(out.dtype), out.shape)

    def _nested(self, value: Any) -> Any:
        if is_jaxpr(value):
            return self._body(close(value))
        if isinstance(value, tuple) and value and all(is_jaxpr(v) for v in value):
            return tuple(self._body(close(v)) for v in value)
        return value

    def _body(self, closed: ClosedJaxpr) -> ClosedJaxpr:
        """Of a loop or branch."""
        invars: Any = closed.jaxpr.invars
        avals = [
            jax.ShapeDtypeStruct(
                self.shape(v), v.aval.dtype, weak_type=getattr(v.aval, "weak_type", False)
            )
            for v in invars
        ]
        found: ClosedJaxpr = jax.make_jaxpr(lambda *given: evaluate(closed, given, self.bind))(
            *avals
        )
        return found


def _taken(value: Any, dim: int, indices: Array) -> Any:
    """As slices where the indices allow few; else rows of a gather."""
    if len(indices) == indices[-1] - indices[0] + 1:
        return lax.slice_in_dim(value, int(indices[0]), int(indices[-1]) + 1, axis=dim)
    return jnp.take(value, indices.astype(np.int32), axis=dim, mode="clip")
