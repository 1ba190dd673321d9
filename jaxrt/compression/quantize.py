"""The numerics of every scheme: floats → few bits and scales, and back.

All without zero points, as matrix units multiply: w ≈ q * scale, and a zero stays zero.
`jaxrt.compression.scales` finds the scales.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxrt.compression.rounding import balanced
from jaxrt.compression.scales import INT4, absolute, fitted, quotients, spread, stored
from jaxrt.compression.schemes import GROUP, Scheme

Array = np.ndarray[Any, Any]

INT8 = np.dtype(np.int8)
FP8 = np.dtype(jnp.float8_e4m3fn)
BF16 = np.dtype(jnp.bfloat16)
F32 = np.dtype(np.float32)

LARGEST = {Scheme.INT8: 127.0, Scheme.W8A8: 127.0, Scheme.FP8: 448.0}
"""Of the quantized values; the lowest integer is left out, so that -w becomes -q."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """How one array of float32 is held."""

    scheme: Scheme
    """Not FLOAT."""
    axes: tuple[int, ...]
    """Dimensions whose elements share a scale; of INT4, in groups."""
    group: int = GROUP
    """Of INT4: at most so many terms share a scale."""
    is_table: bool = False
    """Rows are looked up: they are kept in one piece, their scales in bfloat16."""
    taps: tuple[int, ...] = ()
    """Of the kernel of a convolution: those of `axes` that go over places."""

    @property
    def terms(self) -> tuple[int, ...]:
        """Those of `axes` that go over anything else."""
        return tuple(axis for axis in self.axes if axis not in self.taps)


def encode(weights: Any, form: Form) -> tuple[Any, ...]:
    """Floats [...] → what is stored: (bf16[...],), or (few bits, scales).

    int8 and fp8 keep the shape, with scales of size 1 along `axes`. int4: see `_grouped`; uint8
    [groups, size / 2, *others] and bf16 [groups, 1, *others], tables with `others` first.
    """
    weights = lax.convert_element_type(weights, F32)
    if form.scheme is Scheme.BF16:
        return (lax.convert_element_type(weights, BF16),)
    if form.scheme is Scheme.INT4:
        return _encode_int4(weights, form)
    scale = absolute(weights, form.axes, LARGEST[form.scheme])
    if form.is_table:
        scale = stored(scale)
    elif form.scheme is not Scheme.FP8 and form.taps:
        bound = LARGEST[form.scheme]
        whole = balanced(weights, scale, (-bound, bound), form.taps, form.terms)
        return lax.convert_element_type(whole, INT8), scale
    return _rounded(weights, scale, form.scheme), scale


def decode(parts: Sequence[Any], form: Form, shape: Sequence[int]) -> Any:
    """What `encode` gave of an array of `shape` → f32[shape]."""
    if form.scheme is Scheme.INT4:
        return _decode_int4(parts, form, shape)
    values = lax.convert_element_type(parts[0], F32)
    return values if len(parts) == 1 else lax.mul(values, spread(parts[1], shape))


def rows(values: Any, axes: Sequence[int], scheme: Scheme) -> tuple[Any, Any]:
    """Activations [...] → (few bits, scales f32 of size 1 along `axes`), found at run time."""
    values = lax.convert_element_type(values, F32)
    scale = absolute(values, axes, LARGEST[scheme])
    return _rounded(values, scale, scheme), scale


def fake(array: Array, form: Form) -> Array:
    """The same array as it is after being stored and read again, on the host."""
    with jax.enable_x64(True), jax.default_device(jax.local_devices(backend="cpu")[0]):
        found = jax.jit(lambda w: decode(encode(w, form), form, w.shape))(array)
    return np.asarray(found).astype(array.dtype)


def nbytes(shape: Sequence[int], form: Form) -> int:
    """Bytes that are stored of an array of `shape`, scales included."""
    like = jax.ShapeDtypeStruct(tuple(shape), F32)
    parts = jax.eval_shape(lambda w: encode(w, form), like)
    return sum(math.prod(p.shape) * np.dtype(p.dtype).itemsize for p in parts)


def unpack(packed: Any) -> tuple[Any, Any]:
    """uint8[...] → the lower and upper four bits, as int8[...] from -8 to 7."""
    both = lax.bitcast_convert_type(packed, INT8)
    four = lax.full_like(both, 4)
    low = lax.shift_right_arithmetic(lax.shift_left(both, four), four)
    return low, lax.shift_right_arithmetic(both, four)


def _rounded(values: Any, scale: Any, scheme: Scheme) -> Any:
    largest = LARGEST[scheme]
    if scheme is not Scheme.FP8:
        return lax.convert_element_type(quotients(values, scale, (-largest, largest)), INT8)
    ratio = lax.div(values, spread(scale, values.shape))
    bound = lax.full_like(ratio, largest)
    return lax.convert_element_type(lax.clamp(lax.neg(bound), ratio, bound), FP8)


@dataclasses.dataclass(frozen=True, slots=True)
class _Grouped:
    """An array as [groups, size, *others]: `terms` elements along its axes, the last padded."""

    order: tuple[int, ...]
    """Its dimensions, `axes` first."""
    terms: int
    groups: int
    size: int
    """Of a group, even: two share a byte."""
    others: tuple[int, ...]


def _grouped(shape: Sequence[int], form: Form) -> _Grouped:
    rest = [d for d in range(len(shape)) if d not in form.axes]
    terms = math.prod(shape[d] for d in form.axes)
    groups = max(1, math.ceil(terms / form.group))
    return _Grouped(
        order=(*form.axes, *rest),
        terms=terms,
        groups=groups,
        size=2 * math.ceil(terms / groups / 2),
        others=tuple(shape[d] for d in rest),
    )


def _table_order(count: int) -> tuple[int, ...]:
    """Dimensions of [groups, size, *others], `others` first."""
    return (*range(2, count), 0, 1)


def _encode_int4(weights: Any, form: Form) -> tuple[Any, Any]:
    grouped = _grouped(weights.shape, form)
    ordered = lax.transpose(weights, grouped.order)
    values = _in_groups(ordered, grouped)
    scale = fitted(values, 1)
    if form.taps:
        steps = _in_groups(_balanced_int4(ordered, scale, grouped, form), grouped)
    else:
        steps = quotients(values, scale, INT4)
    whole = lax.convert_element_type(steps, INT8)
    low, high = jnp.split(whole, 2, axis=1)
    four = lax.full_like(low, 4)
    both = lax.bitwise_or(lax.bitwise_and(low, lax.full_like(low, 15)), lax.shift_left(high, four))
    packed = lax.bitcast_convert_type(both, np.dtype(np.uint8))
    if not form.is_table:
        return packed, scale
    order = _table_order(packed.ndim)
    return lax.transpose(packed, order), lax.transpose(scale, order)


def _in_groups(ordered: Any, grouped: _Grouped) -> Any:
    """f32 [*axes, *others] → [groups, size, *others], zeros at the end."""
    flat = lax.reshape(ordered, (grouped.terms, *grouped.others))
    missing = grouped.groups * grouped.size - grouped.terms
    if missing:
        edges = [(0, missing, 0), *((0, 0, 0) for _ in grouped.others)]
        flat = lax.pad(flat, np.zeros((), F32), edges)
    return lax.reshape(flat, (grouped.groups, grouped.size, *grouped.others))


def _balanced_int4(ordered: Any, scale: Any, grouped: _Grouped, form: Form) -> Any:
    """Steps [*axes, *others]: errors cancel over whole kernels, not group by group."""
    wide = spread(scale, (grouped.groups, grouped.size, *grouped.others))
    flat = lax.reshape(wide, (grouped.groups * grouped.size, *grouped.others))
    each = lax.reshape(lax.slice_in_dim(flat, 0, grouped.terms), ordered.shape)
    taps, terms = ([grouped.order.index(axis) for axis in axes] for axes in (form.taps, form.terms))
    return balanced(ordered, each, INT4, taps, terms)


def decode_rows(packed: Any, scale: Any, width: int) -> Any:
    """Of int4: uint8[..., groups, size / 2], bf16[..., groups, 1] → f32[..., width]."""
    values = lax.convert_element_type(jnp.concatenate(unpack(packed), axis=-1), F32)
    found = lax.mul(values, spread(scale, values.shape))
    flat = lax.reshape(found, (*found.shape[:-2], found.shape[-2] * found.shape[-1]))
    return lax.slice_in_dim(flat, 0, width, axis=flat.ndim - 1)


def _decode_int4(parts: Sequence[Any], form: Form, shape: Sequence[int]) -> Any:
    packed, scale = parts
    grouped = _grouped(shape, form)
    if form.is_table:
        back = np.argsort(_table_order(packed.ndim)).tolist()
        packed, scale = (lax.transpose(p, back) for p in (packed, scale))
    values = lax.convert_element_type(jnp.concatenate(unpack(packed), axis=1), F32)
    flat = lax.mul(values, spread(scale, values.shape))
    flat = lax.reshape(flat, (grouped.groups * grouped.size, *grouped.others))
    flat = lax.slice_in_dim(flat, 0, grouped.terms, axis=0)
    wide = lax.reshape(flat, tuple(shape[d] for d in grouped.order))
    return lax.transpose(wide, np.argsort(grouped.order).tolist())
