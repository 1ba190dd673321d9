"""Assembly: rows of several requests laid into one batch, and cut out of its outputs again."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np

from jaxrt.errors import Internal
from jaxrt.serving.engine.servable import HostTensors


def gather(
    parts: Sequence[HostTensors], bucket: int, *, shared: AbstractSet[str] = frozenset()
) -> HostTensors:
    """Parts of equal dtypes and inner shapes, [n_i, ...] each → [bucket, ...], in order.

    One copy, or none where a single part fills the bucket. The rest is padding. `shared` inputs
    are equal in all parts and go through as they are.
    """
    first = parts[0]
    if len(parts) == 1 and all(len(x) == bucket for a, x in first.items() if a not in shared):
        return first
    return {
        alias: x if alias in shared else _lay([part[alias] for part in parts], bucket)
        for alias, x in first.items()
    }


def _lay(parts: Sequence[np.ndarray[Any, Any]], bucket: int) -> np.ndarray[Any, Any]:
    batch = np.empty((bucket, *parts[0].shape[1:]), parts[0].dtype)
    end = 0
    for part in parts:
        batch[end : end + len(part)] = part
        end += len(part)
    # A real row, as in jaxrt.buckets.pad: zeros can be an id no embedding has, or a divisor.
    batch[end:] = parts[0][:1]
    return batch


def scatter(
    outputs: HostTensors, rows: Sequence[int], bucket: int, *, where: str
) -> list[HostTensors]:
    """[bucket, ...] → [n_i, ...] for each part, as disjoint views; the padding is left out.

    Raises Internal when an output does not have the batch as its first dimension.
    """
    for alias, x in outputs.items():
        if x.ndim == 0 or x.shape[0] != bucket:
            raise Internal(
                f'{where}: output "{alias}" has shape {list(x.shape)} for a batch of {bucket} '
                "rows, wanted the batch as its first dimension; the program was marked as "
                "independent by rows and is not: compile the model again"
            )
    parts: list[HostTensors] = []
    start = 0
    for n in rows:
        parts.append({alias: x[start : start + n] for alias, x in outputs.items()})
        start += n
    return parts
