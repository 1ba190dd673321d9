"""The value of a `stablehlo.constant` as a numpy array, for every dtype."""

from typing import Any

import numpy as np


def dense(op: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """The `value` attribute of an MLIR constant op → array of `shape` and `dtype`."""
    return np.asarray(op.attributes["value"]).astype(dtype, copy=False).reshape(shape)
