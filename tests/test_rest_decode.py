"""Predict requests: what is accepted, and the exact text of what is not."""

import re
from typing import Any

import numpy as np
import pytest
from rest_server import echo_signature

from jaxrt.errors import InvalidArgument, Unimplemented
from jaxrt.serving.rest.decode import Format, inputs, signature, signature_name
from jaxrt.serving.rest.json_reader import parse

Tensors = dict[str, np.ndarray[Any, np.dtype[Any]]]
ELEMENT = "Failed to process element: "
INSTANCES = " of 'instances' list."


def decode(body: str | bytes, **dtypes: str) -> Tensors:
    text = body.encode() if isinstance(body, str) else body
    return inputs(parse(text), echo_signature(**dtypes))[1]


def row_error(index: int, text: str, code: str = "INVALID_ARGUMENT") -> str:
    return f"{ELEMENT}{index}{INSTANCES} Error: {code}: {text}"


def check(got: np.ndarray[Any, Any], wanted: Any, dtype: str) -> None:
    expected = np.array(wanted, dtype)
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("body", "dtype", "value"),
    [
        ('{"instances": [1.0, 2, 5e0]}', "float32", [1, 2, 5]),
        ('{"instances": [[1, 2], [3, 4]]}', "int32", [[1, 2], [3, 4]]),
        ('{"instances": [{"x": 1}, {"x": 2}]}', "float32", [1, 2]),
        ('{"instances": [{"x": [[1]]}, {"x": [[2]]}]}', "int64", [[[1]], [[2]]]),
        ('{"instances": [[], []]}', "float32", np.zeros((2, 0))),
        ('{"instances": [[[], []]]}', "int8", np.zeros((1, 2, 0))),
        ('{"instances": [{"x": []}]}', "float64", np.zeros((1, 0))),
        ('{"instances": [true, false]}', "bool", [True, False]),
        ('{"instances": [NaN, Infinity, -Inf]}', "float32", [np.nan, np.inf, -np.inf]),
        ('{"instances": [1.79769e+308, -1e39, 1e-60]}', "float32", [np.inf, -np.inf, 0]),
        ('{"instances": [18446744073709551616]}', "float64", [2.0**64]),
        ('{"instances": [300, -1, 256, 2147483647]}', "uint8", [44, 255, 0, 255]),
        ('{"instances": [128, -129]}', "int8", [-128, 127]),
        ('{"instances": [40000]}', "int16", [-25536]),
        ('{"instances": [-2147483648, 2147483647, -0]}', "int32", [-(2**31), 2**31 - 1, 0]),
        ('{"instances": [4294967295, 0]}', "uint32", [2**32 - 1, 0]),
        ('{"instances": [18446744073709551615]}', "uint64", [2**64 - 1]),
        ('{"instances": [-9223372036854775808]}', "int64", [-(2**63)]),
        ('{"instances": [9007199254740993]}', "int64", [2**53 + 1]),
        ('{"inputs": 5}', "float32", 5),
        ('{"inputs": []}', "float32", []),
        ('{"inputs": {"x": [1], "extra": "ignored"}}', "float32", [1]),
        ('{"inputs": {"x": 7}}', "int32", 7),
        ('{"inputs": [[true]]}', "bool", [[True]]),
        ('{"inputs": [], "inputs": 3}', "float32", []),
        ('{"instances": [1], "other": {"a": [2]}}', "float32", [1]),
    ],
)
def test_a_request_becomes_a_tensor(body: str, dtype: str, value: Any) -> None:
    check(decode(body, x=dtype)["x"], value, dtype)


