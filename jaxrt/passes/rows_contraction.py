"""Row rules of products, convolutions, windows, transforms and linear algebra."""

from collections.abc import Sequence

from jaxrt.passes import layout
from jaxrt.passes.layout import Axis, Mix, Value
from jaxrt.passes.rows_walk import Site, rule


@rule("dot_general")
def dot_general(site: Site, x: Value, y: Value) -> Value:
    (left, right), (left_batch, right_batch) = site.params["dimension_numbers"]
    if any(layout.has_rows(x.axes[i]) for i in left) or any(
        layout.has_rows(y.axes[i]) for i in right
    ):
        raise Mix("sums over the rows of the batch")
    batch = [
        layout.blend(layout.settle(x.axes[i]), layout.settle(y.axes[j]))
        for i, j in zip(left_batch, right_batch, strict=True)
    ]
    free = [
        *(layout.settle(a) for i, a in enumerate(x.axes) if i not in {*left, *left_batch}),
        *(layout.settle(a) for i, a in enumerate(y.axes) if i not in {*right, *right_batch}),
    ]
    return Value(axes=layout.single([*batch, *free]))


@rule("conv_general_dilated")
def convolution(site: Site, x: Value, kernel: Value) -> Value:
    if kernel.rows_axis is not None:
        raise Mix("convolves with a kernel that holds rows of the batch")
    numbers = site.params["dimension_numbers"]
    at = numbers.lhs_spec[0]
    grouped = site.params["batch_group_count"] != 1
    if x.rows_axis not in (None, at) or (grouped and x.rows_axis is not None):
        raise Mix("convolves over the rows of the batch")
    axes = [layout.varies(n) for n in site.shape]
    if not grouped:
        axes[numbers.out_spec[0]] = layout.settle(x.axes[at])
    return Value(axes=tuple(axes))


def _windows(site: Site, rank: int) -> list[bool]:
    """Per axis, whether the window leaves it alone: one step, no stride, padding or dilation."""
    params = site.params
    ones = (1,) * rank
    windows = zip(
        params["window_dimensions"],
        params["window_strides"],
        params.get("window_dilation") or ones,
        params.get("base_dilation") or ones,
        params["padding"],
        strict=True,
    )
    return [w[:4] == (1, 1, 1, 1) and tuple(w[4]) == (0, 0) for w in windows]


def _windowed(site: Site, values: Sequence[Value]) -> tuple[Axis, ...]:
    axes = layout.combine(values, len(values[0].axes))
    out = []
    for axis, size, alone in zip(axes, site.shape, _windows(site, len(axes)), strict=True):
        if not alone and layout.has_rows(axis):
            raise Mix("takes windows over the rows of the batch")
        out.append(axis if alone else layout.varies(size))
    return tuple(out)


@rule("reduce_window_sum", "reduce_window_max", "reduce_window_min")
def reduce_window_simple(site: Site, x: Value) -> Value:
    return Value(axes=_windowed(site, [x]))


@rule("reduce_window")
def reduce_window(site: Site, *values: Value) -> list[Value]:
    data = values[: len(values) // 2]
    return [Value(axes=_windowed(site, data))] * len(data)


@rule("select_and_gather_add")
def select_and_gather(site: Site, x: Value, y: Value) -> Value:
    return Value(axes=_windowed(site, [x, y]))


@rule("select_and_scatter")
def select_and_scatter(site: Site, operand: Value, source: Value, start: Value) -> Value:
    return _scattered(site, source, operand)


@rule("select_and_scatter_add")
def select_and_scatter_add(site: Site, source: Value, operand: Value) -> Value:
    return _scattered(site, source, operand)


def _scattered(site: Site, source: Value, operand: Value) -> Value:
    alone = _windows(site, len(operand.axes))
    axes = []
    for a, b, untouched, n in zip(source.axes, operand.axes, alone, site.shape, strict=True):
        if untouched:
            axes.append(layout.blend(layout.settle(a), layout.settle(b)))
        elif layout.has_rows(a) or layout.has_rows(b):
            raise Mix("takes windows over the rows of the batch")
        else:
            axes.append(layout.varies(n))
    return Value(axes=layout.single(axes))


@rule("fft")
def fft(site: Site, x: Value) -> Value:
    count = len(site.params["fft_lengths"])
    return _leading(site, [x], [count])[0]


def _leading(site: Site, values: Sequence[Value], cores: Sequence[int]) -> list[Value]:
    """Every result keeps the leading axes; the last `cores` axes of the operands are mixed."""
    heads = []
    for value, core in zip(values, cores, strict=True):
        lead = len(value.axes) - core
        if any(layout.has_rows(a) for a in value.axes[lead:]):
            raise Mix("mixes the axis of the rows")
        heads.append(Value(axes=value.axes[:lead]))
    axes = layout.combine(heads, len(heads[0].axes))
    out = []
    for var in site.eqn.outvars:
        shape = tuple(var.aval.shape)
        out.append(Value(axes=(*axes, *(layout.varies(n) for n in shape[len(axes) :]))))
    return out


@rule("cholesky", "lu", "qr", "geqrf", "eig", "eigh", "svd", "schur", "hessenberg", "tridiagonal")
def factorization(site: Site, *values: Value) -> list[Value]:
    return _leading(site, values, [2] * len(values))


@rule("triangular_solve")
def triangular_solve(site: Site, a: Value, b: Value) -> list[Value]:
    return _leading(site, [a, b], [2, 2])


@rule("lu_pivots_to_permutation")
def permutation(site: Site, pivots: Value) -> list[Value]:
    return _leading(site, [pivots], [1])


@rule("householder_product")
def householder_product(site: Site, a: Value, taus: Value) -> list[Value]:
    return _leading(site, [a, taus], [2, 1])


@rule("geqp3")
def pivoted_qr(site: Site, a: Value, pivots: Value) -> list[Value]:
    return _leading(site, [a, pivots], [2, 1])


@rule("ormqr")
def multiply_by_q(site: Site, a: Value, taus: Value, c: Value) -> list[Value]:
    return _leading(site, [a, taus, c], [2, 1, 2])


@rule("tridiagonal_solve")
def tridiagonal_solve(site: Site, *values: Value) -> list[Value]:
    return _leading(site, values, [1, 1, 1, 2])
