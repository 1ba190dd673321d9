"""Embeddings of lists of ids: looked up and added on the device, whatever the lists' lengths."""

import concurrent.futures
import multiprocessing
from collections.abc import Iterator, Sequence
from typing import Any

import mixed_models
import numpy as np
import pytest
from served_stages import Served

from jaxrt.converters.records import ModelRecord
from jaxrt.converters.worker import Bridge

LENGTHS = ([0, 1, 3, 33, 200], [2, 1, 0, 4, 32], [64, 65, 0, 0, 1])
"""Of the lists of a request's rows; the device takes 32."""


@pytest.fixture(scope="module")
def bridge() -> Iterator[Bridge]:
    with Bridge(timeout=300) as started:
        yield started


@pytest.fixture(scope="module")
def model(bridge: Bridge, tmp_path_factory: pytest.TempPathFactory) -> ModelRecord:
    folder = mixed_models.build(tmp_path_factory.mktemp("models"), "bags")
    return bridge.open_model(folder / "bags")


@pytest.fixture(scope="module")
def served(bridge: Bridge, model: ModelRecord) -> Iterator[Any]:
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as host:
        yield lambda signature: Served(bridge, host, model, signature)


def varint(number: int) -> bytes:
    more, low = divmod(number % (1 << 64), 128)
    return bytes([low | 128]) + varint(more) if more else bytes([low])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def example(ids: Sequence[int], age: float) -> bytes:
    """A serialized tf.Example: `ids` in an Int64List, `age` in a FloatList."""
    ints = field(3, field(1, b"".join(map(varint, ids))))
    floats = field(2, field(1, np.asarray([age], "<f4").tobytes()))
    features = [field(1, field(1, b"ids") + field(2, ints))]
    features += [field(1, field(1, b"age") + field(2, floats))]
    return field(1, b"".join(features))


def examples(lengths: Sequence[int], below: int = 50) -> dict[str, Any]:
    draw = np.random.default_rng(sum(lengths))
    rows = [
        example(draw.integers(-3, below, length).tolist(), float(draw.uniform(-5, 25)))
        for length in lengths
    ]
    return {"examples": np.asarray(rows, object)}


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("combiner", ["added", "mean", "sqrtn"])
def test_lists_of_any_length_are_combined_as_tensorflow_does(
    served: Any, combiner: str, lengths: list[int]
) -> None:
    served(combiner).check(examples(lengths))


@pytest.mark.parametrize("combiner", ["added", "mean", "sqrtn"])
def test_embeddings_are_looked_up_and_added_on_the_device(served: Any, combiner: str) -> None:
    found = served(combiner)
    assert found.places == ["host", "device"]
    assert found.rowwise == [True]
    assert {"GatherV2", "Sum", "MatMul"} <= found.ops("device")
    assert not {"Unique", "SparseFillEmptyRows", "Select", "SelectV2"} & found.ops("host")
    ids = [v for v in found.stages[0].outputs if v.dtype == "int32"]
    assert [v.shape for v in ids] == [(None, 32)]


def test_what_the_host_adds_is_said_to_be_for_long_lists(served: Any) -> None:
    why = served("mean").stages[0].why
    said = "for lists with more ids than the device sums: "
    assert said in why
    rest = why.partition(said)[2]
    assert "SparseSegmentSumWithNumSegments" in rest
    assert "SparseSegmentSumWithNumSegments" not in why.partition(said)[0]


def test_buckets_of_numbers_are_looked_up_on_the_device_alone(served: Any) -> None:
    found = served("bucketized")
    assert "GatherV2" in found.ops("device")
    assert not {"SparseSegmentSum", "SparseSegmentSumWithNumSegments"} & found.ops("host")
    assert found.rowwise == [True]
    found.check(examples([1, 0, 2, 40, 3]))


def test_counts_of_ids_are_integers_on_the_host(served: Any) -> None:
    found = served("counted")
    assert found.rowwise == [True]
    (counts,) = found.stages[0].outputs
    assert (counts.dtype, counts.shape) == ("int32", (None, 3))
    found.check(examples([1, 0, 2, 40, 3], below=5))
