"""Restored SavedModels → flat graphs: what stands for each input, variable and table."""

import re
from typing import Any

import numpy as np
import tensorflow as tf

from jaxrt.converters.bodies import Body, Uncuttable, copied, plain
from jaxrt.converters.flat import RESOURCE, Flat, TableReader, flattened
from jaxrt.converters.freeze import Restored1
from jaxrt.converters.opnames import REFERENCE
from jaxrt.converters.records import TableContents
from jaxrt.converters.restored import Restored2, Weight
from jaxrt.converters.subgraph import Node, canonical, producer

_V2 = {
    "HashTable": "HashTableV2",
    "LookupTableFind": "LookupTableFindV2",
    "LookupTableSize": "LookupTableSizeV2",
}
"""TF1's ops on references to tables → the same on handles."""

_LOADED = re.compile(rb"_load_\d+(_\d+)?$")
"""What TensorFlow adds to shared names in functions when it loads a model eagerly."""

_TABLES = ("HashTable", "HashTableV2")


def flat(restored: Restored1 | Restored2, signature: str) -> Flat:
    """Raises Uncuttable, and whatever TensorFlow raises."""
    return (
        _flat2(restored, signature)
        if isinstance(restored, Restored2)
        else _flat1(restored, signature)
    )


def _flat2(restored: Restored2, signature: str) -> Flat:
    concrete = restored.concrete(signature)
    graph = concrete.graph.as_graph_def()
    inputs = dict(
        zip(
            concrete._arg_keywords,
            [t.op.name for t in concrete.inputs[: len(concrete._arg_keywords)]],
            strict=True,
        )
    )
    args = {t.op.name: t.dtype.as_datatype_enum for t in concrete.inputs}
    weights, tables = {}, {}
    captures = concrete.inputs[len(concrete._arg_keywords) :]
    for internal, external in zip(captures, concrete.captured_inputs, strict=True):
        known = restored.weight(external)
        if known.parameter.dtype == "resource":
            tables[internal.op.name] = _eager_table(external)
        else:
            weights[internal.op.name] = known
    nodes = {}
    for original in graph.node:
        if original.name not in args:
            nodes[original.name] = copied(original)
            plain(nodes[original.name])
    body = Body(
        args=tuple(args.items()),
        nodes=nodes,
        results=tuple(
            (alias, tensor.name)
            for alias, tensor in zip(
                sorted(concrete.structured_outputs), concrete.outputs, strict=True
            )
        ),
        control=tuple(op.name for op in concrete.graph.control_outputs),
    )
    library = {f.signature.name: f for f in graph.library.function}
    return flattened(
        body, library, inputs=inputs, weights=weights, tables=tables, named=_named_eager
    )


def _eager_table(handle: Any) -> TableReader:
    def read(key: int, value: int) -> TableContents:
        wanted = tf.raw_ops.LookupTableExportV2(table_handle=handle, Tkeys=key, Tvalues=value)
        keys, values = wanted
        return _filled("that it captures", _table(key, value, keys.numpy(), values.numpy()))

    return read


def _named_eager(of: Node) -> TableReader:
    """Of a table that TensorFlow's resource manager knows by its name."""

    def read(key: int, value: int) -> TableContents:
        handle = tf.raw_ops.HashTableV2(
            key_dtype=key,
            value_dtype=value,
            container=of.attr["container"].s,
            shared_name=of.attr["shared_name"].s,
        )
        return _eager_table(handle)(key, value)

    return read


def _filled(name: str, found: TableContents) -> TableContents:
    # A wrong name makes a new table, which is empty, and so is one that a request will fill.
    if not len(found.keys):
        raise Uncuttable(f"The table {name} is empty, or not found by its name.")
    return found


