"""ParseExample and its siblings: serialized tf.Example messages as tensors."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrt.converters.host import example, wire
from jaxrt.converters.host.example import Column, Feature, Layout
from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.rules import op
from jaxrt.errors import InvalidArgument
from jaxrt.specs import DTYPES

Array = np.ndarray[Any, Any]

_KINDS = {"string": wire.Kind.BYTES, "float32": wire.Kind.FLOAT, "int64": wire.Kind.INT64}


@op("ParseExample")
def parse_example(node: Node, serialized: Array, names: Array, *rest: Array) -> tuple[Array, ...]:
    """Results: sparse indices, values, shapes, then dense values, each a list."""
    sparse, dense = len(node.attrs["sparse_types"]), len(node.attrs["Tdense"])
    if serialized.ndim != 1:
        raise InvalidArgument(f"Expected serialized to be a vector, got shape: {_text(serialized)}")
    _check_names(names, serialized)
    keys = [key.item() for key in rest[: sparse + dense]]
    features = [
        *_dense(node, keys[sparse:], rest[sparse + dense :]),
        *_listed(keys[:sparse], node.attrs["sparse_types"], Layout.SPARSE),
    ]
    columns = example.columns(serialized.tolist(), features, names.tolist())
    return _batch(columns, features, ())


@op("ParseExampleV2")
def parse_example_v2(
    node: Node,
    serialized: Array,
    names: Array,
    sparse_keys: Array,
    dense_keys: Array,
    ragged_keys: Array,
    *defaults: Array,
) -> tuple[Array, ...]:
    """Results as of ParseExample, then ragged values and row splits."""
    if serialized.ndim > 1:
        raise InvalidArgument(
            f"Expected serialized to be a scalar or vector, got shape: {_text(serialized)}"
        )
    _check_names(names, serialized)
    splits = node.attrs["ragged_split_types"]
    features = [
        *_dense(node, dense_keys.tolist(), defaults),
        *_listed(sparse_keys.tolist(), node.attrs["sparse_types"], Layout.SPARSE),
        *_listed(ragged_keys.tolist(), node.attrs["ragged_value_types"], Layout.RAGGED),
    ]
    if serialized.ndim == 0:
        return _single(example.single(serialized.item(), features), features, splits)
    columns = example.columns(serialized.tolist(), features, names.tolist())
    return _batch(columns, features, splits)


@op("ParseSingleExample")
def parse_single_example(node: Node, serialized: Array, *defaults: Array) -> tuple[Array, ...]:
    """Results as of ParseExample, without the batch."""
    if serialized.ndim:
        raise InvalidArgument(f"Expected serialized to be a scalar, got shape: {_text(serialized)}")
    features = [
        *_dense(node, node.attrs["dense_keys"], defaults),
        *_listed(node.attrs["sparse_keys"], node.attrs["sparse_types"], Layout.SPARSE),
    ]
    return _single(example.single(serialized.item(), features), features, ())


def _check_names(names: Array, serialized: Array) -> None:
    if names.size and names.shape != serialized.shape:
        raise InvalidArgument(
            "Expected names have the same shape as serialized: "
            f"name.shape={_text(names)}, serialized.shape={_text(serialized)}"
        )


def _dense(node: Node, keys: Sequence[bytes], defaults: Sequence[Array]) -> list[Feature]:
    shapes, dtypes = node.attrs["dense_shapes"], node.attrs["Tdense"]
    found = []
    for at, (key, dtype, shape, default) in enumerate(
        zip(keys, dtypes, shapes, defaults, strict=True)
    ):
        padded = bool(shape) and shape[0] is None
        feature = Feature(
            key=key,
            kind=_KINDS[dtype],
            layout=Layout.PADDED if padded else Layout.FIXED,
            shape=tuple(-1 if size is None else size for size in shape),
            stride=math.prod(shape[1:] if padded else shape),
            default=default,
        )
        _check_default(feature, at)
        found.append(feature)
    return found


def _check_default(feature: Feature, at: int) -> None:
    shape, default = feature.shape, feature.default
    if feature.layout is Layout.PADDED:
        if default.size != 1:
            raise InvalidArgument(
                f"dense_shape[{at}] is a variable length shape: {example.shape_text(shape)},"
                f" therefore def_value[{at}] must contain a single element (the padding element)."
                f"  But its shape is: {_text(default)}"
            )
    elif default.size and default.shape != shape:
        raise InvalidArgument(
            f"def_value[{at}].shape() == {_text(default)} is not compatible with"
            f" dense_shapes_[{at}] == {example.shape_text(shape)}"
        )


def _listed(keys: Sequence[bytes], dtypes: Sequence[str], layout: Layout) -> list[Feature]:
    return [
        Feature(key=key, kind=_KINDS[dtype], layout=layout)
        for key, dtype in zip(keys, dtypes, strict=True)
    ]


def _batch(
    columns: Sequence[Column], features: Sequence[Feature], splits: Sequence[str]
) -> tuple[Array, ...]:
    pairs = list(zip(columns, features, strict=True))
    sparse = [column for column, feature in pairs if feature.layout is Layout.SPARSE]
    ragged = [column for column, feature in pairs if feature.layout is Layout.RAGGED]
    return (
        *[_indices(column.counts) for column in sparse],
        *[column.values for column in sparse],
        *[_shape(column.counts) for column in sparse],
        *[_filled(*pair) for pair in pairs if pair[1].dense],
        *[column.values for column in ragged],
        *[_splits(column.counts, dtype) for column, dtype in zip(ragged, splits, strict=True)],
    )


def _single(
    columns: Sequence[Column], features: Sequence[Feature], splits: Sequence[str]
) -> tuple[Array, ...]:
    """One example: no batch dimension, and no row splits."""
    pairs = list(zip(columns, features, strict=True))
    sparse = [column for column, feature in pairs if feature.layout is Layout.SPARSE]
    return (
        *[np.arange(column.counts[0])[:, None] for column in sparse],
        *[column.values for column in sparse],
        *[column.counts for column in sparse],
        *[_row(_filled(*pair)) for pair in pairs if pair[1].dense],
        *[column.values for column, feature in pairs if feature.layout is Layout.RAGGED],
        *[np.empty(0, DTYPES[dtype].numpy) for dtype in splits],
    )


def _within(counts: Array) -> Array:
    """[2, 0, 3] → 0 1 0 1 2."""
    starts = np.cumsum(counts) - counts
    return np.asarray(np.arange(counts.sum()) - np.repeat(starts, counts))


def _indices(counts: Array) -> Array:
    rows = np.repeat(np.arange(len(counts)), counts)
    return np.stack([rows, _within(counts)], axis=1)


def _shape(counts: Array) -> Array:
    return np.array([len(counts), counts.max(initial=0)], np.int64)


def _splits(counts: Array, dtype: str) -> Array:
    return np.concatenate([[0], np.cumsum(counts)]).astype(DTYPES[dtype].numpy, copy=False)


def _filled(column: Column, feature: Feature) -> Array:
    """[n, *shape]: the values, and the default where there are none."""
    rows = len(column.counts)
    if feature.layout is Layout.PADDED:
        steps = int(column.counts.max(initial=0)) // feature.stride
        # As an array: numpy would cut the trailing zero bytes of a bare string.
        filler = feature.default.reshape(())
        out = np.full((rows, steps * feature.stride), filler, feature.kind.dtype)
        out[np.repeat(np.arange(rows), column.counts), _within(column.counts)] = column.values
        return out.reshape(rows, steps, *feature.shape[1:])
    if not column.missing.any():
        return column.values.reshape(rows, *feature.shape)
    out = np.empty((rows, feature.stride), feature.kind.dtype)
    out[~column.missing] = column.values.reshape(-1, feature.stride)
    out[column.missing] = feature.default.reshape(-1)
    return out.reshape(rows, *feature.shape)


def _row(batch: Array) -> Array:
    """[1, ...] → [...]; indexing would give a bare object where nothing is left."""
    return batch.reshape(batch.shape[1:])


def _text(array: Array) -> str:
    return example.shape_text(array.shape)
