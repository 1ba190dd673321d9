"""Row rules of gathers, scatters and dynamic slices.

Rows stay apart when the axis of the rows is taken whole, when rows only choose what to read from
a value without rows, or when row i reads or writes at its own number: an index column that counts
along the very factor where the rows are.
"""

from collections.abc import Sequence

from jaxrt.passes import layout
from jaxrt.passes.layout import Axis, Factor, Mix, Tag, Value
from jaxrt.passes.rows_shape import columns
from jaxrt.passes.rows_walk import Site, rule, sees_mixed


def _lead(values: Sequence[Value], shape: Sequence[int]) -> tuple[Axis, ...]:
    return layout.combine(values, len(shape)) if values else tuple(layout.same(n) for n in shape)


def _head(value: Value) -> Value:
    """An index column without its last axis, of one step."""
    return Value(axes=value.axes[:-1], mixed=value.mixed, affine=value.affine)


def _index_columns(site: Site, indices: Value, shape: Sequence[int]) -> list[Value]:
    """Per coordinate, the layout over the leading axes of the indices."""
    if indices.mixed and not indices.parts:
        raise Mix(indices.mixed)
    count = shape[-1]
    if count == 0:
        return []
    found = [_head(c) for c in columns(indices, len(shape) - 1, count)]
    for column in found:
        if column.mixed:
            raise Mix(column.mixed)
    return found


def _numbering(column: Value, size: int) -> Value | None:
    """A column that counts 0, 1, ... `size`-1, with the rows where it counts."""
    counts = column.counts
    if counts is None or column.affine != (1, 0) or counts[1].size != size:
        return None
    axes = tuple(layout.retag(a, Tag.COUNTS, Tag.ROWS) for a in column.axes)
    return Value(axes=axes)


@rule("gather")
@sees_mixed
def gather(site: Site, operand: Value, indices: Value) -> Value:
    if operand.mixed:
        raise Mix(operand.mixed)
    numbers = site.params["dimension_numbers"]
    sizes = tuple(site.params["slice_sizes"])
    shape, index_shape = site.shapes
    found = _index_columns(site, indices, index_shape)
    heads = _own_rows(operand, shape, sizes, numbers.start_index_map, found)
    lead = list(_lead(heads, index_shape[:-1]))
    batching = zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True)
    for d, e in batching:
        lead[e] = layout.blend(lead[e], layout.settle(operand.axes[d]))
    gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    own = operand.rows_axis if heads is not found else None
    window = [
        () if d == own else _window(operand.axes[d], sizes[d], shape[d])
        for d in range(len(shape))
        if d not in gone
    ]
    if operand.rows_axis in numbers.collapsed_slice_dims and own is None:
        raise Mix("picks rows by an index that is not their own number")
    return Value(axes=layout.single(_dealt(lead, window, numbers.offset_dims, len(site.shape))))


def _own_rows(
    operand: Value,
    shape: Sequence[int],
    sizes: Sequence[int],
    targets: Sequence[int],
    found: list[Value],
) -> list[Value]:
    """`found`, or a new list in which the operand's row coordinate carries the rows."""
    d = operand.rows_axis
    if d is None or d not in targets or sizes[d] != 1:
        return found
    column = _numbering(found[targets.index(d)], shape[d])
    if column is None or len(operand.axes[d]) != 1:
        return found
    return [column if i == targets.index(d) else c for i, c in enumerate(found)]


def _window(axis: Axis, taken: int, size: int) -> Axis:
    return layout.settle(axis) if taken == size else layout.spread(axis, taken)


def _dealt(
    lead: Sequence[Axis], window: Sequence[Axis], window_dims: Sequence[int], rank: int
) -> list[Axis]:
    """Axes in the result's order: window axes at `window_dims`, leading ones at the others."""
    rest, inner = iter(lead), iter(window)
    return [next(inner) if i in window_dims else next(rest) for i in range(rank)]


