"""Merging and splitting as TensorFlow Serving's batching session does them."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrt.errors import FailedPrecondition, InvalidArgument
from jaxrt.serving.engine.merging import common_size, merge, split

Array = np.ndarray[Any, Any]


def ints(*shape: int, first: int = 0) -> Array:
    return np.arange(first, first + int(np.prod(shape)), dtype=np.int32).reshape(shape)


def test_the_size_of_a_request_is_dim_0_of_all_its_inputs() -> None:
    assert common_size([ints(3), ints(3, 2), ints(3, 0)]) == 3
    assert common_size([ints(0, 2)]) == 0


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([ints()], "Batching Run() input tensors must have at least one dimension"),
        ([ints(2), ints()], "Batching Run() input tensors must have at least one dimension"),
        ([ints(2), ints(3)], "Batching Run() input tensors must have equal 0th-dimension size"),
        (
            [ints(2), ints(3), ints()],
            "Batching Run() input tensors must have equal 0th-dimension size",
        ),
        ([], "Batching Run() must have at least one input tensor"),
    ],
)
def test_inputs_without_a_common_size_are_invalid(inputs: list[Array], message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        common_size(inputs)
    assert str(caught.value) == message


def test_the_rest_of_a_batch_is_copies_of_the_last_parts_first_row() -> None:
    merged = merge([{"x": ints(1, 2)}, {"x": ints(2, 2, first=10)}], 5, pad=False)
    assert merged["x"].tolist() == [[0, 1], [10, 11], [12, 13], [10, 11], [10, 11]]


def test_a_request_that_is_a_batch_by_itself_is_not_copied() -> None:
    x = ints(4, 2)
    assert merge([{"x": x}], 4, pad=False)["x"] is x
    assert merge([{"x": x}], 4, pad=True)["x"] is x


def test_strings_and_small_dtypes_are_merged_and_padded_like_numbers() -> None:
    words = np.array([b"a", b""], object)
    merged = merge([{"s": words}, {"s": np.array([b"c"], object)}], 4, pad=True)
    assert merged["s"].tolist() == [b"a", b"", b"c", b"c"]
    assert merged["s"].dtype == object


def test_different_shapes_fail_the_batch_unless_padding_is_on() -> None:
    parts = [{"ids:0": ints(1, 2)}, {"ids:0": ints(1, 3)}]
    with pytest.raises(FailedPrecondition) as caught:
        merge(parts, 2, pad=False)
    assert str(caught.value).startswith(
        "Tensors with name 'ids:0' from different tasks have different shapes and padding is "
        "turned off."
    )
    with pytest.raises(FailedPrecondition, match="padding is turned off"):
        merge([{"x": ints(1)}, {"x": ints(1, 1)}], 2, pad=False)


def test_variable_lengths_are_padded_with_the_first_element_of_each_tensor() -> None:
    parts = [{"x": ints(1, 2, first=5)}, {"x": ints(2, 1, first=8)}, {"x": ints(1, 3, first=1)}]
    merged = merge(parts, 6, pad=True)["x"]
    assert merged.tolist() == [
        [5, 6, 5],
        [8, 8, 8],
        [9, 8, 8],  # the first element of the tensor, not of the row
        [1, 2, 3],
        [1, 2, 3],
        [1, 2, 3],
    ]


def test_the_row_that_fills_a_batch_is_padded_itself() -> None:
    merged = merge([{"x": ints(1, 3)}, {"x": ints(1, 1, first=7)}], 4, pad=True)["x"]
    assert merged[1:].tolist() == [[7, 7, 7]] * 3


def test_every_input_has_largest_sizes_of_its_own() -> None:
    parts = [
        {"a": ints(1, 2), "b": ints(1, 1, 4)},
        {"a": ints(1, 1), "b": ints(1, 3, 2)},
    ]
    merged = merge(parts, 2, pad=True)
    assert merged["a"].shape == (2, 2)
    assert merged["b"].shape == (2, 3, 4)
    assert merged["b"][1].tolist() == [[0, 1, 0, 0], [2, 3, 0, 0], [4, 5, 0, 0]]


@pytest.mark.parametrize("rank", [1, 2, 6])
def test_ranks_up_to_six_are_padded(rank: int) -> None:
    small, large = ints(*[1] * rank), ints(1, *[2] * (rank - 1))
    assert merge([{"x": small}, {"x": large}], 2, pad=True)["x"].shape == (2, *[2] * (rank - 1))


def test_higher_ranks_are_refused_even_where_nothing_is_to_be_padded() -> None:
    with pytest.raises(InvalidArgument) as caught:
        merge([{"x": ints(*[1] * 7)}], 1, pad=True)
    assert str(caught.value) == "Only tensors with rank from 1 to 6 can be padded."


def test_an_empty_tensor_among_others_has_nothing_to_be_padded_with() -> None:
    with pytest.raises(InvalidArgument) as caught:
        merge([{"x": ints(1, 0)}, {"x": ints(1, 2)}], 2, pad=True)
    assert str(caught.value) == "Got empty tensor in batch of non-empty tensors."
    assert merge([{"x": ints(1, 0, 2)}, {"x": ints(1, 0, 5)}], 2, pad=True)["x"].shape == (2, 0, 5)


def test_ranks_that_differ_cannot_be_padded() -> None:
    with pytest.raises(InvalidArgument, match="'x:0' from different tasks have ranks 1, 2"):
        merge([{"x:0": ints(1)}, {"x:0": ints(1, 2)}], 2, pad=True)


def test_outputs_are_cut_apart_without_the_padding() -> None:
    parts = split({"y": ints(4, 2), "z": ints(4)}, [1, 2], 4)
    assert [part["y"].tolist() for part in parts] == [[[0, 1]], [[2, 3], [4, 5]]]
    assert [part["z"].tolist() for part in parts] == [[0], [1, 2]]


def test_an_output_without_rows_fails_the_batch() -> None:
    with pytest.raises(FailedPrecondition) as caught:
        split({"y": ints(2), "s": ints()}, [2], 2)
    assert str(caught.value) == "Batched output tensor has 0 dimensions"


@pytest.mark.parametrize("rows", [1, 3])
def test_an_output_with_other_rows_fails_the_batch(rows: int) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        split({"y": ints(rows, 2)}, [2], 2)
    assert str(caught.value) == (
        "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes "
        "of the input tensors"
    )


@given(
    sizes=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), min_size=1, max_size=5),
    spare=st.integers(0, 3),
)
def test_what_was_merged_comes_apart_as_it_was(sizes: list[tuple[int, int]], spare: int) -> None:
    inner = sizes[0][1]
    parts = [{"x": ints(rows, inner, first=10 * i)} for i, (rows, _) in enumerate(sizes)]
    rows = [len(part["x"]) for part in parts]
    size = sum(rows) + spare
    merged = merge(parts, size, pad=False)
    assert merged["x"].shape == (size, inner)
    for part, found in zip(parts, split(merged, rows, size), strict=True):
        assert np.array_equal(part["x"], found["x"])
