"""Images scaled, bit for bit: TensorFlow's order of float32 operations, one rounding each.

Kernels: resize_bilinear_op.cc, resize_nearest_neighbor_op.cc and image_resizer_state.h in
tensorflow/core/kernels/image and tensorflow/core/util.
"""

from typing import Any

import numpy as np

from jaxrt.converters.host.example import shape_text
from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.rules import op
from jaxrt.errors import InvalidArgument

Array = np.ndarray[Any, Any]

_HALF = np.float32(0.5)


@op("ResizeBilinear", align_corners=False, half_pixel_centers=False)
def resize_bilinear(node: Node, images: Array, size: Array) -> Array:
    """[batch, height, width, channels] of any number → float32 of the size."""
    height, width = _checked(node, images, size)
    wide = images.astype(np.float32)
    if (height, width) == images.shape[1:3]:
        return wide
    above, below, down = _neighbours(node, images.shape[1], height)
    left, right, across = _neighbours(node, images.shape[2], width)
    across, down = across[:, None], down[:, None, None]
    upper = _between(wide[:, above][:, :, left], wide[:, above][:, :, right], across)
    lower = _between(wide[:, below][:, :, left], wide[:, below][:, :, right], across)
    return _between(upper, lower, down)


@op("ResizeNearestNeighbor", align_corners=False, half_pixel_centers=False)
def resize_nearest_neighbor(node: Node, images: Array, size: Array) -> Array:
    """[batch, height, width, channels] → the same dtype, of the size."""
    height, width = _checked(node, images, size)
    rows = _nearest(node, images.shape[1], height)
    columns = _nearest(node, images.shape[2], width)
    return np.asarray(images[:, rows][:, :, columns])


def _between(first: Array, second: Array, part: Array) -> Array:
    return np.asarray(first + (second - first) * part)


def _neighbours(node: Node, before: int, after: int) -> tuple[Array, Array, Array]:
    """For each new place: the two old ones it lies between, and how far from the first."""
    place = np.arange(after).astype(np.float32)
    scale = _scale(node, before, after)
    half = node.attrs["half_pixel_centers"]
    old = (place + _HALF) * scale - _HALF if half else place * scale
    floor = np.floor(old)
    first = np.maximum(floor.astype(np.int64), 0)
    second = np.minimum(np.ceil(old).astype(np.int64), before - 1)
    return first, second, old - floor


def _nearest(node: Node, before: int, after: int) -> Array:
    place = np.arange(after).astype(np.float32)
    scale = _scale(node, before, after)
    half = node.attrs["half_pixel_centers"]
    old = (place + _HALF) * scale if half else place * scale
    if node.attrs["align_corners"]:
        # C's roundf: halves go away from zero, and nothing here is negative.
        whole = np.trunc(old)
        old = whole + ((old - whole) >= _HALF)
    else:
        old = np.floor(old)
    return np.asarray(np.clip(old.astype(np.int64), 0, before - 1))


def _scale(node: Node, before: int, after: int) -> Any:
    """Old places a new place: float32."""
    if node.attrs["align_corners"] and after > 1:
        return np.float32(before - 1) / np.float32(after - 1)
    return np.float32(before) / np.float32(after)


def _checked(node: Node, images: Array, size: Array) -> tuple[int, int]:
    if images.ndim != 4:
        raise InvalidArgument(f"input must be 4-dimensional{shape_text(images.shape)}")
    if size.shape != (2,):
        name = "1-dimensional" if size.ndim != 1 else "have two elements"
        raise InvalidArgument(f"shape_t must {name}{shape_text(size.shape)}")
    height, width = (int(one) for one in size)
    if height <= 0 or width <= 0:
        raise InvalidArgument("output dimensions must be positive")
    if not images.shape[1] or not images.shape[2]:
        raise InvalidArgument("input image must be of non-zero size")
    return height, width
