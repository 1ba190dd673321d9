"""Images scaled, bit for bit: TensorFlow's order of float32 operations, one rounding each.

Kernels: resize_bilinear_op.cc, resize_nearest_neighbor_op.cc and image_resizer_state.h in
tensorflow/core/kernels/image and tensorflow/core/util.
"""

import functools
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
    if node.attrs["align_corners"] and after > 1 and before > 1:
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


@op("ResizeBicubic", align_corners=False, half_pixel_centers=False)
def resize_bicubic(node: Node, images: Array, size: Array) -> Array:
    """[batch, height, width, channels] of any number → float32 of the size."""
    height, width = _checked(node, images, size)
    wide = images.astype(np.float32)
    rows, down = _four(node, images.shape[1], height)
    columns, across = _four(node, images.shape[2], width)
    tall = _weighted([wide[:, at] for at in rows], [w[:, None, None] for w in down])
    return _weighted([tall[:, :, at] for at in columns], [w[:, None] for w in across])


def _weighted(values: list[Array], weights: list[Array]) -> Array:
    total = values[0] * weights[0]
    for value, weight in zip(values[1:], weights[1:], strict=True):
        total = total + value * weight
    return np.asarray(total)


def _four(node: Node, before: int, after: int) -> tuple[list[Array], list[Array]]:
    """For each new place: the four old ones around it, and their weights."""
    keys = node.attrs["half_pixel_centers"]
    place = np.arange(after).astype(np.float32)
    scale = _scale(node, before, after)
    old = (place + _HALF) * scale - _HALF if keys else place * scale
    first = np.floor(old).astype(np.int64)
    offset = np.rint((old - first.astype(np.float32)) * np.float32(_STEPS)).astype(np.int64)
    near, far = _cubic(-0.5 if keys else -0.75)
    weights = [far[offset], near[offset], near[_STEPS - offset], far[_STEPS - offset]]
    wanted = [first + step for step in (-1, 0, 1, 2)]
    places = [np.clip(at, 0, before - 1) for at in wanted]
    return places, _within(weights, places, wanted) if keys else weights


def _within(weights: list[Array], places: list[Array], wanted: list[Array]) -> list[Array]:
    """What lies outside the image does not count; the others take its share."""
    zero = np.float32(0)
    held = [np.where(p == at, w, zero) for w, p, at in zip(weights, places, wanted, strict=True)]
    total = held[0] + held[1] + held[2] + held[3]
    large = np.abs(total) >= np.float32(1000) * np.finfo(np.float32).tiny
    share = np.where(large, np.float32(1) / total, np.float32(1))
    return [weight * share for weight in held]


_STEPS = 1 << 10


@functools.cache
def _cubic(a: float) -> tuple[Array, Array]:
    """Weights at distances 0…1 and 1…2, in steps: computed in double."""
    x = np.arange(_STEPS + 1) / _STEPS
    y = x + 1
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * y - 5 * a) * y + 8 * a) * y - 4 * a
    return near.astype(np.float32), far.astype(np.float32)


@op("ResizeArea", align_corners=False)
def resize_area(node: Node, images: Array, size: Array) -> Array:
    """Each new pixel is the mean of what it covers; float32."""
    height, width = _checked(node, images, size)
    tall, broad = _scale(node, images.shape[1], height), _scale(node, images.shape[2], width)
    lines = np.moveaxis(images.astype(np.float32), 2, 0)
    across = np.moveaxis(_covered(lines, *_cover(images.shape[2], width, broad)), 0, 2)
    down = _covered(np.moveaxis(across, 1, 0), *_cover(images.shape[1], height, tall))
    scale = np.float32(1.0 / np.float64(tall * broad))
    return np.ascontiguousarray(np.moveaxis(down, 0, 1) * scale)


def _cover(before: int, after: int, scale: Any) -> tuple[Array, list[Array], list[Array]]:
    """How many old places each new one covers; those places, one by one, and their weights."""
    start = np.arange(after).astype(np.float32) * scale
    end = np.arange(1, after + 1).astype(np.float32) * scale
    first = np.floor(start).astype(np.int64)
    counts = np.ceil(end).astype(np.int64) - first
    places, weights = [], []
    for step in range(int(counts.max())):
        at = first + step
        left, right = at.astype(np.float32), (at + 1).astype(np.float32)
        inside = np.where(right > end, end - left, np.float32(1))
        before_ = np.where(right > end, scale, right - start)
        weights.append(np.where(left < start, before_, inside).astype(np.float32))
        places.append(np.clip(at, 0, before - 1))
    return counts, places, weights


def _covered(lines: Array, counts: Array, places: list[Array], weights: list[Array]) -> Array:
    """[old, ...] → [new, ...]: sums of what is covered, first to last."""
    total = np.zeros((len(counts), *lines.shape[1:]), np.float32)
    for step, (place, weight) in enumerate(zip(places, weights, strict=True)):
        held = np.flatnonzero(counts > step)
        shaped = weight[held].reshape(-1, *[1] * (lines.ndim - 1))
        total[held] += lines[place[held]] * shaped
    return total
