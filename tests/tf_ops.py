"""TensorFlow functions, op by op: what they compute, and the StableHLO that TensorFlow makes.

`python tests/tf_ops.py FOLDER` writes `NAME.stablehlo` and `NAME.npz` (x0…, y0…) for each case.
One process for all of them: TensorFlow takes seconds to import. Importing this file does not.
"""

import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True)
class Case:
    """`function(tf, *inputs)`, and the inputs as `dtype[shape]`, or `dtype[shape] low high`."""

    function: Callable[..., Any]
    inputs: tuple[str, ...]
    rtol: float = 2e-5


def case(function: Callable[..., Any], *inputs: str, rtol: float = 2e-5) -> Case:
    return Case(function, inputs, rtol)


def operand(spec: str, seed: int) -> Array:
    """`float32[2,3] 0 1`: uniform; integers include both ends."""
    declared, *bounds = spec.split(" ")
    dtype, shape = declared.removesuffix("]").split("[")
    sizes = [int(n) for n in shape.split(",") if n]
    low, high = (float(b) for b in bounds) if bounds else (-2.0, 2.0)
    random = np.random.default_rng(seed)
    if dtype == "bool":
        return random.integers(0, 2, sizes) > 0
    if dtype.startswith(("int", "uint")):
        return random.integers(int(low), int(high), sizes, endpoint=True).astype(dtype)
    if dtype.startswith("complex"):
        return (random.uniform(low, high, sizes) + 1j * random.uniform(low, high, sizes)).astype(
            dtype
        )
    return random.uniform(low, high, sizes).astype(np.float64 if dtype == "float64" else np.float32)


IMAGE = "float32[2,7,6,3]"
KERNEL = "float32[3,2,3,4]"
MATRIX = "float32[3,5]"

