"""Images scaled by cubic curves and by areas without TensorFlow, bit for bit as TensorFlow does."""

from typing import Any

import host_recordings
import numpy as np
import pytest
from host_differences import differences
from host_recordings import Case, Recording

SIZES = ((5, 9), (14, 3), (1, 1), (7, 6), (30, 40), (2, 2), (6, 12))
MODES = ((False, False), (True, False), (False, True))


def _runs(dtype: Any) -> list[Any]:
    random = np.random.default_rng(1)
    found: list[Any] = []
    for channels in (1, 3, 4):
        for high, wide in ((7, 6), (1, 1), (2, 23), (33, 5)):
            image = random.uniform(0, 255, (2, high, wide, channels)).astype(dtype)
            found += [(image, np.array(size, np.int32)) for size in SIZES]
    return found


def cases(tf: Any) -> dict[str, Case]:
    found: dict[str, Case] = {}
    for dtype in (np.uint8, np.float32, np.float64, np.int16, np.float16):
        runs = _runs(dtype) if dtype in (np.uint8, np.float32) else _runs(dtype)[:14]
        for align, half in MODES:
            found[f"bicubic {dtype.__name__} {align} {half}"] = (
                lambda x, n, a=align, h=half: tf.raw_ops.ResizeBicubic(
                    images=x, size=n, align_corners=a, half_pixel_centers=h
                ),
                runs,
            )
        for align in (False, True):
            found[f"area {dtype.__name__} {align}"] = (
                lambda x, n, a=align: tf.raw_ops.ResizeArea(images=x, size=n, align_corners=a),
                runs,
            )
    image = np.ones((1, 2, 2, 1), np.float32)
    found["refused"] = (
        lambda x, n: tf.raw_ops.ResizeArea(images=x, size=n),
        [
            (image, np.array([0, 2], np.int32)),
            (image[:, :0], np.array([2, 2], np.int32)),
            (image[:0], np.array([2, 2], np.int32)),
            (image, np.array([2, -2], np.int32)),
        ],
    )
    return found


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    return host_recordings.record(__file__, tmp_path_factory.mktemp("resize") / "recordings")


def test_images_are_scaled_as_tensorflow_scales_them(recordings: dict[str, Recording]) -> None:
    assert not differences(recordings)
