"""The request parser against rapidjson 1.1.0's grammar and texts."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrt.errors import InvalidArgument
from jaxrt.serving.rest.json_reader import parse, read
from jaxrt.serving.rest.json_syntax import JsonSyntaxError
from jaxrt.serving.rest.json_value import Numbers, Object, Value, plain

EMPTY = "The document is empty."
INVALID = "Invalid value."
NO_NAME = "Missing a name for object member."
NO_COLON = "Missing a colon after a name of object member."
NO_BRACE = "Missing a comma or '}' after an object member."
NO_BRACKET = "Missing a comma or ']' after an array element."
ESCAPE = "Invalid escape character in string."
SURROGATE = "The surrogate pair in string is invalid."
HEX = "Incorrect hex digit after \\u escape in string."
QUOTE = "Missing a closing quotation mark in string."
BIG = "Number too big to be stored in double."
LONG = b"[" + b"1.5, " * 100  # long enough for simdjson, if only it were valid


def unpacked(value: Value) -> Any:
    """Plain Python; an object becomes the list of its members."""
    value = plain(value)
    if isinstance(value, Object):
        return [(key, unpacked(member)) for key, member in value.members]
    return [unpacked(item) for item in value] if isinstance(value, list) else value


# Recorded from rapidjson 1.1.0 with the flags Iterative, NanAndInf and StopWhenDone.
@pytest.mark.parametrize(
    ("text", "error", "offset"),
    [
        (b"   ", EMPTY, 3),
        (b"]", EMPTY, 0),
        (b"\xef\xbb\xbf", EMPTY, 3),
        (b"\0{}", EMPTY, 0),
        (b"{", NO_NAME, 1),
        (b"{'a': 1}", NO_NAME, 1),
        (b'{"a": 1,}', NO_NAME, 8),
        (b'{"a" 1}', NO_COLON, 5),
        (b'{"a": }', INVALID, 6),
        (b'{"a": 1 "b"', NO_BRACE, 8),
        (b"[", INVALID, 1),
        (b"[1,]", INVALID, 3),
        (b"[,1]", INVALID, 1),
        (b"[1 2]", NO_BRACKET, 3),
        (b"[01]", NO_BRACKET, 2),
        (b"[1", NO_BRACKET, 2),
        (b"[1\0]", NO_BRACKET, 2),
        (b"[+1]", INVALID, 1),
        (b"[.5]", INVALID, 1),
        (b"[-]", INVALID, 2),
        (b"[5.]", "Miss fraction part in number.", 3),
        (b"[5e]", "Miss exponent in number.", 3),
        (b"[5e+]", "Miss exponent in number.", 4),
        (b"[nan]", INVALID, 2),
        (b"[nul]", INVALID, 4),
        (b"[tru", INVALID, 4),
        (b"[Na]", INVALID, 3),
        (b"[Infinit]", INVALID, 8),
        (b"[-Inx]", INVALID, 4),
        (b"[1e400]", BIG, 1),
        (b"[1e309]", BIG, 1),
        (b"[0e309]", BIG, 1),
        (b"[0.001e312]", BIG, 1),
        (b"[" + b"2" * 309 + b"]", BIG, 1),
        (b'["\\x"]', ESCAPE, 2),
        (b'["\x01"]', ESCAPE, 2),
        (b'["a', QUOTE, 3),
        (b'["a\0"]', QUOTE, 3),
        (b'["\\u12g4"]', HEX, 2),
        (b'["\\ud800"]', SURROGATE, 2),
        (b'["\\ud800\\u0041"]', SURROGATE, 2),
        (b'["\\ud800\\uZZZZ"]', HEX, 2),
        (LONG + b"]", INVALID, 501),
        (LONG + b"x]", INVALID, 501),
        (LONG + b"1 2]", NO_BRACKET, 503),
        (b"// c\n[]", INVALID, 0),
    ],
)
def test_a_syntax_error_has_rapidjsons_text_and_offset(
    text: bytes, error: str, offset: int
) -> None:
    with pytest.raises(JsonSyntaxError) as caught:
        read(text)
    assert (caught.value.text, caught.value.offset) == (error, offset)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"\xef\xbb\xbf [1] rest", [1]),
        (b"[1]]", [1]),
        (b"\xbb\xbf[1]", [1]),
        (b' { "a" : [ ] , "b" : { } } ', [(b"a", []), (b"b", [])]),
        (b'{"a": 1, "a": 2.0}', [(b"a", 1), (b"a", 2.0)]),
        (b'{"a": {"b": [null, true, false]}}', [(b"a", [(b"b", [None, True, False])])]),
        (b'["\\"\\/\\\\\\b\\f\\n\\r\\t"]', [b'"/\\\b\f\n\r\t']),
        (b'["\\u00e9\\ud83d\\ude00"]', [b"\xc3\xa9\xf0\x9f\x98\x80"]),
        (b'["\xff\x7f", "\\u0000", "\\udc00"]', [b"\xff\x7f", b"\0", b"\xed\xb0\x80"]),
        (b"[-0, 18446744073709551615, -9223372036854775808]", [0, 2**64 - 1, -(2**63)]),
        (b"[18446744073709551616, -9223372036854775809]", [2.0**64, -(2.0**63)]),
        (b"[Infinity, -Infinity, Inf]", [math.inf, -math.inf, math.inf]),
        (b"[-Inf, NInf, -NaInfinity]", [-math.inf, math.inf, -math.inf]),
        (b"[1.8e308, 1e-400, 0.001e311]", [math.inf, 0.0, 1e308]),
        (b'{"a": "x", "b": "", "c": -2}', [(b"a", b"x"), (b"b", b""), (b"c", -2)]),
        (b'{ "d" : 1e2 , "e":"" }', [(b"d", 100.0), (b"e", b"")]),
    ],
)  # fmt: skip
def test_a_text_is_read_as_rapidjson_reads_it(text: bytes, value: Any) -> None:
    got = unpacked(read(text))
    assert got == value
    assert repr(got) == repr(value)  # 1 is not 1.0


def test_nan_tokens_are_numbers_and_an_integer_minus_zero_has_no_sign() -> None:
    nan, minus_nan, zero, minus_zero = unpacked(read(b"[NaN, -NaN, -0, -0.0]"))
    assert math.isnan(nan) and math.isnan(minus_nan)
    assert (zero, type(zero)) == (0, int)
    assert math.copysign(1, minus_zero) == -1


def test_half_a_million_levels_are_read() -> None:
    depth = 500_000
    value: Value = read(b'{"x": ' + b"[" * depth + b"]" * depth + b"}")
    assert isinstance(value, Object)
    level = value.find(b"x")
    for _ in range(depth - 1):
        assert isinstance(level, list)
        (level,) = level
    assert level == []


def test_a_long_list_of_numbers_stays_in_one_piece() -> None:
    body = b'{"a": ' + LONG + b'2], "b": [' + LONG + b"2]" + b"]}"
    value = read(body)
    assert isinstance(value, Object)
    first, second = (member for _, member in value.members)
    assert isinstance(first, Numbers) and isinstance(second, Numbers)
    assert first.shape == (101,) and second.shape == (1, 101)


@pytest.mark.parametrize("tail", [b'"s"]', b"NaN]", b"{}]", b"1e400]", b"18446744073709551616]"])
def test_what_simdjson_refuses_is_read_element_by_element(tail: bytes) -> None:
    try:
        value = read(LONG + tail)
    except JsonSyntaxError as error:
        assert (error.text, tail) == (BIG, b"1e400]")
        return
    assert isinstance(value, list) and len(value) == 101


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b"   ", "JSON Parse error: The document is empty. at offset: 3"),
        (b"5", "JSON Value: 5 Is not object"),
        (b"[1.0]", "JSON Value: [\n    1.0\n] Is not object"),
        (b'"x"', 'JSON Value: "x" Is not object'),
    ],
)
def test_a_request_must_be_an_object(body: bytes, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse(body)
    assert str(caught.value) == message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.lists(st.tuples(st.text(), inner)).map(dict),
)  # fmt: skip


def as_read(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "surrogatepass")
        case list():
            return [as_read(item) for item in value]
        case dict():
            return [(as_read(k), as_read(v)) for k, v in value.items()]
    return value


@given(json_values, st.sampled_from([None, 2]), st.booleans())
def test_any_value_that_python_writes_is_read_back(value: Any, indent: int, ascii: bool) -> None:
    text = json.dumps({"v": value}, indent=indent, ensure_ascii=ascii)
    assert unpacked(read(text.encode("utf-8", "surrogatepass"))) == as_read({"v": value})


@given(st.lists(st.lists(st.integers(-9, 9) | st.floats(-9, 9), min_size=1), min_size=90))
def test_packed_and_plain_lists_are_the_same(rows: list[list[Any]]) -> None:
    text = json.dumps({"v": rows}).encode()
    value = read(text)
    assert isinstance(value, Object) and isinstance(value.find(b"v"), Numbers)
    assert repr(unpacked(value)) == repr([(b"v", rows)])
