"""Boxes without TensorFlow: cut out of images, and chosen by score and overlap."""

from typing import Any

import host_recordings
import numpy as np
import pytest
from host_differences import differences
from host_recordings import Case, Recording

Array = np.ndarray[Any, Any]
F32, I32 = np.float32, np.int32
WHOLE = np.array([[0, 0, 1, 1]], F32)


def boxes_of(random: Any, *sizes: int) -> Array:
    """Boxes in about the unit square, some of them upside down or empty."""
    corners = random.uniform(-0.1, 1.1, (*sizes, 4)).astype(F32)
    corners[..., 0, 2:] = corners[..., 0, :2]
    return np.asarray(corners)


def _crops(tf: Any) -> dict[str, Case]:
    random = np.random.default_rng(1)
    image = random.uniform(0, 255, (3, 7, 6, 2)).astype(F32)
    boxes, index = boxes_of(random, 9), random.integers(0, 3, 9).astype(I32)
    found: dict[str, Case] = {}
    for method in ("bilinear", "nearest"):
        for dtype in (F32, np.uint8, np.int32, np.float64, np.float16):
            runs: list[Any] = [
                (image.astype(dtype), boxes, index, np.array(size, I32))
                for size in ((3, 4), (1, 5), (6, 1), (1, 1), (14, 14))
            ]
            runs += [
                (image.astype(dtype), boxes[:0], index[:0], np.array([2, 2], I32)),
                (image.astype(dtype), WHOLE, index[:1], np.array([7, 6], I32)),
            ]  # fmt: skip
            found[f"CropAndResize {method} {dtype.__name__}"] = (
                lambda i, b, k, s, m=method: tf.raw_ops.CropAndResize(
                    image=i, boxes=b, box_ind=k, crop_size=s, method=m, extrapolation_value=-7.5
                ),
                runs,
            )
    size = np.array([2, 2], I32)
    found["CropAndResize refused"] = (
        lambda i, b, k, s: tf.raw_ops.CropAndResize(image=i, boxes=b, box_ind=k, crop_size=s),
        [
            (image, np.where(np.arange(9)[:, None] == 4, F32(np.nan), boxes), index, size),
            (image, boxes, np.where(np.arange(9) == 4, 3, index).astype(I32), size),
            (image[:, :0], boxes, index, size),
            (image, boxes, index[:3], size),
            (image, boxes[:, :3], index, size),
            (image, boxes, index, np.array([0, 2], I32)),
        ],
    )
    return found


