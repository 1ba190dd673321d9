"""A signature as one flat graph of values: calls unfolded, TF1's control flow functional."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import tensorflow as tf

from jaxrt.converters.bodies import (
    Body,
    Library,
    Uncuttable,
    called_functions,
    node,
    pruned,
    read,
    write,
)
from jaxrt.converters.functionalize import functionalize
from jaxrt.converters.inline import inlined
from jaxrt.converters.opnames import CONTROL_FLOW
from jaxrt.converters.records import TableContents
from jaxrt.converters.restored import Weight
from jaxrt.converters.simplify import simplified
from jaxrt.converters.subgraph import Node, callees, canonical, producer
from jaxrt.converters.tails import without_tails
from jaxrt.converters.tensor_lists import with_lists
from jaxrt.converters.values import by_value
from jaxrt.converters.writes import without_writes

STRING, RESOURCE, VARIANT, BOOL, INT32, INT64 = 7, 20, 21, 10, 3, 9
"""DataType numbers."""

_TABLES = ("HashTable", "HashTableV2")

_SMALL = 64
"""Integer constants of at most so many elements are written into the graph: they may be shapes,
which XLA must know when it compiles."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TableSource:
    """A hash table that nobody changes; `read` copies its contents out of TensorFlow."""

    key_dtype: int
    value_dtype: int
    read: Callable[[], TableContents]


TableReader = Callable[[int, int], TableContents]
"""DataType numbers of keys and values → contents. TensorFlow dies of wrong ones."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Flat:
    """The nodes that a signature's outputs and asserts need. No node calls a function, but for
    branches and loops; no edge is one of control; no tensor is a reference or a variable."""

    body: Body
    """Its arguments are the keys of `inputs`' values, `weights` and `tables`; its results are
    the outputs, by alias; `control` are the nodes that may fail."""
    inputs: Mapping[str, str]
    """Alias → argument."""
    weights: Mapping[str, Weight]
    """Argument → variable."""
    tables: Mapping[str, TableSource]
    """Argument → table."""
    library: Library


def flattened(
    body: Body,
    library: Mapping[str, Any],
    *,
    inputs: Mapping[str, str],
    weights: Mapping[str, Weight],
    tables: Mapping[str, TableReader],
    named: Callable[[Node], TableReader],
) -> Flat:
    """Raises Uncuttable.

    `weights` are arguments of resource handles or of plain dtypes; `tables` are arguments, and
    `named` reads the table behind a node that a function has.
    """
    functions = dict(library)
    body = inlined(body, functions)
    for name in called_functions(body.nodes.values(), functions):
        inner = read(functions[name], functions)
        if any(n.op in CONTROL_FLOW for n in inner.nodes.values()):
            functions[name] = write(name, functionalize(inner, functions), functions)
    body = without_writes(functionalize(body, functions), functions)
    types = dict(body.args)
    handles = {
        f"{a}:0": tf.as_dtype(w.parameter.dtype).as_datatype_enum
        for a, w in weights.items()
        if types[a] == RESOURCE
    }
    body = by_value(body, handles, functions)
    _check_filling(body, inputs.values())
    body, found = _with_table_arguments(body)
    readers = {**tables, **{name: named(of) for name, of in found.items()}}
    body = _with_small_constants(_without_control(body, functions), weights)
    body = without_tails(with_lists(simplified(body), functions), functions)
    used = {producer(i) for n in body.nodes.values() for i in n.input}
    used |= {producer(t) for _, t in body.results}
    kept = {a: n for a, n in body.args if a in used or a in inputs.values()}
    return Flat(
        body=dataclasses.replace(body, args=tuple(kept.items())),
        inputs=inputs,
        weights={a: w for a, w in weights.items() if a in kept},
        tables={a: _source(body, a, r, functions) for a, r in readers.items() if a in kept},
        library=functions,
    )


def deep_nodes(of: Node, library: Library) -> list[Node]:
    """A node and those of the functions that it calls."""
    bodies = [read(library[name], library) for name in called_functions([of], library)]
    return [of, *(n for body in bodies for n in body.nodes.values())]


def _without_control(body: Body, library: Library) -> Body:
    """Control edges go; nodes that run for their effect stay where the effect is an error."""
    effects = [
        n.name for n in body.nodes.values() if any(d.op == "Assert" for d in deep_nodes(n, library))
    ]
    nodes = {}
    for name, original in body.nodes.items():
        if original.op == "PlaceholderWithDefault":
            original = node(
                name, "Identity", original.input, T=("type", original.attr["dtype"].type)
            )
        copy = type(original)()
        copy.CopyFrom(original)
        del copy.input[:]
        copy.input.extend(canonical(i) for i in original.input if not i.startswith("^"))
        nodes[name] = copy
    return pruned(dataclasses.replace(body, nodes=nodes, control=tuple(effects)))


def _check_filling(body: Body, inputs: Collection[str]) -> None:
    """Raises Uncuttable where a table is filled with what a request brings.

    Keras fills its tables before each lookup, always with the same constants.
    """
    given = set(inputs)
    for of in body.nodes.values():  # producers come first
        if any(producer(i) in given for i in of.input if not i.startswith("^")):
            given.add(of.name)
            if of.op.startswith("LookupTableImport"):
                raise Uncuttable("It fills a table with what it is given.")


def _with_table_arguments(body: Body) -> tuple[Body, dict[str, Node]]:
    """Tables' nodes as arguments, and the nodes."""
    found = {n.name: n for n in body.nodes.values() if n.op in _TABLES}
    nodes = {name: n for name, n in body.nodes.items() if name not in found}
    args = body.args + tuple((name, RESOURCE) for name in found)
    return dataclasses.replace(body, nodes=nodes, args=args), found


