"""Uses of weights that compression meets: each a function of one array of weights and rows."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Use = Callable[[Any, Any, Any], Any]
"""(weights, rows f32[2, 67], numbers i32[2, 3] of which some are out of bounds) → result."""

Cases = Mapping[str, tuple[tuple[int, ...], Use]]
"""Name → shape of the weights, use."""


def _conv(dimensions: tuple[str, str, str], image: tuple[int, ...], **more: Any) -> Use:
    def use(w: Any, x: Any, i: Any) -> Any:
        pixels = jnp.resize(x, (x.shape[0], *image))
        spatial = len(image) - 1
        strides, padding = (1,) * spatial, [(1, 1)] * spatial
        return lax.conv_general_dilated(
            pixels, w, strides, padding, dimension_numbers=dimensions, **more
        )

    return use


def _looked_up(mode: str, axis: int = 0) -> Use:
    return lambda w, x, i: jnp.take(w, i, axis=axis, mode=mode, fill_value=3.0)


def _at_pairs(w: Any, x: Any, i: Any) -> Any:
    """As tf.gather_nd with pairs of numbers."""
    numbers = lax.GatherDimensionNumbers((2,), (0, 1), (0, 1))
    pairs = jnp.stack([i % 5, i % 7], axis=-1)
    return lax.gather(w, pairs, numbers, (1, 1, w.shape[2]), mode="clip")


def _parts_of_rows(w: Any, x: Any, i: Any) -> Any:
    """Columns 0 to 7 of rows."""
    numbers = lax.GatherDimensionNumbers((2,), (0,), (0,))
    return lax.gather(w, i[..., None], numbers, (1, 8), mode="clip")


def _columns_and_rows(w: Any, x: Any, i: Any) -> Any:
    """A piece of two dimensions, from where the numbers say."""
    numbers = lax.GatherDimensionNumbers((1, 2), (), (0, 1))
    return lax.gather(w, i[:, :2], numbers, (4, 8), mode="clip")


def _looped(w: Any, x: Any, i: Any) -> Any:
    return lax.fori_loop(0, 2, lambda n, y: jnp.sign(y @ w), x)


def _either(w: Any, x: Any, i: Any) -> Any:
    return lax.cond(i[0, 0] > 0, lambda y: y @ w, lambda y: y @ w.T, x)


def _each_of_several(w: Any, x: Any, i: Any) -> Any:
    """Matrices that a scan takes one by one."""
    return lax.scan(lambda y, one: (jnp.sign(y @ one), None), x, w)[0]


def _merged(equation: str) -> Use:
    return lambda w, x, i: jnp.einsum(equation, x[:, :65].reshape(-1, 5, 13), w)


def _image(weights: str, *image: int, **more: Any) -> Use:
    return _conv(("NHWC", weights, "NHWC"), image, **more)


def _in_and_out(w: Any, x: Any, i: Any) -> Any:
    """As a language model's words."""
    return (jnp.take(w, i, axis=0, mode="clip") + x[:, None]) @ w.T


def _in(dtype: Any) -> Use:
    def use(w: Any, x: Any, i: Any) -> Any:
        return jnp.sign(x).astype(dtype) @ w.astype(dtype)

    return use


CASES: Cases = {
    "right": ((67, 131), lambda w, x, i: x @ w),
    "left": ((131, 67), lambda w, x, i: w @ x.T),
    "both": ((67, 67), lambda w, x, i: jnp.sign(x @ w) @ w.T),
    "turned": ((131, 67), lambda w, x, i: x @ w.T),
    "rows": ((67, 40), lambda w, x, i: jnp.stack([x, x], 1) @ w),
    "heads": ((3, 67, 40), lambda w, x, i: jnp.einsum("bd,hde->bhe", x, w)),
    "batched": ((2, 67, 40), lambda w, x, i: jnp.einsum("bd,bde->be", x, w)),
    "merged": ((67, 4, 10), lambda w, x, i: jnp.einsum("bd,dhe->bhe", x, w)),
    "two terms": ((5, 13, 33), _merged("bac,acd->bd")),
    "terms apart": ((5, 33, 13), _merged("bac,adc->bd")),
    "viewed": ((67 * 20, 2), lambda w, x, i: x @ w.reshape(67, 40)),
    "sliced": ((80, 40), lambda w, x, i: x @ w[:67]),
    "used otherwise": ((67, 40), lambda w, x, i: x @ w + w.sum()),
    "f16": ((67, 40), _in(jnp.float16)),
    "bf16": ((67, 40), _in(jnp.bfloat16)),
    "f64": ((67, 40), _in(jnp.float64)),
    "line": ((7, 12, 20), _conv(("NHC", "HIO", "NHC"), (9, 12))),
    "image": ((3, 3, 8, 24), _image("HWIO", 5, 5, 8)),
    "turned image": ((24, 8, 3, 3), _conv(("NCHW", "OIHW", "NCHW"), (8, 5, 5))),
    "volume": ((3, 3, 3, 4, 24), _conv(("NDHWC", "DHWIO", "NDHWC"), (3, 4, 5, 4))),
    "groups": ((3, 3, 4, 40), _image("HWIO", 5, 5, 16, feature_group_count=4)),
    "each channel": ((7, 7, 1, 64), _image("HWIO", 5, 5, 64, feature_group_count=64)),
    "upwards": ((3, 3, 8, 24), _image("HWIO", 4, 4, 8, lhs_dilation=(2, 2))),
    "spread": ((3, 3, 8, 24), _image("HWIO", 7, 7, 8, rhs_dilation=(2, 2))),
    "batch groups": ((3, 3, 8, 24), _image("HWIO", 5, 5, 8, batch_group_count=2)),
    "clipped": ((100, 64), _looked_up("clip")),
    "filled": ((100, 64), _looked_up("fill")),
    "wrapped": ((100, 64), _looked_up("wrap")),
    "narrow": ((300, 5), _looked_up("clip")),
    "narrow and filled": ((300, 5), _looked_up("fill")),
    "columns": ((64, 100), _looked_up("clip", 1)),
    "columns filled": ((64, 100), _looked_up("fill", 1)),
    "planes": ((20, 9, 33), _looked_up("clip")),
    "middle": ((20, 9, 33), _looked_up("fill", 1)),
    "pairs": ((5, 7, 40), _at_pairs),
    "parts": ((100, 64), _parts_of_rows),
    "pieces": ((100, 64), _columns_and_rows),
    "looked up and multiplied": ((100, 67), _in_and_out),
    "looked up turned": ((67, 100), lambda w, x, i: jnp.take(w.T, i, axis=0, mode="clip")),
    "loop": ((67, 67), _looped),
    "branch": ((67, 67), _either),
    "steps": ((3, 67, 67), _each_of_several),
    "called": ((67, 40), lambda w, x, i: jax.jit(jnp.matmul)(x, w)),
    "one channel": ((2000, 1), lambda w, x, i: jnp.resize(x, (x.shape[0], 2000)) @ w),
    "nothing": ((0, 40), lambda w, x, i: x[:, :0] @ w),
}
