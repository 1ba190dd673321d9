"""Products with int4 weights where the lower and the upper four bits are multiplied apart.

Put together, both halves would be written to memory as bfloat16 before the product: XLA:TPU fuses
what computes each element of an operand by itself into the product, but no concatenation. The order
of terms is free, so each half meets the activations that belong to it, and the sums are added.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax import lax

from jaxrt.compression.held import Held
from jaxrt.compression.layers import DOT, WIDE, Use
from jaxrt.compression.quantize import F32, unpack
from jaxrt.compression.scales import spread
from jaxrt.compression.schemes import Scheme
from jaxrt.target import Target


def fits(use: Use, other: Any, held: Held, target: Target) -> bool:
    """Whether the equation multiplies with the array as it was encoded, on a TPU.

    XLA:GPU fuses no shifts into its products, so that nothing is won there.
    """
    batch: Any = use.eqn.params["dimension_numbers"][1] if use.kind == DOT else ((0,),)
    return (
        held.form.scheme is Scheme.INT4
        and target.platform == "tpu"
        and other.dtype in WIDE
        and not held.form.is_table
        and not use.moves
        and held.first is None
        and not any(batch)
        and sorted(use.axes) == sorted(held.form.axes)
    )


def product(use: Use, other: Any, held: Held) -> Any:
    """Of parts as `encode` gives them: [groups, size / 2, *others] and [groups, 1, *others]."""
    packed, scale = held.parts
    params, mine = use.eqn.params, use.operand
    contracted = params["dimension_numbers"][0]
    order = [contracted[1 - mine][contracted[mine].index(axis)] for axis in held.form.axes]
    terms = _by_half(other, order, packed.shape[0], packed.shape[1])
    count = terms.ndim
    sums = []
    for half, few in enumerate(unpack(packed)):
        wide = lax.mul(lax.convert_element_type(few, F32), spread(scale, few.shape))
        wide = lax.convert_element_type(wide, other.dtype)
        given = lax.index_in_dim(terms, half, axis=count - 2, keepdims=False)
        dims = ((0, 1), (count - 3, count - 2))
        pair, numbers = ((wide, given), dims) if mine == 0 else ((given, wide), dims[::-1])
        whole = {**params, "dimension_numbers": (numbers, ((), ()))}
        sums.append(use.eqn.primitive.bind(*pair, **whole))
    return lax.add(*sums)


def _by_half(values: Any, order: Sequence[int], groups: int, half: int) -> Any:
    """Activations [...] → [..., groups, 2, half], what is summed over in `order`, zeros added."""
    free = [d for d in range(values.ndim) if d not in order]
    shape = tuple(values.shape[d] for d in free)
    terms = int(np.prod([values.shape[d] for d in order]))
    flat = lax.reshape(lax.transpose(values, (*free, *order)), (*shape, terms))
    missing = groups * 2 * half - terms
    if missing:
        edges = [(0, 0, 0) for _ in shape] + [(0, missing, 0)]
        flat = lax.pad(flat, np.zeros((), values.dtype), edges)
    return lax.reshape(flat, (*shape, groups, 2, half))
