"""Ragged tensors as single values, as map_fn and while loops carry them."""

import dataclasses
import itertools
from typing import Any

import numpy as np

from jaxrt.converters.host.example import shape_text
from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.rules import Array, Value, op
from jaxrt.errors import InvalidArgument
from jaxrt.specs import DTYPES


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Ragged:
    """A variant that holds a ragged tensor: splits from the outermost in, and flat values."""

    splits: tuple[Array, ...]
    values: Array


@op("RaggedTensorToVariant", Tsplits="int64")
def ragged_to_variant(node: Node, *inputs: Array) -> Value:
    """Splits, values → one variant [], or one a row [n] where `batched_input`."""
    *splits, values = inputs
    if not node.attrs["batched_input"]:
        return _objects([Ragged(tuple(splits), values)], ())
    if not splits:
        rows = [Ragged((), values[i : i + 1].reshape(values.shape[1:])) for i in range(len(values))]
        return _objects(rows, (len(rows),))
    rows = [
        _part(splits[1:], values, start, end)
        for start, end in itertools.pairwise(splits[0].tolist())
    ]
    return _objects(rows, (len(rows),))


def _part(splits: list[Array], values: Array, start: int, end: int) -> Ragged:
    found = []
    for one in splits:
        edges = one[start : end + 1]
        start, end = int(edges[0]), int(edges[-1])
        found.append(edges - edges[:1])
    return Ragged(tuple(found), values[start:end])


@op("RaggedTensorFromVariant", Tsplits="int64")
def ragged_from_variant(node: Node, encoded: Value) -> tuple[Array, ...]:
    """Variants [...] → splits, values: their dimensions become outer ones."""
    if isinstance(encoded, Ragged):  # what numpy gives for one element of many
        encoded = _objects([encoded], ())
    wanted, inner = node.attrs["output_ragged_rank"], node.attrs["input_ragged_rank"]
    inner = wanted - encoded.ndim if inner == -1 else inner
    if inner < 0:
        raise InvalidArgument(
            "Inferred input_ragged_rank (output_ragged_rank - encoded_variant.dims()) must be >="
            f" 0, found output_ragged_rank: {wanted}, encoded_variant.dims(): {encoded.ndim},"
            f" inferred input_ragged_rank: {inner}"
        )
    parts: list[Ragged] = encoded.ravel().tolist()
    for part in parts:
        if len(part.splits) != inner:
            raise InvalidArgument(
                f"Encoded input RaggedTensorVariant has ragged_rank={len(part.splits)}."
                f"  Expected ragged_rank={inner}."
            )
    if not encoded.ndim:
        return (*parts[0].splits, parts[0].values)
    dtype = DTYPES[node.attrs["Tsplits"]].numpy
    outer = [
        (np.arange(int(np.prod(encoded.shape[: at + 1])) + 1) * size).astype(dtype)
        for at, size in enumerate(encoded.shape[1:])
    ]
    lengths = [len(p.splits[0]) - 1 if inner else len(p.values) for p in parts]
    stacked = [np.concatenate([[0], np.cumsum(lengths)]).astype(dtype)]
    stacked += [_joined([part.splits[at] for part in parts], dtype) for at in range(inner)]
    return (*outer, *stacked, _values(node, parts))


def _joined(splits: list[Array], dtype: Any) -> Array:
    lengths = np.concatenate([np.zeros(0, np.int64), *map(np.diff, splits)])
    return np.concatenate([[0], np.cumsum(lengths)]).astype(dtype)


def _values(node: Node, parts: list[Ragged]) -> Array:
    if not parts:
        return np.zeros(0, DTYPES[node.attrs["Tvalues"]].numpy)
    first = parts[0].values
    for at, part in enumerate(parts):
        if part.values.ndim != first.ndim:
            raise InvalidArgument(
                "Rank of values must match for all components; values shape at index 0: "
                f"{shape_text(first.shape)}, values shape at index {at}: "
                f"{shape_text(part.values.shape)}"
            )
    return np.concatenate([part.values for part in parts])


def _objects(values: list[Ragged], shape: tuple[int, ...]) -> Array:
    out = np.empty(len(values), object)
    out[:] = values
    return out.reshape(shape)
