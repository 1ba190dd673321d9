"""Image resizing as its two one-dimensional steps, where TensorFlow's bridge emits windows.

The bridge gathers a window of x for every output pixel, [height, width, window, window, channels],
and multiplies it with weights per pixel: 9 times the image, and the weights anew at each call.
Where indices and weights are constants and the weights are an outer product, the same sums are

    y = sum over taps t: c_t[i] * x[rows_t[i]];    z = sum over taps t: d_t[j] * y[:, columns_t[j]]
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Literal, jaxpr_as_fun

from jaxrt.passes.fixed import fixed
from jaxrt.passes.jaxprs import ClosedJaxpr, variables
from jaxrt.passes.rewrite import Made, Site, rewrite
from jaxrt.passes.simplify import simplify
from jaxrt.program import Program

Array = np.ndarray[Any, Any]

WINDOW = (([3, 1], [1, 2]), ([2, 0], [4, 5]))
"""dot_general's dimensions: weights [width, window, height, window] with windows
[batch, window, window, channels, height, width] give [height, width, batch, channels]."""

_MODES = (lax.GatherScatterMode.CLIP, lax.GatherScatterMode.PROMISE_IN_BOUNDS)

TINY = 1e-6
"""Allowed difference of weights from their outer product, relative to 1."""


@dataclasses.dataclass(frozen=True, slots=True)
class Axis:
    """One dimension resized: output i is the sum over taps of factors[t, i] * x[sources[t, i]]."""

    sources: Array
    factors: Array


def separate(program: Program) -> tuple[Program, int]:
    """The program with its window gathers separated, and how many there were."""
    constants = _constants(program)
    count = 0

    def rule(site: Site, weights: Any, windows: Any) -> Any:
        nonlocal count
        made = site.maker(windows)
        atoms = site.eqn.invars
        if not _is_windowed(site, made) or atoms[0] not in constants or made is None:
            return None
        starts = gathers.get(atoms[1])
        if starts is None or starts not in constants:
            return None
        x = made.operands[0]
        factors, at = _values(program, [atoms[0], starts])
        axes = _axes(factors, at, x.shape[1:3])
        if axes is None:
            return None
        count += 1
        return resized(x, *axes).transpose(1, 2, 0, 3)

    gathers = {
        eqn.outvars[0]: eqn.invars[1]
        for eqn in program.jaxpr.jaxpr.eqns
        if eqn.primitive.name == "gather" and not isinstance(eqn.invars[1], Literal)
    }
    closed = rewrite(program.jaxpr, {"dot_general": rule})
    out = simplify(dataclasses.replace(program, jaxpr=closed)) if count else program
    return out, count


def _constants(program: Program) -> frozenset[Any]:
    """Variables that depend on nothing."""
    bare = dataclasses.replace(
        program, weight_names=(), input_names=(*program.weight_names, *program.input_names)
    )
    return fixed(bare)


def _is_windowed(site: Site, made: Made | None) -> bool:
    if made is None or made.name != "gather":
        return False
    found = site.params["dimension_numbers"]
    dims = tuple(tuple(list(side) for side in pair) for pair in found)
    numbers, sizes = made.params["dimension_numbers"], made.params["slice_sizes"]
    x = made.operands[0]
    return (
        dims == WINDOW
        and tuple(numbers.offset_dims) == (0, 1, 2, 3)
        and tuple(numbers.start_index_map) == (1, 2)
        and not (numbers.collapsed_slice_dims or numbers.operand_batching_dims)
        and x.ndim == 4
        and (sizes[0], sizes[3]) == (x.shape[0], x.shape[3])
        and made.params["mode"] in _MODES
        and x.dtype == site.avals[0].dtype
    )


def _values(program: Program, wanted: list[Any]) -> list[Array]:
    """What constants are, computed now on the CPU."""
    closed = program.jaxpr
    needed, eqns = set(wanted), []
    for eqn in reversed(closed.jaxpr.eqns):
        if needed & set(eqn.outvars):
            eqns.append(eqn)
            needed.update(variables(eqn.invars))
    held = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    jaxpr = closed.jaxpr.replace(
        constvars=list(held), invars=[], outvars=wanted, eqns=eqns[::-1], effects=set()
    )
    cpu = jax.local_devices(backend="cpu")[0]
    with jax.ensure_compile_time_eval(), jax.enable_x64(True), jax.default_device(cpu):
        found = jax.jit(jaxpr_as_fun(ClosedJaxpr(jaxpr, list(held.values()))))()
    return [np.asarray(a) for a in found]


def _axes(weights: Array, starts: Array, sizes: tuple[int, ...]) -> tuple[Axis, Axis] | None:
    """Rows and columns of weights [width, k, height, k] and starts [height, width, 2]."""
    tops, lefts = starts[:, 0, 0], starts[0, :, 1]
    if (starts[..., 0] != tops[:, None]).any() or (starts[..., 1] != lefts[None]).any():
        return None
    rows = weights[0].sum(axis=0)  # [height, k], times the sum of column 0's factors
    columns = weights[:, :, 0].sum(axis=2) / (rows[0].sum() or 1)
    outer = columns[:, :, None, None] * rows[None, None]
    if np.abs(outer - weights).max() > TINY:
        return None
    return _axis(rows, tops, sizes[0]), _axis(columns, lefts, sizes[1])


def _axis(factors: Array, starts: Array, size: int) -> Axis:
    """Taps [taps, outputs] without those that are zero everywhere."""
    window = factors.shape[1]
    first = np.clip(starts, 0, size - window)
    matrix = np.zeros((len(starts), size), factors.dtype)
    outputs = np.arange(len(starts))
    for tap in range(window):
        matrix[outputs, first + tap] += factors[:, tap]
    taps = max(1, int((matrix != 0).sum(axis=1).max()))
    sources = np.sort(np.argsort(matrix == 0, axis=1, kind="stable")[:, :taps], axis=1)
    return Axis(sources.T.astype(np.int32), np.take_along_axis(matrix, sources, axis=1).T)


def resized(x: Any, rows: Axis, columns: Axis) -> Any:
    """[batch, height, width, channels] along both dimensions."""
    return _along(_along(x, rows, 1), columns, 2)


def _along(x: Any, axis: Axis, dim: int) -> Any:
    parts = []
    for sources, factors in zip(axis.sources, axis.factors, strict=True):
        seen = jnp.take(x, sources, axis=dim, mode="clip")
        parts.append(lax.mul(seen, lax.broadcast_in_dim(factors, seen.shape, (dim,))))
    result = parts[0]
    for part in parts[1:]:
        result = lax.add(result, part)
    return result
