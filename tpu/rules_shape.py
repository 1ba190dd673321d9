"""Propagation through what computes each element by itself, or only moves elements about."""

from collections.abc import Mapping, Sequence
from typing import Any

from jax.extend.core import Literal

from jaxrt.mesh import Spec
from jaxrt.tpu.layout import fitting, reshaped, whole
from jaxrt.tpu.propagation import Free, Layout, Rule, Walk, joined


def _elementwise(state: Walk, eqn: Any) -> list[Layout]:
    """Operands of one shape, and scalars: all in the layout that cuts most without an exchange."""
    shape = eqn.outvars[0].aval.shape
    rank = len(shape)
    operands = [a for a in eqn.invars if len(a.aval.shape) == rank and not isinstance(a, Literal)]
    layouts = [state.read(atom) for atom in operands]
    free = [layout for layout in layouts if isinstance(layout, Free)]
    if len(free) == len(layouts):
        return [joined(free) if free else whole(rank)] * len(eqn.outvars)
    wanted = _union([layout for layout in layouts if not isinstance(layout, Free)], shape, state)
    for atom in operands:
        state.settle(atom, wanted)
    return [wanted] * len(eqn.outvars)


def _add(state: Walk, eqn: Any) -> list[Layout]:
    left, right = eqn.invars
    if not isinstance(left, Literal) and not isinstance(right, Literal):
        state.add_up(left, right)
    return _elementwise(state, eqn)


def _union(specs: Sequence[Spec], shape: Sequence[int], state: Walk) -> Spec:
    """For each dimension the first axis that any has; an axis already given away is not given."""
    merged = tuple(
        next((spec[dim] for spec in specs if spec[dim] is not None), None)
        for dim in range(len(shape))
    )
    return fitting(shape, merged, state.sizes)


def _moved(state: Walk, eqn: Any, dims: Mapping[int, int]) -> list[Layout]:
    """One operand, whose dimension dims[d] is d now."""
    found = state.read(eqn.invars[0])
    aval = eqn.outvars[0].aval
    if isinstance(found, Free):
        return [found.mapped(dims)]
    kept: list[str | None] = [None] * len(found)
    for old in dims.values():
        kept[old] = found[old]
    found = state.settle(eqn.invars[0], tuple(kept))
    spec = tuple(found[dims[d]] if d in dims else None for d in range(len(aval.shape)))
    fitted = fitting(aval.shape, spec, state.sizes)
    if fitted != spec:  # the new dimension does not divide: the pieces are put together first
        lost = {dims[d] for d in dims if spec[d] != fitted[d]}
        state.settle(
            eqn.invars[0], tuple(None if d in lost else axis for d, axis in enumerate(found))
        )
    return [fitted]


def _transpose(state: Walk, eqn: Any) -> list[Layout]:
    return _moved(state, eqn, dict(enumerate(eqn.params["permutation"])))


def _reshape(state: Walk, eqn: Any) -> list[Layout]:
    before, after = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    found = _moved(state, eqn, reshaped(before, after))
    if isinstance(found[0], tuple) and any(found[0]):
        state.hold(0, found[0])  # XLA follows most reshapes, but not all that split a dimension
    return found


def _broadcast(state: Walk, eqn: Any) -> list[Layout]:
    before, after = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    places = eqn.params["broadcast_dimensions"]
    if isinstance(eqn.invars[0], Literal):
        return [Free(())]  # each device makes what it needs
    return _moved(
        state, eqn, {new: old for old, new in enumerate(places) if before[old] == after[new]}
    )


def _squeeze(state: Walk, eqn: Any) -> list[Layout]:
    gone = set(eqn.params["dimensions"])
    kept = [d for d in range(len(eqn.invars[0].aval.shape)) if d not in gone]
    return _moved(state, eqn, dict(enumerate(kept)))


def _expand(state: Walk, eqn: Any) -> list[Layout]:
    new = set(eqn.params["dimensions"])
    kept = [d for d in range(len(eqn.outvars[0].aval.shape)) if d not in new]
    return _moved(state, eqn, {d: old for old, d in enumerate(kept)})


def _same_sizes(state: Walk, eqn: Any) -> list[Layout]:
    """Slices, paddings, windows: a dimension whose size stays is as it was, the others whole."""
    before, after = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    for atom in eqn.invars[1:]:
        if not isinstance(atom, Literal):
            state.spec(atom)
    return _moved(state, eqn, {d: d for d in range(len(after)) if before[d] == after[d]})


def _window(state: Walk, eqn: Any) -> list[Layout]:
    """reduce_window: dimensions whose window is 1 long stay split."""
    size = eqn.params["window_dimensions"]
    found = _moved(state, eqn, {d: d for d in range(len(size)) if size[d] == 1})
    return [found[0] if isinstance(found[0], tuple) else state.spec(eqn.invars[0])]