@rule("scatter", "scatter-add", "scatter-sub", "scatter-mul", "scatter-min", "scatter-max")
@sees_mixed
def scatter(site: Site, operand: Value, indices: Value, updates: Value) -> Value:
    for value in (operand, updates):
        if value.mixed:
            raise Mix(value.mixed)
    numbers = site.params["dimension_numbers"]
    shape, index_shape, update_shape = site.shapes
    found = _index_columns(site, indices, index_shape)
    window_dims = numbers.update_window_dims
    lead = [a for i, a in enumerate(updates.axes) if i not in window_dims]
    gone = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
    kept = [d for d in range(len(shape)) if d not in gone]
    windows = {
        d: (updates.axes[w], update_shape[w]) for d, w in zip(kept, window_dims, strict=True)
    }

    axes = []
    for d, axis in enumerate(operand.axes):
        if d in windows and windows[d][1] == shape[d]:
            axes.append(layout.blend(layout.settle(axis), layout.settle(windows[d][0])))
        else:
            axes.append(axis if layout.has_rows(axis) else layout.varies(shape[d]))
    if all(not layout.has_rows(a) for v in (operand, updates, *found) for a in v.axes):
        return Value(axes=tuple(axes))
    _place_rows(site, axes, operand, found, lead, windows)
    return Value(axes=layout.single(axes))


def _place_rows(
    site: Site,
    axes: list[Axis],
    operand: Value,
    found: list[Value],
    lead: list[Axis],
    windows: dict[int, tuple[Axis, int]],
) -> None:
    """Puts the rows of a scatter into `axes`, or raises Mix."""
    numbers = site.params["dimension_numbers"]
    shape, index_shape, _ = site.shapes
    if any(layout.has_rows(a) and n != shape[d] for d, (a, n) in windows.items()):
        raise Mix("writes over a part of the rows")
    heads = [*found, Value(axes=tuple(lead))]
    spread_rows = any(layout.has_rows(a) for v in heads for a in v.axes)
    at = next((d for d in windows if layout.has_rows(axes[d])), None)
    if at is not None and windows[at][1] == shape[at]:
        if spread_rows:
            raise Mix("writes every row into every other")
        return
    pairs = dict(
        zip(numbers.operand_batching_dims, numbers.scatter_indices_batching_dims, strict=True)
    )
    combined = _lead(heads, index_shape[:-1]) if pairs else ()
    for d, e in pairs.items():
        if layout.has_rows(combined[e]) or layout.has_rows(operand.axes[d]):
            axes[d] = layout.blend(combined[e], layout.settle(operand.axes[d]))
            others = [a for i, a in enumerate(combined) if i != e]
            if any(layout.has_rows(a) for a in others):
                raise Mix("writes every row into every other")
            return
    _own_numbers(site, axes, operand, found, lead)


def _own_numbers(
    site: Site, axes: list[Axis], operand: Value, found: list[Value], lead: list[Axis]
) -> None:
    """Row i writes at its own number."""
    numbers = site.params["dimension_numbers"]
    shape, index_shape, _ = site.shapes
    for i, d in enumerate(numbers.scatter_dims_to_operand_dims):
        column = _numbering(found[i], shape[d])
        plain = operand.axes[d] in (layout.same(shape[d]), (Factor(shape[d], Tag.ROWS),))
        elsewhere = operand.rows_axis not in (None, d)
        if column is None or not plain or elsewhere or d not in numbers.inserted_window_dims:
            continue
        others = [column if j == i else c for j, c in enumerate(found)]
        try:
            layout.single(_lead([*others, Value(axes=tuple(lead))], index_shape[:-1]))
        except Mix:
            continue
        axes[d] = (Factor(shape[d], Tag.ROWS),)
        return
    raise Mix("writes rows by an index that is not their own number")


@rule("dynamic_slice")
def dynamic_slice(site: Site, operand: Value, *starts: Value) -> Value:
    _same_for_all(starts)
    sizes = zip(operand.axes, site.shape, site.shapes[0], strict=True)
    axes = tuple(_window(axis, taken, size) for axis, taken, size in sizes)
    return Value(axes=axes, const=operand.const)


@rule("dynamic_update_slice")
def dynamic_update_slice(site: Site, operand: Value, update: Value, *starts: Value) -> Value:
    _same_for_all(starts)
    axes = []
    for i, (old, new) in enumerate(zip(operand.axes, update.axes, strict=True)):
        if site.shapes[1][i] == site.shapes[0][i]:
            axes.append(layout.blend(layout.settle(old), layout.settle(new)))
        elif layout.has_rows(old) or layout.has_rows(new):
            raise Mix("writes over a part of the rows")
        else:
            axes.append(layout.varies(site.shapes[0][i]))
    return Value(axes=layout.single(axes))


def _same_for_all(starts: Sequence[Value]) -> None:
    if any(s.rows_axis is not None for s in starts):
        raise Mix("lets a row decide where to cut")
