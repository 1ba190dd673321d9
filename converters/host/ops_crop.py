"""Boxes cut out of images and scaled. Kernel: tensorflow/core/kernels/image/crop_and_resize_op.cc.

Float32, one rounding each, in the kernel's order.
"""

from typing import Any

import numpy as np

from jaxrt.converters.host.example import shape_text
from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.rules import op
from jaxrt.errors import InvalidArgument

Array = np.ndarray[Any, Any]


@op("CropAndResize", method=b"bilinear", extrapolation_value=0.0)
def crop_and_resize(
    node: Node, images: Array, boxes: Array, box_index: Array, crop_size: Array
) -> Array:
    """[batch, height, width, channels], [n, 4], [n], [2] → float32 [n, *crop_size, channels]."""
    height, width = _checked(images, boxes, box_index, crop_size)
    outside = np.float32(node.attrs["extrapolation_value"])
    out = np.full((len(boxes), height, width, images.shape[3]), outside, np.float32)
    if not np.isfinite(boxes).all():
        raise InvalidArgument("Boxes contains at least one element that is not finite")
    for at, (top, left, bottom, right) in enumerate(boxes):
        rows = _places(top, bottom, images.shape[1], height)
        columns = _places(left, right, images.shape[2], width)
        inner_rows, inner_columns = (
            _inside(rows, images.shape[1]),
            _inside(columns, images.shape[2]),
        )
        picked = images[box_index[at]], rows[inner_rows], columns[inner_columns]
        cut = _bilinear(*picked) if node.attrs["method"] == b"bilinear" else _nearest(*picked)
        out[at][np.ix_(inner_rows, inner_columns)] = cut
    return out


def _places(first: Any, last: Any, size: int, count: int) -> Array:
    """Where the new pixels of a side lie in the old one: float32 [count]."""
    edge = np.float32(size - 1)
    if count == 1:
        # Halved in double: the kernel's constant is one.
        return np.array([0.5 * np.float64(first + last) * np.float64(size - 1)], np.float32)
    step = (last - first) * edge / np.float32(count - 1)
    return np.asarray(first * edge + np.arange(count).astype(np.float32) * step)


def _inside(places: Array, size: int) -> Array:
    return np.flatnonzero((places >= 0) & (places <= size - 1))


def _bilinear(image: Array, rows: Array, columns: Array) -> Array:
    """[height, width, channels] → float32 [rows, columns, channels]."""
    top, bottom = np.floor(rows).astype(np.int64), np.ceil(rows).astype(np.int64)
    left, right = np.floor(columns).astype(np.int64), np.ceil(columns).astype(np.int64)
    down, across = (rows - top.astype(np.float32))[:, None, None], columns - left.astype(np.float32)
    upper = _between(image[top], left, right, across[:, None])
    lower = _between(image[bottom], left, right, across[:, None])
    return np.asarray(upper + (lower - upper) * down)


def _between(rows: Array, left: Array, right: Array, part: Array) -> Array:
    first = rows[:, left].astype(np.float32)
    return np.asarray(first + (rows[:, right].astype(np.float32) - first) * part)


def _nearest(image: Array, rows: Array, columns: Array) -> Array:
    return np.asarray(image[_round(rows)][:, _round(columns)]).astype(np.float32)


def _round(places: Array) -> Array:
    """C's roundf of what is not negative: halves go up."""
    whole = np.trunc(places)
    return np.asarray(whole + ((places - whole) >= np.float32(0.5))).astype(np.int64)


def _checked(images: Array, boxes: Array, box_index: Array, crop_size: Array) -> tuple[int, int]:
    if images.ndim != 4:
        raise InvalidArgument(f"input image must be 4-D{shape_text(images.shape)}")
    if not images.shape[1] or not images.shape[2]:
        raise InvalidArgument("image dimensions must be positive")
    if boxes.ndim != 2:
        raise InvalidArgument(f"boxes must be 2-D, got: {shape_text(boxes.shape)}")
    if box_index.ndim != 1:
        raise InvalidArgument(
            f"box_indices must be rank 1 but is shape {shape_text(box_index.shape)}"
        )
    if boxes.size or box_index.size:
        if boxes.shape[1] != 4:
            raise InvalidArgument("boxes must have 4 columns")
        if len(box_index) != len(boxes):
            raise InvalidArgument("box_index has incompatible shape")
    if crop_size.shape != (2,):
        name = "1-D" if crop_size.ndim != 1 else None
        text = f"crop_size must be {name}" if name else "crop_size must have two elements"
        raise InvalidArgument(f"{text}{shape_text(crop_size.shape)}")
    height, width = (int(one) for one in crop_size)
    if height <= 0 or width <= 0:
        raise InvalidArgument("crop dimensions must be positive")
    if ((box_index < 0) | (box_index >= len(images))).any():
        raise InvalidArgument(  # out of range in TensorFlow: the same HTTP status
            "box_index has values outside [0, batch_size)"
        )
    return height, width
