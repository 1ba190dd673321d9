"""Numbers as people read them."""

import pytest

from jaxrt.units import flops, percent, size


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (3210, "3.2 kB"), (417.6e6, "417.6 MB"), (2.5e9, "2.50 GB")],
)
def test_bytes_are_powers_of_ten(count: float, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 FLOP"), (4.333, "4.33 FLOP"), (22.1e9, "22.1 GFLOP"), (3e12, "3 TFLOP")],
)
def test_operations_have_three_digits(count: float, text: str) -> None:
    assert flops(count) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (1e-6, "< 0.1 %"),
        (0.004, "0.4 %"),
        (0.5, "50 %"),
        (0.92, "92 %"),
        (0.996, "99.6 %"),
        (0.99999, "> 99.9 %"),
        (1.0, "100 %"),
    ],
)
def test_a_share_that_is_neither_nothing_nor_all_never_reads_so(share: float, text: str) -> None:
    assert percent(share) == text
