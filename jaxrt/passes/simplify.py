"""Drops what TensorFlow's bridge emits by the hundred and means nothing: identities and detours."""

import dataclasses
from typing import Any

import numpy as np
from jax import lax
from jax.extend.core import primitives as prims

from jaxrt.passes.jaxprs import ClosedJaxpr, variables
from jaxrt.passes.rewrite import Rules, Site, rewrite
from jaxrt.program import Program


def _same_type(site: Site, x: Any) -> bool:
    aval = site.avals[0]
    return (aval.shape, aval.dtype) == (np.shape(x), x.dtype)


def _reshape(site: Site, x: Any, *_: Any) -> Any:
    if site.params.get("dimensions") is not None:
        return None
    made = site.maker(x)
    while made and made.name in ("reshape", "squeeze") and not made.params.get("sharding"):
        if made.name == "reshape" and made.params.get("dimensions") is not None:
            break
        x = made.operands[0]
        made = site.maker(x)
    if _same_type(site, x):
        return x
    return site.emit(prims.reshape_p, x, **site.params)


def _transpose(site: Site, x: Any) -> Any:
    order = tuple(site.params["permutation"])
    made = site.maker(x)
    if made and made.name == "transpose":
        x = made.operands[0]
        order = tuple(made.params["permutation"][i] for i in order)
    if order == tuple(range(len(order))):
        return x
    return site.emit(prims.transpose_p, x, permutation=order)


def _broadcast(site: Site, x: Any, *_: Any) -> Any:
    dims = tuple(site.params["broadcast_dimensions"])
    if dims == tuple(range(len(dims))) and _same_type(site, x):
        return x
    made = site.maker(x)
    if made and made.name == "broadcast_in_dim" and len(made.operands) == 1:
        params = dict(site.params)
        params["broadcast_dimensions"] = tuple(dims[i] for i in made.params["broadcast_dimensions"])
        return site.emit(prims.broadcast_in_dim_p, made.operands[0], **params)
    return None


def _identity_of_type(site: Site, x: Any, *_: Any) -> Any:
    """Slices, paddings and joins whose result has the operand's type are the operand."""
    return x if _same_type(site, x) else None


def _slice(site: Site, x: Any) -> Any:
    return x if _same_type(site, x) else None


def _pad(site: Site, x: Any, filler: Any) -> Any:
    return x if all(c == (0, 0, 0) for c in site.params["padding_config"]) else None


def _concatenate(site: Site, *values: Any) -> Any:
    at = site.params["dimension"]
    filled = [v for v in values if np.shape(v)[at]]
    if len(filled) == 1:
        return filled[0]
    return lax.concatenate(filled, at) if 0 < len(filled) < len(values) else None


def _copy(site: Site, x: Any) -> Any:
    return x


RULES: Rules = {
    "reshape": _reshape,
    "transpose": _transpose,
    "broadcast_in_dim": _broadcast,
    "convert_element_type": _identity_of_type,
    "squeeze": _identity_of_type,
    "slice": _slice,
    "pad": _pad,
    "concatenate": _concatenate,
    "copy": _copy,
    "copy_p": _copy,
}


def simplify_jaxpr(closed: ClosedJaxpr) -> ClosedJaxpr:
    """The same function without identities, chains of moves and dead code; calls inlined."""
    return rewrite(closed, RULES)


def simplify(program: Program) -> Program:
    """`simplify_jaxpr` on a program; weights that nothing needs any more are dropped."""
    closed = simplify_jaxpr(program.jaxpr)
    used = {v for eqn in closed.jaxpr.eqns for v in variables(eqn.invars)}
    used.update(variables(closed.jaxpr.outvars))
    count = len(program.weight_names)
    weights = closed.jaxpr.invars[:count]
    kept = [n for n, v in zip(program.weight_names, weights, strict=True) if v in used]
    invars = [v for v in weights if v in used] + list(closed.jaxpr.invars[count:])
    jaxpr = closed.jaxpr.replace(invars=invars)
    return dataclasses.replace(
        program, jaxpr=ClosedJaxpr(jaxpr, closed.consts), weight_names=tuple(kept)
    )
