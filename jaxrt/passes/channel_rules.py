"""What every primitive does to channels (`jaxrt.passes.channels`): one rule each.

A rule links dimensions of operands and results, ties single indices, and fixes the rest; a
primitive without a rule fixes all it touches.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jax.extend.core import Literal

from jaxrt.passes.channel_runs import runs
from jaxrt.passes.jaxprs import close
from jaxrt.passes.rows_control import scan_counts
from jaxrt.passes.rows_elementwise import FOLDS, PLAIN

if TYPE_CHECKING:
    from jaxrt.passes.channels import Channels

ELEMENTWISE = (
    PLAIN
    | FOLDS.keys()
    | {"convert_element_type", "select_n", "clamp", "copy", "copy_p", "name", "stop_gradient"}
)


def fixed(channels: "Channels", eqn: Any) -> None:
    """Of a primitive without a rule."""
    for atom in [*eqn.invars, *eqn.outvars]:
        channels.fix(atom)


def _elementwise(channels: "Channels", eqn: Any) -> None:
    (out,) = eqn.outvars
    for atom in eqn.invars:
        if atom.aval.shape and atom.aval.ndim != out.aval.ndim:
            channels.fix(atom)
            channels.fix(out)
            continue
        for dim, size in enumerate(atom.aval.shape):
            if size == out.aval.shape[dim]:
                channels.link((out, dim), (atom, dim))
            else:  # newer jax repeats dimensions of size 1
                channels.fix(atom, [dim])


def _transpose(channels: "Channels", eqn: Any) -> None:
    (before,), (after,) = eqn.invars, eqn.outvars
    order = eqn.params["permutation"]
    channels.along(before, after, {old: new for new, old in enumerate(order)})


def _broadcast(channels: "Channels", eqn: Any) -> None:
    before, (after,) = eqn.invars[0], eqn.outvars
    for old, new in enumerate(eqn.params["broadcast_dimensions"]):
        if before.aval.shape[old] == after.aval.shape[new]:
            channels.link((before, old), (after, new))
        else:
            channels.fix(before, [old])


def _reshape(channels: "Channels", eqn: Any) -> None:
    before, (after,) = eqn.invars[0], eqn.outvars
    for ours, theirs in runs(before.aval.shape, after.aval.shape):
        if len(ours) == len(theirs) == 1:
            channels.link((before, ours[0]), (after, theirs[0]))
        elif len(ours) == 1 and len(theirs) > 1 and not isinstance(before, Literal):
            channels.view((before, ours[0]), [(after, d) for d in theirs])
        elif len(theirs) == 1 and len(ours) > 1 and not isinstance(before, Literal):
            channels.view((after, theirs[0]), [(before, d) for d in ours])
        else:
            channels.fix(before, ours)
            channels.fix(after, theirs)


def _squeeze(channels: "Channels", eqn: Any) -> None:
    before, (after,) = eqn.invars[0], eqn.outvars
    gone = {d % before.aval.ndim for d in eqn.params["dimensions"]}
    kept = [d for d in range(before.aval.ndim) if d not in gone]
    channels.along(before, after, {old: new for new, old in enumerate(kept)})


def _expand(channels: "Channels", eqn: Any) -> None:
    before, (after,) = eqn.invars[0], eqn.outvars
    added = {d % after.aval.ndim for d in eqn.params["dimensions"]}
    kept = [d for d in range(after.aval.ndim) if d not in added]
    channels.along(before, after, dict(enumerate(kept)))


def _reduce(channels: "Channels", eqn: Any) -> None:
    before, (after,) = eqn.invars[0], eqn.outvars
    kept = [d for d in range(before.aval.ndim) if d not in eqn.params["axes"]]
    for new, old in enumerate(kept):
        channels.link((before, old), (after, new))
    if eqn.primitive.name != "reduce_sum":
        channels.fix(before, eqn.params["axes"])
    elif not isinstance(before, Literal):
        for dim in eqn.params["axes"]:
            channels.ends(eqn, (before, dim), None)


def _same_sizes(channels: "Channels", eqn: Any) -> None:
    """Windows, padding, slices: a dimension that they leave whole keeps its channels."""
    before, (after,) = eqn.invars[0], eqn.outvars
    kept = [d for d in range(before.aval.ndim) if _untouched(eqn, d)]
    channels.along(before, after, {d: d for d in kept})
    for atom in eqn.invars[1:]:
        channels.fix(atom)


def _untouched(eqn: Any, dim: int) -> bool:
    params = eqn.params
    if "padding_config" in params:
        return bool(params["padding_config"][dim] == (0, 0, 0))
    if "window_dimensions" in params:
        one = (params["window_dimensions"][dim], params["window_strides"][dim])
        return one == (1, 1) and tuple(params["padding"][dim]) == (0, 0)
    return bool(params["slice_sizes"][dim] == eqn.invars[0].aval.shape[dim])


def _slice(channels: "Channels", eqn: Any) -> None:
    before, (after,) = eqn.invars[0], eqn.outvars
    params, shape = eqn.params, before.aval.shape
    for dim, (start, limit) in enumerate(
        zip(params["start_indices"], params["limit_indices"], strict=True)
    ):
        step = 1 if params["strides"] is None else params["strides"][dim]
        if (start, limit, step) == (0, shape[dim], 1):
            channels.link((before, dim), (after, dim))
        elif step == 1:
            indices = np.arange(start, limit)
            channels.tie((before, dim), indices, (after, dim), indices - start)
        else:
            channels.fix(before, [dim])
            channels.fix(after, [dim])


def _split(channels: "Channels", eqn: Any) -> None:
    before, axis, start = eqn.invars[0], eqn.params["axis"], 0
    for after in eqn.outvars:
        for dim in (d for d in range(before.aval.ndim) if d != axis):
            channels.link((before, dim), (after, dim))
        indices = np.arange(after.aval.shape[axis])
        channels.tie((before, axis), start + indices, (after, axis), indices)
        start += len(indices)


def _update(channels: "Channels", eqn: Any) -> None:
    """A slice of `whole` is replaced, at a place that the others name."""
    whole, part, *others = eqn.invars
    (after,) = eqn.outvars
    for dim in range(whole.aval.ndim):
        if whole.aval.shape[dim] == part.aval.shape[dim]:
            channels.link((whole, dim), (after, dim))
            channels.link((part, dim), (after, dim))
        else:
            for atom in (whole, part, after):
                channels.fix(atom, [dim])
    for atom in others:
        channels.fix(atom)


def _concatenate(channels: "Channels", eqn: Any) -> None:
    (after,), along = eqn.outvars, eqn.params["dimension"]
    start = 0
    for before in eqn.invars:
        for dim in (d for d in range(after.aval.ndim) if d != along):
            channels.link((before, dim), (after, dim))
        indices = np.arange(before.aval.shape[along])
        channels.tie((before, along), indices, (after, along), start + indices)
        start += len(indices)


def _dot(channels: "Channels", eqn: Any) -> None:
    (left, right), (out,) = eqn.invars, eqn.outvars
    (left_sum, right_sum), (left_batch, right_batch) = eqn.params["dimension_numbers"]
    for one, other in zip(left_sum, right_sum, strict=True):
        channels.link((left, one), (right, other))
        channels.ends(eqn, (left, one), (right, other))
    place = 0
    for one, other in zip(left_batch, right_batch, strict=True):
        channels.link((left, one), (right, other))
        channels.link((left, one), (out, place))
        place += 1
    for operand, gone in ((left, (*left_sum, *left_batch)), (right, (*right_sum, *right_batch))):
        for dim in (d for d in range(operand.aval.ndim) if d not in gone):
            channels.link((operand, dim), (out, place))
            place += 1


def _convolution(channels: "Channels", eqn: Any) -> None:
    (left, right), (out,) = eqn.invars, eqn.outvars
    numbers, groups = eqn.params["dimension_numbers"], eqn.params["feature_group_count"]
    given, kernel, made = numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec
    if eqn.params["batch_group_count"] != 1:
        fixed(channels, eqn)
        return
    for atom, spec in ((left, given), (right, kernel), (out, made)):
        channels.fix(atom, spec[2:])
    channels.link((left, given[0]), (out, made[0]))
    takes, gives = (right, kernel[1]), (right, kernel[0])
    channels.link(gives, (out, made[1]))
    count, each = right.aval.shape[kernel[0]], right.aval.shape[kernel[1]]
    if groups == 1:
        channels.link((left, given[1]), takes)
        channels.ends(eqn, (left, given[1]), takes)
    elif each == 1:  # each channel has a kernel of its own, or several
        channels.fix(right, [kernel[1]])
        indices = np.arange(count)
        channels.tie((left, given[1]), indices // (count // groups), gives, indices)
    else:  # groups stay equally large: the same channel goes from all of them
        indices = np.arange(groups * each)
        channels.tie((left, given[1]), indices, takes, indices % each)
        channels.ends(eqn, (left, given[1]), takes)
        indices = np.arange(count)
        channels.tie(gives, indices, gives, indices % (count // groups))


def _gather(channels: "Channels", eqn: Any) -> None:
    (table, numbers), (out,) = eqn.invars, eqn.outvars
    params = eqn.params["dimension_numbers"]
    gone = {*params.collapsed_slice_dims, *getattr(params, "operand_batching_dims", ())}
    passed = [d for d in range(table.aval.ndim) if d not in gone]
    sizes = eqn.params["slice_sizes"]
    dims = {
        old: new
        for old, new in zip(passed, params.offset_dims, strict=True)
        if sizes[old] == table.aval.shape[old] and old not in params.start_index_map
    }
    channels.along(table, out, dims)
    channels.fix(numbers)


def _iota(channels: "Channels", eqn: Any) -> None:
    channels.fix(eqn.outvars[0], [eqn.params["dimension"]])


def _same(channels: "Channels", ones: Sequence[Any], others: Sequence[Any]) -> None:
    for one, other in zip(ones, others, strict=True):
        for dim in range(one.aval.ndim):
            channels.link((one, dim), (other, dim))


def _while(channels: "Channels", eqn: Any) -> None:
    params = eqn.params
    first = params["cond_nconsts"]
    second = first + params["body_nconsts"]
    carried = eqn.invars[second:]
    condition, body = (close(params[name]).jaxpr for name in ("cond_jaxpr", "body_jaxpr"))
    for inner in (condition, body):
        _inside(channels, inner)
    _same(channels, [*eqn.invars[:first], *carried], condition.invars)
    _same(channels, [*eqn.invars[first:second], *carried], body.invars)
    _same(channels, carried, body.outvars)
    _same(channels, carried, eqn.outvars)


def _scan(channels: "Channels", eqn: Any) -> None:
    body: Any = close(eqn.params["jaxpr"]).jaxpr
    consts, count = scan_counts(eqn)
    walked = consts + count
    _inside(channels, body)
    _same(channels, eqn.invars[:walked], body.invars[:walked])
    _same(channels, eqn.invars[consts:walked], body.outvars[:count])
    _same(channels, eqn.invars[consts:walked], eqn.outvars[:count])
    stacks = [
        (eqn.invars[walked:], body.invars[walked:]),
        (eqn.outvars[count:], body.outvars[count:]),
    ]
    for outer, inner in stacks:
        for stacked, one in zip(outer, inner, strict=True):
            channels.fix(stacked, [0])
            for dim in range(one.aval.ndim):
                channels.link((stacked, dim + 1), (one, dim))


def _cond(channels: "Channels", eqn: Any) -> None:
    for branch in eqn.params["branches"]:
        body = close(branch).jaxpr
        _inside(channels, body)
        _same(channels, eqn.invars[1:], body.invars)
        _same(channels, eqn.outvars, body.outvars)


def _inside(channels: "Channels", body: Any) -> None:
    for variable in body.constvars:
        channels.fix(variable)
    channels.inside(body.eqns)


Rule = Callable[["Channels", Any], None]

RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(
        ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or"),
        _reduce,
    ),
    **dict.fromkeys(
        ("pad", "dynamic_slice", "reduce_window_max", "reduce_window_min", "reduce_window_sum"),
        _same_sizes,
    ),
    "slice": _slice,
    "split": _split,
    "dynamic_update_slice": _update,
    "transpose": _transpose,
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "expand_dims": _expand,
    "concatenate": _concatenate,
    "dot_general": _dot,
    "conv_general_dilated": _convolution,
    "gather": _gather,
    "iota": _iota,
    "while": _while,
    "scan": _scan,
    "cond": _cond,
}
