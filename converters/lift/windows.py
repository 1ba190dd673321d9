"""Reductions over sliding windows."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import Array, lax

from jaxrt.converters.lift import elementwise, reduction
from jaxrt.converters.lift.evaluator import Scope, rule
from jaxrt.converters.lift.module import Aval, Block, Operation

_CUMULATIVE: dict[str, Callable[..., Array]] = {
    "add": lax.cumsum,
    "multiply": lax.cumprod,
    "maximum": lax.cummax,
    "minimum": lax.cummin,
}

_WINDOWED: dict[str, Callable[[Array, Array], Array]] = {
    "add": lax.add,
    "maximum": lax.max,
    "minimum": lax.min,
}
"""What lax has a cheap windowed form of, once the initial value is the identity."""


def _padding(op: Operation, rank: int) -> tuple[tuple[int, int], ...]:
    found = np.reshape(op.attrs.get("padding", np.zeros((rank, 2), np.int64)), (-1, 2))
    return tuple((int(low), int(high)) for low, high in found)


@rule(
    "stablehlo.reduce_window",
    *("window_dimensions", "window_strides", "base_dilations", "window_dilations", "padding"),
    scope=True,
)
def reduce_window(op: Operation, scope: Scope, *operands: Array) -> list[Array]:
    """Inputs, then as many initial values, which also fill the padding.

    Absent strides and dilations are ones, absent padding is none.
    """
    (body,) = op.regions
    xs, inits = reduction.as_arguments(body, operands)
    name = reduction.monoid(body, scope.functions)
    if name is not None and not reduction.is_identity(name, inits[0]):
        name = None
    if name in _CUMULATIVE and (scan := _scan(op, xs[0].shape)) is not None:
        axis, reverse = scan
        return [_CUMULATIVE[name](xs[0], axis=axis, reverse=reverse)]
    ones = (1,) * xs[0].ndim
    arguments = {
        "window_dimensions": op.attrs["window_dimensions"],
        "window_strides": op.attrs.get("window_strides", ones),
        "padding": _padding(op, xs[0].ndim),
        "base_dilation": op.attrs.get("base_dilations", ones),
        "window_dilation": op.attrs.get("window_dilations", ones),
    }
    if name in _WINDOWED:
        init = reduction.identity(name, np.dtype(xs[0].dtype))
        return [lax.reduce_window(xs[0], init, _WINDOWED[name], **arguments)]
    combine = reduction.pairwise(scope, body)
    return list(lax.reduce_window(tuple(xs), tuple(inits), combine, **arguments))


def _scan(op: Operation, shape: Sequence[int]) -> tuple[int, bool] | None:
    """(axis, reverse) where the windows are all prefixes, or all suffixes, along one axis."""
    ones = (1,) * len(shape)
    window = op.attrs["window_dimensions"]
    plain = all(
        tuple(op.attrs.get(name, ones)) == ones
        for name in ("window_strides", "base_dilations", "window_dilations")
    )
    wide = [axis for axis, size in enumerate(window) if size > 1]
    if not plain or len(wide) != 1:
        return None
    (axis,) = wide
    if window[axis] != shape[axis]:
        return None
    none = [(0, 0)] * len(shape)
    rest = shape[axis] - 1
    for reverse, edges in ((False, (rest, 0)), (True, (0, rest))):
        if list(_padding(op, len(shape))) == [*none[:axis], edges, *none[axis + 1 :]]:
            return axis, reverse
    return None


@rule(
    "stablehlo.select_and_scatter",
    *("window_dimensions", "window_strides", "padding"),
    scope=True,
)
def select_and_scatter(
    op: Operation, scope: Scope, operand: Array, source: Array, init: Array
) -> Array:
    """In each window of `operand` one element is selected; there the source's element is added."""
    select, scatter = op.regions
    ones = (1,) * operand.ndim
    wanted = scatter.types[0]
    assert isinstance(wanted, Aval)
    cast = [elementwise.converted(x, wanted.dtype) for x in (source, init)]
    out: Array = lax.select_and_scatter_p.bind(
        operand,
        *cast,
        **_jaxpr("select", scope, select),
        **_jaxpr("scatter", scope, scatter),
        window_dimensions=tuple(op.attrs.get("window_dimensions", ones)),
        window_strides=tuple(op.attrs.get("window_strides", ones)),
        padding=_padding(op, operand.ndim),
    )
    return out


def _jaxpr(prefix: str, scope: Scope, body: Block) -> dict[str, Any]:
    closed = jax.make_jaxpr(lambda *scalars: scope.run(body, scalars))(*body.types)
    return {f"{prefix}_jaxpr": closed.jaxpr, f"{prefix}_consts": tuple(closed.consts)}
