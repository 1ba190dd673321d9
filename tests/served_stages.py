"""A cut signature run stage by stage, each by what would run it, beside TensorFlow's answers."""

import concurrent.futures
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lifting
import numpy as np
from jax.interpreters import mlir as jax_mlir
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo

from jaxrt.converters.arrays import answered
from jaxrt.converters.records import Lowered, ModelRecord, Segmented, Stage, Value
from jaxrt.converters.worker import Bridge

Values = dict[str, Any]


class Served:
    """A signature run stage by stage, checked against TensorFlow."""

    def __init__(
        self,
        bridge: Bridge,
        host: concurrent.futures.Executor,
        model: ModelRecord,
        signature: str,
    ) -> None:
        found = bridge.segment(model, signature)
        assert isinstance(found, Segmented), found
        assert found.signature == signature
        self._bridge, self._host, self._model, self._signature = bridge, host, model, signature
        self.stages = found.stages

    @property
    def rowwise(self) -> list[bool]:
        """Of the host stages."""
        return [stage.rowwise for stage in self.stages if stage.where == "host"]

    @property
    def places(self) -> list[str]:
        return [stage.where for stage in self.stages]

    def ops(self, where: str) -> set[str]:
        return {op for stage in self.stages if stage.where == where for op in stage.ops}

    def run(self, inputs: Values) -> Values:
        values = dict(inputs)
        for number, stage in enumerate(self.stages):
            given = {v.name: values[v.name] for v in stage.inputs}
            for value in stage.inputs:
                assert_is(value.dtype, value.shape, given[value.name])
            run = self._device if stage.where == "device" else self._by_host
            answers = run(number, stage, given)
            for value in stage.outputs:
                assert_is(value.dtype, value.shape, answers[value.name])
            values |= answers
        return {name: values[name] for name in self._model.signatures[self._signature].outputs}

    def first(self, inputs: Values) -> Values:
        """What the first stage gives, which is on the device."""
        stage = self.stages[0]
        return self._device(0, stage, {v.name: inputs[v.name] for v in stage.inputs})

    def check(self, inputs: Values) -> Values:
        """At five rows and at one. Returns the answers at five."""
        found = {}
        for rows in (1, 5):
            given = {k: v[:rows] if v.shape else v for k, v in inputs.items()}
            found = self.run(given)
            want = self._bridge.run(self._model, self._signature, given)
            assert set(found) == set(want)
            for name, answer in want.items():
                assert found[name].shape == answer.shape
                if answer.dtype == object:
                    assert found[name].tolist() == answer.tolist()
                else:
                    np.testing.assert_allclose(found[name], answer, rtol=1e-5, atol=1e-6)
        return found

    def _device(self, number: int, stage: Stage, given: Values) -> Values:
        shapes = {name: value.shape for name, value in given.items()}
        found = self._bridge.lower(self._model, self._signature, shapes, stage=number)
        assert isinstance(found, Lowered), found
        assert [p.name for p in found.inputs] == [v.name for v in stage.inputs]
        assert [o.name for o in found.outputs] == [v.name for v in stage.outputs]
        weights = self._bridge.weights(self._model, [w.name for w in found.weights])
        context = jax_mlir.make_ir_context()
        with context:
            parsed = stablehlo.deserialize_portable_artifact(context, found.stablehlo)
            text = str(parsed if isinstance(parsed, ir.Module) else ir.Module.parse(parsed))
        arguments = [given[p.name] for p in found.inputs]
        answers = lifting.by_xla(text, *arguments, *(weights[w.name] for w in found.weights))
        return {o.name: a for o, a in zip(found.outputs, answers, strict=True)}

    def _by_host(self, number: int, stage: Stage, given: Values) -> Values:
        assert stage.graph is not None
        tables = {
            name: (t.key_dtype, t.value_dtype, t.keys, t.values)
            for name, t in self._bridge.tables(self._model, self._signature, number).items()
        }
        assert set(tables) == set(stage.tables)

        def run(values: Values) -> Values:
            assert stage.graph is not None
            job = self._host.submit(
                by_tensorflow,
                Path(stage.graph).read_bytes(),
                {stage.feeds[name]: value for name, value in values.items()},
                dict(stage.fetches),
                stage.targets,
                tables,
            )
            return job.result()

        answers = run(given)
        if stage.rowwise:
            turned = run({v.name: reversed_rows(v, given[v.name]) for v in stage.inputs})
            for value in stage.outputs:
                want = reversed_rows(value, answers[value.name])
                assert turned[value.name].tolist() == want.tolist()
        return answers


def reversed_rows(value: Value, array: Any) -> Any:
    return array[::-1] if value.shape and value.shape[0] is None else array


def by_tensorflow(
    graph: bytes,
    feeds: Values,
    fetches: Mapping[str, str],
    targets: Sequence[str],
    tables: Mapping[str, tuple[Any, ...]],
) -> Values:
    """A host stage in a session of TensorFlow's."""
    import tensorflow as tf

    v1 = tf.compat.v1
    definition = v1.GraphDef.FromString(graph)
    with v1.Session(graph=tf.Graph()) as session:
        tf.graph_util.import_graph_def(definition, name="")
        for name, (key, value, keys, values) in tables.items():
            filled = tf.raw_ops.InitializeTableV2(
                table_handle=session.graph.get_tensor_by_name(f"{name}:0"),
                keys=tf.constant(keys, key),
                values=tf.constant(values, value),
            )
            session.run(filled)
        answers = session.run((dict(fetches), list(targets)), feeds)[0]
        return {name: answered(answer) for name, answer in answers.items()}


def assert_is(dtype: str, shape: tuple[int | None, ...] | None, value: Any) -> None:
    assert value.dtype == (object if dtype == "string" else np.dtype(dtype))
    if shape is not None:
        assert len(shape) == value.ndim
        assert all(n in (None, size) for n, size in zip(shape, value.shape, strict=True))