@pytest.mark.parametrize(
    ("body", "name", "value"),
    [
        ('{"instances": ["a", {"b64": "aGk="}]}', "x", [b"a", b"hi"]),
        ('{"instances": [{"b64": "aGk="}, "a"]}', "x", [b"hi", b"a"]),
        ('{"instances": [[{"b64": ""}], ["\\u00e9"]]}', "x", [[b""], [b"\xc3\xa9"]]),
        ('{"instances": [{"x": {"b64": "aGk"}}]}', "x", [b"hi"]),
        ('{"inputs": {"b64": "aGk="}}', "x", b"hi"),
        ('{"inputs": {"x": "s"}}', "x", b"s"),
        ('{"inputs": {"b64": ["aGk="]}}', "b64", [b"aGk="]),
        ('{"instances": [{"b64": "aGk="}]}', "b64", [b"hi"]),
    ],
)
def test_strings_become_bytes(body: str, name: str, value: Any) -> None:
    got = decode(body, **{name: "string"})[name]
    assert got.dtype == object
    assert got.tolist() == value


def test_strings_keep_bytes_that_are_no_utf8() -> None:
    assert decode(b'{"inputs": ["\xff\xfe"]}', x="string")["x"].tolist() == [b"\xff\xfe"]


def test_an_integer_minus_zero_is_a_positive_float() -> None:
    got = decode('{"instances": [-0, -0.0]}', x="float32")["x"]
    assert np.signbit(got).tolist() == [False, True]


def test_several_inputs_are_stacked_by_name() -> None:
    got = decode(
        '{"instances": [{"b": 1, "a": [1.5]}, {"a": [2.5], "b": 2}]}', a="float32", b="int32"
    )
    check(got["a"], [[1.5], [2.5]], "float32")
    check(got["b"], [1, 2], "int32")


def test_columnar_inputs_need_no_common_dimension() -> None:
    body = '{"inputs": {"i": [[[1,2],[3,4]]], "s": ["foo", {"b64": "aGk="}], "f": 7}}'
    got = decode(body, i="int32", s="string", f="float32")
    assert {name: array.shape for name, array in got.items()} == {
        "f": (),
        "i": (1, 2, 2),
        "s": (2,),
    }


TYPE = " is not of expected type: "
OBJECT = 'JSON Value: {\n    "b64": "aGk="\n} Type: Object'
BIG = 2**63
UNKNOWN = "Error: INVALID_ARGUMENT: JSON object: does not have named input: "
SCALAR_ERRORS = [
    ("float32", "null", "JSON Value: null Type: Null" + TYPE + "float"),
    ("float32", "true", "JSON Value: true Type: True" + TYPE + "float"),
    ("float64", '"1"', 'JSON Value: "1" Type: String' + TYPE + "double"),
    ("float32", '{"b64": "aGk="}', OBJECT + TYPE + "float"),
    ("int32", "1.0", "JSON Value: 1.0 Type: Number" + TYPE + "int32"),
    ("int32", "1e3", "JSON Value: 1000.0 Type: Number" + TYPE + "int32"),
    ("int32", "NaN", "JSON Value: NaN Type: Number" + TYPE + "int32"),
    ("int32", "2147483648", "JSON Value: 2147483648 Type: Number" + TYPE + "int32"),
    ("int8", "-2147483649", "JSON Value: -2147483649 Type: Number" + TYPE + "int8"),
    ("uint8", "false", "JSON Value: false Type: False" + TYPE + "uint8"),
    ("int64", "9223372036854775808", f"JSON Value: {BIG} Type: Number" + TYPE + "int64"),
    ("uint32", "4294967296", "JSON Value: 4294967296 Type: Number" + TYPE + "uint32"),
    ("uint64", "-1", "JSON Value: -1 Type: Number" + TYPE + "uint64"),
    ("uint64", "18446744073709551616", "JSON Value: 1.84467441e+19 Type: Number" + TYPE + "uint64"),
    ("bool", "1", "JSON Value: 1 Type: Number" + TYPE + "bool"),
    ("bool", '"true"', 'JSON Value: "true" Type: String' + TYPE + "bool"),
    ("string", "1", "JSON Value: 1 Type: Number" + TYPE + "string"),
    ("string", '{"b64": "a"}', "Unable to base64 decode"),
    ("string", '{"b64": "_-8="}', "Unable to base64 decode"),
]


