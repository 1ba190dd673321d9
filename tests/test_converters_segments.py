"""Signatures cut into stages: each stage run by what would run it, beside TensorFlow's answers."""

import concurrent.futures
import io
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mixed_models
import numpy as np
import pytest
from PIL import Image
from served_stages import Served

from jaxrt.converters.records import Kind, Lowered, ModelRecord, Refused, Segmented
from jaxrt.converters.worker import Bridge
from jaxrt.errors import ConversionError

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


def test_sizes_that_inputs_leave_open_cross_and_loops_over_them_run_on_the_device(
    served: Any, words: ModelRecord
) -> None:
    found = served(words, "read")
    assert found.places == ["host", "device"]
    assert found.rowwise == [True]
    assert "StatelessWhile" in found.ops("device")
    (ids,) = found.stages[1].inputs
    assert (ids.dtype, ids.shape, ids.like) == ("int64", (None, None), (None, ("sentence", 1)))
    (sentence,) = found.stages[0].inputs
    assert sentence.like == (None, ("sentence", 1))
    for length in (1, 4, 5):
        found.check({"sentence": np.resize(TEXT, (5, length))})


def test_what_has_open_sizes_stays_on_the_host_if_nobody_plans_them(
    bridge: Bridge, words: ModelRecord
) -> None:
    found = bridge.segment(words, "read", open_sizes=False)
    assert isinstance(found, Segmented)
    assert "StatelessWhile" in found.stages[0].ops
    assert [v.shape for v in found.stages[1].inputs] == [(None, 3)]
    again = bridge.segment(words, "read")
    assert isinstance(again, Segmented)
    assert "StatelessWhile" not in again.stages[0].ops


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


def test_images_of_one_size_are_found_to_try_a_signature_with_and_pooled_on_the_device(
    served: Any, bridge: Bridge, models: Path
) -> None:
    found = served(bridge.open_model(models / "images"), "pooled")
    assert found.places == ["host", "device"]
    assert "AvgPool" in found.ops("device")
    assert found.rowwise == [True]
    # The cast, last in the loop that decodes, comes behind it: bytes cross.
    assert "Cast" in found.ops("device") - found.ops("host")
    assert (found.stages[1].inputs[0].dtype, found.stages[1].inputs[0].shape) == (
        "uint8",
        (None, 48, 64, 3),
    )
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(pixels).save(file, "JPEG")
    found.check({"jpeg": np.asarray([file.getvalue()] * 3, object)})


def test_what_a_loop_leaves_out_stays_zero(served: Any, bridge: Bridge, models: Path) -> None:
    found = served(bridge.open_model(models / "images"), "three")
    text = np.asarray([b"a", b"", b"abc", b"d", b"e"], object)
    assert found.check({"text": text})["y"].tolist() == [4, 1, 16, 0, 0]


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
