"""Programs made of JAX functions, and what their rows do when run. Shared by test_passes_*.py."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import jaxpr_as_fun

from jaxrt.program import Program

Array = np.ndarray[Any, Any]
Spec = tuple[tuple[int, ...], Any]
"""(shape of one row, dtype)."""


def program(
    function: Callable[..., Any],
    batch: int,
    inputs: Mapping[str, Spec],
    weights: Mapping[str, Any] | None = None,
) -> Program:
    """`function(weights, *inputs)` at one batch size; inputs are [batch, *shape]."""
    weights = weights or {}
    names = list(weights)

    def flat(*arguments: Any) -> Any:
        given = dict(zip(names, arguments[: len(names)], strict=True))
        return function(given, *arguments[len(names) :])

    avals = [
        *(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in weights.values()),
        *(jax.ShapeDtypeStruct((batch, *shape), dtype) for shape, dtype in inputs.values()),
    ]
    with jax.enable_x64(True):
        closed = jax.make_jaxpr(flat)(*avals)
    return Program(
        signature="test",
        jaxpr=closed,
        weight_names=tuple(names),
        input_names=tuple(inputs),
        output_names=tuple(f"y{i}" for i in range(len(closed.out_avals))),
    )


def run(closed: Any, arguments: Sequence[Any]) -> list[Array]:
    """The results of a jaxpr, jitted."""
    with jax.enable_x64(True):
        out = jax.jit(jaxpr_as_fun(closed))(*arguments)
    return [np.asarray(o) for o in out]


def rows_of(inputs: Mapping[str, Spec], count: int, seed: int = 0) -> list[Array]:
    """`count` random rows for each input; integers from 0 to 3."""
    random = np.random.default_rng(seed)
    out = []
    for shape, dtype in inputs.values():
        if np.dtype(dtype).kind in "iu":
            out.append(random.integers(0, 4, (count, *shape)).astype(dtype))
        else:
            out.append(random.standard_normal((count, *shape)).astype(dtype))
    return out


def mixes_rows(found: Program, weights: Sequence[Array], inputs: Mapping[str, Spec]) -> str | None:
    """How the results of one row change when others do; None where they do not.

    Other rows are replaced, and all rows are put in another order.
    """
    batch = found.input_avals[0].shape[0]
    first, second = rows_of(inputs, batch, 1), rows_of(inputs, batch, 2)
    ours = run(found.jaxpr, [*weights, *first])
    for row in range(batch):
        mixed = [np.concatenate([b[:row], a[row : row + 1], b[row + 1 :]])
                 for a, b in zip(first, second, strict=True)]  # fmt: skip
        for one, other in zip(ours, run(found.jaxpr, [*weights, *mixed]), strict=True):
            if not _close(one[row], other[row]):
                return f"row {row} changes with the others"
    order = np.roll(np.arange(batch), 1)
    moved = run(found.jaxpr, [*weights, *(a[order] for a in first)])
    for one, other in zip(ours, moved, strict=True):
        if not _close(one[order], other):
            return "a row changes with its place"
    return None


def _close(a: Array, b: Array) -> bool:
    return bool(np.allclose(a, b, rtol=1e-6, atol=1e-6, equal_nan=True))
