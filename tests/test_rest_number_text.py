"""Number text: six digits, or all of them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxrt.serving.rest.number_text import decimal, joined, texts


def by_the_rule(value: np.floating) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    text = f"{value:.6g}"
    if type(value)(text) != value:
        text = f"{value:.{9 if isinstance(value, np.float32) else 17}g}"
    return text if "." in text or "e" in text else text + ".0"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1.0"),
        (9_000_000.0, "9e+06"),
        (0.00003, "3e-05"),
        (999999.0, "999999.0"),
        (555557.5, "555557.5"),
        (0.2, "0.2"),
        (1 / 3, "0.333333343"),
        (16777216.0, "16777216.0"),
        (1e10, "1e+10"),
        (-0.0, "-0.0"),
        (1e-45, "1.4013e-45"),
        (3.4028234663852886e38, "3.40282347e+38"),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
    ],
)
def test_a_float_has_six_digits_or_nine(value: float, text: str) -> None:
    assert decimal(np.float32(value)) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (math.pi, "3.1415926535897931"),
        (0.1, "0.1"),
        (1e15, "1e+15"),
        (1234567.0, "1234567.0"),
        (9007199254740992.0, "9007199254740992.0"),
        (12345678901234568.0, "12345678901234568.0"),
        (2.0**64, "1.8446744073709552e+19"),
        (5e-324, "4.94066e-324"),
    ],
)
def test_a_double_has_six_digits_or_seventeen(value: float, text: str) -> None:
    assert decimal(np.float64(value)) == text


def test_integers_and_bools_are_plain() -> None:
    assert texts(np.array([-128, 127], np.int8)) == ["-128", "127"]
    assert texts(np.array([2**64 - 1], np.uint64)) == ["18446744073709551615"]
    assert texts(np.array([True, False])) == ["true", "false"]


@given(hnp.arrays(np.float32, st.integers(0, 40), elements={"allow_subnormal": True}))
def test_any_float32_follows_the_rule(values: np.ndarray) -> None:
    assert texts(values) == [by_the_rule(value) for value in values]


@given(hnp.arrays(np.float64, st.integers(0, 40)))
def test_any_float64_follows_the_rule(values: np.ndarray) -> None:
    assert texts(values) == [by_the_rule(value) for value in values]


@given(st.lists(st.integers(-(10**7), 10**7)), st.integers(0, 9), st.sampled_from("fd"))
def test_decimal_numbers_follow_the_rule(digits: list[int], places: int, dtype: str) -> None:
    values = (np.array(digits, np.float64) / 10**places).astype(dtype)
    assert texts(values) == [by_the_rule(value) for value in values]


def test_a_number_reads_back_as_itself() -> None:
    values = np.random.default_rng(0).random(1000, np.float32)
    assert np.array_equal(np.array(texts(values), np.float32), values)


def test_each_number_is_followed_by_its_separator() -> None:
    values = np.array([1, 2, 3], np.int32)
    assert joined(values, np.array([0, 1, 0]), ("%, ", "]")) == "1%, 2]3%, "
