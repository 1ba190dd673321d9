"""How error messages show JSON values."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrt.serving.rest.json_reader import read
from jaxrt.serving.rest.json_text import LIMIT, shortest, shown


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (b"1", "1"),
        (b"1.0", "1.0"),
        (b"0.1", "0.1"),
        (b"3.141592653589793", "3.14159274"),  # alone: as a float32
        (b"1e300", "1e+300"),
        (b"NaN", "NaN"),
        (b"-Inf", "-Infinity"),
        (b"[]", "[]"),
        (b"{}", "{}"),
        (b'{"a": {}, "b": []}', '{\n    "a": {},\n    "b": []\n}'),
        (b'{"a": [1, 2.50]}', '{\n    "a": [\n        1,\n        2.5\n    ]\n}'),
        (b'["\\n\\u0001\\"/\x7f"]', '[\n    "\\n\\u0001\\"/\x7f"\n]'),
        (b"[null, true, false]", "[\n    null,\n    true,\n    false\n]"),
    ],
)
def test_a_value_is_pretty_printed(text: bytes, wanted: str) -> None:
    assert shown(read(text)) == wanted


def test_a_long_value_is_cut() -> None:
    text = shown(read(b"[" + b"1," * 10_000 + b"1]"))
    assert len(text) == LIMIT
    assert text.startswith("[\n    1,\n    1,\n")


def test_a_deep_value_is_cut() -> None:
    assert len(shown(read(b"[" * 100_000 + b"]" * 100_000))) == LIMIT


def test_bytes_that_are_no_utf8_survive() -> None:
    assert shown(b"\xff").encode("utf-8", "surrogateescape") == b'"\xff"'


# Recorded from rapidjson 1.1.0's writer.
@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1e20, "100000000000000000000.0"),
        (1e21, "1e21"),
        (1e22, "1e22"),
        (1.5e22, "1.5e22"),
        (123456.75, "123456.75"),
        (1e-6, "0.000001"),
        (1e-7, "1e-7"),
        (1.25e-7, "1.25e-7"),
        (5e-324, "5e-324"),
        (float("inf"), "Infinity"),
        (float("nan"), "NaN"),
    ],
)
def test_a_nested_double_has_the_fewest_digits(value: float, wanted: str) -> None:
    assert shortest(value) == wanted


@given(st.floats(allow_nan=False))
def test_the_shortest_text_reads_back_as_the_same_double(value: float) -> None:
    assert struct.pack("d", float(shortest(value))) == struct.pack("d", value)
