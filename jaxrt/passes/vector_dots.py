"""One row times a long matrix of weights: the weights transposed, so that sums run along memory.

XLA:CPU multiplies a vector with [k, n] row by row of the matrix and keeps the n sums in memory;
with [n, k] each sum stays in registers. For k from `LENGTH` and matrices beyond the second cache
that is 1.1 to 1.7 times as fast; several rows take another way, for which [k, n] is better.
"""

import dataclasses
import math
from typing import Any

from jax import lax

from jaxrt.passes.fixed import fixed
from jaxrt.passes.rewrite import Site, rewrite
from jaxrt.program import Program

LENGTH = 1024
"""Elements of the row."""

SMALLEST = 1 << 20
"""Bytes of a matrix."""

LIMIT = 64 << 20
"""Bytes of all matrices transposed: programs for more rows keep the others, so there are two."""


def transpose(program: Program) -> tuple[Program, int]:
    """The program with such weights transposed, and how many there were."""
    known = fixed(program)
    count = total = 0

    def rule(site: Site, x: Any, kernel: Any) -> Any:
        nonlocal count, total
        size = kernel.size * kernel.dtype.itemsize
        if site.eqn.invars[1] not in known or not _fits(site, x, kernel):
            return None
        if size < SMALLEST or total + size > LIMIT:
            return None
        count, total = count + 1, total + size
        (at,), _ = site.params["dimension_numbers"][0]
        return lax.dot_general(
            x,
            lax.transpose(kernel, (1, 0)),
            (((at,), (1,)), ((), ())),
            precision=site.params["precision"],
            preferred_element_type=site.params["preferred_element_type"],
        )

    closed = rewrite(program.jaxpr, {"dot_general": rule})
    return (dataclasses.replace(program, jaxpr=closed), count) if count else (program, 0)


def _fits(site: Site, x: Any, kernel: Any) -> bool:
    """Whether it is one row times [k, n]."""
    (of_x, of_kernel), batch = site.params["dimension_numbers"]
    if batch != ((), ()) or len(of_x) != 1 or kernel.ndim != 2 or tuple(of_kernel) != (0,):
        return False
    return bool(x.shape[of_x[0]] == math.prod(x.shape) >= LENGTH)
