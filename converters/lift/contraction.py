"""Dots, convolutions and einsums."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxrt.converters.lift import shape
from jaxrt.converters.lift.evaluator import rule
from jaxrt.converters.lift.module import Operation, dtype_named

_Precision = tuple[lax.Precision, lax.Precision] | None


def precision(op: Operation) -> _Precision:
    """`precision_config`, one per operand; None where it is absent, empty or DEFAULT twice."""
    named = op.attrs.get("precision_config", ())
    if all(name == "DEFAULT" for name in named):
        return None
    lhs, rhs = (lax.Precision[name] for name in named)
    return lhs, rhs


_PRESETS = {
    ("tf32", "f32", 1): lax.DotAlgorithmPreset.TF32_TF32_F32,
    ("tf32", "f32", 3): lax.DotAlgorithmPreset.TF32_TF32_F32_X3,
    ("bf16", "bf16", 1): lax.DotAlgorithmPreset.BF16_BF16_BF16,
    ("bf16", "f32", 1): lax.DotAlgorithmPreset.BF16_BF16_F32,
    ("bf16", "f32", 3): lax.DotAlgorithmPreset.BF16_BF16_F32_X3,
    ("bf16", "f32", 6): lax.DotAlgorithmPreset.BF16_BF16_F32_X6,
    ("bf16", "f32", 9): lax.DotAlgorithmPreset.BF16_BF16_F32_X9,
    ("f16", "f16", 1): lax.DotAlgorithmPreset.F16_F16_F16,
    ("f16", "f32", 1): lax.DotAlgorithmPreset.F16_F16_F32,
    ("f32", "f32", 1): lax.DotAlgorithmPreset.F32_F32_F32,
    ("f64", "f64", 1): lax.DotAlgorithmPreset.F64_F64_F64,
}
"""Operands' and accumulator's type, number of products → JAX's name. tf32 has no dtype."""


def algorithm(found: Mapping[str, Any]) -> lax.DotAlgorithmPreset | lax.DotAlgorithm:
    """A `stablehlo.dot_algorithm` → JAX's; raises KeyError for a type that has no dtype."""
    lhs, rhs, accumulation = (
        found[f"{name}_type"] for name in ("lhs_precision", "rhs_precision", "accumulation")
    )
    counts = (found["lhs_component_count"], found["rhs_component_count"])
    products = found["num_primitive_operations"]
    imprecise = found["allow_imprecise_accumulation"]
    if lhs == rhs and counts == (1, 1) and not imprecise:
        preset = _PRESETS.get((lhs, accumulation, products))
        if preset is not None:
            return preset
    return lax.DotAlgorithm(
        dtype_named(lhs), dtype_named(rhs), dtype_named(accumulation), *counts, products, imprecise
    )


@rule("stablehlo.dot_general", "dot_dimension_numbers", "precision_config", "algorithm")
def dot_general(op: Operation, lhs: Array, rhs: Array) -> Array:
    """Result: batching dimensions, then what is left of lhs, then of rhs."""
    numbers = op.attrs["dot_dimension_numbers"]
    contracting, batching = (
        (numbers[f"lhs_{kind}_dimensions"], numbers[f"rhs_{kind}_dimensions"])
        for kind in ("contracting", "batching")
    )
    return lax.dot_general(
        lhs,
        rhs,
        (contracting, batching),
        precision=algorithm(op.attrs["algorithm"]) if "algorithm" in op.attrs else precision(op),
        preferred_element_type=op.aval.dtype,
    )


@rule("stablehlo.dot", "precision_config")
def dot(op: Operation, lhs: Array, rhs: Array) -> Array:
    """The last dimension of lhs with the first of rhs; of rank 1 or 2 each."""
    return lax.dot_general(
        lhs,
        rhs,
        (((lhs.ndim - 1,), (0,)), ((), ())),
        precision=precision(op),
        preferred_element_type=op.aval.dtype,
    )


@rule("stablehlo.einsum", "einsum_config")
@rule("stablehlo.unary_einsum", "einsum_config")
def einsum(op: Operation, *operands: Array) -> Array:
    return jnp.einsum(op.attrs["einsum_config"], *operands, preferred_element_type=op.aval.dtype)


