"""Parts of a cut signature as TensorFlow takes them: GraphDefs and functions."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import graph_pb2
from tensorflow.python.framework import versions

from jaxrt.converters.bodies import Uncuttable, called_functions, node
from jaxrt.converters.flat import Flat, deep_nodes
from jaxrt.converters.opnames import HOST
from jaxrt.converters.placement import Sizes
from jaxrt.converters.records import Output, Stage
from jaxrt.converters.restored import Function, Weight
from jaxrt.converters.rowwise import is_rowwise
from jaxrt.converters.shapes_tf import placeholder
from jaxrt.converters.stages import Part
from jaxrt.converters.subgraph import producer

_LARGEST = 1 << 30
"""Bytes of constants in a host stage; a GraphDef cannot have more than twice as many."""


QUIET = ("Const", "Identity")
"""Ops that no list of ops names."""


def stage(part: Part, flat: Flat, sizes: Sizes, file: str | None) -> Stage:
    """The part's description; `file` has its graph if it is on the host."""
    reasons = {} if part.on_device else _reasons(part, flat)
    return Stage(
        where="device" if part.on_device else "host",
        inputs=tuple(part.values[name] for name in part.takes),
        outputs=tuple(part.values[name] for name in part.gives),
        ops=tuple(sorted({n.op for n in part.nodes.values()} - set(QUIET))),
        why="" if part.on_device else _why(reasons),
        rowwise=not part.on_device and is_rowwise(part, flat, sizes),
        graph=file,
        feeds={} if part.on_device else {n: f"{a}:0" for n, a in part.takes.items()},
        fetches={} if part.on_device else dict(part.gives),
        targets=part.effects,
        tables=tables(part, flat),
        counts=_counts(part, flat),
        reasons=reasons,
    )


def _counts(part: Part, flat: Flat) -> dict[str, int]:
    """Op → nodes of it, those of branches and loops included."""
    nodes = [inner for of in part.nodes.values() for inner in deep_nodes(of, flat.library)]
    return dict(sorted(Counter(n.op for n in nodes if n.op not in QUIET).items()))


def _reasons(part: Part, flat: Flat) -> dict[str, dict[str, int]]:
    """Why a node is on the host → op → how many such nodes there are; of a branch or a loop, the
    ops in it that have to be there."""
    found: dict[str, Counter[str]] = {}
    for name, reason in part.reasons.items():
        of, *inner = deep_nodes(part.nodes[name], flat.library)
        blamed = [n.op for n in inner if HOST.match(n.op)] or [of.op]
        found.setdefault(reason, Counter()).update(blamed)
    return {reason: dict(counts) for reason, counts in found.items()}


def _why(reasons: Mapping[str, Mapping[str, int]]) -> str:
    """`No device has strings: StringLower ×2; no device has tables: LookupTableFindV2.`"""
    said = []
    for reason, counts in reasons.items():
        ops = [f"{op} ×{n}" if n > 1 else op for op, n in sorted(counts.items())]
        said.append(f"{reason}: {', '.join(ops)}")
    text = "; ".join(said) or "it is cheaper than what would cross"
    return f"{text[0].upper()}{text[1:]}."


def _read(part: Part) -> set[str]:
    """Producers of what the part reads and gives."""
    read = {producer(i) for of in part.nodes.values() for i in of.input}
    return read | {producer(t) for t in part.gives.values()}


def weights(part: Part, flat: Flat) -> dict[str, Weight]:
    """Argument → weight, for those that the part reads."""
    read = _read(part)
    return {name: w for name, w in flat.weights.items() if name in read}


def tables(part: Part, flat: Flat) -> tuple[str, ...]:
    """Nodes of the tables that the part reads."""
    return tuple(sorted(_read(part) & set(flat.tables)))


def graph(part: Part, flat: Flat) -> Any:
    """GraphDef: placeholders for what it takes, weights as constants, tables as their nodes.

    Raises Uncuttable where the constants are too many for a GraphDef.
    """
    made = _graph(part, flat)
    for name, argument in part.takes.items():
        value = part.values[name]
        number = tf.as_dtype(value.dtype).as_datatype_enum
        made.node.add().CopyFrom(placeholder(argument, number, value.shape))
    size = 0
    for name, weight in weights(part, flat).items():
        dtype = tf.as_dtype(weight.parameter.dtype)
        value = tf.make_tensor_proto(weight.read(), dtype, list(weight.parameter.shape))
        size += value.ByteSize()
        if size > _LARGEST:
            raise Uncuttable(f"A host stage would read {size} bytes of weights, as {name}.")
        constant = node(name, "Const", dtype=("type", dtype.as_datatype_enum), value=value)
        made.node.add().CopyFrom(constant)
    for name in tables(part, flat):
        table = flat.tables[name]
        made.node.add().CopyFrom(
            node(
                name,
                "HashTableV2",
                shared_name=name.encode(),
                key_dtype=("type", table.key_dtype),
                value_dtype=("type", table.value_dtype),
            )
        )
    return made


def _graph(part: Part, flat: Flat) -> Any:
    made = graph_pb2.GraphDef()
    made.versions.producer = versions.GRAPH_DEF_VERSION
    for function in called_functions(part.nodes.values(), flat.library):
        made.library.function.add().CopyFrom(flat.library[function])
    made.node.extend(part.nodes.values())
    return made


def function(part: Part, flat: Flat) -> Function:
    """The part as a function of (*values, *weights). Raises TensorFlow's own errors."""
    definition = _graph(part, flat)
    used = weights(part, flat)
    arguments = [*part.takes.values(), *used]
    read = _read(part)

    def body(*given: Any) -> list[Any]:
        known = {f"{a}:0": t for a, t in zip(arguments, given, strict=True)}
        fetched = [t for t in part.gives.values() if t not in known]
        found = tf.graph_util.import_graph_def(
            definition,
            input_map={name: t for name, t in known.items() if producer(name) in read},
            return_elements=fetched,
            name="",
        )
        by_name = known | dict(zip(fetched, found, strict=True))
        return [tf.identity(by_name[t]) for t in part.gives.values()]

    values = [part.values[name] for name in part.takes]
    dtypes = [tf.as_dtype(v.dtype) for v in values]
    specs = [tf.TensorSpec(None, d) for d in dtypes]
    specs += [tf.TensorSpec(None, tf.as_dtype(w.parameter.dtype)) for w in used.values()]
    return Function(
        concrete=tf.compat.v1.wrap_function(body, specs),
        inputs=tuple(part.takes),
        dtypes=tuple(dtypes),
        variables=tuple(used.values()),
        captures=(),
        outputs=tuple(Output(name=n, dtype=part.values[n].dtype) for n in part.gives),
    )
