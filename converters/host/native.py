"""Runs a host segment in numpy and plain Python, bit for bit as TensorFlow would."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxrt.converters.host import (
    ops_boxes,
    ops_control,
    ops_count,
    ops_crop,
    ops_csv,
    ops_example,
    ops_hash,
    ops_image,
    ops_indexing,
    ops_linear,
    ops_lookup,
    ops_math,
    ops_number,
    ops_pad,
    ops_ragged,
    ops_ragged_variant,
    ops_random,
    ops_record,
    ops_reduce,
    ops_regex,
    ops_resize,
    ops_segment,
    ops_sequence,
    ops_sets,
    ops_shape,
    ops_sparse,
    ops_sparse_math,
    ops_string,
    ops_template,
    ops_unicode,
    rowwise_images,
    rowwise_pieces,
    rowwise_rules,
    rowwise_text,
    tables,
)
from jaxrt.converters.host.graph import Function, FunctionRef, Graph, Node, canonical, parse
from jaxrt.converters.host.inline import bound, inline
from jaxrt.converters.host.plan import Plan, function_nodes, lacks, needed
from jaxrt.converters.host.rowwise import is_rowwise
from jaxrt.converters.host.rules import OPS
from jaxrt.converters.host.tables import Table
from jaxrt.converters.opnames import LONGER
from jaxrt.manifest import HostEntry

Array = np.ndarray[Any, Any]

RULES = (
    ops_boxes,
    ops_control,
    ops_count,
    ops_crop,
    ops_csv,
    ops_example,
    ops_hash,
    ops_image,
    ops_indexing,
    ops_linear,
    ops_lookup,
    ops_math,
    ops_number,
    ops_pad,
    ops_ragged,
    ops_ragged_variant,
    ops_random,
    ops_record,
    ops_reduce,
    ops_regex,
    ops_resize,
    ops_segment,
    ops_sequence,
    ops_sets,
    ops_shape,
    ops_sparse,
    ops_sparse_math,
    ops_string,
    ops_template,
    ops_unicode,
    rowwise_images,
    rowwise_pieces,
    rowwise_rules,
    rowwise_text,
)
"""Modules that fill the tables of rules when they are imported."""


class Executor:
    """A graph from `inputs` to `outputs`, both alias → tensor; `tables` by their node's name.

    `targets` are nodes that run in every run for their effect, a failure.

    Raises UnsupportedOps that names every op without a rule.
    """

    def __init__(
        self,
        graph: Graph,
        inputs: Mapping[str, str],
        outputs: Mapping[str, str],
        tables: Mapping[str, Table],
        targets: Sequence[str] = (),
    ) -> None:
        self._inputs = tuple(inputs)
        self._outputs = tuple(outputs)
        feeds, fetches = tuple(inputs.values()), tuple(outputs.values())
        self._plan = Plan(graph.nodes, graph.functions, feeds, fetches, tables, targets)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """alias → array, strings as object arrays of bytes. Safe in threads.

        Raises InvalidArgument and its siblings with TensorFlow's text.
        """
        values = self._plan(*[inputs[alias] for alias in self._inputs])
        return dict(zip(self._outputs, values, strict=True))


def opened(entry: HostEntry, file: Callable[[str], Path]) -> Executor:
    """A host segment of an artifact; `file` says where the files are that it names."""
    if entry.graph is None:
        raise ValueError(f"a host segment run by {entry.executor!r} has no graph of its own")
    return Executor(
        parse(file(entry.graph).read_bytes()),
        inputs=entry.feeds,
        outputs=entry.fetches,
        tables={node: tables.read(file(name)) for node, name in entry.tables.items()},
        targets=entry.targets,
    )


def missing(
    graph: Graph,
    outputs: Sequence[str],
    inputs: Sequence[str] = (),
    tables: Sequence[str] = (),
    targets: Sequence[str] = (),
) -> tuple[str, ...]:
    """Ops without a rule that the tensors `outputs` and the nodes `targets` need, sorted.

    `inputs` are tensors that are fed; `tables` are nodes whose contents are given.
    """
    fed = {canonical(tensor) for tensor in inputs}
    known = dict.fromkeys(tables)
    flat = inline(graph.nodes, graph.functions)
    found = _missing(needed(flat, fed, outputs, known, targets), graph.functions, known)
    return tuple(sorted(found))


def inexact(
    graph: Graph,
    outputs: Sequence[str],
    inputs: Sequence[str] = (),
    targets: Sequence[str] = (),
) -> tuple[str, ...]:
    """Ops that the outputs and the targets need and whose floats may differ from TensorFlow's in
    the last digit; but for those of loops that a device begins, whose floats differ as well."""
    fed = {canonical(tensor) for tensor in inputs}
    nodes = needed(inline(graph.nodes, graph.functions), fed, outputs, {}, targets)
    own = [node for node in nodes if not _goes_on(node)]
    every = [n for node in own for n in _nested(node, graph.functions, {})]
    return tuple(sorted({n.op for n in every if n.op in OPS and not OPS[n.op].same(n)}))


def _goes_on(node: Node) -> bool:
    condition = node.attrs.get("cond")
    return isinstance(condition, FunctionRef) and LONGER in condition.name


def rowwise(
    graph: Graph, inputs: Sequence[str], outputs: Sequence[str], tables: Sequence[str] = ()
) -> bool:
    """Whether row i of all outputs provably depends on row i of the inputs, and nothing else."""
    return is_rowwise(graph, inputs, outputs, tables)


def _missing(
    nodes: Sequence[Node], functions: Mapping[str, Function], known: Mapping[str, None]
) -> set[str]:
    every = [n for node in nodes for n in _nested(node, functions, known)]
    return {node.op for node in every if lacks(node, known)}


def _nested(node: Node, functions: Mapping[str, Function], known: Mapping[str, None]) -> list[Node]:
    """The node, and those of the bodies it runs."""
    found = [node]
    for value in node.attrs.values():
        references = value if isinstance(value, tuple) else (value,)
        for reference in references:
            if isinstance(reference, FunctionRef) and node.op in OPS:
                for inner in function_nodes(bound(reference, functions), functions, known):
                    found += _nested(inner, functions, known)
    return found
