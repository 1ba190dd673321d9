"""Lookup tables, as they stand once the model is loaded."""

import numpy as np

from jaxrt.converters.host.graph import Node
from jaxrt.converters.host.rules import Array, op
from jaxrt.converters.host.tables import Table
from jaxrt.errors import FailedPrecondition


@op(
    "HashTableV2",
    "HashTable",
    "MutableHashTableV2",
    "MutableHashTable",
    "MutableDenseHashTableV2",
    "MutableDenseHashTable",
    "MutableHashTableOfTensorsV2",
    "MutableHashTableOfTensors",
    "AnonymousHashTable",
    "AnonymousMutableHashTable",
    "AnonymousMutableDenseHashTable",
    "AnonymousMutableHashTableOfTensors",
    pure=False,
)
def hash_table(node: Node) -> Table:
    """Only reached where no contents were given; those replace the node."""
    raise FailedPrecondition("Table not initialized.")


@op("LookupTableFindV2", "LookupTableFind", rowwise=True)
def find(node: Node, table: Table, keys: Array, default: Array) -> Array:
    return table.find(keys, default)


@op("LookupTableSizeV2", "LookupTableSize")
def size(node: Node, table: Table) -> Array:
    return np.asarray(len(table), np.int64)


@op("LookupTableExportV2", "LookupTableExport")
def export(node: Node, table: Table) -> tuple[Array, Array]:
    return table.keys, table.values
