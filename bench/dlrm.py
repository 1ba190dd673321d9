"""A DLRM of random weights whose tables no cache holds, as a SavedModel: what recommenders serve.

    python -m bench.dlrm FOLDER [--tables 26] [--rows 200000] [--width 64] [--ids 1]

Inputs: `dense` float32 [n, 13], `ids` int32 [n, tables], or [n, tables, ids] summed over the last.
Takes TensorFlow, and about three times the memory of the tables (26 × 200,000 × 64: 1.3 GB).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

DENSE = 13
"""Numbers of a row, as Criteo's data have them."""

BOTTOM, TOP = (512, 256), (512, 256, 1)
"""Widths of the products before and after the interactions."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tables", type=int, default=26)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--ids", type=int, default=1, help="a row and table, summed")
    chosen = parser.parse_args(arguments)
    build(chosen.folder, chosen.tables, chosen.rows, chosen.width, chosen.ids)
    return 0


def build(folder: Path, tables: int, rows: int, width: int, ids: int) -> None:
    """Writes the SavedModel."""
    import tensorflow as tf

    random = np.random.default_rng(0)

    def normal(*shape: int) -> Any:
        scale = np.float32(1 / np.sqrt(shape[0] if shape[0] < rows else width))
        values = random.standard_normal(shape, dtype=np.float32)
        return tf.Variable(values * scale, trainable=False)

    model = tf.Module()
    model.tables = [normal(rows, width) for _ in range(tables)]
    pairs = (tables + 1) * tables // 2
    model.bottom = _layers(normal, [DENSE, *BOTTOM, width])
    model.top = _layers(normal, [pairs + width, *TOP])
    lower = np.tril_indices(tables + 1, -1)
    places = (lower[0] * (tables + 1) + lower[1]).astype(np.int32)

    def found(table: Any, ids_of: Any) -> Any:
        looked_up = tf.gather(table, ids_of)
        return looked_up if ids == 1 else tf.reduce_sum(looked_up, 1)

    def serve(dense: Any, ids: Any) -> dict[str, Any]:
        first = _through(tf, dense, model.bottom)
        vectors = [first, *(found(t, ids[:, i]) for i, t in enumerate(model.tables))]
        stacked = tf.stack(vectors, 1)
        both = tf.matmul(stacked, stacked, transpose_b=True)
        flat = tf.gather(tf.reshape(both, [-1, (tables + 1) ** 2]), places, axis=1)
        top = _through(tf, tf.concat([first, flat], 1), model.top[:-1])
        kernel, bias = model.top[-1]
        return {"click": tf.sigmoid(tf.matmul(top, kernel) + bias)}

    shape = [None, tables] if ids == 1 else [None, tables, ids]
    signature = tf.function(
        serve,
        input_signature=[
            tf.TensorSpec([None, DENSE], tf.float32, name="dense"),
            tf.TensorSpec(shape, tf.int32, name="ids"),
        ],
    )
    tf.saved_model.save(model, str(folder), signatures=signature)


def _layers(normal: Any, widths: Sequence[int]) -> list[Any]:
    pairs = zip(widths, widths[1:], strict=False)
    return [[normal(before, after), normal(1, after)] for before, after in pairs]


def _through(tf: Any, x: Any, layers: Sequence[Any]) -> Any:
    for kernel, bias in layers:
        x = tf.nn.relu(tf.matmul(x, kernel) + bias)
    return x


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
