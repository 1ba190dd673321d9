"""Boxes that do not overlap. Kernel: tensorflow/core/kernels/image/non_max_suppression_op.cc."""

from typing import Any

import numpy as np

from jaxrt.converters.host import heap, overlap, soft_suppression
from jaxrt.converters.host.example import shape_text
from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.rules import op
from jaxrt.errors import InvalidArgument

Array = np.ndarray[Any, Any]


@op("NonMaxSuppression", iou_threshold=0.5)
def suppressed(node: Node, boxes: Array, scores: Array, limit: Array) -> Array:
    _scalar("max_output_size", limit)
    most = np.float32(node.attrs["iou_threshold"])
    return _chosen(boxes, scores, limit, most, None)


@op("NonMaxSuppressionV2")
def suppressed_v2(node: Node, boxes: Array, scores: Array, limit: Array, most: Array) -> Array:
    _scalar("max_output_size", limit)
    _scalar("iou_threshold", most)
    return _chosen(boxes, scores, limit, most, None)


@op("NonMaxSuppressionV3")
def suppressed_v3(
    node: Node, boxes: Array, scores: Array, limit: Array, most: Array, least: Array
) -> Array:
    """[n, 4], [n] → numbers of the boxes kept, best first; a score must pass `least`."""
    _scalar("max_output_size", limit, f" (Shape must be rank 0 but is rank {limit.ndim})")
    _scalar("iou_threshold", most, f" (Shape must be rank 0 but is rank {most.ndim})")
    return _chosen(boxes, scores, limit, most, least)


@op("NonMaxSuppressionV4", pad_to_max_output_size=False)
def suppressed_v4(
    node: Node, boxes: Array, scores: Array, limit: Array, most: Array, least: Array
) -> tuple[Array, Array]:
    _scalar("max_output_size", limit)
    _scalar("iou_threshold", most)
    found = _chosen(boxes, scores, limit, most, least)
    return _padded(node, found, limit), np.asarray(len(found), np.int32)


@op("NonMaxSuppressionV5", pad_to_max_output_size=False)
def suppressed_v5(
    node: Node, boxes: Array, scores: Array, limit: Array, most: Array, least: Array, sigma: Array
) -> tuple[Array, Array, Array]:
    """With the scores; a `sigma` above 0 lowers those of boxes that overlap."""
    _scalar("max_output_size", limit)
    _scalar("iou_threshold", most)
    if not 0 <= most <= 1:
        raise InvalidArgument("iou_threshold must be in [0, 1]")
    _scalar("score_threshold", least)
    _scalar("soft_nms_sigma", sigma)
    if not sigma >= 0:
        raise InvalidArgument("soft_nms_sigma_val must be >= 0")
    if sigma > 0:
        _check_boxes(boxes, scores, limit)
        places, kept = soft_suppression.chosen(boxes, scores, int(limit), least[()], sigma[()])
    else:
        places = _chosen(boxes, scores, limit, most, least)
        kept = scores[places]
    count = np.asarray(len(places), np.int32)
    return _padded(node, places, limit), _padded(node, kept, limit), count


@op("NonMaxSuppressionWithOverlaps")
def suppressed_with_overlaps(
    node: Node, overlaps: Array, scores: Array, limit: Array, most: Array, least: Array
) -> Array:
    _scalar("max_output_size", limit)
    _scalar("overlap_threshold", most)
    _scalar("score_threshold", least)
    if overlaps.ndim != 2:
        raise InvalidArgument(f"overlaps must be 2-D{shape_text(overlaps.shape)}")
    if overlaps.shape[0] != overlaps.shape[1]:
        raise InvalidArgument(f"overlaps must be square{shape_text(overlaps.shape)}")
    _check_scores(len(overlaps), scores)
    _check_limit(limit)
    chosen: list[int] = []
    for at in _ordered(scores, least[()]).tolist():
        if len(chosen) == int(limit):
            break
        if not (overlaps[at, chosen] > most).any():
            chosen.append(at)
    return np.array(chosen, np.int32)


@op("CombinedNonMaxSuppression", pad_per_class=False, clip_boxes=True)
def combined(
    node: Node, boxes: Array, scores: Array, limit: Array, total: Array, most: Array, least: Array
) -> tuple[Array, Array, Array, Array]:
    """[batch, n, 1 or classes, 4], [batch, n, classes] → boxes, scores and classes of the best
    [batch, total], class by class, and how many there are [batch]."""
    _check_combined(boxes, scores, limit, total, most, least)
    classes, each = scores.shape[2], int(limit)
    room = int(total)
    if node.attrs["pad_per_class"]:
        room = min(room, each * classes)
    out_boxes = np.zeros((len(boxes), room, 4), np.float32)
    out_scores = np.zeros((len(boxes), room), np.float32)
    out_classes = np.zeros((len(boxes), room), np.float32)
    counts = np.zeros(len(boxes), np.int32)
    for row in range(len(boxes)):
        found = _best(boxes[row], scores[row], min(each, scores.shape[1]), most[()], least[()])
        kept = found[:room]
        counts[row] = len(kept)
        for at, (score, box, kind) in enumerate(kept):
            out_boxes[row, at] = boxes[row, box, kind if boxes.shape[2] > 1 else 0]
            out_scores[row, at], out_classes[row, at] = score, kind
    if node.attrs["clip_boxes"]:
        out_boxes = np.clip(out_boxes, np.float32(0), np.float32(1))
    return out_boxes, out_scores, out_classes, counts


