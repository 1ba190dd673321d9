"""Row rules of primitives that move, cut, reduce, order or scan along axes."""

import math
from collections.abc import Sequence

from jaxrt.passes import layout
from jaxrt.passes.layout import Axis, Factor, Mix, Tag, Value
from jaxrt.passes.rows_walk import Site, rule, sees_mixed


def _kept(x: Value, axes: Sequence[Axis]) -> Value:
    """The same elements at other places."""
    return Value(axes=layout.single(axes), const=x.const, affine=x.affine)


@rule("broadcast_in_dim")
def broadcast_in_dim(site: Site, x: Value, *_: Value) -> Value:
    axes = [layout.same(n) for n in site.shape]
    before = site.shapes[0]
    for source, target in enumerate(site.params["broadcast_dimensions"]):
        grown = before[source] != site.shape[target]
        axes[target] = layout.tidy([*x.axes[source], *(axes[target] if grown else ())])
    return _kept(x, axes)


@rule("reshape")
def reshape(site: Site, x: Value, *_: Value) -> Value:
    axes = x.axes
    if site.params.get("dimensions") is not None:
        axes = tuple(axes[i] for i in site.params["dimensions"])
    return _kept(x, layout.reshape(axes, site.shape))


@rule("squeeze")
def squeeze(site: Site, x: Value) -> Value:
    gone = {d % len(x.axes) for d in site.params["dimensions"]}
    if any(layout.has_rows(x.axes[d]) for d in gone):
        raise Mix("drops the axis of the rows")
    return _kept(x, [a for i, a in enumerate(x.axes) if i not in gone])


@rule("expand_dims")
def expand_dims(site: Site, x: Value) -> Value:
    new = {d % len(site.shape) for d in site.params["dimensions"]}
    old = iter(x.axes)
    return _kept(x, [() if i in new else next(old) for i in range(len(site.shape))])


@rule("transpose")
def transpose(site: Site, x: Value) -> Value:
    return _kept(x, [x.axes[i] for i in site.params["permutation"]])


@rule("rev")
def rev(site: Site, x: Value) -> Value:
    axes = [
        layout.spread(a, n) if i in site.params["dimensions"] else layout.settle(a)
        for i, (a, n) in enumerate(zip(x.axes, site.shape, strict=True))
    ]
    return Value(axes=tuple(axes), const=x.const)


