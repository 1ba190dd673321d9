"""Boxes chosen one by one, the scores of those that overlap a chosen one lowered (soft NMS)."""

import heapq
from typing import Any

import numpy as np

from jaxrt.converters.host import libm
from jaxrt.converters.host.overlap import Corners

Array = np.ndarray[Any, Any]


def chosen(boxes: Array, scores: Array, limit: int, least: Any, sigma: Any) -> tuple[Array, Array]:
    """[n, 4], [n] → numbers [m] int32 and lowered scores [m] of at most `limit` boxes.

    Kernel: tensorflow/core/kernels/image/non_max_suppression_op.cc. A score that falls to
    `least` is out. Each chosen box lowers a score once.
    """
    dtype = scores.dtype.type
    scale = dtype(-0.5) / sigma
    corners = Corners(boxes)
    queue = [(-float(s), at, 0) for at, s in enumerate(scores) if s > least]
    heapq.heapify(queue)
    places: list[int] = []
    kept: list[Any] = []
    while queue and len(places) < limit:
        negative, at, seen = heapq.heappop(queue)
        score = dtype(-negative)
        for other in corners.overlap(places[seen:], at)[::-1] if places[seen:] else ():
            score = score * _weight(dtype(other), scale)
            if score <= least:
                break
        if float(score) == -negative:
            places.append(at)
            kept.append(score)
        elif score > least:
            heapq.heappush(queue, (-float(score), at, len(places)))
    return np.array(places, np.int32), np.array(kept, scores.dtype)


def _weight(overlap: Any, scale: Any) -> Any:
    return type(scale)(libm.single("expf")(float(scale * overlap * overlap)))