_WINDOW = (
    "window_strides",
    "lhs_dilation",
    "rhs_dilation",
    "window_reversal",
    "dimension_numbers",
    "feature_group_count",
    "batch_group_count",
    "precision_config",
)


@rule("stablehlo.convolution", "padding", *_WINDOW)
def convolution(op: Operation, lhs: Array, rhs: Array) -> Array:
    spatial = len(op.attrs["dimension_numbers"]["input_spatial_dimensions"])
    padding = np.reshape(op.attrs.get("padding", np.zeros((spatial, 2), np.int64)), (-1, 2))
    dilation = op.attrs.get("lhs_dilation", (1,) * spatial)
    return convolved(op, lhs, rhs, [(int(low), int(high)) for low, high in padding], dilation)


@rule("stablehlo.dynamic_conv", "padding", *_WINDOW)
def dynamic_conv(op: Operation, lhs: Array, rhs: Array, amounts: Array) -> Array:
    """`amounts` [spatial, 2] are data; how much of the padded input is used is not.

    So the input is padded first, to that size, and the convolution itself has no padding.
    """
    numbers = op.attrs["dimension_numbers"]
    spatial = numbers["input_spatial_dimensions"]
    ones = (1,) * len(spatial)
    dilation, spread, strides = (
        op.attrs.get(name, ones) for name in ("lhs_dilation", "rhs_dilation", "window_strides")
    )
    sizes = list(lhs.shape)
    low: list[Any] = [np.zeros((), np.int64)] * lhs.ndim
    interior = np.zeros(lhs.ndim, np.int64)
    for i, axis in enumerate(spatial):
        outputs = op.aval.shape[numbers["output_spatial_dimensions"][i]]
        kernel = rhs.shape[numbers["kernel_spatial_dimensions"][i]]
        sizes[axis] = (outputs - 1) * strides[i] + (kernel - 1) * spread[i] + 1
        low[axis] = lax.convert_element_type(
            lax.index_in_dim(lax.index_in_dim(amounts, i, keepdims=False), 0, keepdims=False),
            np.dtype(np.int64),
        )
        interior[axis] = dilation[i] - 1
    front = lax.concatenate([lax.reshape(v, (1,)) for v in low], 0)
    zero = lax.full((), 0, lhs.dtype)
    wide = shape.padded(lhs, zero, front, jnp.asarray(interior), sizes)
    return convolved(op, wide, rhs, [(0, 0)] * len(spatial), ones)


def convolved(
    op: Operation,
    lhs: Array,
    rhs: Array,
    padding: Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int],
) -> Array:
    """Absent strides and dilations are ones, reversal is false, group counts are 1."""
    numbers = op.attrs["dimension_numbers"]
    kernel_spatial = numbers["kernel_spatial_dimensions"]
    ones = (1,) * len(kernel_spatial)
    reversal = op.attrs.get("window_reversal", (False,) * len(kernel_spatial))
    if flipped := [d for d, r in zip(kernel_spatial, reversal, strict=True) if r]:
        rhs = lax.rev(rhs, flipped)
    return lax.conv_general_dilated(
        lhs,
        rhs,
        window_strides=op.attrs.get("window_strides", ones),
        padding=padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=op.attrs.get("rhs_dilation", ones),
        dimension_numbers=_layout(numbers),
        feature_group_count=op.attrs.get("feature_group_count", 1),
        batch_group_count=op.attrs.get("batch_group_count", 1),
        precision=precision(op),
        preferred_element_type=op.aval.dtype,
    )


def _layout(numbers: Mapping[str, Any]) -> lax.ConvDimensionNumbers:
    """StableHLO's names of dimensions → lax's order: batch, feature, then the spatial ones."""

    def spec(side: str, first: str, second: str) -> tuple[int, ...]:
        spatial = numbers[f"{side}_spatial_dimensions"]
        return (
            numbers[f"{side}_{first}_dimension"],
            numbers[f"{side}_{second}_dimension"],
            *spatial,
        )

    return lax.ConvDimensionNumbers(
        spec("input", "batch", "feature"),
        spec("kernel", "output_feature", "input_feature"),
        spec("output", "batch", "feature"),
    )