CONVOLUTIONS = {
    "conv2d_same": case(lambda tf, x, w: tf.nn.conv2d(x, w, 1, "SAME"), IMAGE, KERNEL),
    "conv2d_valid_strided": case(
        lambda tf, x, w: tf.nn.conv2d(x, w, [1, 2, 3, 1], "VALID"), IMAGE, KERNEL
    ),
    "conv2d_same_strided": case(lambda tf, x, w: tf.nn.conv2d(x, w, 2, "SAME"), IMAGE, KERNEL),
    "conv2d_dilated": case(
        lambda tf, x, w: tf.nn.conv2d(x, w, 1, "SAME", dilations=2), IMAGE, KERNEL
    ),
    "conv2d_explicit": case(
        lambda tf, x, w: tf.nn.conv2d(x, w, 1, [[0, 0], [1, 2], [0, 3], [0, 0]]), IMAGE, KERNEL
    ),
    "conv1d": case(
        lambda tf, x, w: tf.nn.conv1d(x, w, 2, "SAME"), "float32[2,9,3]", "float32[4,3,5]"
    ),
    "conv3d": case(
        lambda tf, x, w: tf.nn.conv3d(x, w, [1, 1, 2, 1, 1], "SAME"),
        *("float32[1,4,5,4,2]", "float32[2,3,2,2,3]"),
    ),
    "depthwise": case(
        lambda tf, x, w: tf.nn.depthwise_conv2d(x, w, [1, 1, 1, 1], "SAME"),
        *(IMAGE, "float32[3,3,3,1]"),
    ),
    "depthwise_multiplied_strided": case(
        lambda tf, x, w: tf.nn.depthwise_conv2d(x, w, [1, 2, 2, 1], "VALID"),
        *(IMAGE, "float32[3,3,3,2]"),
    ),
    "separable": case(
        lambda tf, x, w, p: tf.nn.separable_conv2d(x, w, p, [1, 1, 1, 1], "SAME"),
        *(IMAGE, "float32[3,3,3,2]", "float32[1,1,6,4]"),
    ),
    "conv2d_transpose": case(
        lambda tf, x, w: tf.nn.conv2d_transpose(x, w, [2, 14, 12, 4], 2, "SAME"),
        *(IMAGE, "float32[3,3,4,3]"),
    ),
    "conv2d_transpose_valid": case(
        lambda tf, x, w: tf.nn.conv2d_transpose(x, w, [2, 16, 13, 4], 2, "VALID"),
        *(IMAGE, "float32[4,3,4,3]"),
    ),
    "max_pool": case(lambda tf, x: tf.nn.max_pool2d(x, 3, 2, "SAME"), IMAGE),
    "max_pool_valid": case(lambda tf, x: tf.nn.max_pool2d(x, [2, 3], [1, 2], "VALID"), IMAGE),
    "avg_pool": case(lambda tf, x: tf.nn.avg_pool2d(x, 3, 2, "SAME"), IMAGE),
    "avg_pool_valid": case(lambda tf, x: tf.nn.avg_pool2d(x, 2, 2, "VALID"), IMAGE),
    "max_pool3d": case(lambda tf, x: tf.nn.max_pool3d(x, 2, 2, "SAME"), "float32[1,4,5,4,2]"),
    "avg_pool3d": case(lambda tf, x: tf.nn.avg_pool3d(x, 2, 2, "VALID"), "float32[1,4,5,4,2]"),
    "max_pool_grad": case(
        lambda tf, x: tf.gradients(tf.nn.max_pool2d(x, 2, 2, "SAME") ** 2, x), IMAGE
    ),
    "avg_pool_grad": case(
        lambda tf, x: tf.gradients(tf.nn.avg_pool2d(x, 3, 2, "SAME") ** 2, x), IMAGE
    ),
    "conv2d_grads": case(
        lambda tf, x, w: tf.gradients(tf.nn.conv2d(x, w, 2, "SAME") ** 2, [x, w]),
        *(IMAGE, KERNEL),
        rtol=1e-4,
    ),
    "local_response_normalization": case(
        lambda tf, x: tf.nn.local_response_normalization(x, 2, 1.0, 0.5, 0.75), "float32[1,3,3,8]"
    ),
    "extract_patches": case(
        lambda tf, x: tf.image.extract_patches(x, [1, 3, 3, 1], [1, 2, 2, 1], [1, 1, 1, 1], "SAME"),
        IMAGE,
    ),
}

NORMALIZATION = {
    "fused_batch_norm": case(
        lambda tf, x, s, o, m, v: tf.compat.v1.nn.fused_batch_norm(
            x, s, o, m, v, is_training=False
        )[0],
        *(IMAGE, *["float32[3] 0.5 2"] * 4),
    ),
    "fused_batch_norm_training": case(
        lambda tf, x, s, o: tf.compat.v1.nn.fused_batch_norm(x, s, o, is_training=True),
        *(IMAGE, *["float32[3] 0.5 2"] * 2),
    ),
    "layer_norm": case(
        lambda tf, x: (
            (x - tf.nn.moments(x, [-1], keepdims=True)[0])
            * tf.math.rsqrt(tf.nn.moments(x, [-1], keepdims=True)[1] + 1e-3)
        ),
        "float32[2,4,8]",
    ),
    "softmax": case(lambda tf, x: tf.nn.softmax(x), MATRIX),
    "softmax_axis": case(lambda tf, x: tf.nn.softmax(x, axis=1), "float32[2,3,4]"),
    "log_softmax": case(lambda tf, x: tf.nn.log_softmax(x), MATRIX),
    "cross_entropy": case(
        lambda tf, x, y: tf.nn.sparse_softmax_cross_entropy_with_logits(y, x),
        *(MATRIX, "int32[3] 0 4"),
    ),
    "l2_normalize": case(lambda tf, x: tf.nn.l2_normalize(x, -1), MATRIX),
    "moments": case(lambda tf, x: tf.nn.moments(x, [0, 2]), "float32[2,4,8]"),
}

