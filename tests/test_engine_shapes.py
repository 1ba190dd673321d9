"""What the signature's declaration and the shapes of a request say together."""

import pytest

from jaxrt.serving.engine.shapes import common_rows, declared, flags, show
from jaxrt.specs import Dim, SignatureSpec, TensorSpec


def spec(**dims: list[int] | None) -> SignatureSpec:
    inputs = {
        alias: TensorSpec(
            name=f"{alias}:0",
            dtype="float32",
            dims=None if sizes is None else tuple(Dim(n) for n in sizes),
        )
        for alias, sizes in dims.items()
    }
    return SignatureSpec(inputs=inputs, outputs={})


@pytest.mark.parametrize(
    ("shapes", "rows"),
    [
        ([], None),
        ([()], None),
        ([(3,)], 3),
        ([(0, 2)], 0),
        ([(3, 2), (3,)], 3),
        ([(3, 2), (2,)], None),
        ([(3, 2), ()], None),
    ],
)
def test_rows_are_the_common_first_dimension(
    shapes: list[tuple[int, ...]], rows: int | None
) -> None:
    assert common_rows(shapes) == rows


@pytest.mark.parametrize(
    ("dims", "shapes", "found"),
    [
        ({"x": [-1, -1]}, {"x": (3, 5)}, "--shape x=5"),
        ({"x": [-1, -1, -1, 3]}, {"x": (1, 48, 64, 3)}, "--shape x=48x64"),
        ({"x": [-1, -1], "m": [-1, -1]}, {"x": (1, 7), "m": (1, 7)}, "--shape x=7 --shape m=7"),
        ({"x": None}, {"x": (1, 2, 3)}, "--shape x=2x3"),
        ({"x": [-1, 3]}, {"x": (9, 3)}, ""),
        ({"x": [-1, 3]}, {"x": (9, 4)}, ""),
        ({"x": [-1, -1]}, {"x": (9,)}, ""),
    ],
)
def test_flags_fill_the_dimensions_that_the_signature_leaves_open(
    dims: dict[str, list[int] | None], shapes: dict[str, tuple[int, ...]], found: str
) -> None:
    assert flags(spec(**dims), shapes) == found


def test_what_crosses_between_stages_is_planned_by_the_input_that_it_is_like() -> None:
    dims = (Dim(-1), Dim(-1))
    inputs = {
        "words": TensorSpec(name="words:0", dtype="int32", dims=dims),
        "%4": TensorSpec(name="words", dtype="int64", dims=dims),
    }
    found = flags(SignatureSpec(inputs=inputs, outputs={}), {"words": (3, 7), "%4": (3, 7)})
    assert found == "--shape words=7"


def test_shapes_are_written_as_lists() -> None:
    assert show({"x": (1, 3), "k": ()}) == "x=[1,3], k=[]"
    assert declared(spec(x=[-1, 3], k=None)) == "x=[?,3], k=[unknown rank]"
