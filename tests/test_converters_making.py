"""Which layers are taken back where a compressed program is slower than in float."""

import pytest

from jaxrt.compression.layers import DOT, GATHER, Layer
from jaxrt.converters import making


def _layer(name: str, kind: str = DOT) -> Layer:
    return Layer(
        name=name,
        kind=kind,
        shape=(64, 64),
        nbytes=1 << 14,
        flops=1.0,
        rows=1,
        weights=(name,),
        axes=(0,),
    )


PRODUCTS = [_layer(name) for name in "abcd"]
RATIOS = {"a": 0.5, "b": 0.98, "c": 0.7, "d": 0.9}
TABLE = _layer("table", GATHER)


@pytest.mark.parametrize(
    ("free", "is_more", "tries_left", "wanted"),
    [
        (PRODUCTS, False, 3, ["b", "d"]),
        ([*PRODUCTS, TABLE], False, 3, ["b", "d"]),
        ([*PRODUCTS, TABLE], False, 1, ["b", "d", "c", "a"]),
        (PRODUCTS, False, 1, ["b", "d"]),
        (PRODUCTS[:1], False, 3, []),
        (PRODUCTS[:1], True, 3, ["a"]),
        (PRODUCTS, False, 0, []),
        (PRODUCTS, True, 0, ["a", "b", "c", "d"]),
    ],
)
def test_layers_that_gained_least_alone_are_taken_back_first(
    free: list[Layer], is_more: bool, tries_left: int, wanted: list[str]
) -> None:
    assert making._taken_back(free, is_more, tries_left, RATIOS) == wanted
