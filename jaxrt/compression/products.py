"""Products and convolutions with weights of few bits: scales come after the sum."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax import lax

from jaxrt.compression import halves, vectors
from jaxrt.compression.held import Held
from jaxrt.compression.layers import CONV, WIDE, Use
from jaxrt.compression.quantize import F32, rows
from jaxrt.compression.schemes import Scheme, units
from jaxrt.target import Target

I32 = np.dtype(np.int32)
SUMMED = tuple(kind for kind in WIDE if kind.itemsize <= F32.itemsize)
"""Products of these are summed in float32, or in int32, before their scales."""


def product(use: Use, operands: Sequence[Any], held: Held, target: Target) -> Any:
    """What the equation gives; None where scales cannot come after the sum."""
    other = operands[1 - use.operand]
    if halves.fits(use, other, held, target):
        return halves.product(use, other, held)
    found = _in_f32(use, other, held, target)
    return None if found is None else lax.convert_element_type(found, use.eqn.outvars[0].aval.dtype)


def _in_f32(use: Use, other: Any, held: Held, target: Target) -> Any:
    found = _after_moves(use, other, held)
    if found is None:
        return None
    scheme = _scheme(use, held, target)
    if scheme is not Scheme.FP8 and vectors.fits(use, found[0], target):
        return vectors.product(use, other, *found)
    if scheme is Scheme.W8A8 and vectors.is_one_row(use, target):
        return vectors.twice(use, other, *found)
    if use.kind == CONV:
        return _convolution(use, other, *found, scheme)
    is_alone = not (use.moves or use.eqn.params["dimension_numbers"][1][0])
    if held.first is not None and is_alone and _is_dynamic(scheme):
        return _turned(use, other, held, scheme)
    return _dot(use, other, *found, scheme)


def rounded(
    use: Use, operands: Sequence[Any], held: Held, target: Target
) -> tuple[Scheme, tuple[int, ...]] | None:
    """How `product` rounds what is multiplied with the weights: the scheme and the dimensions that
    share a scale, as `quantize.rows` takes them; None: not at all."""
    other = operands[1 - use.operand]
    found = _after_moves(use, other, held)
    scheme = _scheme(use, held, target)
    if found is None or not _is_dynamic(scheme):
        return None
    if scheme is not Scheme.FP8 and vectors.fits(use, found[0], target):
        return None
    axes = _shared(use, other, scheme)
    return None if axes is None else (scheme, axes)


def _after_moves(use: Use, other: Any, held: Held) -> tuple[Any, Any] | None:
    """(few bits, scales) as the equation takes them; None where scales cannot come after it."""
    if any(kind not in SUMMED for kind in (other.dtype, use.eqn.outvars[0].aval.dtype)):
        return None
    found = held.moved(use.moves)
    if found is None or any(found[1].shape[d] != 1 for d in use.axes):
        return None
    return found


def _scheme(use: Use, held: Held, target: Target) -> Scheme:
    scheme = held.form.scheme
    if scheme is Scheme.FP8 and not (units(target).fp8 and use.kind != CONV):
        return Scheme.INT8  # weights alone
    return scheme


def _shared(use: Use, other: Any, scheme: Scheme) -> tuple[int, ...] | None:
    """Dimensions of the other operand whose elements share a scale; None: it stays as it is."""
    if use.kind != CONV:
        return tuple(use.eqn.params["dimension_numbers"][0][1 - use.operand])
    if scheme is not Scheme.W8A8 or use.eqn.params["batch_group_count"] != 1:
        return None
    batch = use.eqn.params["dimension_numbers"].lhs_spec[0]
    return tuple(d for d in range(other.ndim) if d != batch)


def _is_dynamic(scheme: Scheme) -> bool:
    return scheme in (Scheme.W8A8, Scheme.FP8)


def _params(eqn: Any, scheme: Scheme) -> dict[str, Any]:
    params = dict(eqn.params)
    params["preferred_element_type"] = I32 if scheme is Scheme.W8A8 else F32
    if _is_dynamic(scheme):
        params["precision"] = None
    return params


def _dot(use: Use, other: Any, values: Any, scale: Any, scheme: Scheme) -> Any:
    eqn, mine = use.eqn, use.operand
    scales = [_by_dimension(eqn, mine, scale)]
    if _is_dynamic(scheme):
        other, by = rows(other, _shared(use, other, scheme) or (), scheme)
        scales.append(_by_dimension(eqn, 1 - mine, by))
    else:
        values = lax.convert_element_type(values, other.dtype)
    pair = (other, values) if mine == 1 else (values, other)
    out = eqn.primitive.bind(*pair, **_params(eqn, scheme))
    return _scaled(out, scales)


def _turned(use: Use, other: Any, held: Held, scheme: Scheme) -> Any:
    """With a matrix that is held as [n, k]: XLA:CPU would turn all of it back at every call."""
    (values, scale), mine = held.parts, use.operand
    contracted = use.eqn.params["dimension_numbers"][0]
    other, by = rows(other, contracted[1 - mine], scheme)
    both = [contracted[0], contracted[1]]
    both[mine] = (1 - use.axes[0],)
    params = _params(use.eqn, scheme) | {"dimension_numbers": (tuple(both), ((), ()))}
    pair = (other, values) if mine == 1 else (values, other)
    out = use.eqn.primitive.bind(*pair, **params)
    scales = [
        _by_dimension(use.eqn, mine, lax.transpose(scale, (1, 0))),
        _by_dimension(use.eqn, 1 - mine, by),
    ]
    return _scaled(out, scales)


def _by_dimension(eqn: Any, operand: int, scale: Any) -> tuple[Any, tuple[int, ...]]:
    """Scales of an operand without its contracted dimensions, and where they are in the result."""
    contracted, batch = eqn.params["dimension_numbers"]
    free = [
        [d for d in range(v.aval.ndim) if d not in (*contracted[i], *batch[i])]
        for i, v in enumerate(eqn.invars)
    ]
    first = len(batch[0]) + (len(free[0]) if operand == 1 else 0)
    order = [*batch[operand], *free[operand]]
    places = (*range(len(batch[0])), *range(first, first + len(free[operand])))
    moved = lax.transpose(scale, [*order, *contracted[operand]])
    return lax.reshape(moved, tuple(scale.shape[d] for d in order)), places


def _convolution(use: Use, x: Any, values: Any, scale: Any, scheme: Scheme) -> Any:
    eqn = use.eqn
    numbers = eqn.params["dimension_numbers"]
    by_channel = lax.reshape(scale, (math.prod(scale.shape),))
    scales = [(by_channel, (numbers.out_spec[1],))]
    if (axes := _shared(use, x, scheme)) is not None:
        x, by = rows(x, axes, scheme)
        scales.append((lax.reshape(by, (x.shape[numbers.lhs_spec[0]],)), (numbers.out_spec[0],)))
    else:
        scheme = Scheme.INT8
        values = lax.convert_element_type(values, x.dtype)
    out = eqn.primitive.bind(x, values, **_params(eqn, scheme))
    return _scaled(out, scales)


def _scaled(out: Any, scales: Sequence[tuple[Any, Sequence[int]]]) -> Any:
    out = lax.convert_element_type(out, F32)
    for few, places in scales:
        scale = lax.convert_element_type(few, F32)
        out = lax.mul(out, lax.broadcast_in_dim(scale, out.shape, tuple(places)))
    return out
