"""Look-ups in tables whose rows do not fill a TPU's vectors: several rows are stored as one.

XLA:TPU stores a table of 64 columns turned, as 128 would be half empty, but looks rows longer than
48 up as they lie: it copies the whole table, to twice its size, at every call (libtpu 0.0.52, read
off its HLO). Two rows side by side fill the 128 lanes, and are looked up where they lie. So are the
scales of rows, 128 at a time, which otherwise are all read at every call.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import Literal

from jaxrt.passes.jaxprs import ClosedJaxpr, bind, variables
from jaxrt.passes.prepare import HELD, PINNED
from jaxrt.passes.rewrite import evaluate, inline, prune, traced_like
from jaxrt.program import Program

LANES = 128
WIDTHS = (1, 64)
"""Columns of tables that are packed."""
FEWEST = 1 << 14
"""Rows: smaller tables are read in no time."""

EVEN = 8
"""Rows of packed tables are a multiple of this, so that they can be split over devices."""

_MODES = lax.GatherScatterMode


def pack(program: Program) -> tuple[Program, int]:
    """The program with such tables packed, and how many there are: those only looked up."""
    closed = inline(program.jaxpr)
    found = _tables(closed, len(program.weight_names))
    if not found:
        return program, 0
    writer = _Writer(closed, found)
    with jax.enable_x64(True):
        written = prune(traced_like(closed, writer.write))
    return dataclasses.replace(program, jaxpr=written), len(found)


@dataclasses.dataclass(frozen=True, slots=True)
class _Table:
    """What is looked up."""

    start: Any
    """The weight, or what is held of one, before it was converted; a variable."""
    filled: bool
    """Whether indices out of bounds find something else than its rows."""


def _tables(closed: ClosedJaxpr, weights: int) -> dict[Any, _Table]:
    """By variable, as they are looked up."""
    jaxpr = closed.jaxpr
    users: dict[Any, list[Any]] = {}
    for eqn in jaxpr.eqns:
        for variable in variables(eqn.invars):
            users.setdefault(variable, []).append(eqn)
    held = [eqn.outvars[0] for eqn in jaxpr.eqns if _is_held(eqn)]
    returned = set(variables(jaxpr.outvars))
    found = {}
    for start in [*jaxpr.invars[:weights], *held]:
        chain = list(_converted(start, users))
        table, uses = chain[-1], users.get(chain[-1], [])
        whole = not any(variable in returned for variable in chain)
        fills = table is start or start not in held
        if uses and whole and all(_is_look_up(eqn, table, fills=fills) for eqn in uses):
            found[table] = _Table(start, any(map(_is_filled, uses)))
    return found


def _converted(variable: Any, users: Mapping[Any, Sequence[Any]]) -> Iterator[Any]:
    """A variable, and what it is converted to where that alone is used."""
    yield variable
    while len(eqns := users.get(variable, [])) == 1:
        if eqns[0].primitive.name != "convert_element_type":
            return
        (variable,) = eqns[0].outvars
        yield variable


def _is_held(eqn: Any) -> bool:
    return bool(eqn.primitive.name == "name" and eqn.params["name"] == HELD)


def _is_look_up(eqn: Any, table: Any, *, fills: bool) -> bool:
    """Whether it looks up whole rows of a table that can be packed, by one index each.

    `fills`: whether indices out of bounds may find something else than rows.
    """
    if eqn.primitive.name != "gather" or eqn.invars[0] is not table or eqn.invars[1] is table:
        return False
    shape, numbers = tuple(table.aval.shape), eqn.params["dimension_numbers"]
    if len(shape) != 2 or shape[1] not in WIDTHS or shape[0] < FEWEST:
        return False
    full = shape[0] % (LANES // shape[1]) == 0  # else the last row would be half there
    return (
        tuple(eqn.params["slice_sizes"]) == (1, shape[1])
        and tuple(numbers.collapsed_slice_dims) == (0,)
        and tuple(numbers.start_index_map) == (0,)
        and not numbers.operand_batching_dims
        and (not _is_filled(eqn) or (fills and full))
    )


def _is_filled(eqn: Any) -> bool:
    return eqn.params["mode"] not in (_MODES.CLIP, _MODES.PROMISE_IN_BOUNDS)


class _Writer:
    """Writes one program anew."""

    def __init__(self, closed: ClosedJaxpr, tables: Mapping[Any, _Table]) -> None:
        self._closed = closed
        self._tables = tables
        self._starts = {table.start: table for table in tables.values()}
        self._packed: dict[Any, tuple[Any, tuple[Any, ...]]] = {}
        """Table → it, packed, and the conversions that are left to be done."""

    def write(self, *arguments: Any) -> list[Any]:
        self._packed = {}
        return evaluate(self._closed, arguments, self._step)

    def _step(self, eqn: Any, operands: list[Any]) -> list[Any]:
        name = eqn.primitive.name
        if _is_held(eqn) and eqn.outvars[0] in self._starts:
            few = _packed(operands[0], self._starts[eqn.outvars[0]].filled)
            self._packed[eqn.outvars[0]] = checkpoint_name(few, HELD), ()
            return operands  # nothing takes it: what looks rows up takes the packed one
        table = eqn.invars[0] if name in ("gather", "convert_element_type") else None
        if isinstance(table, Literal):
            table = None
        if name == "convert_element_type" and table in self._packed:
            held, later = self._packed[table]
            self._packed[eqn.outvars[0]] = held, (*later, eqn)
        if name != "gather" or table not in self._tables:
            return bind(eqn.primitive, operands, eqn.params)
        if table not in self._packed:
            rows = _packed(operands[0], self._tables[table].filled)
            self._packed[table] = checkpoint_name(rows, PINNED), ()
        held, later = self._packed[table]
        found = [_looked_up(eqn, held, operands[1])]
        for conversion in later:  # of the rows, not of the whole table
            found = bind(conversion.primitive, found, conversion.params)
        return found


def _packed(table: Any, filled: bool) -> Any:
    """[rows, width] → [rows / n, 128] of n rows each, where not `filled` with zeros at the end."""
    count, width = table.shape
    missing = 0 if filled else -count % (LANES // width * EVEN)
    if missing:
        table = lax.pad(table, np.zeros((), table.dtype), [(0, missing, 0), (0, 0, 0)])
    return lax.reshape(table, (table.size // LANES, LANES))


def _looked_up(eqn: Any, packed: Any, indices: Any) -> Any:
    """What the equation gives, of the packed table."""
    count, width = eqn.invars[0].aval.shape
    each = LANES // width
    if eqn.params["mode"] == _MODES.CLIP:
        first, last = (np.asarray(n, indices.dtype) for n in (0, count - 1))
        indices = lax.clamp(first, indices, last)
    signed = np.issubdtype(indices.dtype, np.signedinteger)
    shift = lax.shift_right_arithmetic if signed else lax.shift_right_logical
    places = indices.ndim - 1
    (at,) = eqn.params["dimension_numbers"].offset_dims
    numbers = lax.GatherDimensionNumbers(
        offset_dims=(places,), collapsed_slice_dims=(0,), start_index_map=(0,)
    )
    params = {
        **eqn.params,
        "dimension_numbers": numbers,
        "slice_sizes": (1, LANES),
        "unique_indices": False,
    }
    by = lax.full_like(indices, each.bit_length() - 1)
    both = eqn.primitive.bind(packed, shift(indices, by), **params)
    which = lax.bitwise_and(indices, lax.full_like(indices, each - 1))
    rows = _picked(both, which, each)
    order = [*range(places)]
    order.insert(at, places)
    return lax.transpose(rows, order)


def _picked(both: Any, which: Any, each: int) -> Any:
    """[..., 128] of so many rows each, and which of them is wanted [..., 1] → [..., width]."""
    shape, width = both.shape[:-1], LANES // each
    wide = (*shape, each, width)
    apart = lax.reshape(both, wide)
    chosen = lax.broadcast_in_dim(which, (*shape, width), tuple(range(which.ndim)))
    if each == 2:
        halves = (lax.index_in_dim(apart, n, len(shape), keepdims=False) for n in (0, 1))
        return lax.select_n(lax.ne(chosen, lax.full_like(chosen, 0)), *halves)
    number = lax.broadcasted_iota(which.dtype, wide, len(shape))
    dims = (*range(len(shape)), len(shape) + 1)
    wanted = lax.eq(number, lax.broadcast_in_dim(chosen, wide, dims))
    zeros = lax.full_like(apart, 0)
    return jnp.sum(lax.select(wanted, apart, zeros), axis=len(shape), dtype=apart.dtype)
