"""Merging: requests concatenated into one batch, and its outputs cut apart again.

Rules and texts are those of TensorFlow Serving's batching_session.cc and batching_util.cc.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxrt.errors import FailedPrecondition, InvalidArgument
from jaxrt.serving.engine.servable import HostTensors

_Array = np.ndarray[Any, Any]

MAX_RANK = 6
"""Of tensors that are padded."""


def common_size(inputs: Iterable[_Array]) -> int:
    """Dim 0 of all inputs. Raises InvalidArgument where they have none in common."""
    found: int | None = None
    for x in inputs:
        if x.ndim == 0:
            raise InvalidArgument("Batching Run() input tensors must have at least one dimension")
        if found is None:
            found = x.shape[0]
        elif x.shape[0] != found:
            raise InvalidArgument("Batching Run() input tensors must have equal 0th-dimension size")
    if found is None:
        raise InvalidArgument("Batching Run() must have at least one input tensor")
    return found


def merge(parts: Sequence[HostTensors], size: int, *, pad: bool) -> HostTensors:
    """Parts of [n_i, ...] → [size, ...], the rest copies of the last part's first row.

    `pad` fills inner dimensions up to the largest of all parts with each part's first element;
    without it they must be equal. One copy, or none where a single part has `size` rows.
    Raises FailedPrecondition, InvalidArgument.
    """
    names = list(parts[0])
    if pad:
        inner = {name: _largest(name, [part[name] for part in parts]) for name in names}
    else:
        inner = {name: parts[0][name].shape[1:] for name in names}
        _refuse_differences(parts[1:], inner)
    return {name: _lay([part[name] for part in parts], size, inner[name]) for name in names}


def split(outputs: HostTensors, rows: Sequence[int], size: int) -> list[HostTensors]:
    """[size, ...] → [n_i, ...] for each part, as views; the padding is left out.

    Raises FailedPrecondition when an output does not have the batch as its first dimension.
    """
    for x in outputs.values():
        if x.ndim == 0:
            raise FailedPrecondition("Batched output tensor has 0 dimensions")
        if x.shape[0] != size:
            raise FailedPrecondition(
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension "
                "sizes of the input tensors"
            )
    parts: list[HostTensors] = []
    start = 0
    for n in rows:
        parts.append({name: x[start : start + n] for name, x in outputs.items()})
        start += n
    return parts


def _refuse_differences(parts: Sequence[HostTensors], inner: Mapping[str, tuple[int, ...]]) -> None:
    for part in parts:
        for name, x in part.items():
            if x.shape[1:] != inner[name]:
                # Blanks are missing there, too.
                raise FailedPrecondition(
                    f"Tensors with name '{name}' from different tasks have different shapes and "
                    "padding is turned off.Set pad_variable_length_inputs to true, or ensure that "
                    "all tensors with the same namehave equal dimensions starting with the first "
                    "dim."
                )


def _largest(name: str, tensors: Sequence[_Array]) -> tuple[int, ...]:
    """The inner shape that holds each of them."""
    ranks = {x.ndim for x in tensors}
    if max(ranks) > MAX_RANK:
        raise InvalidArgument("Only tensors with rank from 1 to 6 can be padded.")
    if len(ranks) > 1:
        raise InvalidArgument(
            f"Tensors with name '{name}' from different tasks have ranks "
            f"{', '.join(map(str, sorted(ranks)))}; only sizes can be padded, not ranks"
        )
    return tuple(max(sizes) for sizes in zip(*(x.shape[1:] for x in tensors), strict=True))


def _lay(tensors: Sequence[_Array], size: int, inner: tuple[int, ...]) -> _Array:
    only = tensors[0]
    if len(tensors) == 1 and only.shape == (size, *inner):
        return only
    batch = np.empty((size, *inner), only.dtype)
    start = end = 0
    for x in tensors:
        start, end = end, end + len(x)
        _place(x, batch[start:end])
    batch[end:] = batch[start : start + 1]
    return batch


def _place(x: _Array, place: _Array) -> None:
    if x.shape == place.shape:
        place[...] = x
        return
    if not x.size and math.prod(place.shape):
        raise InvalidArgument("Got empty tensor in batch of non-empty tensors.")
    if x.size:
        place[...] = x.flat[0]
        place[tuple(slice(n) for n in x.shape)] = x