@pytest.mark.parametrize(("dtype", "value", "text"), SCALAR_ERRORS)
def test_a_value_of_the_wrong_type_is_refused(dtype: str, value: str, text: str) -> None:
    with pytest.raises(InvalidArgument) as row:
        decode(f'{{"instances": [{value}]}}', x=dtype)
    assert str(row.value) == row_error(0, text)
    with pytest.raises(InvalidArgument) as columnar:
        decode(f'{{"inputs": [{value}]}}', x=dtype)
    assert str(columnar.value) == text


@pytest.mark.parametrize(
    ("dtype", "text"),
    [
        ("uint16", "uint16"),
        ("float16", "half"),
        ("bfloat16", "bfloat16"),
        ("complex64", "complex64"),
        ("complex128", "complex128"),
        ("qint8", "qint8"),
    ],
)
def test_other_dtypes_are_unimplemented_in_columns_and_invalid_in_rows(
    dtype: str, text: str
) -> None:
    message = f"Conversion of JSON Value: 1 to type: {text}"
    with pytest.raises(Unimplemented, match=f"^{message}$"):
        decode('{"inputs": [1]}', x=dtype)
    with pytest.raises(InvalidArgument) as row:
        decode('{"instances": [1]}', x=dtype)
    assert str(row.value) == row_error(0, message, "UNIMPLEMENTED")
    assert decode('{"inputs": []}', x=dtype)["x"].shape == (0,)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("[[1,2],[3]]", "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
        (
            "[[1,2],3]",
            "JSON Value: 3 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
        ),
        ("[1,[2]]", "Encountered list at unexpected level: 1 expected < 1"),
        (
            "[[[1],[2]],[[3]]]",
            "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
        ),
        ("[[],[1]]", "Encountered list at unexpected size: 1 at level: 1 expected size: 0"),
        ("[" * 70 + "]" * 70, "a list nested 70 deep is no tensor: want at most 63 dimensions"),
        ('[{"x": 1.0}]', 'JSON Value: {\n    "x": 1.0\n} Type: Object' + TYPE + "int32"),
    ],
)
def test_a_list_that_is_no_tensor_is_refused(body: str, text: str) -> None:
    with pytest.raises(InvalidArgument) as columnar:
        decode(f'{{"inputs": {body}}}', x="int32")
    assert str(columnar.value) == text
    with pytest.raises(InvalidArgument) as row:
        decode(f'{{"instances": [{body}]}}', x="int32")
    assert str(row.value) == row_error(0, text)