def _table(key: int, value: int, keys: Any, values: Any) -> TableContents:
    if keys.shape[1:] == values.shape[1:] == (1,):  # of a dense table of scalars
        keys, values = keys[:, 0], values[:, 0]
    if keys.ndim != 1 or values.ndim != 1:
        raise Uncuttable("A table has more than one value for a key.")
    # A dense table shows its empty places too, all with one key that nobody may look up.
    unique, counts = np.unique(keys, return_counts=True)
    if len(unique) < len(keys):
        kept = np.isin(keys, unique[counts == 1])
        keys, values = keys[kept], values[kept]
    return TableContents(
        key_dtype=tf.as_dtype(key).name,
        value_dtype=tf.as_dtype(value).name,
        keys=keys,
        values=values,
    )


def _flat1(restored: Restored1, signature: str) -> Flat:
    feeds, fetches, part = restored.part(signature)
    nodes = {name: copied(n) for name, n in part.nodes.items()}
    args: dict[str, int] = {}
    inputs: dict[str, str] = {}
    renamed: dict[str, str] = {}
    for number, (alias, tensor) in enumerate(feeds.items()):
        name = inputs[alias] = f"input_{number}"
        args[name] = restored.tensor(tensor).dtype.base_dtype.as_datatype_enum
        renamed[canonical(tensor)] = f"{name}:0"
    weights: dict[str, Weight] = {}
    for tensor, weight in restored.reference_variables(part).items():
        weights[producer(tensor)] = weight
        args[producer(tensor)] = tf.as_dtype(weight.parameter.dtype).as_datatype_enum
    for tensor, weight in restored.handle_weights(part).items():
        weights[producer(tensor)] = weight
        args[producer(tensor)] = RESOURCE
    tables = {}
    for name, of in list(nodes.items()):
        if of.op in _TABLES:
            tables[name] = _session_table(restored, of)
            args[name] = RESOURCE
        if of.op in (*REFERENCE, "VarHandleOp", *_TABLES):
            del nodes[name]
        elif of.op in _V2:
            nodes[name].op = _V2[of.op]
    _retype(nodes.values(), renamed)
    body = Body(
        args=tuple(args.items()),
        nodes=nodes,
        results=tuple(
            (alias, renamed.get(tensor, tensor))
            for alias, tensor in zip(fetches, part.fetches, strict=True)
        ),
    )
    return flattened(
        body,
        part.functions,
        inputs=inputs,
        weights=weights,
        tables=tables,
        named=lambda of: _named_in_session(restored, of),
    )


def _retype(nodes: Any, renamed: dict[str, str]) -> None:
    """Inputs read from their arguments. A control edge from a fed node has nothing to wait for."""
    for of in nodes:
        kept = [i for i in of.input if f"{producer(i)}:0" not in renamed or not i.startswith("^")]
        del of.input[:]
        of.input.extend(renamed.get(canonical(i), i) for i in kept)


def _session_table(restored: Restored1, of: Node) -> TableReader:
    def read(key: int, value: int) -> TableContents:
        session = restored.session()
        handle = session.graph.get_tensor_by_name(f"{of.name}:0")
        return _filled(of.name, _exported(session, handle, key, value))

    return read


def _named_in_session(restored: Restored1, of: Node) -> TableReader:
    def read(key: int, value: int) -> TableContents:
        session = restored.session()
        with session.graph.as_default():
            handle = tf.raw_ops.HashTableV2(
                key_dtype=key,
                value_dtype=value,
                container=of.attr["container"].s,
                shared_name=_LOADED.sub(b"", of.attr["shared_name"].s),
            )
        return _filled(of.name, _exported(session, handle, key, value))

    return read


def _exported(session: Any, handle: Any, key: int, value: int) -> TableContents:
    with session.graph.as_default():
        v2 = handle.dtype == tf.resource
        export = tf.raw_ops.LookupTableExportV2 if v2 else tf.raw_ops.LookupTableExport
        wanted = export(table_handle=handle, Tkeys=key, Tvalues=value)
    keys, values = session.run(wanted)
    return _table(key, value, keys, values)
