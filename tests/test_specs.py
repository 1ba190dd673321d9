"""Signatures say which inputs carry rows, and go through JSON unchanged."""

import pytest

from jaxrt.specs import BY_PROTO, DTYPES, Dim, SignatureSpec, TensorSpec


def spec(**dims: list[int] | None) -> SignatureSpec:
    return SignatureSpec(
        inputs={
            alias: TensorSpec(
                name=f"{alias}:0",
                dtype="float32",
                dims=None if sizes is None else tuple(Dim(n, f"d{n}") for n in sizes),
            )
            for alias, sizes in dims.items()
        },
        outputs={"y": TensorSpec(name="y:0", dtype="string", dims=(), is_ref=True)},
        method_name="tensorflow/serving/predict",
        defaults={"x": {"dtype": "DT_FLOAT"}},
    )


@pytest.mark.parametrize(
    ("dims", "shapes", "shared"),
    [
        ({"x": [-1, 3]}, {"x": (2, 3)}, set()),
        ({"x": [-1, 3], "k": []}, {"x": (2, 3), "k": ()}, {"k"}),
        ({"x": [-1, 3], "table": [7, 2]}, {"x": (2, 3), "table": (7, 2)}, {"table"}),
        ({"x": [-1, 3], "any": None}, {"x": (2, 3), "any": (2,)}, set()),
        ({"x": [-1, 3], "any": None}, {"x": (2, 3), "any": ()}, {"any"}),
        ({"k": []}, {"k": (3,)}, set()),
        ({"any": None}, {"any": ()}, set()),
        ({"a": [1, 3], "b": [1]}, {"a": (1, 3), "b": (1,)}, set()),
    ],
)
def test_inputs_without_rows_beside_others_are_shared(
    dims: dict[str, list[int] | None], shapes: dict[str, tuple[int, ...]], shared: set[str]
) -> None:
    assert spec(**dims).shared(shapes) == shared


def test_a_signature_goes_through_json() -> None:
    made = spec(x=[-1, 3], k=[], any=None)
    assert SignatureSpec.from_json(made.to_json()) == made


def test_every_dtype_is_found_by_its_proto_name() -> None:
    assert {BY_PROTO[d.proto].name for d in DTYPES.values()} == set(DTYPES)
