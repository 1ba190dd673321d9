"""A TF1 SavedModel as functions: pruned to each signature, reference variables as parameters."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.saved_model import load_v1_in_v2

from jaxrt.converters.arrays import Array
from jaxrt.converters.opnames import REFERENCE
from jaxrt.converters.records import Output, Parameter
from jaxrt.converters.restored import Function, Weight, load, weight
from jaxrt.converters.savedmodel import Source
from jaxrt.converters.subgraph import Subgraph, canonical, reach

_SMALL = 64
"""Integer variables of at most so many elements become constants: they may be shapes, which XLA
must know when it compiles."""


class _Loader(load_v1_in_v2._EagerSavedModelLoader):  # type: ignore[misc]
    """Restores variables and runs the init ops, but builds no signature: one that TensorFlow
    cannot build would take the others down with it."""

    def _extract_signatures(self, wrapped: Any, meta_graph_def: Any) -> dict[str, Any]:
        return {}


class Restored1:
    """A SavedModel written by TF1's builder or an Estimator."""

    def __init__(self, source: Source) -> None:
        self._root = load(source, lambda path, tags: _Loader(path).load(tags=tags))
        self._source = source
        self._graph = self._root.graph.as_graph_def()
        self._handles = {
            internal.name: (internal.op.name, external)
            for external, internal in self._root.graph.captures
        }
        self._session: Any = None
        self._lifted: list[Any] = []  # a handle dies with its variable

    def function(self, signature: str) -> Function:
        """Raises TensorFlow's own errors where the pruned graph cannot be imported."""
        definition = self._source.meta_graph.signature_def[signature]
        feeds = {alias: info.name for alias, info in sorted(definition.inputs.items())}
        fetches = {alias: info.name for alias, info in sorted(definition.outputs.items())}
        part = reach(self._graph, list(feeds.values()), list(fetches.values()))
        variables = self.reference_variables(part)
        handles = self.resource_variables(part)
        graph = _graph_def(self._graph, part, _constants(variables))
        dtypes = [self.tensor(name).dtype.base_dtype for name in feeds.values()]

        def body(*arguments: Any) -> list[Any]:
            known = dict(zip([*part.feeds, *variables], arguments, strict=True))
            capture = tf.compat.v1.get_default_graph().capture
            known |= {name: capture(external) for name, (_, external) in handles.items()}
            return _import(graph, part.fetches, known)

        weights = tuple(variables.values())
        specs = [tf.TensorSpec(None, d) for d in dtypes]
        specs += [tf.TensorSpec(None, tf.as_dtype(w.parameter.dtype)) for w in weights]
        concrete = tf.compat.v1.wrap_function(body, specs)
        by_handle = {id(e): weight(name, e) for name, e in handles.values()}
        return Function(
            concrete=concrete,
            inputs=tuple(feeds),
            dtypes=tuple(dtypes),
            variables=weights,
            captures=tuple(by_handle[id(c)] for c in concrete.captured_inputs),
            outputs=tuple(
                Output(name=alias, dtype=tensor.dtype.name)
                for alias, tensor in zip(fetches, concrete.outputs, strict=True)
            ),
        )

    def run(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """In a session, as TensorFlow Serving does: any tensor may be fed, any op may run."""
        definition = self._source.meta_graph.signature_def[signature]
        feeds = {info.name: inputs[alias].numpy() for alias, info in definition.inputs.items()}
        fetches = {alias: info.name for alias, info in definition.outputs.items()}
        answers = self.session().run(fetches, feeds)
        return {alias: tf.constant(answer) for alias, answer in answers.items()}

    def part(self, signature: str) -> tuple[dict[str, str], dict[str, str], Subgraph]:
        """Inputs and outputs, alias → tensor, and what the outputs depend on, asserts included."""
        definition = self._source.meta_graph.signature_def[signature]
        feeds = {alias: info.name for alias, info in sorted(definition.inputs.items())}
        fetches = {alias: info.name for alias, info in sorted(definition.outputs.items())}
        part = reach(self._graph, list(feeds.values()), list(fetches.values()), control=True)
        return feeds, fetches, part

    def session(self) -> Any:
        """Restored and initialised, as TensorFlow Serving has it."""
        if self._session is None:
            record = self._source.record
            session = tf.compat.v1.Session(graph=tf.Graph())
            with session.graph.as_default():
                tf.compat.v1.saved_model.load(session, list(record.tags), record.path)
            self._session = session
        return self._session

    def tensor(self, name: str) -> Any:
        """Of the graph that variables and constants are read from."""
        return self._root.graph.get_tensor_by_name(canonical(name))

    def _value(self, node: str) -> Array:
        with self._root.graph.as_default():
            # A function cannot return a reference; an identity is none.
            wanted = tf.identity(self.tensor(node))
        array: Array = self._root.prune([], wanted)().numpy()
        return array

    def reference_variables(self, part: Subgraph) -> dict[str, Weight]:
        """Tensor → weight, in the order of their names."""
        found = {}
        for name in sorted(n for n, node in part.nodes.items() if node.op in REFERENCE):
            tensor = self.tensor(name)
            known = tensor.shape.is_fully_defined()
            shape = tuple(tensor.shape) if known else self._value(name).shape
            parameter = Parameter(name=name, dtype=tensor.dtype.base_dtype.name, shape=shape)
            found[f"{name}:0"] = Weight(parameter=parameter, read=self._reader(name))
        return found

    def _reader(self, node: str) -> Any:
        return lambda: self._value(node)

    def resource_variables(self, part: Subgraph) -> dict[str, tuple[str, Any]]:
        """Tensor → node and eager handle, for the VarHandleOps of the part."""
        found = {}
        for name in sorted(n for n, node in part.nodes.items() if node.op == "VarHandleOp"):
            tensor = f"{name}:0"
            if tensor not in self._handles:  # in no collection: TensorFlow did not lift it
                self._handles[tensor] = (name, self._lift(name).handle)
            found[tensor] = self._handles[tensor]
        return found

    def handle_weights(self, part: Subgraph) -> dict[str, Weight]:
        """Tensor → weight, for the VarHandleOps of the part."""
        found = self.resource_variables(part)
        return {tensor: weight(name, handle) for tensor, (name, handle) in found.items()}

    def _lift(self, node: str) -> Any:
        with self._root.graph.as_default():
            dtype = tf.as_dtype(self._root.graph.get_operation_by_name(node).get_attr("dtype"))
            read = tf.raw_ops.ReadVariableOp(resource=self.tensor(node), dtype=dtype)
        variable = tf.Variable(self._root.prune([], read)(), name=node)
        self._lifted.append(variable)
        return variable


def _constants(variables: dict[str, Weight]) -> dict[str, Array]:
    """Takes out of `variables` those that are better constants: node → value."""
    small = [
        tensor
        for tensor, w in variables.items()
        if np.dtype(tf.as_dtype(w.parameter.dtype).as_numpy_dtype).kind in "iub"
        and int(np.prod(w.parameter.shape, dtype=np.int64)) <= _SMALL
    ]
    return {variables[t].parameter.name: variables.pop(t).read() for t in small}


def _graph_def(original: Any, part: Subgraph, constants: Mapping[str, Array]) -> Any:
    """A GraphDef of the part, variables left out or constant."""
    graph = type(original)()
    graph.versions.CopyFrom(original.versions)
    for name, function in part.functions.items():
        assert name == function.signature.name
        graph.library.function.add().CopyFrom(function)
    for name, node in part.nodes.items():
        if name in constants:
            dtype = tf.as_dtype(node.attr["dtype"].type).base_dtype
            constant = graph.node.add(name=name, op="Const")
            constant.attr["dtype"].type = dtype.as_datatype_enum
            proto = tf.make_tensor_proto(constants[name], dtype)
            constant.attr["value"].tensor.CopyFrom(proto)
        elif node.op not in REFERENCE and node.op != "VarHandleOp":
            graph.node.add().CopyFrom(node)
    return graph


def _import(graph: Any, fetches: Sequence[str], known: Mapping[str, Any]) -> list[Any]:
    """The fetched tensors in the default graph, `known` tensors put in place."""
    read = {i for node in graph.node for i in node.input} | set(fetches)
    imported = [name for name in fetches if name not in known]
    found = tf.graph_util.import_graph_def(
        graph,
        input_map={name: tensor for name, tensor in known.items() if name in read},
        return_elements=imported,
        name="",
    )
    by_name = dict(zip(imported, found, strict=True)) | dict(known)
    return [tf.identity(by_name[name]) for name in fetches]
