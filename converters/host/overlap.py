"""How much of two boxes is common: intersection over union, in float32 as TensorFlow does."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class Corners:
    """Boxes [n, 4] of two opposite corners, in any order."""

    def __init__(self, boxes: Array) -> None:
        corners = boxes.astype(np.float32)
        self._low = np.minimum(corners[:, :2], corners[:, 2:])
        self._high = np.maximum(corners[:, :2], corners[:, 2:])
        sides = self._high - self._low
        self._areas = sides[:, 0] * sides[:, 1]

    def overlap(self, boxes: Array | list[int], at: int) -> Array:
        """Of the boxes by number [m] with the box `at`: float32 [m]; 0 where one is empty."""
        shared = np.minimum(self._high[boxes], self._high[at])
        shared -= np.maximum(self._low[boxes], self._low[at])
        sides = np.maximum(shared, np.float32(0))
        common = sides[:, 0] * sides[:, 1]
        ratio = common / (self._areas[boxes] + self._areas[at] - common)
        ratio[(self._areas[boxes] <= 0) | (self._areas[at] <= 0)] = 0
        return np.asarray(ratio)
