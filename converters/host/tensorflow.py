"""Host segments and whole signatures run by TensorFlow on the CPU, in this process.

The only module of the serving side that imports TensorFlow, and only where an artifact has a
segment that nothing else runs.
"""

import os
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxrt.converters.arrays import answered
from jaxrt.converters.host.tables import Table
from jaxrt.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    RequestError,
    ResourceExhausted,
    Unimplemented,
)

Array = np.ndarray[Any, Any]

_CODES: dict[int, type[RequestError]] = {
    3: InvalidArgument,
    4: DeadlineExceeded,
    5: NotFound,
    8: ResourceExhausted,
    9: FailedPrecondition,
    11: InvalidArgument,
    12: Unimplemented,
}
"""Codes of tf.errors.OpError; the others are the server's fault."""


def tensorflow() -> Any:
    """TensorFlow, quiet and without GPUs: those are JAX's. Raises ImportError."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    tf.config.set_visible_devices([], "GPU")
    return tf


class GraphProgram:
    """A host segment: a GraphDef with its tables filled, in a session of its own."""

    def __init__(
        self,
        graph: bytes,
        *,
        feeds: Mapping[str, str],
        fetches: Mapping[str, str],
        targets: Sequence[str],
        tables: Mapping[str, Table],
    ) -> None:
        """Raises ImportError without TensorFlow, ValueError for a graph that does not load."""
        tf = tensorflow()
        self._errors = tf.errors.OpError
        self._names = tuple(feeds)
        self._outputs = tuple(fetches)
        definition = tf.compat.v1.GraphDef.FromString(graph)
        with tf.Graph().as_default() as loaded:
            tf.import_graph_def(definition, name="")
            fill = [_filled(tf, loaded, node, table) for node, table in tables.items()]
            self._session = tf.compat.v1.Session(graph=loaded)
        for operation, values in fill:
            self._session.run(operation, values)
        results = [loaded.get_tensor_by_name(name) for name in fetches.values()]
        operations = [loaded.get_operation_by_name(name) for name in targets]
        # One op that waits for the targets: a callable gives tensors, not operations.
        with loaded.as_default(), tf.control_dependencies(operations):
            done = [tf.constant(0)] if operations else []
        self._call = self._session.make_callable(
            [*results, *done], feed_list=[loaded.get_tensor_by_name(n) for n in feeds.values()]
        )

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Raises a RequestError with TensorFlow's code and text."""
        try:
            found = self._call(*(inputs[name] for name in self._names))
        except (self._errors, ValueError) as error:
            raise told(error) from error
        return {n: answered(v) for n, v in zip(self._outputs, found, strict=False)}


def _filled(tf: Any, graph: Any, node: str, table: Table) -> tuple[Any, dict[Any, Array]]:
    """The op that fills a hash table, and what it is fed: contents are no part of the graph."""
    keys = tf.compat.v1.placeholder(table.key_dtype, [None])
    values = tf.compat.v1.placeholder(table.value_dtype, [None])
    handle = graph.get_tensor_by_name(f"{node}:0")
    operation = tf.raw_ops.LookupTableImportV2(table_handle=handle, keys=keys, values=values)
    return operation, {keys: table.keys, values: table.values}


class SavedModels:
    """The SavedModel in an artifact, in one session for all signatures that run whole.

    A session, not `tf.saved_model.load`: it takes TF1's reference variables too, and is what
    TensorFlow Serving runs.
    """

    def __init__(self, path: Path, tags: Sequence[str]) -> None:
        self._path = path
        self._tags = list(tags)
        self._lock = threading.Lock()
        self._session: Any = None
        self._signatures: Any = None

    def signature(self, name: str) -> "SignatureProgram":
        """Raises ImportError without TensorFlow, KeyError for an unknown signature."""
        tf = tensorflow()
        with self._lock:
            if self._session is None:
                self._session = tf.compat.v1.Session(graph=tf.Graph())
                with self._session.graph.as_default():
                    loaded = tf.compat.v1.saved_model.load(
                        self._session, self._tags, str(self._path)
                    )
                self._signatures = loaded.signature_def
        return SignatureProgram(tf, self._session, self._signatures[name], self._lock)


class SignatureProgram:
    """A whole signature, as TensorFlow runs it. Variables it changes stay changed."""

    def __init__(self, tf: Any, session: Any, signature: Any, lock: threading.Lock) -> None:
        self._errors = tf.errors.OpError
        self._names = tuple(signature.inputs)
        self._outputs = tuple(signature.outputs)
        graph = session.graph
        self._call = session.make_callable(
            [graph.get_tensor_by_name(signature.outputs[n].name) for n in self._outputs],
            feed_list=[graph.get_tensor_by_name(signature.inputs[n].name) for n in self._names],
        )
        self._lock = lock

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """One call at a time: a signature may read what another one changes."""
        try:
            with self._lock:
                found = self._call(*(inputs[name] for name in self._names))
        except (self._errors, ValueError) as error:
            raise told(error) from error
        return {n: answered(v) for n, v in zip(self._outputs, found, strict=True)}


_DETECTED = re.compile(r"Detected at node .*?\nNode: '[^\n]*'\n", re.DOTALL)


def told(error: Any) -> RequestError:
    """TensorFlow's error as ours: its code, its text without the Python stack."""
    if isinstance(error, UnicodeDecodeError):
        # Its binding cannot make an error of a text that quotes bytes of the request.
        return InvalidArgument(error.object.decode("utf-8", "replace").strip())
    if isinstance(
        error, ValueError
    ):  # a shape that the graph contradicts is refused before it runs
        return InvalidArgument(str(error))
    text = str(error.message or error)
    text = _DETECTED.sub("", text.removeprefix("Graph execution error:").lstrip())
    for end in ("\n\nOriginal stack trace", "\n\nErrors may have originated", " [Op:"):
        text = text.partition(end)[0]
    return _CODES.get(error.error_code, Internal)(text.strip())