def cut(axis: Axis, size: int, start: int, limit: int, stride: int) -> Axis:
    """An axis sliced; where rows are, only whole blocks of them may be taken."""
    if (start, limit, stride) == (0, size, 1):
        return axis
    if not layout.has_rows(axis):
        return layout.spread(axis, math.ceil((limit - start) / stride))
    at = next(i for i, f in enumerate(axis) if f.tag is Tag.ROWS)
    block = layout.size_of(axis[at:])
    if stride != 1 or start % block or limit % block:
        raise Mix("cuts the axis of the rows")
    return layout.tidy([Factor((limit - start) // block, Tag.VARIES), *axis[at:]])


@rule("slice")
@sees_mixed
def slice_(site: Site, x: Value) -> Value:
    if part := _part(site, x):
        return part
    if x.mixed:
        return Value(mixed=x.mixed)
    starts, limits = site.params["start_indices"], site.params["limit_indices"]
    strides = site.params["strides"] or (1,) * len(starts)
    ranges = zip(x.axes, site.shapes[0], starts, limits, strides, strict=True)
    axes = [cut(*r) for r in ranges]
    whole = x.counts is None or x.axes[x.counts[0]] == axes[x.counts[0]]
    if not whole:
        axes = [layout.settle(a) for a in axes]
    return _kept(x, axes)


def _part(site: Site, x: Value) -> Value | None:
    """The piece of a concatenation that a slice takes, whole."""
    if not x.parts:
        return None
    at, pieces = x.parts
    start, limit = site.params["start_indices"][at], site.params["limit_indices"][at]
    taken = zip(site.shape, site.shapes[0], strict=True)
    others = all(n == m for i, (n, m) in enumerate(taken) if i != at)
    return pieces[start] if others and limit - start == 1 else None


@rule("split")
def split(site: Site, x: Value) -> list[Value]:
    at = site.params["axis"]
    out, start = [], 0
    for size in site.params["sizes"]:
        axes = [layout.settle(a) for a in x.axes]
        axes[at] = cut(axes[at], site.shapes[0][at], start, start + size, 1)
        out.append(Value(axes=tuple(axes), const=x.const))
        start += size
    return out


@rule("pad")
def pad(site: Site, x: Value, filler: Value) -> Value:
    axes = []
    for axis, size, config in zip(x.axes, site.shape, site.params["padding_config"], strict=True):
        untouched = config == (0, 0, 0)
        if layout.has_rows(axis) and not untouched:
            raise Mix("pads the axis of the rows")
        axes.append(layout.settle(axis) if untouched else layout.varies(size))
    const = x.const if x.const is not None and x.const == filler.const else None
    return Value(axes=tuple(axes), const=const)


MAX_PARTS = 16
"""Columns of an index are few; longer concatenations are data."""


@rule("concatenate")
@sees_mixed
def concatenate(site: Site, *values: Value) -> Value:
    at = site.params["dimension"]
    sized = zip(values, site.shapes, strict=True)
    return _concatenated([(v, s[at]) for v, s in sized if 0 not in s], at, site.shape[at])


@rule("stack")
@sees_mixed
def stack(site: Site, *values: Value) -> Value:
    at = site.params["axis"] % len(site.shape)
    grown = [v if v.mixed else _kept(v, [*v.axes[:at], (), *v.axes[at:]]) for v in values]
    return _concatenated([(v, 1) for v in grown], at, len(values))


def _concatenated(present: Sequence[tuple[Value, int]], at: int, size: int) -> Value:
    """Values with their sizes along axis `at`, one after the other."""
    if mixed := [v.mixed for v, _ in present if v.mixed]:
        return Value(mixed=mixed[0])
    parts = None
    if size <= MAX_PARTS and any(v.counts or v.parts or v.const is not None for v, _ in present):
        parts = (at, tuple(c for v, n in present for c in columns(v, at, n)))
    try:
        axes = _joined([v for v, _ in present], at, size)
    except Mix as error:
        raise Mix(str(error), parts) from error
    first = present[0][0].const
    const = first if all(v.const == first for v, _ in present) else None
    return Value(axes=axes, const=const, parts=parts)


@rule("unstack")
def unstack(site: Site, x: Value) -> list[Value]:
    at = site.params["axis"] % len(x.axes)
    if layout.has_rows(x.axes[at]):
        raise Mix("takes the rows apart")
    axes = tuple(layout.settle(a) for i, a in enumerate(x.axes) if i != at)
    return [Value(axes=axes, const=x.const)] * len(site.eqn.outvars)


@rule("tile")
def tile(site: Site, x: Value) -> Value:
    axes = [
        layout.tidy([Factor(n, Tag.SAME), *layout.settle(a)])
        for n, a in zip(site.params["reps"], x.axes, strict=True)
    ]
    return Value(axes=layout.single(axes), const=x.const)


def columns(value: Value, at: int, count: int) -> list[Value]:
    """One value per step of axis `at`, each with that axis of one step."""
    if value.parts and value.parts[0] == at and len(value.parts[1]) == count:
        return list(value.parts[1])
    counted = value.counts is not None and value.counts[0] == at
    axes = [layout.settle(a) if counted else a for a in value.axes]
    if layout.has_rows(axes[at]) and count > 1:
        raise Mix("reads rows as columns")
    if not layout.has_rows(axes[at]):
        axes[at] = ()
    affine = (1, 0) if counted else value.affine
    return [Value(axes=tuple(axes), const=value.const, affine=affine)] * count


def _joined(values: Sequence[Value], at: int, size: int) -> tuple[Axis, ...]:
    rank = len(values[0].axes)
    without = [
        Value(axes=tuple(() if i == at else a for i, a in enumerate(v.axes))) for v in values
    ]
    axes = list(layout.combine(without, rank))
    along = [v.axes[at] for v in values]
    axes[at] = _stacked(along) if any(layout.has_rows(a) for a in along) else layout.varies(size)
    return layout.single(axes)


def _stacked(along: Sequence[Axis]) -> Axis:
    """Whole blocks of rows, one after the other: [2*B, ...] of two batches."""
    outer, tails = 0, set()
    for axis in along:
        at = next((i for i, f in enumerate(axis) if f.tag is Tag.ROWS), None)
        if at is None:
            raise Mix("puts other values between the rows of the batch")
        tails.add(tuple(f.size for f in axis[at:]))
        outer += layout.size_of(axis[:at])
    if len(tails) > 1:
        raise Mix("puts other values between the rows of the batch")
    rows, *inner = tails.pop()
    return layout.tidy(
        [Factor(outer, Tag.VARIES), Factor(rows, Tag.ROWS), *(Factor(n, Tag.VARIES) for n in inner)]
    )


def dropped(values: Sequence[Value], axes: Sequence[int], rank: int) -> tuple[Axis, ...]:
    found = layout.combine(values, rank)
    if any(layout.has_rows(found[a]) for a in axes):
        raise Mix("reduces over the rows of the batch")
    return tuple(a for i, a in enumerate(found) if i not in axes)


@rule(
    "reduce_sum",
    "reduce_prod",
    "reduce_max",
    "reduce_min",
    "reduce_and",
    "reduce_or",
    "reduce_xor",
    "argmax",
    "argmin",
)
def reduction(site: Site, x: Value) -> Value:
    return Value(axes=dropped([x], site.params["axes"], len(x.axes)))


@rule("reduce")
def reduce(site: Site, *values: Value) -> list[Value]:
    data = values[: len(values) // 2]
    axes = dropped(data, site.params["dimensions"], len(data[0].axes))
    return [Value(axes=axes)] * len(data)


def along(site: Site, values: Sequence[Value], at: int, what: str) -> Value:
    """Elementwise but for axis `at`, whose positions are mixed."""
    axes = list(layout.combine(values, len(values[0].axes)))
    at %= len(axes)
    if layout.has_rows(axes[at]):
        raise Mix(f"{what} the rows of the batch")
    axes[at] = layout.varies(site.shape[at])
    return Value(axes=tuple(axes))


@rule("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
def cumulative(site: Site, x: Value) -> Value:
    return along(site, [x], site.params["axis"], "accumulates over")


@rule("sort")
def sort(site: Site, *values: Value) -> list[Value]:
    return [along(site, values, site.params["dimension"], "sorts")] * len(values)


@rule("top_k")
def top_k(site: Site, x: Value) -> list[Value]:
    return [along(site, [x], site.params.get("axis", -1), "picks the largest of")] * 2


@rule("approx_top_k")
def approx_top_k(site: Site, x: Value) -> list[Value]:
    return [along(site, [x], site.params["reduction_dimension"], "picks the largest of")] * 2


@rule("bitcast_convert_type")
def bitcast(site: Site, x: Value) -> Value:
    axes = [layout.settle(a) for a in x.axes]
    grown = len(site.shape) - len(axes)
    if grown > 0:
        return Value(axes=(*axes, layout.varies(site.shape[-1])))
    if grown < 0 and layout.has_rows(axes[-1]):
        raise Mix("takes rows for bytes")
    return Value(axes=tuple(axes[: len(site.shape)]))
