"""Rows looked up in tables of few bits: only what was found is widened."""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from jaxrt.compression import words
from jaxrt.compression.held import Held
from jaxrt.compression.layers import Use
from jaxrt.compression.quantize import F32, decode_rows
from jaxrt.compression.schemes import Scheme
from jaxrt.target import Target


def look_up(use: Use, operands: Sequence[Any], held: Held, target: Target) -> Any:
    """What the equation gives; None where it has no better form."""
    eqn, indices = use.eqn, operands[1]
    numbers = eqn.params["dimension_numbers"]
    if held.rows is not None:
        return _in_words(eqn, indices, held, held.rows)
    if held.form.scheme is Scheme.INT4:
        return None if use.moves or not held.form.is_table else _packed(eqn, indices, held)
    found = held.moved(use.moves)
    if found is None:
        return None
    values, scale = found
    looked = [d for d in range(values.ndim) if d not in numbers.collapsed_slice_dims]
    rows = lax.convert_element_type(_gather(eqn, values, indices, fill=1), F32)
    if all(scale.shape[d] == 1 for d in looked):
        sizes = tuple(
            min(a, b) for a, b in zip(eqn.params["slice_sizes"], scale.shape, strict=True)
        )
        by = _gather(eqn, scale, indices, fill=eqn.params["fill_value"], sizes=sizes)
        by, dims = lax.convert_element_type(by, F32), tuple(range(rows.ndim))
    elif all(scale.shape[d] == 1 for d in numbers.collapsed_slice_dims) and not _fills(eqn):
        by = lax.convert_element_type(lax.squeeze(scale, numbers.collapsed_slice_dims), F32)
        by, dims = _cut(by, rows.shape, numbers.offset_dims), tuple(numbers.offset_dims)
    else:
        return None
    if by is None:
        return None
    found_rows = lax.mul(rows, lax.broadcast_in_dim(by, rows.shape, dims))
    return lax.convert_element_type(found_rows, held.dtype)


def _fills(eqn: Any) -> bool:
    return bool(eqn.params["mode"] == lax.GatherScatterMode.FILL_OR_DROP)


def _cut(scale: Any, shape: Sequence[int], dims: Sequence[int]) -> Any:
    """None where only a part of each row is looked up: which part is not known."""
    wanted = tuple(shape[d] for d in dims)
    same = all(n in (1, w) for n, w in zip(scale.shape, wanted, strict=True))
    return scale if same else None


def _gather(
    eqn: Any, values: Any, indices: Any, *, fill: Any, sizes: Sequence[int] | None = None
) -> Any:
    params = dict(eqn.params)
    params["fill_value"] = fill if _fills(eqn) else None
    if sizes is not None:
        params["slice_sizes"] = tuple(sizes)
    return eqn.primitive.bind(values, indices, **params)


def _in_words(eqn: Any, indices: Any, held: Held, rows: words.Rows) -> Any:
    width = held.shape[1]
    found = rows.unpack(words.look_up(eqn, held.parts[0], indices))
    if len(found) < 2 and held.form.axes == (0,):
        found.append(lax.reshape(held.parts[1], (1,) * (indices.ndim - 1) + (width,)))
    elif len(found) < 2:
        apart = held.parts[1]
        flat = lax.reshape(apart, (apart.shape[0], math.prod(apart.shape[1:])))
        by = words.look_up(eqn, flat, indices)
        found.append(lax.reshape(by, (*indices.shape[:-1], *apart.shape[1:])))
    values, scale = found
    if held.form.scheme is Scheme.INT4:
        looked = decode_rows(values, scale, width)
    else:
        wide = lax.convert_element_type(scale, F32)
        looked = lax.mul(
            lax.convert_element_type(values, F32), jnp.broadcast_to(wide, values.shape)
        )
    (at,) = eqn.params["dimension_numbers"].offset_dims
    return lax.convert_element_type(jnp.moveaxis(looked, -1, at), held.dtype)


def _packed(eqn: Any, indices: Any, held: Held) -> Any:
    """Of an int4 table [rows, width]: uint8 [rows, groups, size / 2], bf16 [rows, groups, 1]."""
    width = held.shape[1]
    if _fills(eqn) or eqn.params["slice_sizes"] != (1, width):
        return None
    count = indices.ndim - 1
    numbers = lax.GatherDimensionNumbers(
        offset_dims=(count, count + 1), collapsed_slice_dims=(0,), start_index_map=(0,)
    )
    packed, scale = (
        lax.gather(
            part, indices, numbers, slice_sizes=(1, *part.shape[1:]), mode=eqn.params["mode"]
        )
        for part in held.parts
    )
    rows = decode_rows(packed, scale, width)
    (at,) = eqn.params["dimension_numbers"].offset_dims
    return lax.convert_element_type(jnp.moveaxis(rows, -1, at), held.dtype)