def _chosen(tf: Any) -> dict[str, Case]:
    random = np.random.default_rng(2)
    raw = tf.raw_ops
    runs: list[Any] = []
    for dtype in (F32, np.float16):
        for count, limit in ((40, 10), (40, 100), (1, 3), (0, 3), (300, 20)):
            boxes = (boxes_of(random, max(count, 1))[:count]).astype(dtype)
            scores = random.uniform(0, 1, count).round(1).astype(dtype)
            for most, least in ((0.5, 0.2), (0.0, -1.0), (1.0, 0.95), (0.3, 2.0)):
                runs.append((boxes, scores, I32(limit), dtype(most), dtype(least)))
    single = [run for run in runs if run[0].dtype == F32]
    half = [run for run in runs if run[0].dtype == np.float16]
    refused = [
        (single[0][0][:, :3], *single[0][1:]),
        (single[0][0][0], *single[0][1:]),
        (single[0][0], single[0][1][:3], *single[0][2:]),
        (single[0][0], single[0][1][:, None], *single[0][2:]),
        (*single[0][:2], I32(-1), *single[0][3:]),
        (*single[0][:3], F32(1.5), *single[0][4:]),
        (*single[0][:3], np.array([0.5], F32), *single[0][4:]),
    ]
    overlaps = random.uniform(0, 1, (30, 30)).astype(F32)
    scores = random.uniform(0, 1, 30).round(1).astype(F32)

    def v4(pad: bool) -> Any:
        return lambda b, s, n, m, t: raw.NonMaxSuppressionV4(
            boxes=b, scores=s, max_output_size=n, iou_threshold=m, score_threshold=t,
            pad_to_max_output_size=pad,
        )  # fmt: skip

    def v3(b: Any, s: Any, n: Any, m: Any, t: Any) -> Any:
        return raw.NonMaxSuppressionV3(
            boxes=b, scores=s, max_output_size=n, iou_threshold=m, score_threshold=t
        )

    def v5(pad: bool) -> Any:
        return lambda b, s, n, m, t, g: raw.NonMaxSuppressionV5(
            boxes=b, scores=s, max_output_size=n, iou_threshold=m, score_threshold=t,
            soft_nms_sigma=g, pad_to_max_output_size=pad,
        )  # fmt: skip

    soft = [(*run, run[3].dtype.type(g)) for run in single for g in (0, 0.5, 0.01, 3)]
    return {
        "V5": (v5(False), [*soft, *[(*run, F32(0.5)) for run in refused], (*single[0], F32(-1))]),
        "V5 padded": (v5(True), soft),
        "V5 of halves": (v5(False), [(*run, np.float16(0.5)) for run in half]),
        "V1": (
            lambda b, s, n: raw.NonMaxSuppression(boxes=b, scores=s, max_output_size=n),
            [run[:3] for run in single],
        ),
        "V2": (
            lambda b, s, n, m: raw.NonMaxSuppressionV2(
                boxes=b, scores=s, max_output_size=n, iou_threshold=m
            ),
            [run[:4] for run in [*single, *refused]],
        ),
        "V3": (v3, [*single, *refused]),
        "V3 of halves": (v3, half),
        "V4": (v4(False), [*single, *refused]),
        "V4 padded": (v4(True), single),
        "with overlaps": (
            lambda o, s, n, m, t: raw.NonMaxSuppressionWithOverlaps(
                overlaps=o, scores=s, max_output_size=n, overlap_threshold=m, score_threshold=t
            ),
            [
                (overlaps, scores, I32(n), F32(m), F32(t))
                for n, m, t in ((5, 0.5, 0), (30, 0.9, 0.5), (-1, 0.5, 0))
            ],
        ),
    }


def _combined(tf: Any) -> dict[str, Case]:
    random = np.random.default_rng(3)
    found: dict[str, Case] = {}
    runs: list[Any] = []
    for own in (1, 3):
        for digits in (8, 1):
            boxes = boxes_of(random, 2, 200, own)
            scores = random.uniform(0, 1, (2, 200, 3)).round(digits).astype(F32)
            runs += [
                (boxes, scores, I32(each), I32(total), F32(0.4), F32(least))
                for each, total, least in ((5, 10, 0.3), (50, 20, -np.inf), (50, 400, 0.9))
            ]
    runs.append((boxes[:0], scores[:0], *runs[0][2:]))
    refused = [
        (boxes[0], *runs[0][1:]),
        (boxes[:, :, :2], scores, *runs[0][2:]),
        (boxes, scores[:1], *runs[0][2:]),
        (boxes, scores[:, :9], *runs[0][2:]),
        (boxes, scores, I32(0), *runs[0][3:]),
        (boxes, scores, I32(1), I32(0), *runs[0][4:]),
        (boxes, scores, I32(1), I32(1), F32(-1), F32(0)),
    ]
    for pad in (False, True):
        for clip in (False, True):
            found[f"Combined, padded {pad}, clipped {clip}"] = (
                lambda b, s, n, t, m, e, pad=pad, clip=clip: tf.raw_ops.CombinedNonMaxSuppression(
                    boxes=b, scores=s, max_output_size_per_class=n, max_total_size=t,
                    iou_threshold=m, score_threshold=e, pad_per_class=pad, clip_boxes=clip,
                ),
                [*runs, *refused],
            )  # fmt: skip
    return found


def cases(tf: Any) -> dict[str, Case]:
    return {**_crops(tf), **_chosen(tf), **_combined(tf)}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    return host_recordings.record(__file__, tmp_path_factory.mktemp("boxes") / "recordings")


def test_boxes_are_cut_and_chosen_as_tensorflow_does(recordings: dict[str, Recording]) -> None:
    assert not differences(recordings)
