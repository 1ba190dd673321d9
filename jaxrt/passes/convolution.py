"""One convolution in canonical form: what the candidate lowerings, their rules and timings see."""

import dataclasses
import math
from typing import Any

from jax import lax

REWRITABLE = ("float32", "float64")
"""Narrower floats accumulate in ways of XLA's own; they are left to it."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Convolution:
    """x [batch, *spatial, features] with kernel [*window, features / groups, out_features].

    Invariant: all tuples have one element per spatial dimension, of which there is at least one.
    """

    batch: int
    spatial: tuple[int, ...]
    features: int
    window: tuple[int, ...]
    out_features: int
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    """Zeros before and after each spatial dimension; negative ones crop."""
    lhs_dilation: tuple[int, ...]
    """d - 1 zeros between elements of x: d > 1 is a transposed convolution."""
    rhs_dilation: tuple[int, ...]
    groups: int
    dtype: str
    fixed: bool
    """The kernel depends on weights alone, so it may be transformed once."""

    @property
    def out_spatial(self) -> tuple[int, ...]:
        return tuple(
            max(0, (dilated(n, d) + lo + hi - dilated(k, r)) // s + 1)
            for n, k, s, (lo, hi), d, r in zip(
                self.spatial,
                self.window,
                self.strides,
                self.padding,
                self.lhs_dilation,
                self.rhs_dilation,
                strict=True,
            )
        )

    @property
    def x_shape(self) -> tuple[int, ...]:
        return (self.batch, *self.spatial, self.features)

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        return (*self.window, self.features // self.groups, self.out_features)

    @property
    def out_shape(self) -> tuple[int, ...]:
        return (self.batch, *self.out_spatial, self.out_features)

    @property
    def rank(self) -> int:
        return len(self.spatial)

    @property
    def is_depthwise(self) -> bool:
        return self.groups == self.features and self.groups > 1

    @property
    def is_transposed(self) -> bool:
        return any(d > 1 for d in self.lhs_dilation)

    @property
    def terms(self) -> int:
        """Products summed for one output element."""
        return math.prod(self.window) * self.features // self.groups

    @property
    def flops(self) -> int:
        """Of the direct algorithm; a transposed convolution skips the zeros it inserts."""
        skipped = math.prod(self.lhs_dilation)
        return 2 * math.prod(self.out_shape) * self.terms // skipped

    def __str__(self) -> str:
        """All fields, short: the key of timings and the name in reports."""
        parts = [
            f"{self.dtype}[{','.join(map(str, self.x_shape))}]",
            f"{_sizes(self.window)} -> {self.out_features}",
            f"pad {' '.join(f'{lo},{hi}' for lo, hi in self.padding)}",
        ]
        if any(s != 1 for s in self.strides):
            parts.append(f"stride {_sizes(self.strides)}")
        if self.is_transposed:
            parts.append(f"transposed {_sizes(self.lhs_dilation)}")
        if any(r != 1 for r in self.rhs_dilation):
            parts.append(f"dilated {_sizes(self.rhs_dilation)}")
        if self.groups > 1:
            parts.append(f"{self.groups} groups")
        return ", ".join(parts if self.fixed else [*parts, "kernel computed"])


def _sizes(values: tuple[int, ...]) -> str:
    return "x".join(map(str, values))


def dilated(size: int, dilation: int) -> int:
    """Elements from the first to the last of `size` that lie `dilation` apart."""
    return 0 if size == 0 else (size - 1) * dilation + 1


def convolution_of(eqn: Any, *, fixed: bool) -> Convolution | None:
    """The record of a `conv_general_dilated` equation; None for one that only XLA does.

    Those are convolutions without spatial dimensions, grouped by batch, of dtypes outside
    REWRITABLE, or of results of another dtype than the operands.
    """
    params = eqn.params
    x, kernel = (v.aval for v in eqn.invars)
    out = eqn.outvars[0].aval
    numbers = params["dimension_numbers"]
    same = {x.dtype.name, kernel.dtype.name, out.dtype.name}
    if len(same) > 1 or x.dtype.name not in REWRITABLE:
        return None
    if params["batch_group_count"] != 1 or len(x.shape) < 3 or 0 in (*x.shape, *out.shape):
        return None
    batch, features, *spatial = (x.shape[i] for i in numbers.lhs_spec)
    out_features, _, *window = (kernel.shape[i] for i in numbers.rhs_spec)
    return Convolution(
        batch=batch,
        spatial=tuple(spatial),
        features=features,
        window=tuple(window),
        out_features=out_features,
        strides=tuple(params["window_strides"]),
        padding=tuple((int(lo), int(hi)) for lo, hi in params["padding"]),
        lhs_dilation=tuple(params["lhs_dilation"]),
        rhs_dilation=tuple(params["rhs_dilation"]),
        groups=params["feature_group_count"],
        dtype=x.dtype.name,
        fixed=fixed,
    )


def numbers(rank: int) -> lax.ConvDimensionNumbers:
    """Of the canonical form: batch first, features last; kernels in, out last."""
    spatial = tuple(range(1, rank + 1))
    return lax.ConvDimensionNumbers(
        lhs_spec=(0, rank + 1, *spatial),
        rhs_spec=(rank + 1, rank, *range(rank)),
        out_spec=(0, rank + 1, *spatial),
    )


def canonical(eqn: Any) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Transpositions of an equation: of x and of the kernel into canonical form, of y out of it."""
    spec = eqn.params["dimension_numbers"]
    batch, features, *spatial = spec.lhs_spec
    out_features, in_features, *window = spec.rhs_spec
    out_batch, out_channel, *out_spatial = spec.out_spec
    canonical_y = (out_batch, *out_spatial, out_channel)
    back = tuple(canonical_y.index(i) for i in range(len(canonical_y)))
    return (batch, *spatial, features), (*window, in_features, out_features), back


def xla(conv: Convolution, x: Any, kernel: Any) -> Any:
    """XLA's own convolution, on canonical operands."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=conv.strides,
        padding=conv.padding,
        lhs_dilation=conv.lhs_dilation,
        rhs_dilation=conv.rhs_dilation,
        dimension_numbers=numbers(conv.rank),
        feature_group_count=conv.groups,
    )
