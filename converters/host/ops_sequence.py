"""ParseSequenceExample, both versions: serialized tf.SequenceExample messages as tensors."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrt.converters.host import sequence, wire
from jaxrt.converters.host.example import shape_text, text
from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.rules import op
from jaxrt.converters.host.sequence import Messages, Values
from jaxrt.errors import InvalidArgument
from jaxrt.specs import DTYPES

Array = np.ndarray[Any, Any]
Rows = Sequence[Values | None]
Steps = Sequence[list[Values] | None]

_KINDS = {"string": wire.Kind.BYTES, "float32": wire.Kind.FLOAT, "int64": wire.Kind.INT64}


@dataclasses.dataclass(frozen=True, slots=True)
class _Keys:
    """What to look for, in the context and in the feature lists."""

    sparse: Sequence[bytes]
    dense: Sequence[bytes]
    ragged: Sequence[bytes]
    sparse_lists: Sequence[bytes]
    dense_lists: Sequence[bytes]
    ragged_lists: Sequence[bytes]
    missing_are_empty: Sequence[bool]
    """Of the dense lists."""


@op(
    "ParseSequenceExample",
    Ncontext_sparse=0, Ncontext_dense=0, Nfeature_list_sparse=0, Nfeature_list_dense=0,
    context_sparse_types=(), Tcontext_dense=(), feature_list_dense_types=(),
    context_dense_shapes=(), feature_list_sparse_types=(), feature_list_dense_shapes=(),
)  # fmt: skip
def parse_sequence_example(
    node: Node, serialized: Array, names: Array, *defaults: Array
) -> tuple[Array, ...]:
    """Of the context: sparse indices, values, shapes, dense values; the same of the lists, and the
    lengths of the dense ones."""
    dense_lists = node.attrs["feature_list_dense_keys"]
    empty = set(node.attrs["feature_list_dense_missing_assumed_empty"])
    keys = _Keys(
        node.attrs["context_sparse_keys"],
        node.attrs["context_dense_keys"],
        (),
        node.attrs["feature_list_sparse_keys"],
        dense_lists,
        (),
        [key in empty for key in dense_lists],
    )
    return _parsed(node, serialized, names, keys, defaults)


@op(
    "ParseSequenceExampleV2",
    Ncontext_sparse=0, Nfeature_list_sparse=0, Nfeature_list_dense=0,
    context_sparse_types=(), Tcontext_dense=(), context_ragged_value_types=(),
    context_ragged_split_types=(), context_dense_shapes=(), feature_list_dense_types=(),
    feature_list_sparse_types=(), feature_list_ragged_value_types=(),
    feature_list_ragged_split_types=(), feature_list_dense_shapes=(),
)  # fmt: skip
def parse_sequence_example_v2(
    node: Node, serialized: Array, names: Array, *inputs: Array
) -> tuple[Array, ...]:
    """With ragged values and splits behind the dense ones; of lists outer splits, then inner."""
    return _parsed(node, serialized, names, _Keys(*(i.tolist() for i in inputs[:7])), inputs[7:])


def _parsed(
    node: Node, serialized: Array, names: Array, keys: _Keys, defaults: Sequence[Array]
) -> tuple[Array, ...]:
    if serialized.ndim > 1:
        raise InvalidArgument(
            "Expected serialized to be a scalar or vector, got shape: "
            + shape_text(serialized.shape)
        )
    _check_defaults(node, defaults)
    batch = serialized.ndim == 1
    found = sequence.messages(serialized.reshape(-1).tolist(), names.reshape(-1).tolist())
    reader = _Reader(node, found, batch)
    context = reader.context(keys, defaults)
    lists = reader.lists(keys)
    return (*context(), *lists())


class _Reader:
    """Reads all features first, then makes their tensors: TensorFlow's order of errors."""

    def __init__(self, node: Node, found: Messages, batch: bool) -> None:
        self._attrs, self._found, self._batch = node.attrs, found, batch

    def context(self, keys: _Keys, defaults: Sequence[Array]) -> Any:
        attrs = self._attrs
        dense = self._rows(keys.dense, attrs["Tcontext_dense"])
        sparse = self._rows(keys.sparse, attrs["context_sparse_types"])
        ragged = self._rows(keys.ragged, attrs.get("context_ragged_value_types", ()))
        splits = attrs.get("context_ragged_split_types", ())

        def tensors() -> tuple[Array, ...]:
            shapes = attrs["context_dense_shapes"]
            filled = [
                self._dense(key, rows, kind, shape, default)
                for key, (rows, kind), shape, default in zip(
                    keys.dense, dense, shapes, defaults, strict=True
                )
            ]
            return (
                *_transposed([_sparse(rows, kind, self._batch) for rows, kind in sparse]),
                *filled,
                *[_array(kind, [v for r in rows for v in r or ()]) for rows, kind in ragged],
                *[
                    _splits([len(r or ()) for r in rows], dtype, self._batch)
                    for (rows, _), dtype in zip(ragged, splits, strict=True)
                ],
            )

        return tensors

    def lists(self, keys: _Keys) -> Any:
        attrs = self._attrs
        dense = self._steps(keys.dense_lists, attrs["feature_list_dense_types"])
        sparse = self._steps(keys.sparse_lists, attrs["feature_list_sparse_types"])
        ragged = self._steps(keys.ragged_lists, attrs.get("feature_list_ragged_value_types", ()))
        splits = attrs.get("feature_list_ragged_split_types", ())

        def tensors() -> tuple[Array, ...]:
            shapes, allowed = attrs["feature_list_dense_shapes"], keys.missing_are_empty
            padded = [
                self._padded(key, steps, kind, shape, missing)
                for key, (steps, kind), shape, missing in zip(
                    keys.dense_lists, dense, shapes, allowed, strict=True
                )
            ]
            return (
                *_transposed([_sparse_steps(steps, kind, self._batch) for steps, kind in sparse]),
                *[values for values, _ in padded],
                *[lengths for _, lengths in padded],
                *_transposed(
                    [
                        _ragged_steps(steps, kind, dtype, self._batch)
                        for (steps, kind), dtype in zip(ragged, splits, strict=True)
                    ]
                ),
            )

        return tensors

    def _rows(self, keys: Sequence[bytes], dtypes: Sequence[str]) -> list[tuple[Rows, wire.Kind]]:
        kinds = [_KINDS[dtype] for dtype in dtypes]
        return [
            (sequence.context(self._found, key, kind), kind)
            for key, kind in zip(keys, kinds, strict=True)
        ]

    def _steps(self, keys: Sequence[bytes], dtypes: Sequence[str]) -> list[tuple[Steps, wire.Kind]]:
        kinds = [_KINDS[dtype] for dtype in dtypes]
        return [
            (sequence.steps(self._found, key, kind), kind)
            for key, kind in zip(keys, kinds, strict=True)
        ]

    def _dense(
        self, key: bytes, rows: Rows, kind: wire.Kind, shape: tuple[int, ...], default: Array
    ) -> Array:
        wanted = max([default.size, *(len(row) for row in rows if row is not None)])
        if wanted != math.prod(shape):
            raise InvalidArgument(
                f"Inconsistent max number of elements for feature {text(key)}:"
                f" expected {math.prod(shape)}, but found {wanted}"
            )
        flat: Values = []
        for at, row in enumerate(rows):
            if row is None and not default.size:
                raise InvalidArgument(
                    f"Feature: {text(key)} (data type: {kind.text}) is required but could not be"
                    " found."
                )
            values = default.ravel().tolist() if row is None else row
            if len(values) != wanted:
                raise InvalidArgument(
                    f"Unexpected number of elements in example {self._found.name(at)}"
                )
            flat += values
        outer = (len(rows),) if self._batch else ()
        return _array(kind, flat).reshape((*outer, *shape))

    def _padded(
        self, key: bytes, steps: Steps, kind: wire.Kind, shape: tuple[int, ...], missing: bool
    ) -> tuple[Array, Array]:
        """Values as long as the longest list, zeros behind the others, and their lengths."""
        size = math.prod(shape)
        longest = max((sum(map(len, s)) for s in steps if s is not None), default=0)
        if longest % size:
            raise InvalidArgument(
                f"Feature list '{text(key)}' has an unexpected number of values."
                f"  Total values size: {longest} is not consistent with output shape: "
                + shape_text((-1, *shape))
            )
        flat: Values = []
        filler = b"" if kind is wire.Kind.BYTES else 0
        for at, rows in enumerate(steps):
            if rows is None and not missing:
                raise InvalidArgument(
                    f"Name: {self._found.name(at)}, Feature list '{text(key)}' is required but"
                    " could not be found.  Did you mean to include it in"
                    " feature_list_dense_missing_assumed_empty or feature_list_dense_defaults?"
                )
            for number, row in enumerate(rows or ()):
                if len(row) != size:
                    raise InvalidArgument(
                        f"Name: {self._found.name(at)}, Key: {text(key)}, Index: {number}."
                        f"  Number of values != expected.  values size: {len(row)} but output"
                        f" shape: {shape_text(shape)}"
                    )
            values = [value for row in rows or () for value in row]
            flat += values + [filler] * (longest - len(values))
        outer = (len(steps),) if self._batch else ()
        lengths = np.array([len(rows or ()) for rows in steps], np.int64).reshape(outer)
        return _array(kind, flat).reshape((*outer, longest // size, *shape)), lengths


def _sparse(rows: Rows, kind: wire.Kind, batch: bool) -> tuple[Array, ...]:
    held = [row or [] for row in rows]
    indices = [(e, i) for e, row in enumerate(held) for i in range(len(row))]
    sizes = [len(rows), max(map(len, held), default=0)]
    return _coordinates(kind, indices, [v for row in held for v in row], sizes, batch)


def _sparse_steps(steps: Steps, kind: wire.Kind, batch: bool) -> tuple[Array, ...]:
    held = [rows or [] for rows in steps]
    indices = [
        (e, s, i)
        for e, rows in enumerate(held)
        for s, row in enumerate(rows)
        for i in range(len(row))
    ]
    longest = max(map(len, held), default=0)
    widest = max((len(row) for rows in held for row in rows), default=0)
    values = [v for rows in held for row in rows for v in row]
    return _coordinates(kind, indices, values, [len(steps), longest, widest], batch)


def _coordinates(
    kind: wire.Kind, indices: Sequence[Any], values: Values, sizes: list[int], batch: bool
) -> tuple[Array, ...]:
    """Indices, values, shape; without the first dimension where there is no batch."""
    where = np.array(indices, np.int64).reshape(-1, len(sizes))
    first = 0 if batch else 1
    return where[:, first:], _array(kind, values), np.array(sizes[first:], np.int64)


def _ragged_steps(steps: Steps, kind: wire.Kind, dtype: str, batch: bool) -> tuple[Array, ...]:
    """Values, outer splits, inner splits."""
    held = [rows or [] for rows in steps]
    every = [row for rows in held for row in rows]
    return (
        _array(kind, [value for row in every for value in row]),
        _splits([len(rows) for rows in held], dtype, batch),
        _splits([len(row) for row in every], dtype, True),
    )


def _splits(lengths: Sequence[int], dtype: str, batch: bool) -> Array:
    """A scalar that nobody reads where there is no batch."""
    kind = DTYPES[dtype].numpy
    ends = list(itertools.accumulate(lengths, initial=0))
    return np.array(ends, kind) if batch else np.zeros((), kind)


def _transposed(tensors: Sequence[tuple[Array, ...]]) -> list[Array]:
    return [tensor for group in zip(*tensors, strict=True) for tensor in group]


def _array(kind: wire.Kind, values: Values) -> Array:
    return wire.objects(values) if kind is wire.Kind.BYTES else np.array(values, kind.dtype)


def _check_defaults(node: Node, defaults: Sequence[Array]) -> None:
    for at, (default, shape) in enumerate(
        zip(defaults, node.attrs["context_dense_shapes"], strict=True)
    ):
        if default.size and default.shape != tuple(shape):
            raise InvalidArgument(
                f"default_value[{at}].shape() == {shape_text(default.shape)}"
                f" != context_dense_shapes[{at}] == {shape_text(shape)}"
            )
