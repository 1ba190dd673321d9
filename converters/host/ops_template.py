"""Strings made of others: templates filled in, segments joined."""

import math

import numpy as np

from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.ops_math import shape_text
from jaxrt.converters.host.rules import Array, op, string_array
from jaxrt.converters.host.text import format_summary
from jaxrt.errors import InvalidArgument


@op("StringFormat", template=b"%s", placeholder=b"%s", summarize=3)
def string_format(node: Node, *inputs: Array) -> Array:
    """[] string: the template, each placeholder replaced by what an input prints."""
    attrs = node.attrs
    first, *rest = attrs["template"].split(attrs["placeholder"])
    found = first.partition(b"\0")[0]
    for value, piece in zip(inputs, rest, strict=True):
        text = format_summary(value, attrs["summarize"])
        found += text.encode("utf-8", "surrogateescape") + piece.partition(b"\0")[0]
    return string_array([found], ())


@op("UnsortedSegmentJoin", separator=b"")
def unsorted_segment_join(node: Node, x: Array, ids: Array, count: Array) -> Array:
    """[...], [...] → [segments]: strings of one number joined in their order."""
    segments = int(count)
    if x.shape[: ids.ndim] != ids.shape:
        raise InvalidArgument(
            f"Inputs and segment_ids shape must match. Inputs shape: {shape_text(x)},"
            f" segment_ids shape: {shape_text(ids)}"
        )
    if ((ids < 0) | (ids >= segments)).any():
        raise InvalidArgument(
            "segment_ids are not allowed to exceed num_segments or to have negative values."
        )
    inner = x.shape[ids.ndim :]
    columns = math.prod(inner)
    held: list[list[bytes]] = [[] for _ in range(segments * columns)]
    places = ids.ravel()[:, None].astype(np.int64) * columns + np.arange(columns)
    for place, value in zip(places.ravel().tolist(), x.ravel().tolist(), strict=True):
        held[place].append(value)
    joined = [node.attrs["separator"].join(cell) for cell in held]
    return string_array(joined, (segments, *inner))