def _source(body: Body, argument: str, reader: TableReader, library: Library) -> TableSource:
    dtypes = _lookup_dtypes(body, {f"{argument}:0"}, library)
    if len(dtypes) != 1:
        raise Uncuttable(f"Nothing tells the dtypes of the table {argument}.")
    ((key, value),) = dtypes
    return TableSource(key_dtype=key, value_dtype=value, read=functools.partial(reader, key, value))


def _lookup_dtypes(body: Body, handles: set[str], library: Library) -> set[tuple[int, int]]:
    """DataType numbers of keys and values, as the lookups in a table say them."""
    found: set[tuple[int, int]] = set()
    known = set(handles)
    for of in body.nodes.values():  # producers come first
        if not known & set(of.input):
            continue
        if of.op == "LookupTableFindV2":
            found.add((of.attr["Tin"].type, of.attr["Tout"].type))
        elif of.op in ("Identity", "While", "StatelessWhile"):
            known |= {f"{of.name}:{i}" for i, t in enumerate(of.input) if t in known}
        for name in callees(of):
            if name in library:
                inner = read(library[name], library)
                shift = len(of.input) - len(inner.args)  # a branch's predicate is no argument
                args = [f"{a}:0" for a, _ in inner.args]
                given = {a for a, t in zip(args, of.input[shift:], strict=True) if t in known}
                found |= _lookup_dtypes(inner, given, library)
    return found


def _with_small_constants(body: Body, weights: Mapping[str, Weight]) -> Body:
    nodes, args = dict(body.nodes), dict(body.args)
    for name, w in weights.items():
        p = w.parameter
        number = args[name]
        if not w.constant or number == RESOURCE:
            continue
        if number != STRING and not _is_small(p.dtype, p.shape):
            continue
        del args[name]
        value = tf.make_tensor_proto(w.read(), tf.as_dtype(p.dtype))
        nodes[name] = node(name, "Const", dtype=("type", number), value=value)
    return dataclasses.replace(body, nodes=nodes, args=tuple(args.items()))


def _is_small(dtype: str, shape: Sequence[int]) -> bool:
    count = 1
    for n in shape:
        count *= n
    return tf.as_dtype(dtype).is_integer and count <= _SMALL
