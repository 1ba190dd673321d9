"""What keeps a signature from the device as a whole, and what is cut all the same."""

import concurrent.futures
import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import refused_models
from served_stages import Served

from jaxrt.converters.records import Kind, ModelRecord, Refused
from jaxrt.converters.worker import Bridge

IMAGE = np.random.default_rng(1).normal(size=(5, 8, 8, 3)).astype("f4")
X = np.linspace(-3, 4, 20, dtype="f4").reshape(5, 4)

Find = Callable[[str, str], Served]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    return refused_models.build(folder, "kernelless", "unread", "shown", "told")


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
def served(bridge: Bridge, host: concurrent.futures.Executor, models: Path) -> Find:
    return lambda model, signature: Served(
        bridge, host, bridge.open_model(models / model), signature
    )


@pytest.fixture
def kernelless(bridge: Bridge, models: Path) -> ModelRecord:
    return bridge.open_model(models / "kernelless")


def test_ops_without_a_kernel_are_known_before_anything_is_lowered(
    kernelless: ModelRecord,
) -> None:
    assert {key: (r.kind, r.ops) for key, r in kernelless.refused.items() if "_" not in key} == {
        "scaled": (Kind.BRIDGE, ("ResizeBicubic",)),
        "summed": (Kind.BRIDGE, ("SegmentSum",)),
        "unique": (Kind.SHAPE, ("Unique",)),
        "boxes": (Kind.SHAPE, ("NonMaxSuppressionV3", "Where")),
    }


def test_an_op_without_a_kernel_leaves_the_dense_ones_on_the_device(served: Find) -> None:
    found = served("kernelless", "scaled")
    assert found.places == ["device", "host"]
    assert "Conv2D" in found.ops("device")
    assert found.ops("host") == {"ResizeBicubic"}
    found.check({"image": IMAGE})


def test_answers_of_a_size_that_data_decide_on_stay_on_the_host(served: Find) -> None:
    found = served("kernelless", "summed")
    assert "MatMul" in found.ops("device")
    assert "SegmentSum" in found.ops("host")
    assert found.check({"x": X})["sums"].shape == (3, 4)


def test_ids_made_unique_are_found_on_the_host(served: Find) -> None:
    found = served("kernelless", "unique")
    assert "Unique" in found.ops("host")
    found.check({"ids": np.arange(20).reshape(5, 4) % 7})


def test_a_loop_with_sizes_of_its_own_runs_behind_what_is_dense(served: Find) -> None:
    found = served("kernelless", "boxes")
    assert found.places == ["device", "host"]
    assert "Conv2D" in found.ops("device")
    found.check({"image": IMAGE})


@pytest.mark.parametrize("signature", ["advanced", "branched"])
def test_a_change_that_no_answer_shows_is_left_out(served: Find, signature: str) -> None:
    found = served("unread", signature)
    assert found.places == ["device"]
    found.check({"x": X})


def test_a_change_that_no_answer_shows_keeps_nobody_else_from_the_device(
    bridge: Bridge, models: Path
) -> None:
    assert "plain" not in bridge.open_model(models / "unread").refused


@pytest.mark.parametrize(
    ("signature", "named"), [("counted", "calls"), ("asked", "calls"), ("drawn", "seed")]
)
def test_a_change_that_an_answer_shows_is_not_cut_away(
    bridge: Bridge, models: Path, signature: str, named: str
) -> None:
    record = bridge.open_model(models / "shown")
    found = bridge.segment(record, signature)
    assert isinstance(found, Refused)
    assert found.kind is Kind.STATE
    assert named in found.reason


def test_numbers_drawn_from_a_seed_are_those_that_tensorflow_draws(served: Find) -> None:
    found = served("told", "drawn")
    assert "StatelessRandomNormalV2" in found.ops("host")
    assert "MatMul" in found.ops("device")
    assert not {op for op in found.ops("device") if op.startswith("StatelessRandom")}
    found.check({"x": X, "seed": np.asarray(7, "i4")})


def test_tables_that_nobody_changes_any_more_are_read(served: Find) -> None:
    found = served("told", "found")
    assert "MatMul" in found.ops("device")
    text = np.asarray([b"a", b"b", b"c", b"", b"a"], object)
    answers = found.check({"text": text, "ids": np.asarray([1, 5, 2, 7, 1]), "x": X})
    assert answers["words"].tolist() == [2, 1, -1, -1, 2]
    assert answers["size"].tolist() == 2
    assert found.rowwise == [False]  # a size is nothing that rows could be cut out of


def test_strings_that_depend_on_nothing_are_given_by_the_host(served: Find) -> None:
    found = served("told", "named")
    assert found.places[-1] == "host"
    assert all(v.shape == (None, 3) for s in found.stages if s.where == "device" for v in s.outputs)
    text = np.asarray([b"a", b"b", b"c", b"", b"a"], object)
    found.check({"x": X, "text": text})
