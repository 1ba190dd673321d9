"""Arrays of numbers as text: the same as one number at a time."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrt.serving.rest.number_block import FEW, written
from jaxrt.serving.rest.number_text import decimal

COUNT = 4 * FEW
INLINE = (b", ", b"], [", b"]], [[")
LINES = (b",\n    ", b"\n],\n[\n    ", b"\n]\n],\n[\n[\n    ")


def one_by_one(values: np.ndarray) -> list[str]:
    return [decimal(value) for value in values]


def near(value: float) -> np.ndarray:
    """The float32s around a value, of both signs."""
    bits = np.float32(value).view(np.int32) + np.arange(-COUNT, COUNT, dtype=np.int32)
    bits = bits[bits >= 0]
    return np.concatenate([bits.view(np.float32), -bits.view(np.float32)])


@pytest.mark.parametrize("power", range(-46, 39))
def test_around_every_power_of_ten_the_rule_holds(power: int) -> None:
    values = near(10.0**power)
    assert written(values, [b" "]).decode().split() == one_by_one(values)


@given(st.integers(0, 2**32 - 1), st.floats(-46, 38))
def test_random_bits_sizes_and_short_decimals_follow_the_rule(seed: int, power: float) -> None:
    random = np.random.default_rng(seed)
    bits = random.integers(0, 2**32, COUNT, dtype=np.uint32).view(np.float32)
    bits = bits[~np.isnan(bits)]
    sized = (random.uniform(-3, 3, COUNT) * 10**power).astype(np.float32)
    short = (random.integers(-(10**7), 10**7, COUNT) * 10.0 ** int(power - 7)).astype(np.float32)
    for values in (bits, sized, short):
        assert written(values, [b" "]).decode().split() == one_by_one(values)


@pytest.mark.parametrize("scale", [1.0, 1 / 512, 1e-3, 1e6])
def test_numbers_on_a_grid_follow_the_rule(scale: float) -> None:
    values = (np.arange(-5000, 5000) * scale).astype(np.float32)
    assert written(values, [b", "]).decode().split(", ") == one_by_one(values)


def test_six_digits_halfway_between_two_numbers_read_back_as_one_of_them() -> None:
    values = np.resize(np.float32(-5.48864e13), COUNT)
    assert set(written(values, [b" "]).decode().split()) == {decimal(values[0])} == {"-5.48864e+13"}


@pytest.mark.parametrize("count", [6, 6 * FEW])
def test_what_is_not_finite_has_a_name_and_zero_a_sign(count: int) -> None:
    values = np.resize(np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-4], np.float32), count)
    found = written(values, [b" "]).decode().split()
    assert found == ["NaN", "Infinity", "-Infinity", "0.0", "-0.0", "0.0001"] * (count // 6)


@pytest.mark.parametrize("count", [3, 3 * FEW])
@pytest.mark.parametrize(
    ("dtype", "values", "wanted"),
    [
        ("bool", [True, False, True], "true false true"),
        ("int8", [-128, 0, 127], "-128 0 127"),
        ("int64", [-(2**63), 7, 2**63 - 1], "-9223372036854775808 7 9223372036854775807"),
        ("uint64", [0, 1, 2**64 - 1], "0 1 18446744073709551615"),
        ("float64", [np.pi, 0.1, np.nan], "3.1415926535897931 0.1 NaN"),
        (">f4", [0.5, 1e10, 1 / 3], "0.5 1e+10 0.333333343"),
        (">i4", [1, 2, 3], "1 2 3"),
    ],
)
def test_every_dtype_and_byte_order_is_plain(
    count: int, dtype: str, values: list[float], wanted: str
) -> None:
    array = np.resize(np.array(values, dtype), count)
    assert written(array, [b" "]).decode() == " ".join([wanted] * (count // 3))


def joined(values: list[str], shape: Sequence[int], gaps: Sequence[bytes]) -> str:
    for size, gap in zip(reversed(shape), gaps, strict=True):
        values = [gap.decode().join(values[i : i + size]) for i in range(0, len(values), size)]
    return values[0]


@pytest.mark.parametrize("gaps", [INLINE, LINES])
@pytest.mark.parametrize("shape", [(3, 2, 2), (1, 1, 1), (2, 1, 3), (5, FEW, 2), (FEW, 1, 3)])
def test_the_gaps_tell_how_many_dimensions_end(
    shape: tuple[int, ...], gaps: Sequence[bytes]
) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    wanted = joined(one_by_one(values.ravel()), shape, gaps)
    assert written(values, gaps).decode() == wanted


def test_an_array_need_not_be_contiguous() -> None:
    values = np.arange(4 * FEW * 6, dtype=np.float32).reshape(4, FEW, 6)[:, ::2, 1:4]
    assert written(values, INLINE) == written(values.copy(), INLINE)