_ACTIVATIONS = (
    *("relu", "relu6", "elu", "selu", "softplus", "softsign", "swish", "leaky_relu", "gelu"),
    *("crelu", "sigmoid", "tanh"),
)
_UNARY = (
    *("abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "ceil", "cos", "cosh", "digamma"),
    *("erf", "erfc", "exp", "expm1", "floor", "is_finite", "is_inf", "is_nan", "lgamma", "log"),
    *("log1p", "log_sigmoid", "negative", "reciprocal", "rint", "round", "rsqrt", "sigmoid"),
    *("sign", "sin", "sinh", "softplus", "sqrt", "square", "tan", "tanh", "bessel_i0e"),
    *("bessel_i1e", "erfinv", "ndtri", "erfcinv"),
)


def _math(name: str) -> Callable[..., Any]:
    return lambda tf, *xs: getattr(tf.math, name)(*xs)


def _nn(name: str) -> Callable[..., Any]:
    return lambda tf, *xs: getattr(tf.nn, name)(*xs)


ELEMENTWISE = {
    **{f"nn_{name}": case(_nn(name), MATRIX) for name in _ACTIVATIONS},
    **{f"{name}_f32": case(_math(name), "float32[17] 0.05 0.95", rtol=1e-4) for name in _UNARY},
    **{f"{name}_f64": case(_math(name), "float64[17] 0.05 0.95", rtol=1e-6) for name in _UNARY},
    "wide_tan": case(_math("tan"), "float32[17] -9 9", rtol=1e-4),
    "wide_erf": case(_math("erf"), "float32[17] -4 4", rtol=1e-4),
    "wide_lgamma": case(_math("lgamma"), "float32[17] -4.7 9", rtol=1e-3),
    "gelu_tanh": case(lambda tf, x: tf.nn.gelu(x, True), MATRIX, rtol=1e-4),
    "complex_exp": case(_math("exp"), "complex64[5]"),
    "complex_abs_angle": case(
        lambda tf, x: (tf.abs(x), tf.math.angle(x), tf.math.conj(x)), "complex64[5]"
    ),
    "igamma": case(_math("igamma"), "float32[9] 0.2 4", "float32[9] 0.1 5", rtol=1e-4),
    "igammac": case(_math("igammac"), "float32[9] 0.2 4", "float32[9] 0.1 5", rtol=1e-4),
    "betainc": case(_math("betainc"), *["float64[9] 0.1 0.9"] * 3, rtol=1e-6),
    "zeta": case(_math("zeta"), "float64[9] 1.5 4", "float64[9] 0.5 4", rtol=1e-6),
    "polygamma": case(
        lambda tf, x: tf.math.polygamma(tf.constant([1.0, 2, 3], tf.float64), x),
        *("float64[3] 0.5 4",),
        rtol=1e-6,
    ),
    "atan2": case(_math("atan2"), MATRIX, MATRIX),
    "nextafter": case(_math("nextafter"), "float64[9]", "float64[9]", rtol=0.0),
    "pow": case(_math("pow"), "float32[3,5] 0.1 3", MATRIX, rtol=1e-4),
    "pow_int": case(lambda tf, x, y: x**y, "int32[9] -3 3", "int32[9] 0 5", rtol=0.0),
    "floormod": case(lambda tf, x, y: x % y, "float32[9] -5 5", "float32[9] 0.5 2"),
    "floormod_int": case(lambda tf, x: x % tf.constant([-3, 3, 2] * 5), "int32[15] -9 9", rtol=0.0),
    "floordiv_int": case(
        lambda tf, x: x // tf.constant([-3, 3, 2] * 5), "int32[15] -9 9", rtol=0.0
    ),
    "truncatediv": case(
        lambda tf, x: tf.truncatediv(x, tf.constant([-3, 3, 2] * 5)), "int32[15] -9 9", rtol=0.0
    ),
    "truncatemod": case(
        lambda tf, x: tf.truncatemod(x, tf.constant([-3, 3, 2] * 5)), "int32[15] -9 9", rtol=0.0
    ),
    "uint8_wraps": case(lambda tf, x, y: (x + y, x - y, x * y), "uint8[9] 0 255", "uint8[9] 0 255"),
    "bitwise": case(
        lambda tf, x, y: (
            tf.bitwise.bitwise_and(x, y),
            tf.bitwise.bitwise_xor(x, y),
            tf.bitwise.invert(x),
            tf.bitwise.left_shift(x, y),
            tf.bitwise.right_shift(x, y),
        ),
        *("int32[9] 0 99", "int32[9] 0 9"),
    ),
    "right_shift_unsigned": case(
        lambda tf, x, y: tf.bitwise.right_shift(x, y), "uint8[9] 0 255", "uint8[9] 0 7"
    ),
    "population_count": case(
        lambda tf, x: tf.raw_ops.PopulationCount(x=x), "int32[9] -99 99", rtol=0.0
    ),
    "logical": case(
        lambda tf, x, y: (x & y, x | y, tf.math.logical_xor(x, y), ~x), "bool[9]", "bool[9]"
    ),
    "comparisons": case(
        lambda tf, x, y: (x < y, x <= y, x > y, x >= y, tf.equal(x, y), tf.not_equal(x, y)),
        *("int64[20] 0 3", "int64[20] 0 3"),
    ),
    "maximum_minimum": case(lambda tf, x, y: (tf.maximum(x, y), tf.minimum(x, y)), MATRIX, MATRIX),
    "clip": case(lambda tf, x: tf.clip_by_value(x, -0.5, 0.75), MATRIX),
    "where": case(lambda tf, p, x, y: tf.where(p, x, y), "bool[3,5]", MATRIX, "float32[5]"),
    "casts": case(
        lambda tf, x: tuple(
            tf.cast(tf.cast(x, t), tf.float32)
            for t in (tf.int8, tf.int32, tf.int64, tf.bool, tf.float16, tf.bfloat16, tf.float64)
        ),
        "float32[17] -9 9",
    ),
    "cast_complex": case(lambda tf, x: tf.cast(x, tf.float32), "complex64[5]"),
    "bitcast": case(
        lambda tf, x: (tf.bitcast(x, tf.int32), tf.bitcast(x, tf.uint8)), "float32[9]", rtol=0.0
    ),
    "bitcast_wider": case(lambda tf, x: tf.bitcast(x, tf.int64), "uint8[3,8] 0 255", rtol=0.0),
    "xdivy_xlogy": case(
        lambda tf, x, y: (tf.math.xlogy(x, y), tf.math.divide_no_nan(x, y), tf.math.xlog1py(x, y)),
        *("float32[9] 0 2", "float32[9] 0.5 2"),
    ),
    "squared_difference": case(_math("squared_difference"), MATRIX, MATRIX),
    "fake_quant": case(
        lambda tf, x: tf.quantization.fake_quant_with_min_max_args(x, -1.5, 1.75, 5), MATRIX
    ),
    "fake_quant_vars": case(
        lambda tf, x: tf.quantization.fake_quant_with_min_max_vars(x, -1.0, 1.5), MATRIX
    ),
    "bfloat16": case(
        lambda tf, x, y: tf.cast(
            tf.nn.relu(tf.cast(x, tf.bfloat16) * tf.cast(y, tf.bfloat16)), tf.float32
        ),
        *(MATRIX, MATRIX),
        rtol=1e-2,
    ),
}

REDUCTIONS = {
    **{
        f"reduce_{name}": case(
            lambda tf, x, n=name: getattr(tf, f"reduce_{n}")(x, [0, 2]), "float32[3,4,5]"
        )
        for name in ("sum", "mean", "max", "min", "prod", "logsumexp")
    },
    **{
        f"reduce_{name}_int": case(
            lambda tf, x, n=name: getattr(tf, f"reduce_{n}")(x, 1, keepdims=True),
            *("int32[3,4,5] -5 5",),
            rtol=0.0,
        )
        for name in ("sum", "mean", "max", "min", "prod")
    },
    "reduce_any_all": case(
        lambda tf, x: (tf.reduce_any(x, 1), tf.reduce_all(x, 0), tf.reduce_all(x)), "bool[3,4]"
    ),
    "reduce_std": case(
        lambda tf, x: (tf.math.reduce_std(x, 0), tf.math.reduce_variance(x)), MATRIX
    ),
    "reduce_bfloat16": case(
        lambda tf, x: tf.cast(
            tf.reduce_mean(tf.cast(x, tf.bfloat16), 1) + tf.reduce_max(tf.cast(x, tf.bfloat16), 1),
            tf.float32,
        ),
        MATRIX,
        rtol=2e-2,
    ),
    "argmax": case(lambda tf, x: (tf.argmax(x, 1), tf.argmin(x, 0)), "float32[4,6]"),
    "argmax_ties": case(
        lambda tf, x: (tf.argmax(x, 1, tf.int32), tf.argmin(x, 1)), "int32[4,9] 0 2", rtol=0.0
    ),
    "cumsum": case(lambda tf, x: tf.cumsum(x, 1), "float32[3,9]"),
    "cumsum_exclusive_reverse": case(
        lambda tf, x: (
            tf.cumsum(x, 0, exclusive=True),
            tf.cumsum(x, 1, reverse=True),
            tf.cumsum(x, 1, exclusive=True, reverse=True),
        ),
        "float32[3,9]",
    ),
    "cumsum_int": case(lambda tf, x: tf.cumsum(x, 1), "int64[3,9] -9 9", rtol=0.0),
    "cumprod": case(lambda tf, x: tf.math.cumprod(x, 1), "float32[3,6]"),
    "cumulative_logsumexp": case(
        lambda tf, x: tf.math.cumulative_logsumexp(x, 1), "float32[3,9]", rtol=1e-4
    ),
    "unsorted_segment_sum": case(
        lambda tf, x, i: tf.math.unsorted_segment_sum(x, i, 4), "float32[6,3]", "int32[6] 0 3"
    ),
    "top_k": case(lambda tf, x: tf.math.top_k(x, 3), "float32[4,9]"),
    "top_k_bfloat16": case(
        lambda tf, x: tf.math.top_k(tf.cast(x, tf.bfloat16), 3).indices, "float32[4,9]"
    ),
    "in_top_k": case(lambda tf, x, t: tf.math.in_top_k(t, x, 2), "float32[4,6]", "int32[4] 0 5"),
}

SHAPES = {
    "strided_slice": case(lambda tf, x: x[:, 1:6:2, ::-1, tf.newaxis], "float32[2,7,5]"),
    "ellipsis_slice": case(lambda tf, x: x[..., -2:, 0], "float32[2,7,5]"),
    "tile_reverse_roll": case(
        lambda tf, x: (tf.tile(x, [2, 3]), tf.reverse(x, [1]), tf.roll(x, [1, -2], [0, 1])), MATRIX
    ),
    "pad": case(lambda tf, x: tf.pad(x, [[1, 2], [0, 3]], constant_values=7), MATRIX),
    "mirror_pad": case(
        lambda tf, x: (
            tf.pad(x, [[1, 2], [2, 3]], "REFLECT"),
            tf.pad(x, [[3, 0], [0, 5]], "SYMMETRIC"),
        ),
        MATRIX,
    ),
    "space_to_batch": case(lambda tf, x: tf.space_to_batch(x, [2, 3], [[0, 1], [0, 0]]), IMAGE),
    "batch_to_space": case(
        lambda tf, x: tf.batch_to_space(x, [2, 2], [[0, 1], [1, 0]]), "float32[4,3,3,2]"
    ),
    "space_to_depth": case(
        lambda tf, x: (tf.nn.space_to_depth(x, 2), tf.nn.depth_to_space(x, 2)), "float32[1,4,6,8]"
    ),
    "one_hot": case(
        lambda tf, i: (tf.one_hot(i, 5), tf.one_hot(i, 4, 2.0, -1.0, axis=0)), "int32[6] -1 4"
    ),
    "gather": case(
        lambda tf, x, i: (tf.gather(x, i), tf.gather(x, i, axis=1)), "float32[4,5]", "int32[6] 0 3"
    ),
    "batched_gather": case(
        lambda tf, x, i: tf.gather(x, i, batch_dims=1), "float32[3,5,2]", "int32[3,4] 0 4"
    ),
    "gather_nd": case(lambda tf, x, i: tf.gather_nd(x, i), "float32[4,5,2]", "int32[6,2] 0 3"),
    "scatter_nd": case(
        lambda tf, i, x: tf.scatter_nd(i, x, [5, 3]), "int32[6,1] 0 4", "float32[6,3]"
    ),
    "tensor_scatter_max": case(
        lambda tf, x, i, y: tf.tensor_scatter_nd_max(x, i, y),
        *("float32[5,3]", "int32[6,1] 0 4", "float32[6,3]"),
    ),
    "stack_split": case(
        lambda tf, x: (tf.stack(tf.unstack(x, axis=1)), *tf.split(x, [1, 4], 1)), MATRIX
    ),
    "band_part_diag": case(
        lambda tf, x: (tf.linalg.band_part(x, 1, 0), tf.linalg.diag_part(x), tf.linalg.diag(x[0])),
        MATRIX,
    ),
    "broadcast_range": case(
        lambda tf, x: tf.broadcast_to(x, [4, 3, 5]) + tf.range(5, dtype=tf.float32), MATRIX
    ),
    "linspace": case(lambda tf, x: x + tf.linspace(0.0, 1.0, 5), MATRIX),
    "reverse_sequence": case(
        lambda tf, x, n: tf.reverse_sequence(x, n, 1), "float32[3,6,2]", "int32[3] 0 6"
    ),
    "sequence_mask": case(lambda tf, n: tf.sequence_mask(n, 6), "int32[4] 0 6"),
    "sort": case(lambda tf, x: (tf.sort(x, 1), tf.argsort(x, 1, "DESCENDING")), "float32[4,9]"),
    "searchsorted": case(
        lambda tf, x, v: tf.searchsorted(tf.sort(x), v), "float32[2,9]", "float32[2,4]"
    ),
    "transpose": case(lambda tf, x: tf.transpose(x, [2, 0, 1]), "float32[2,3,4]"),
    "eye": case(lambda tf, x: x + tf.eye(3, 5), MATRIX),
    "meshgrid": case(lambda tf, x, y: tf.meshgrid(x, y), "float32[3]", "float32[4]"),
}

PRODUCTS = {
    "matmul": case(lambda tf, x, y: tf.matmul(x, y), "float32[3,4]", "float32[4,5]"),
    "matmul_transposed": case(
        lambda tf, x, y: tf.matmul(x, y, transpose_a=True, transpose_b=True),
        *("float32[2,4,3]", "float32[2,5,4]"),
    ),
    "matmul_broadcast": case(
        lambda tf, x, y: tf.matmul(x, y), "float32[2,1,3,4]", "float32[5,4,2]"
    ),
    "matmul_int": case(
        lambda tf, x, y: tf.matmul(x, y), "int32[3,4] -9 9", "int32[4,5] -9 9", rtol=0.0
    ),
    "matmul_int8": case(
        lambda tf, x, y: tf.matmul(x, y, output_type=tf.int32),
        *("int8[3,4] -99 99", "int8[4,5] -99 99"),
        rtol=0.0,
    ),
    "matmul_double": case(lambda tf, x, y: x @ y, "float64[3,4]", "float64[4,5]", rtol=1e-12),
    "matmul_complex": case(lambda tf, x, y: x @ y, "complex64[3,4]", "complex64[4,5]"),
    "einsum": case(
        lambda tf, x, y: tf.einsum("bqhd,bkhd->bhqk", x, y), "float32[2,3,4,5]", "float32[2,6,4,5]"
    ),
    "einsum_dense": case(
        lambda tf, x, y: tf.einsum("abc,cde->abde", x, y), "float32[2,3,4]", "float32[4,5,6]"
    ),
    "tensordot": case(
        lambda tf, x, y: tf.tensordot(x, y, [[1], [0]]), "float32[2,3,4]", "float32[3,5]"
    ),
    "bias_add": case(
        lambda tf, x, b: (tf.nn.bias_add(x, b), tf.nn.bias_add(x, b[:2], "NC...")),
        *("float32[3,2,4]", "float32[4]"),
    ),
    "attention": case(
        lambda tf, q, k, v: tf.nn.softmax(tf.matmul(q, k, transpose_b=True) / 2.0) @ v,
        *["float32[2,3,4,5]"] * 3,
    ),
}


def _resized(method: str, **options: Any) -> Callable[..., Any]:
    return lambda tf, x: tf.image.resize(x, (5, 9), method, **options)


IMAGES = {
    "resize_bilinear": case(_resized("bilinear"), IMAGE),
    "resize_nearest": case(_resized("nearest"), IMAGE),
    "resize_area_like": case(lambda tf, x: tf.image.resize(x, (14, 12)), IMAGE),
    "resize_align_corners": case(
        lambda tf, x: tf.compat.v1.image.resize_bilinear(x, (9, 11), align_corners=True), IMAGE
    ),
    "resize_legacy": case(lambda tf, x: tf.compat.v1.image.resize_bilinear(x, (9, 11)), IMAGE),
    "hsv": case(
        lambda tf, x: (tf.image.rgb_to_hsv(x), tf.image.hsv_to_rgb(x)), "float32[2,4,4,3] 0 1"
    ),
    "adjust": case(
        lambda tf, x: (
            tf.image.adjust_contrast(x, 1.5),
            tf.image.adjust_saturation(x, 0.5),
            tf.image.adjust_brightness(x, 0.1),
        ),
        "float32[2,4,4,3] 0 1",
    ),
    "crop_flip": case(
        lambda tf, x: (tf.image.central_crop(x, 0.5), tf.image.flip_left_right(x)), IMAGE
    ),
    "standardize": case(lambda tf, x: tf.image.per_image_standardization(x), IMAGE),
}

CASES: dict[str, Case] = {
    **CONVOLUTIONS,
    **NORMALIZATION,
    **ELEMENTWISE,
    **REDUCTIONS,
    **SHAPES,
    **PRODUCTS,
    **IMAGES,
}


def record(tf: Any, found: Case) -> tuple[bytes, dict[str, Array]]:
    """The module of a case, and its inputs and outputs by TensorFlow's own kernels."""
    from tensorflow.python.eager.polymorphic_function import compiler_ir

    inputs = [operand(spec, seed) for seed, spec in enumerate(found.inputs)]
    specs = [tf.TensorSpec(x.shape, x.dtype) for x in inputs]
    function = tf.function(lambda *xs: found.function(tf, *xs), autograph=False)
    concrete = function.get_concrete_function(*specs)
    outputs = tf.nest.flatten(concrete(*[tf.constant(x) for x in inputs]))
    data = compiler_ir.from_concrete_function(concrete, specs)(
        stage="stablehlo_serialized", platform_name="CPU"
    )
    arrays = {f"x{i}": x for i, x in enumerate(inputs)}
    return data, arrays | {f"y{i}": y.numpy() for i, y in enumerate(outputs)}


def main(folder: Path) -> None:
    os.environ |= {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    import tensorflow as tf

    for name, found in CASES.items():
        try:
            data, arrays = record(tf, found)
        except Exception as error:
            raise SystemExit(f"{name}: {error}") from error
        (folder / f"{name}.stablehlo").write_bytes(data)
        np.savez(folder / f"{name}.npz", **arrays)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
