"""How one layer is held, by its rule and its shape."""

import math

from jax.lax import GatherScatterMode

from jaxrt.compression.layers import CONV, GATHER, Found
from jaxrt.compression.quantize import Form
from jaxrt.compression.schemes import GROUP, Rule, Scheme

LONG_ROW = 32
"""Of a table: from here a bfloat16 scale for each row takes at most a sixteenth of its bytes."""

SHORTEST_GROUP = 16
"""Terms: with fewer, scales of int4 take more than is saved against int8."""

MOST_TERMS = (1 << 31) // (127 * 127)
"""Of products of int8 whose sum fits an int32."""


def form_of(found: Found, rule: Rule) -> Form:
    """The scheme of `rule`, or the nearest that suits the layer: int8 for what int4 does not."""
    layer, scheme = found.layer, rule.scheme
    terms = math.prod(layer.shape[d] for d in layer.axes)
    is_table = layer.kind == GATHER
    if scheme is Scheme.W8A8 and (is_table or terms > MOST_TERMS):
        scheme = Scheme.INT8
    if scheme is Scheme.INT4 and (
        terms < SHORTEST_GROUP or (is_table and not (_is_plain(found) and layer.axes == (1,)))
    ):
        scheme = Scheme.INT8
    axes = layer.axes
    if is_table and scheme is not Scheme.INT4 and terms < LONG_ROW and not _fills(found):
        # Scales of rows would take too much of such a table: one for each column.
        axes = tuple(d for d in range(len(layer.shape)) if d not in layer.axes)
        is_table = False
    return Form(
        scheme=scheme,
        axes=axes,
        group=rule.group or GROUP,
        is_table=is_table,
        taps=tuple(axis for axis in _taps(found) if axis in axes),
    )


def _taps(found: Found) -> tuple[int, ...]:
    """Dimensions over places, where a convolution takes it first; none where moves mix them."""
    use = found.uses[0]
    if use.kind != CONV:
        return ()
    taps: tuple[int, ...] | None = use.eqn.params["dimension_numbers"].rhs_spec[2:]
    for move in reversed(use.moves):
        taps = None if taps is None else move.axes_before(taps)
    return taps or ()


def _is_plain(found: Found) -> bool:
    """A matrix, looked up as it is."""
    return len(found.layer.shape) == 2 and not found.uses[0].moves


def _fills(found: Found) -> bool:
    """Whether indices out of bounds give rows of their own: those have scales of their own."""
    modes = [use.eqn.params["mode"] for use in found.uses if use.kind == GATHER]
    return GatherScatterMode.FILL_OR_DROP in modes
