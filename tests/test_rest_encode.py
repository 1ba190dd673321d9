"""Predict answers, byte for byte."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rest_server import spec

from jaxrt.errors import InvalidArgument
from jaxrt.serving.engine.servable import HostTensors
from jaxrt.serving.rest.encode import columns, encoded_size, rows
from jaxrt.specs import DTYPES

Array = np.ndarray[Any, np.dtype[Any]]


def array(dtype: str, value: Any) -> Array:
    return np.array(value, DTYPES[dtype].numpy)


def row(**outputs: tuple[str, Array]) -> str:
    return _written(rows, outputs)


def column(**outputs: tuple[str, Array]) -> str:
    return _written(columns, outputs)


def _written(write: Any, outputs: dict[str, tuple[str, Array]]) -> str:
    tensors: HostTensors = {name: value for name, (_, value) in outputs.items()}
    specs = {name: spec(dtype) for name, (dtype, _) in outputs.items()}
    body = write(tensors, specs)
    assert isinstance(body, bytes)
    return body.decode("utf-8", "surrogateescape")


FLOATS = ("float32", array("float32", [1, 2, 5]))
STRINGS = ("string", array("string", [b"hello", b"\xff"]))
NESTED = ("string", array("string", [[b"a", b"b"]]))


def test_a_row_answer_is_one_line_with_a_break_before_the_bracket() -> None:
    assert row(y=FLOATS) == '{\n    "predictions": [1.0, 2.0, 5.0\n    ]\n}'
    ints = ("int32", array("int32", [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]))
    wanted = '{\n    "predictions": [[[1, 2], [3, 4]], [[5, 6], [7, 8]]\n    ]\n}'
    assert row(y=ints) == wanted


def test_rows_of_several_outputs_are_objects() -> None:
    flags = ("bool", array("bool", [[True], [False], [True]]))
    assert row(a=FLOATS, b=flags) == (
        '{\n    "predictions": [\n'
        '        {\n            "a": 1.0,\n            "b": [true]\n        },\n'
        '        {\n            "a": 2.0,\n            "b": [false]\n        },\n'
        '        {\n            "a": 5.0,\n            "b": [true]\n        }\n'
        "    ]\n}"
    )


def test_a_columnar_answer_has_a_line_per_item() -> None:
    assert (
        column(y=FLOATS) == '{\n    "outputs": [\n        1.0,\n        2.0,\n        5.0\n    ]\n}'
    )
    assert column(y=("float64", array("float64", 5))) == '{\n    "outputs": 5.0\n}'
    assert column(y=("int8", array("int8", [[1], [-2]]))) == (
        '{\n    "outputs": [\n        [\n            1\n        ],\n'
        "        [\n            -2\n        ]\n    ]\n}"
    )


def test_several_columns_are_an_object() -> None:
    wide = ("int64", array("int64", [[1, 2]]))
    assert column(a=wide, b=("bool", array("bool", True))) == (
        '{\n    "outputs": {\n        "a": [\n            [\n'
        "                1,\n                2\n"
        '            ]\n        ],\n        "b": true\n    }\n}'
    )


@pytest.mark.parametrize(
    ("shape", "in_rows", "in_columns"),
    [
        ((0,), "[]", "[]"),
        ((0, 3), "[]", "[]"),
        ((2, 0), "[[], []\n    ]", "[\n        [],\n        []\n    ]"),
        ((1, 2, 0, 4), "[[[], []]\n    ]", None),
    ],
)
def test_empty_lists_have_no_line_breaks(
    shape: tuple[int, ...], in_rows: str, in_columns: str | None
) -> None:
    empty = ("float32", np.zeros(shape, np.float32))
    assert row(y=empty) == '{\n    "predictions": ' + in_rows + "\n}"
    if in_columns is not None:
        assert column(y=empty) == '{\n    "outputs": ' + in_columns + "\n}"


def test_strings_are_written_as_they_are() -> None:
    text = ("string", array("string", [b'a"\\\n\x01/\x7f', b"\xff"]))
    wanted = '{\n    "predictions": ["a\\"\\\\\\n\\u0001/\x7f", "\udcff"\n    ]\n}'
    assert row(y=text) == wanted


def test_outputs_named_bytes_are_base64_objects() -> None:
    assert row(y_bytes=STRINGS) == (
        '{\n    "predictions": [{\n            "b64": "aGVsbG8="\n        }, '
        '{\n            "b64": "/w=="\n        }\n    ]\n}'
    )
    assert column(y_bytes=NESTED) == (
        '{\n    "outputs": [\n        [\n'
        '            {\n                "b64": "YQ=="\n            },\n'
        '            {\n                "b64": "Yg=="\n            }\n        ]\n    ]\n}'
    )
    both = json.loads(row(text=NESTED, text_bytes=NESTED))
    assert both == {
        "predictions": [{"text": ["a", "b"], "text_bytes": [{"b64": "YQ=="}, {"b64": "Yg=="}]}]
    }


def test_the_suffix_means_nothing_for_numbers() -> None:
    assert row(y_bytes=FLOATS) == row(y=FLOATS)


def test_row_answers_need_a_common_batch() -> None:
    scalar = ("float32", array("float32", 1))
    with pytest.raises(InvalidArgument, match="^Tensor name: y has no shape information $"):
        row(y=scalar)
    longer = ("float32", np.zeros(6, np.float32))
    with pytest.raises(InvalidArgument) as caught:
        row(y=FLOATS, z=longer)
    assert str(caught.value) == "Tensor name: y has inconsistent batch size: 3 expecting: 6"
    assert json.loads(column(y=FLOATS, z=longer))["outputs"]["z"] == [0] * 6


@pytest.mark.parametrize("dtype", ["uint16", "float16", "bfloat16", "complex64", "qint8"])
def test_some_dtypes_cannot_be_written(dtype: str) -> None:
    message = f"^Failed to write JSON value for tensor type: {DTYPES[dtype].text}$"
    one = (dtype, array(dtype, [1]))
    for write in (row, column):
        with pytest.raises(InvalidArgument, match=message):
            write(y=one)
    assert row(y=(dtype, array(dtype, []))) == '{\n    "predictions": []\n}'


def test_no_outputs_are_an_error() -> None:
    for write in (row, column):
        with pytest.raises(InvalidArgument, match="^Cannot convert empty tensor map to JSON$"):
            write()


def test_the_size_is_about_right() -> None:
    values = np.random.default_rng(0).random((100, 10), np.float32)
    size = len(rows({"y": values}, {"y": spec("float32")}))
    assert encoded_size({"y": values}) == pytest.approx(size, rel=0.25)
    assert encoded_size({"y": np.array([b"x" * 1000], object)}) >= 1000


shapes = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=3)


@given(st.dictionaries(st.text(max_size=5), hnp.arrays(np.int32, shapes), min_size=1, max_size=3))
def test_any_columns_are_read_back(outputs: dict[str, Array]) -> None:
    specs = {name: spec("int32") for name in outputs}
    got = json.loads(columns(outputs, specs).decode("utf-8", "surrogatepass"))["outputs"]
    wanted = {name: value.tolist() for name, value in outputs.items()}
    assert got == (wanted if len(wanted) > 1 else next(iter(wanted.values())))


@given(hnp.arrays(np.float32, shapes, elements=st.floats(-1e6, 1e6, width=32)), st.booleans())
def test_any_rows_are_read_back(values: Array, alone: bool) -> None:
    outputs = {"y": values} if alone else {"y": values, "z": values}
    got = json.loads(rows(outputs, {name: spec("float32") for name in outputs}))["predictions"]
    wanted = values.tolist()
    items = got if alone else [item["y"] for item in got]
    assert np.array_equal(np.array(items, np.float32), np.array(wanted, np.float32))
    assert alone or all(item["y"] == item["z"] for item in got)
