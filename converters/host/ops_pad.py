"""Tensors made larger at their edges."""

from typing import Any

import numpy as np

from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.ops_math import shape_text
from jaxrt.converters.host.ops_shape import zero
from jaxrt.converters.host.rules import Array, op
from jaxrt.errors import InvalidArgument


@op("Pad")
def pad(node: Node, x: Array, paddings: Array) -> Array:
    _check(x, paddings)
    return np.pad(x, paddings.tolist(), constant_values=zero(x.dtype)) if x.ndim else x


@op("PadV2")
def pad_v2(node: Node, x: Array, paddings: Array, value: Array) -> Array:
    _check(x, paddings)
    return np.pad(x, paddings.tolist(), constant_values=value[()]) if x.ndim else x


@op("MirrorPad")
def mirror_pad(node: Node, x: Array, paddings: Array) -> Array:
    """REFLECT leaves the edge itself out of what is mirrored."""
    reflects = node.attrs["mode"] == b"REFLECT"
    mode: Any = "reflect" if reflects else "symmetric"
    for (before, after), size in zip(paddings.tolist(), x.shape, strict=False):
        if before < 0 or after < 0:
            raise InvalidArgument(f"paddings must be non-negative: {before} {after}")
        if reflects and max(before, after) >= size:
            raise InvalidArgument(
                "paddings must be less than the dimension size:"
                f" {before}, {after} not less than {size}"
            )
        if max(before, after) > size:
            raise InvalidArgument(
                "paddings must be no greater than the dimension size:"
                f" {before}, {after} greater than {size}"
            )
    return np.pad(x, paddings.tolist(), mode=mode) if x.ndim else x


def _check(x: Array, paddings: Array) -> None:
    if len(paddings) != x.ndim:
        raise InvalidArgument(
            "The first dimension of paddings must be the rank of inputs"
            f"{shape_text(paddings)} {shape_text(x)}"
        )
    for before, after in paddings.tolist():
        if before < 0 or after < 0:
            raise InvalidArgument(f"Paddings must be non-negative: {before} {after}")
