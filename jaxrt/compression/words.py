"""Rows of tables as 32-bit words, their scales behind them: how a CPU looks them up.

XLA:CPU copies most of a row element by element, and reads scales that lie elsewhere from a second
place in memory. In words an int8 row has a quarter of the elements of a float row, and its scale
lies in the cache line that is read with it: of tables that no cache holds, 2048 × 26 rows of 64
come in a fifth of the time of floats.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import lax

from jaxrt.compression.layers import GATHER, Found, Use
from jaxrt.compression.quantize import Form, encode
from jaxrt.compression.schemes import Scheme
from jaxrt.target import Target

I32 = np.dtype(np.int32)
U8 = np.dtype(np.uint8)
BYTES = 4
"""Of a word."""

SHARE = {Scheme.INT8: 0.267, Scheme.INT4: 0.15}
"""Of the bytes of a float row that its words take at most: scales of narrow rows lie apart."""


@dataclasses.dataclass(frozen=True, slots=True)
class Packed:
    """One part of a row: where it is among the row's words, and what it is."""

    first: int
    words: int
    shape: tuple[int, ...]
    """Of one row."""
    dtype: Any


@dataclasses.dataclass(frozen=True, slots=True)
class Rows:
    """How the parts of a table lie in its words; those beyond are held as they are."""

    packed: tuple[Packed, ...]

    @property
    def words(self) -> int:
        """Of a row."""
        return sum(part.words for part in self.packed)

    def pack(self, parts: Sequence[Any]) -> tuple[Any, ...]:
        """What was encoded [rows, ...] → int32 [rows, words], and the parts beyond."""
        inside = [_bytes(part, p.words) for part, p in zip(parts, self.packed, strict=False)]
        both = lax.concatenate(inside, 1)
        apart = lax.reshape(both, (both.shape[0], self.words, BYTES))
        return lax.bitcast_convert_type(apart, I32), *parts[len(self.packed) :]

    def unpack(self, words: Any) -> list[Any]:
        """int32 [..., words] → the packed parts, [..., *shape of a row]."""
        return [_part(words, part) for part in self.packed]


def rows(found: Found, form: Form, target: Target) -> Rows | None:
    """How a table is held in words; None where it is not: all that takes it takes whole rows."""
    if target.platform != "cpu" or target.num_devices > 1:
        return None
    if form.scheme not in (Scheme.INT8, Scheme.INT4) or len(found.layer.shape) != 2:
        return None
    if not all(takes_rows(use, found.layer.shape[1]) for use in found.uses):
        return None
    return _laid_out(form, found.layer.shape)


def takes_rows(use: Use, width: int) -> bool:
    """Whether an equation looks up whole rows of a table as it is, by numbers that are clamped."""
    if use.kind != GATHER or use.is_nested or use.moves:
        return False
    params, indices = use.eqn.params, use.eqn.invars[1].aval
    numbers = params["dimension_numbers"]
    return bool(
        params["mode"] != lax.GatherScatterMode.FILL_OR_DROP
        and tuple(params["slice_sizes"]) == (1, width)
        and tuple(numbers.collapsed_slice_dims) == (0,)
        and not numbers.operand_batching_dims
        and indices.shape[-1:] == (1,)
    )


def look_up(eqn: Any, words: Any, indices: Any) -> Any:
    """int32 [rows, words] by [..., 1] → [..., words].

    Behind a barrier: in one loop with what follows, XLA:CPU finds each word's row again for each
    of its bytes.
    """
    numbers = lax.GatherDimensionNumbers(
        offset_dims=(indices.ndim - 1,), collapsed_slice_dims=(0,), start_index_map=(0,)
    )
    found = lax.gather(
        words, indices, numbers, slice_sizes=(1, words.shape[1]), mode=eqn.params["mode"]
    )
    return lax.optimization_barrier(found)


def _laid_out(form: Form, shape: Sequence[int]) -> Rows | None:
    """As many parts as take few bytes in whole words; None where there is none."""
    like = jax.eval_shape(lambda w: encode(w, form), jax.ShapeDtypeStruct(tuple(shape), np.float32))
    own = [part for part in like if part.shape[0] == shape[0]]
    for count in range(len(own), 0, -1):
        packed, first = [], 0
        for part in own[:count]:
            size = math.prod(part.shape[1:]) * np.dtype(part.dtype).itemsize
            packed.append(Packed(first, -(-size // BYTES), tuple(part.shape[1:]), part.dtype))
            first += packed[-1].words
        fits = first * BYTES <= SHARE[form.scheme] * 4 * math.prod(shape[1:])
        if fits and own[:count] == list(like[:count]):
            return Rows(tuple(packed))
    return None


def _bytes(part: Any, words: int) -> Any:
    """[rows, ...] → uint8 [rows, bytes of the words]."""
    flat = lax.reshape(part, (part.shape[0], math.prod(part.shape[1:])))
    raw = flat if flat.dtype == U8 else lax.bitcast_convert_type(flat, U8)
    raw = lax.reshape(raw, (part.shape[0], math.prod(raw.shape[1:])))
    missing = words * BYTES - raw.shape[1]
    return lax.pad(raw, np.zeros((), U8), [(0, 0, 0), (0, missing, 0)]) if missing else raw


def _part(words: Any, part: Packed) -> Any:
    axis = words.ndim - 1
    own = lax.slice_in_dim(words, part.first, part.first + part.words, axis=axis)
    split = lax.bitcast_convert_type(own, part.dtype)
    flat = lax.reshape(split, (*words.shape[:-1], math.prod(split.shape[axis:])))
    flat = lax.slice_in_dim(flat, 0, math.prod(part.shape), axis=axis)
    return lax.reshape(flat, (*words.shape[:-1], *part.shape))