def _concatenate(state: Walk, eqn: Any) -> list[Layout]:
    along = eqn.params["dimension"]
    operands = [a for a in eqn.invars if not isinstance(a, Literal)]
    found = [state.read(atom) for atom in operands]
    free = [layout for layout in found if isinstance(layout, Free)]
    if free and len(free) == len(eqn.invars):
        apart = {d: d for d in range(len(eqn.outvars[0].aval.shape)) if d != along}
        return [joined(free).mapped(apart)]
    specs = [s for s in found if not isinstance(s, Free)]
    shape = eqn.outvars[0].aval.shape
    merged = _union(specs, shape, state) if specs else whole(len(shape))
    wanted = tuple(None if d == along else axis for d, axis in enumerate(merged))
    for atom in operands:
        state.settle(atom, wanted)
    return [wanted]


def _split(state: Walk, eqn: Any) -> list[Layout]:
    along = eqn.params["axis"]
    spec = tuple(a if d != along else None for d, a in enumerate(state.spec(eqn.invars[0])))
    state.settle(eqn.invars[0], spec)
    return [spec for _ in eqn.outvars]


def _reduce(state: Walk, eqn: Any) -> list[Layout]:
    """Sums and the like: over a split dimension every device reduces its own, then all do."""
    atom = eqn.invars[0]
    spec = state.spec(atom)
    axes = set(eqn.params["axes"])
    out = tuple(axis for d, axis in enumerate(spec) if d not in axes)
    aval = eqn.outvars[0].aval
    lost = [spec[d] for d in axes]
    state.reduce_over(lost, aval.shape, out, aval.dtype.itemsize)
    if any(lost):
        state.hold(0, out)
    state.cost(0.0, state.local_bytes(atom.aval, spec))
    return [out]


def _along(state: Walk, eqn: Any, dims: Sequence[int]) -> list[Layout]:
    """What needs every element along `dims` in one place."""
    atom = eqn.invars[0]
    spec = tuple(None if d in dims else axis for d, axis in enumerate(state.spec(atom)))
    state.settle(atom, spec)
    return [
        spec if len(v.aval.shape) == len(spec) else tuple(
            axis for d, axis in enumerate(spec) if d not in dims
        )
        for v in eqn.outvars
    ]  # fmt: skip


def _arg(state: Walk, eqn: Any) -> list[Layout]:
    return _along(state, eqn, eqn.params["axes"])


def _cumulative(state: Walk, eqn: Any) -> list[Layout]:
    return _along(state, eqn, [eqn.params["axis"]])


def _last(state: Walk, eqn: Any) -> list[Layout]:
    return _along(state, eqn, [len(eqn.invars[0].aval.shape) - 1])


def _rev(state: Walk, eqn: Any) -> list[Layout]:
    return _along(state, eqn, eqn.params["dimensions"])


def _bitcast(state: Walk, eqn: Any) -> list[Layout]:
    """To elements of another size a last dimension comes or goes, whole."""
    ranks = [len(v.aval.shape) for v in (eqn.invars[0], eqn.outvars[0])]
    return _moved(state, eqn, {d: d for d in range(min(ranks))})


def _made(state: Walk, eqn: Any) -> list[Layout]:
    """Values out of nothing: every device makes all of them."""
    return [whole(len(v.aval.shape)) for v in eqn.outvars]


ELEMENTWISE = (
    *("abs", "acos", "acosh", "and", "asin", "asinh", "atan", "atan2", "atanh", "cbrt"),
    *("ceil", "clamp", "clz", "complex", "conj", "convert_element_type", "copy", "copy_p", "cos"),
    *("cosh", "digamma", "div", "eq", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor"),
    *("ge", "gt", "imag", "integer_pow", "is_finite", "le", "lgamma", "log", "log1p", "logistic"),
    *("lt", "max", "min", "mul", "name", "ne", "neg", "nextafter", "not", "optimization_barrier"),
    *("or", "population_count", "pow", "real", "reduce_precision", "rem", "round", "rsqrt"),
    *("select_n", "shift_left", "shift_right_arithmetic", "shift_right_logical", "sign", "sin"),
    *("sinh", "sqrt", "square", "stop_gradient", "sub", "tan", "tanh", "xor"),
)

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(("slice", "dynamic_slice", "pad"), _same_sizes),
    **dict.fromkeys(
        ("reduce_window", "reduce_window_max", "reduce_window_min", "reduce_window_sum"), _window
    ),
    **dict.fromkeys(
        ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or"),
        _reduce,
    ),
    **dict.fromkeys(("argmax", "argmin"), _arg),
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"), _cumulative),
    **dict.fromkeys(("iota", "rng_uniform", "rng_bit_generator"), _made),
    "add": _add,
    "bitcast_convert_type": _bitcast,
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "expand_dims": _expand,
    "reshape": _reshape,
    "rev": _rev,
    "split": _split,
    "squeeze": _squeeze,
    "top_k": _last,
    "transpose": _transpose,
}
"""Primitive → rule."""
