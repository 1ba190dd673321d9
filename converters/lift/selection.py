"""The k largest or smallest, under the names that custom calls give it."""

from collections.abc import Sequence

from jax import Array, lax

from jaxrt.converters.lift import chlo, sorting
from jaxrt.converters.lift.custom_call import Call, target


@target("TopK")
def top_k(call: Call, x: Array) -> Sequence[Array]:
    """(values, indices) along the last dimension, largest first; of equal ones the lower index."""
    values, indices = call.avals
    found = chlo.largest(x, values.shape[-1])
    return [found[0], lax.convert_element_type(found[1], indices.dtype)]


def _approximate(call: Call) -> str | None:
    wanted = {"reduction_dim", "top_k"}
    if not wanted <= set(call.config) or len(call.called) != 1:
        return f"with {sorted(call.config)}, {len(call.called)} comparators: want {sorted(wanted)}"
    return None


@target("ApproxTopK", check=_approximate)
def approximate_top_k(call: Call, *operands: Array) -> Sequence[Array]:
    """As many as the result has, by the comparator; exact, and so of every recall asked for."""
    assert call.scope is not None
    dimension = call.config["reduction_dim"]
    inputs = operands[: len(operands) // 2]
    comparator = call.scope.functions[call.called[0]]
    found = sorting.sort_by(call.scope, comparator, inputs, dimension)
    size = call.avals[0].shape[dimension]
    return [lax.slice_in_dim(f, 0, size, axis=dimension) for f in found]
