"""Signatures cut into stages: each stage run by what would run it, beside TensorFlow's answers."""

import concurrent.futures
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lifting
import mixed_models
import numpy as np
import pytest
from jax.interpreters import mlir as jax_mlir
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo

from jaxrt.converters.records import Kind, Lowered, ModelRecord, Refused, Segmented, Stage, Value
from jaxrt.converters.worker import Bridge
from jaxrt.errors import ConversionError

Values = dict[str, Any]

TEXT = np.asarray([b"a", b" Cash ", b"", b"\xff?", b"7"], object)
X = np.linspace(-3, 3, 20, dtype="f4").reshape(5, 4)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    return mixed_models.build(folder, "words", "examples", "images", "frames")


@pytest.fixture(scope="module")
def bridge() -> Iterator[Bridge]:
    with Bridge(timeout=300) as started:
        yield started


@pytest.fixture(scope="module")
def host() -> Iterator[concurrent.futures.Executor]:
    """A process with a TensorFlow of its own, for host stages."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        yield pool


@pytest.fixture
def words(bridge: Bridge, models: Path) -> ModelRecord:
    return bridge.open_model(models / "words")


@pytest.fixture
def frames(bridge: Bridge, models: Path) -> ModelRecord:
    return bridge.open_model(models / "frames")


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
        return {name: np.asarray(answer) for name, answer in answers.items()}


def assert_is(dtype: str, shape: tuple[int | None, ...] | None, value: Any) -> None:
    assert value.dtype == (object if dtype == "string" else np.dtype(dtype))
    if shape is not None:
        assert len(shape) == value.ndim
        assert all(n in (None, size) for n, size in zip(shape, value.shape, strict=True))


@pytest.fixture
def served(bridge: Bridge, host: concurrent.futures.Executor) -> Any:
    return lambda model, signature: Served(bridge, host, model, signature)


def test_words_are_looked_up_on_the_host_and_labels_named_there(
    served: Any, words: ModelRecord
) -> None:
    found = served(words, "labelled")
    assert found.places == ["host", "device", "host"]
    assert {"StringStrip", "LookupTableFindV2"} <= set(found.stages[0].ops)
    assert set(found.stages[1].ops) >= {"GatherV2", "MatMul", "ArgMax"}
    assert set(found.stages[2].ops) == {"GatherV2"}
    (ids,) = found.stages[0].outputs
    assert (ids.dtype, ids.shape) == ("int64", (None,))
    (index,) = found.stages[2].inputs
    assert (index.dtype, index.shape) == ("int64", (None,))  # and not the logits
    assert "LookupTableFindV2" in found.stages[0].why
    assert found.rowwise == [True, True]
    assert found.check({"text": TEXT})["label"].shape == (5,)


def test_weights_have_the_names_that_the_whole_model_gives_them(
    bridge: Bridge, words: ModelRecord
) -> None:
    whole = bridge.lower(words, "checked", {"x": (3, 4)})
    found = bridge.lower(words, "positive", {"x": (3, 4)}, stage=0)
    other = bridge.lower(words, "unused", {"x": (3, 4)}, stage=1)
    assert isinstance(whole, Lowered)
    assert isinstance(found, Lowered)
    assert isinstance(other, Lowered)
    assert found.weights == other.weights == whole.weights
    (name,) = (w.name for w in found.weights)
    assert bridge.weights(words, [name])[name].shape == (4, 4)


def test_an_input_may_be_read_on_both_sides_and_be_the_name_of_an_answer(
    served: Any, words: ModelRecord
) -> None:
    found = served(words, "shared")
    answers = found.check({"text": TEXT, "x": X})
    assert answers["x"].tolist() == (X * 2).tolist()
    assert answers["text"].tolist() == TEXT.tolist()
    assert "MatMul" in found.ops("device")
    assert "StringJoin" in found.ops("host")


def test_unused_inputs_reach_no_stage(served: Any, words: ModelRecord) -> None:
    found = served(words, "unused")
    found.check({"text": TEXT, "x": X, "unused": np.zeros((5, 9), "f4")})
    assert "unused" not in {v.name for stage in found.stages for v in stage.inputs}


def test_strings_in_and_strings_out_take_no_device(served: Any, words: ModelRecord) -> None:
    found = served(words, "echoed")
    assert found.places == ["host"]
    found.check({"text": TEXT})


@pytest.mark.parametrize(
    ("signature", "places", "bad", "message"),
    [
        ("checked", ["host", "device"], 200, "want small numbers"),
        ("checked_late", ["device", "host"], 1e9, "want small answers"),
    ],
)
def test_asserts_are_checked_on_the_host(
    served: Any,
    words: ModelRecord,
    signature: str,
    places: list[str],
    bad: float,
    message: str,
) -> None:
    found = served(words, signature)
    assert found.places == places
    found.check({"x": X})
    assert found.rowwise == [True]
    assert all(v.shape != () for stage in found.stages for v in stage.inputs)
    with pytest.raises(Exception, match=message):
        found.run({"x": np.full((2, 4), bad, "f4")})


def test_shapes_that_data_decide_stay_on_the_host(served: Any, words: ModelRecord) -> None:
    found = served(words, "positive")
    assert found.places == ["device", "host"]
    assert "MatMul" in found.ops("device")
    assert "Where" in found.ops("host")
    assert found.rowwise == [False]  # a sum over rows
    found.check({"x": X})


def test_the_number_of_rows_does_not_cross(served: Any, words: ModelRecord) -> None:
    found = served(words, "sized")
    assert found.places == ["device"]
    found.check({"text": TEXT, "x": X})


def test_a_branch_that_looks_words_up_is_the_hosts(served: Any, words: ModelRecord) -> None:
    found = served(words, "chosen")
    assert found.places == ["host", "device"]
    assert len(found.stages[0].tables) == 1
    for loud in (False, True):
        found.check({"text": TEXT, "loud": np.asarray(loud)})


@pytest.mark.parametrize("signature", ["adds", "reads_added"])
def test_tables_that_change_are_not_cut(bridge: Bridge, words: ModelRecord, signature: str) -> None:
    found = bridge.segment(words, signature)
    assert isinstance(found, Refused)
    assert found.kind is Kind.STATE


def example(age: list[float], city: list[str], tags: list[str]) -> bytes:
    """A serialized tf.Example, by hand: tests know no TensorFlow."""

    def field(number: int, content: bytes) -> bytes:
        assert len(content) < 128
        return bytes([number << 3 | 2, len(content)]) + content

    def feature(name: str, content: bytes) -> bytes:
        return field(1, field(1, name.encode()) + field(2, content))

    floats = field(2, field(1, np.asarray(age, "<f4").tobytes()))
    strings = [field(1, b"".join(field(1, v.encode()) for v in values)) for values in (city, tags)]
    cities = feature("city", strings[0]) if city else b""
    return field(1, feature("age", floats) + cities + feature("tags", strings[1]))


def test_examples_are_parsed_on_the_host(served: Any, bridge: Bridge, models: Path) -> None:
    model = bridge.open_model(models / "examples")
    rows = [
        example([1.0, 2.0], ["a"], []),
        example([30.5, -2.0], [], ["x", "y"]),
        example([70.0, 1e9], ["b"], ["z"]),
        example([0.0, 0.0], ["\u00e9"], ["x", "y", "z"]),
        example([40.0, 40.0], ["c"], []),
    ]
    serialized = np.asarray(rows, object)
    classify = served(model, "classify")
    assert classify.places == ["host", "device"]
    assert "MatMul" in classify.ops("device")
    assert "ParseExampleV2" in classify.ops("host")
    assert classify.rowwise == [True]
    classify.check({"examples": serialized})
    counted = served(model, "counted")
    assert counted.places == ["host", "device"]
    assert counted.rowwise == [True]  # as wide as the fullest row, but nothing is added to others
    counted.check({"examples": serialized})


PNG = (
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x02\0\0\0\x90wS\xde"
    b"\0\0\0\x0cIDATx\x9cc\xf8\xcf\xc0\0\0\x03\x01\x01\0\xc9\xfe\x92\xef\0\0\0\0IEND\xaeB`\x82"
)


def test_images_are_decoded_on_the_host_and_convolved_on_the_device(
    served: Any, bridge: Bridge, models: Path
) -> None:
    found = served(bridge.open_model(models / "images"), "serving_default")
    assert found.places == ["host", "device"]
    assert "Conv2D" in found.ops("device")
    assert found.stages[1].inputs[0].shape == (None, 8, 8, 3)
    assert found.rowwise == [True]
    found.check({"png": np.asarray([PNG] * 5, object)})


XY = np.linspace(0.5, 2, 10, dtype="f4").reshape(5, 2)
WORD = np.asarray([b"a", b"b", b"c", b"a", b""], object)


@pytest.mark.parametrize("signature", ["looped", "mapped"])
def test_while_frames_run_on_the_device(served: Any, frames: ModelRecord, signature: str) -> None:
    assert frames.refused[signature].kind is Kind.CONTROL_FLOW
    found = served(frames, signature)
    assert found.places == ["device"]
    assert "While" in found.ops("device")
    found.check({"x": XY})


def test_a_loop_behind_a_lookup_runs_on_the_device(served: Any, frames: ModelRecord) -> None:
    found = served(frames, "scaled")
    assert found.places == ["host", "device"]
    assert "While" in found.ops("device")
    found.check({"x": XY, "word": WORD})


@pytest.mark.parametrize("training", [False, True])
def test_nested_conds_branch_at_run_time(served: Any, frames: ModelRecord, training: bool) -> None:
    found = served(frames, "branched")
    found.check({"x": XY, "word": WORD, "training": np.asarray(training)})


def test_guarded_asserts_of_tf1_are_kept(served: Any, frames: ModelRecord) -> None:
    found = served(frames, "guarded")
    assert found.places == ["host", "device"]
    found.check({"x": XY})
    with pytest.raises(Exception, match="want positive"):
        found.run({"x": -XY})


def test_examples_of_tf1_are_parsed(served: Any, frames: ModelRecord) -> None:
    found = served(frames, "parsed")
    assert found.places == ["host", "device"]


def test_a_stage_is_asked_for_by_its_number_and_its_values(
    bridge: Bridge, words: ModelRecord
) -> None:
    with pytest.raises(ConversionError, match="no device stage 0; the stages are: 0 host, 1"):
        bridge.lower(words, "labelled", {"text": (3,)}, stage=0)
    with pytest.raises(ConversionError, match="no host stage 7"):
        bridge.tables(words, "labelled", 7)
    with pytest.raises(ConversionError, match="stage 1: found inputs .*'text'.*, want .*'%"):
        bridge.lower(words, "labelled", {"text": (3,)}, stage=1)
    with pytest.raises(ConversionError, match="no signature 'none'"):
        bridge.segment(words, "none")


def test_a_cut_survives_the_process_that_made_it(bridge: Bridge, words: ModelRecord) -> None:
    before = bridge.segment(words, "labelled")
    bridge.close_model(words)
    assert isinstance(before, Segmented)
    shapes = {v.name: (3,) for v in before.stages[1].inputs}
    found = bridge.lower(words, "labelled", shapes, stage=1)
    assert isinstance(found, Lowered)
    assert len(bridge.weights(words, [w.name for w in found.weights])) == 2