def _best(
    boxes: Array, scores: Array, each: int, most: Any, least: Any
) -> list[tuple[float, int, int]]:
    """Scores, boxes and classes of one image, best first."""
    found: list[tuple[float, int, int]] = []
    for kind in range(scores.shape[1]):
        column = scores[:, kind]
        above = np.flatnonzero(column > least)
        order = above[heap.popped(column[above].tolist())]
        own = boxes[:, kind if boxes.shape[1] > 1 else 0]
        chosen = _greedy(own, order, each, most).tolist()
        empty = [(-np.inf, -1, -1)] * (each - len(chosen))
        found += [(float(column[at]), at, kind) for at in chosen] + empty
    order_ = heap.introsorted([score for score, _, _ in found])
    return [found[at] for at in order_ if found[at][1] >= 0]


def _chosen(boxes: Array, scores: Array, limit: Array, most: Any, least: Array | None) -> Array:
    if not 0 <= most <= 1:
        raise InvalidArgument("iou_threshold must be in [0, 1]")
    if least is not None:
        _scalar("score_threshold", least)
    _check_boxes(boxes, scores, limit)
    lowest = np.finfo(scores.dtype).min if least is None else least.astype(scores.dtype)
    threshold = np.asarray(most).astype(scores.dtype)
    return _greedy(boxes, _ordered(scores, lowest), int(limit), threshold).astype(np.int32)


def _ordered(scores: Array, least: Any) -> Array:
    """Numbers of the scores above `least`, best first; of equal ones the first."""
    above = np.flatnonzero(scores > least)
    return np.asarray(above[np.argsort(-scores[above], kind="stable")])


def _greedy(boxes: Array, order: Array, limit: int, most: Any) -> Array:
    """Each box that overlaps none of those before it too much."""
    places = overlap.Corners(boxes)
    chosen: list[int] = []
    left = order
    while len(left) and len(chosen) < limit:
        at, left = int(left[0]), left[1:]
        chosen.append(at)
        left = left[~(places.overlap(left, at).astype(np.asarray(most).dtype) > most)]
    return np.array(chosen, np.int64)


def _padded(node: Node, found: Array, limit: Array) -> Array:
    if not node.attrs["pad_to_max_output_size"]:
        return found
    return np.concatenate([found, np.zeros(int(limit) - len(found), found.dtype)])


def _scalar(name: str, given: Array, more: str = "") -> None:
    if given.ndim:
        raise InvalidArgument(f"{name} must be 0-D, got shape {shape_text(given.shape)}{more}")


def _check_boxes(boxes: Array, scores: Array, limit: Array) -> None:
    if boxes.ndim != 2:
        raise InvalidArgument(
            f"boxes must be 2-D{shape_text(boxes.shape)}"
            f" (Shape must be rank 2 but is rank {boxes.ndim})"
        )
    if boxes.shape[1] != 4:
        raise InvalidArgument(
            f"boxes must have 4 columns (Dimension must be 4 but is {boxes.shape[1]})"
        )
    _check_scores(len(boxes), scores)
    _check_limit(limit)


def _check_scores(count: int, scores: Array) -> None:
    if scores.ndim != 1:
        raise InvalidArgument(
            f"scores must be 1-D{shape_text(scores.shape)}"
            f" (Shape must be rank 1 but is rank {scores.ndim})"
        )
    if len(scores) != count:
        raise InvalidArgument(
            "scores has incompatible shape (Dimensions must be equal, but are"
            f" {count} and {len(scores)})"
        )


def _check_limit(limit: Array) -> None:
    if int(limit) < 0:
        raise InvalidArgument("output size must be non-negative")


def _check_combined(boxes: Array, scores: Array, *scalars: Array) -> None:
    _refuse((boxes.shape[:1] != scores.shape[:1], "boxes and scores must have same batch size"))
    for array, rank, name, dims in (
        (boxes, 4, "boxes", "[batch, num_boxes, q, 4]"),
        (scores, 3, "scores", "[batch, num_boxes, num_classes]"),
    ):
        if array.ndim != rank:
            raise InvalidArgument(
                f"{name} must be {rank}-D {dims}, got shape {shape_text(array.shape)}"
            )
    limit, total, most, least = scalars
    _refuse(
        (boxes.shape[2] not in (1, scores.shape[2]),
         "third dimension of boxes must be either 1 or num classes"),
        (boxes.shape[3] != 4, "boxes must have 4 columns"),
        (scores.shape[1] != boxes.shape[1], "scores has incompatible shape"),
    )  # fmt: skip
    _scalar("max_size_per_class", limit)
    _refuse((int(limit) <= 0, "max_size_per_class must be positive"))
    _scalar("max_total_size", total)
    _refuse((int(total) <= 0, "max_total_size must be > 0"))
    _scalar("iou_threshold", most)
    _scalar("score_threshold", least)
    _refuse((not 0 <= most <= 1, "iou_threshold must be in [0, 1]"))


def _refuse(*checks: tuple[Any, str]) -> None:
    for bad, message in checks:
        if bad:
            raise InvalidArgument(message)
