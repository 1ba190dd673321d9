"""Parameters of equations with what follows the batch taken out, and the axes they use up."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

from jaxrt.passes import layout
from jaxrt.passes.jaxprs import is_jaxpr
from jaxrt.passes.layout import Tag, Value
from jaxrt.passes.rows_control import scan_counts
from jaxrt.passes.rows_elementwise import FOLDS, PLAIN

IGNORED = frozenset({"sharding", "out_sharding", "name", "debug_info"})
"""Neither changes a value."""

SHAPES = {
    "broadcast_in_dim": {"shape"},
    "reshape": {"new_sizes"},
    "iota": {"shape"},
    "rng_uniform": {"shape"},
}
"""Shapes of results: of no effect by themselves, and what uses an axis up compares its size."""

FREE = frozenset(
    [*PLAIN, *FOLDS, "broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose"]
) | {"select_n", "clamp", "convert_element_type", "copy", "optimization_barrier", "while", "cond"}
"""Use up no axis: each element of the result comes from its own place (loops are walked inside)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Extent:
    """How much of an axis is taken; equal where both take the whole, or the same part."""

    steps: float
    whole: bool = dataclasses.field(kw_only=True)

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Extent):
            return NotImplemented
        return (self.whole and other.whole) or self.steps == other.steps


def plain_params(eqn: Any, facts: Sequence[Value]) -> dict[str, Any]:
    """Comparable parameters: an axis taken whole is `whole`, whatever its size."""
    name = eqn.primitive.name
    skipped = IGNORED | SHAPES.get(name, set())
    shape = eqn.invars[0].aval.shape if eqn.invars else ()
    first = facts[0] if facts else Value()
    out: dict[str, Any] = {}
    for key, value in eqn.params.items():
        if key in skipped or _is_jaxpr(value):
            continue
        if name == "slice" and key in ("start_indices", "limit_indices"):
            out[key] = _bounds(eqn, shape, first, value)
        elif key == "slice_sizes":
            out[key] = tuple(Extent(n, whole=n == m) for n, m in zip(value, shape, strict=True))
        elif name == "split" and key == "sizes":
            unit = _block(first, eqn.params["axis"])
            out[key] = tuple(n / unit for n in value)
        else:
            out[key] = _plain(value)
    return out


def _plain(value: Any) -> Any:
    if isinstance(value, (int, str, bool, type(None))):
        return value
    # A float by its digits: a fill of NaN is equal to itself.
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))


def _is_jaxpr(value: Any) -> bool:
    items = value if isinstance(value, tuple) else (value,)
    return bool(items) and all(is_jaxpr(i) for i in items)


def _bounds(
    eqn: Any, shape: Sequence[int], value: Value, bounds: Sequence[int]
) -> tuple[Extent, ...]:
    starts, limits = eqn.params["start_indices"], eqn.params["limit_indices"]
    whole = [(s, e) == (0, n) for s, e, n in zip(starts, limits, shape, strict=True)]
    return tuple(
        Extent(b / _block(value, i), whole=w)
        for i, (b, w) in enumerate(zip(bounds, whole, strict=True))
    )


def _block(value: Value, at: int) -> int:
    """How many steps one batch of rows takes on an axis; 1 where no rows are."""
    if value.mixed or not layout.has_rows(value.axes[at]):
        return 1
    axis = value.axes[at]
    start = next(i for i, f in enumerate(axis) if f.tag is Tag.ROWS)
    return layout.size_of(axis[start:])


def consumed(eqn: Any, operand: int) -> set[int]:
    """The axes of an operand whose size has a say in the value of an element of the result."""
    name = eqn.primitive.name
    if name in FREE:
        return set()
    rank = len(eqn.invars[operand].aval.shape)
    found = CONSUMED.get(name)
    return found(eqn, operand, rank) if found else set(range(rank))


def _dot(eqn: Any, operand: int, rank: int) -> set[int]:
    return set(eqn.params["dimension_numbers"][0][operand])


def _partial(eqn: Any, operand: int, rank: int) -> set[int]:
    if operand:
        return set()
    sizes = eqn.params.get("slice_sizes") or eqn.outvars[0].aval.shape
    return {i for i, n in enumerate(eqn.invars[0].aval.shape) if sizes[i] != n}


def _update(eqn: Any, operand: int, rank: int) -> set[int]:
    shapes = [v.aval.shape for v in eqn.invars[:2]]
    return {i for i in range(rank) if shapes[0][i] != shapes[1][i]}


def _gather(eqn: Any, operand: int, rank: int) -> set[int]:
    return (
        {rank - 1}
        if operand == 1
        else _partial(eqn, operand, rank)
        - set(eqn.params["dimension_numbers"].operand_batching_dims)
    )


def _scatter(eqn: Any, operand: int, rank: int) -> set[int]:
    numbers = eqn.params["dimension_numbers"]
    # Whole windows and batching leave an axis alone; the rest is addressed by index.
    return set(numbers.scatter_dims_to_operand_dims) if operand == 0 else set()


def _convolution(eqn: Any, operand: int, rank: int) -> set[int]:
    return set(range(rank)) - (
        {eqn.params["dimension_numbers"].lhs_spec[0]} if not operand else set()
    )


def _window(eqn: Any, operand: int, rank: int) -> set[int]:
    sizes = eqn.params["window_dimensions"]
    padding = eqn.params["padding"]
    return {i for i in range(rank) if sizes[i] != 1 or tuple(padding[i]) != (0, 0)}


def _scan(eqn: Any, operand: int, rank: int) -> set[int]:
    return {0} if operand >= sum(scan_counts(eqn)) else set()


def _axis(key: str) -> Callable[[Any, int, int], set[int]]:
    return lambda eqn, operand, rank: {eqn.params[key] % rank} if rank else set()


def _axes(key: str) -> Callable[[Any, int, int], set[int]]:
    return lambda eqn, operand, rank: set(eqn.params[key]) if rank else set()


def _padded(eqn: Any, operand: int, rank: int) -> set[int]:
    return {i for i, c in enumerate(eqn.params["padding_config"]) if c != (0, 0, 0) and i < rank}


CONSUMED: dict[str, Callable[[Any, int, int], set[int]]] = {
    "dot_general": _dot,
    "slice": _partial,
    "dynamic_slice": _partial,
    "dynamic_update_slice": _update,
    "gather": _gather,
    **dict.fromkeys(
        ("scatter", "scatter-add", "scatter-sub", "scatter-mul", "scatter-min", "scatter-max"),
        _scatter,
    ),
    "conv_general_dilated": _convolution,
    **dict.fromkeys(
        (
            "reduce_window",
            "reduce_window_sum",
            "reduce_window_max",
            "reduce_window_min",
            "select_and_gather_add",
            "select_and_scatter_add",
        ),
        _window,
    ),
    "scan": _scan,
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"), _axis("axis")),
    **dict.fromkeys(("split", "unstack"), _axis("axis")),
    "sort": _axis("dimension"),
    "concatenate": _axis("dimension"),
    "stack": lambda eqn, operand, rank: set(),
    "top_k": lambda eqn, operand, rank: {eqn.params.get("axis", -1) % rank},
    "approx_top_k": _axis("reduction_dimension"),
    "rev": _axes("dimensions"),
    "reduce": _axes("dimensions"),
    **dict.fromkeys(
        (
            "reduce_sum",
            "reduce_prod",
            "reduce_max",
            "reduce_min",
            "reduce_and",
            "reduce_or",
            "reduce_xor",
            "argmax",
            "argmin",
        ),
        _axes("axes"),
    ),
    "pad": _padded,
}