DOCUMENT = "JSON Value: {\n    "
PLAIN_LIST = " as multiple input tensors required as per tensorinfo_map"
REQUEST_ERRORS = [
    ('{"data": [1]}', {"x": "float32"}, "Missing 'inputs' or 'instances' key"),
    (
        '{"instances": 1.0}',
        {"x": "float32"},
        DOCUMENT + "\"instances\": 1.0\n} Expecting 'instances' to be an list/array",
    ),
    (
        '{"instances": []}',
        {"x": "float32"},
        DOCUMENT + "\"instances\": []\n} No values in 'instances' array",
    ),
    (
        '{"instances": [1], "inputs": 2}',
        {"x": "float32"},
        DOCUMENT + '"instances": [\n        1\n    ],\n    "inputs": 2\n} Not formatted correctly'
        " expecting only one of 'inputs' or 'instances' keys to exist ",
    ),
    (
        '{"instances": [1, {"x": 2}]}',
        {"x": "float32"},
        "Expecting value/list but got object at item 1 of input list",
    ),
    (
        '{"instances": [{"x": 2}, 1]}',
        {"x": "float32"},
        "Expecting object but got list at item 1 of input list",
    ),
    (
        '{"instances": [{"x": "a"}, {"b64": "aGk="}]}',
        {"x": "string"},
        "Expecting object but got list at item 1 of input list",
    ),
    ('{"instances": [{"z": 2}]}', {"x": "float32"}, f"{ELEMENT}0 key: z{INSTANCES} {UNKNOWN}z"),
    (
        '{"instances": [{"b64": 5}]}',
        {"x": "string"},
        f"{ELEMENT}0 key: b64{INSTANCES} {UNKNOWN}b64",
    ),
    (
        '{"instances": [{}]}',
        {"x": "float32"},
        f"{ELEMENT}0{INSTANCES} JSON object: {{}} keys must be equal to: x",
    ),
    (
        '{"instances": [{"b": 2}]}',
        {"b": "int32", "a": "int32"},
        f'{ELEMENT}0{INSTANCES} JSON object: {{\n    "b": 2\n}} keys must be equal to: a,b',
    ),
    (
        '{"instances": [[1,2],[3]]}',
        {"x": "float32"},
        row_error(1, "Expecting tensor size: 2 but got: 1"),
    ),
    (
        '{"instances": [[1,2],[[1,2]]]}',
        {"x": "float32"},
        row_error(1, "Expecting shape [2] but got: [1,2]"),
    ),
    ('{"instances": [1,[1]]}', {"x": "float32"}, row_error(1, "Expecting shape [] but got: [1]")),
    (
        '{"instances": [[1],["a"]]}',
        {"x": "float32"},
        row_error(1, 'JSON Value: "a" Type: String is not of expected type: float'),
    ),
    (
        '{"instances": [["a"],[{"b64": 5}]]}',
        {"x": "string"},
        row_error(1, 'JSON Value: {\n    "b64": 5\n} not formatted correctly for base64 data'),
    ),
    (
        '{"instances": [1]}',
        {"a": "float32", "b": "float32"},
        "instances is a plain list, but expecting list of objects" + PLAIN_LIST,
    ),
    (
        '{"instances": [{"b64": "aGk="}]}',
        {"a": "float32", "b": "float32"},
        row_error(0, OBJECT + TYPE + "float"),
    ),
    (
        '{"instances": [{"b64": "aGk="}]}',
        {"a": "string", "b": "string"},
        "input size does not match signature: 1!=2 len({a}) != len({a,b})."
        " Sent extra: {}. Missing but required: {b}.",
    ),
    (
        '{"inputs": {"a": [1.0]}}',
        {"a": "float32", "b": "int32"},
        "Missing named input: b in 'inputs' object.",
    ),
    (
        '{"inputs": [1]}',
        {"a": "float32", "b": "int32"},
        "inputs is a plain value/list, but expecting an object" + PLAIN_LIST,
    ),
    ('{"inputs": {}}', {}, "Failed to get input map for signature: DEFAULT"),
    ('{"signature_name": "s"}', {}, "Failed to get input map for signature: s"),
]


@pytest.mark.parametrize(("body", "dtypes", "text"), REQUEST_ERRORS)
def test_a_request_that_does_not_fit_is_refused(
    body: str, dtypes: dict[str, str], text: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        decode(body, **dtypes)
    assert str(caught.value) == text


def test_an_error_names_the_element_and_the_key() -> None:
    items = '{"a": [1,2], "b": 1}, {"a": [[1,2]], "b": 2}'
    with pytest.raises(InvalidArgument) as caught:
        decode(f'{{"instances": [{items}]}}', a="int32", b="int32")
    assert str(caught.value) == (
        f"{ELEMENT}1 key: a{INSTANCES} Error: INVALID_ARGUMENT: Expecting shape [2] but got: [1,2]"
    )


def test_the_signature_is_the_default_unless_named() -> None:
    signatures = {"serving_default": echo_signature(x="float32"), "s": echo_signature(y="int32")}
    for body, name in [
        (b"{}", "serving_default"),
        (b'{"signature_name": ""}', "serving_default"),
        (b'{"signature_name": "s"}', "s"),
    ]:
        assert signature(parse(body), signatures)[0] == name
    with pytest.raises(
        InvalidArgument, match='^Serving signature name: "t" not found in signature'
    ):
        signature(parse(b'{"signature_name": "t"}'), signatures)
    wanted = "'signature_name' key must be a string value."
    with pytest.raises(InvalidArgument, match=re.escape(wanted) + "$"):
        signature_name(parse(b'{"signature_name": 1}'))


def test_the_format_of_the_request_is_told() -> None:
    spec = echo_signature(x="float32")
    assert inputs(parse(b'{"instances": [1]}'), spec)[0] is Format.ROW
    assert inputs(parse(b'{"inputs": [1]}'), spec)[0] is Format.COLUMNAR
