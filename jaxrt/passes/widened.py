"""Products of half-precision operands on a device that multiplies none: the same numbers in f32.

XLA:CPU compiles some products of bfloat16 with sums in f32 that it cannot run. A product of two
such operands has 16 bits of mantissa at most: f32 holds it exactly, and the sums are f32 anyway.
"""

import dataclasses
from typing import Any

import numpy as np
from jax import lax

from jaxrt.passes.rewrite import Site, inline, rewrite
from jaxrt.program import Program

F32 = np.dtype(np.float32)


def apply(program: Program) -> Program:
    """The program with operands of products and convolutions in f32 where their sums are."""
    rules = {"dot_general": _product, "conv_general_dilated": _product}
    return dataclasses.replace(program, jaxpr=rewrite(inline(program.jaxpr), rules))


def _product(site: Site, left: Any, right: Any) -> Any:
    narrow = [v for v in (left, right) if v.dtype.itemsize < 4 and v.dtype.kind in "fV"]
    if not narrow or site.eqn.outvars[0].aval.dtype != F32:
        return None
    wide = [lax.convert_element_type(v, F32) for v in (left, right)]
    params = dict(site.params) | {"preferred_element_type": F32}
    return site.emit(site.eqn.primitive, *wide, **params)
