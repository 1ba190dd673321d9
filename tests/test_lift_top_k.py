"""A sort of values with their places, cut off after k, becomes top-k; nothing else does."""

import lifting
import numpy as np
import pytest

SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 1e-40, 1.0, -1.0, 2.0, 2.0, -0.0]


def text(
    *,
    kind: str = "f32",
    compare: str = "GT, %a, %b, TOTALORDER",
    of: str | None = None,
    iota: str = "dim = 1 : tensor<3x12xi32>",
    slices: tuple[str, str] = ("[0:3, 0:4]", "[0:3, 0:4]"),
    shape: str = "3x4",
    dimension: int = 1,
) -> str:
    of = of or kind
    return f"""func.func @main(%x: tensor<3x12x{kind}>)
        -> (tensor<{shape}x{kind}>, tensor<{shape}xi32>) {{
      %i = stablehlo.iota {iota}
      %0:2 = "stablehlo.sort"(%x, %i) <{{dimension = {dimension} : i64, is_stable = true}}> ({{
        ^bb0(%a: tensor<{kind}>, %b: tensor<{kind}>, %c: tensor<i32>, %d: tensor<i32>):
          %r = stablehlo.compare {compare} : (tensor<{of}>, tensor<{of}>) -> tensor<i1>
          stablehlo.return %r : tensor<i1>
      }}) : (tensor<3x12x{kind}>, tensor<3x12xi32>) -> (tensor<3x12x{kind}>, tensor<3x12xi32>)
      %1 = stablehlo.slice %0#0 {slices[0]} : (tensor<3x12x{kind}>) -> tensor<{shape}x{kind}>
      %2 = stablehlo.slice %0#1 {slices[1]} : (tensor<3x12xi32>) -> tensor<{shape}xi32>
      return %1, %2 : tensor<{shape}x{kind}>, tensor<{shape}xi32>
    }}"""


def values(kind: str) -> np.ndarray[tuple[int, int], np.dtype[np.generic]]:
    rng = np.random.default_rng(1)
    if kind[0] == "f":
        picked = rng.choice(np.array(SPECIAL, np.float32), (3, 12))
        return picked.astype(np.float16 if kind == "f16" else np.float32)
    return rng.integers(0, 5, (3, 12)).astype(np.uint8 if kind == "ui8" else np.int32)


TAKEN = {
    "floats": text(),
    "halves": text(kind="f16"),
    "integers": text(kind="i32", compare="GT, %a, %b, SIGNED"),
    "unsigned": text(kind="ui8", compare="GT, %a, %b, UNSIGNED"),
    "turned round": text(compare="LT, %b, %a, TOTALORDER"),
    "last by a negative number": text(dimension=-1),
}
LEFT = {
    "ascending": text(compare="LT, %a, %b, TOTALORDER"),
    "zeros that are equal": text(compare="GT, %a, %b, FLOAT"),
    "by the places": text(compare="GT, %c, %d, SIGNED", of="i32"),
    "from the middle": text(slices=("[0:3, 2:6]", "[0:3, 0:4]")),
    "every other": text(slices=("[0:3, 0:8:2]", "[0:3, 0:4]")),
    "some rows": text(slices=("[1:3, 0:4]", "[1:3, 0:4]"), shape="2x4"),
    "all": text(slices=("[0:3, 0:12]", "[0:3, 0:12]"), shape="3x12"),
}


def same_as_xla(module: str) -> None:
    kind = module.split("3x12x")[1].split(">")[0]
    found, wanted = lifting.lifted(module, values(kind)), lifting.by_xla(module, values(kind))
    for x, y in zip(found, wanted, strict=True):
        assert np.ascontiguousarray(x).tobytes() == np.ascontiguousarray(y).tobytes()


@pytest.mark.parametrize("name", TAKEN)
def test_it_becomes_top_k_with_the_same_bits(name: str) -> None:
    jaxpr = lifting.jaxpr_of(TAKEN[name], 1)
    assert "top_k[" in jaxpr and "sort[" not in jaxpr
    same_as_xla(TAKEN[name])


@pytest.mark.parametrize("name", LEFT)
def test_it_stays_a_sort(name: str) -> None:
    jaxpr = lifting.jaxpr_of(LEFT[name], 1)
    assert "top_k[" not in jaxpr and "sort[" in jaxpr
    if "zeros" not in name:  # XLA leaves open where NaN goes
        same_as_xla(LEFT[name])


@pytest.mark.parametrize(
    ("dimension", "places", "slices", "shape"),
    [(1, 0, "[0:3, 0:4]", "3x4"), (0, 1, "[0:2, 0:12]", "2x12"), (0, 0, "[0:2, 0:12]", "2x12")],
)
def test_dimensions_that_do_not_agree_stay_a_sort(
    dimension: int, places: int, slices: str, shape: str
) -> None:
    """Not held against XLA: its own search for top-k takes any iota for places."""
    module = text(
        kind="i32",
        compare="GT, %a, %b, SIGNED",
        iota=f"dim = {places} : tensor<3x12xi32>",
        dimension=dimension,
        slices=(slices, slices),
        shape=shape,
    )
    x = values("i32")
    order = np.argsort(-x.astype(np.int64), axis=dimension, kind="stable")
    numbers = np.broadcast_to(np.indices(x.shape)[places], x.shape)
    wanted = [np.take_along_axis(a, order, axis=dimension) for a in (x, numbers)]
    rows, columns = (int(n) for n in shape.split("x"))
    assert "top_k[" not in lifting.jaxpr_of(module, 1)
    for found, want in zip(lifting.lifted(module, x), wanted, strict=True):
        np.testing.assert_array_equal(found, want[:rows, :columns])


def test_several_cuts_take_the_longest() -> None:
    module = text().replace(
        "%2 = stablehlo.slice %0#1 [0:3, 0:4]", "%2 = stablehlo.slice %3 [0:3, 0:4]"
    )
    cut = "%3 = stablehlo.slice %0#1 [0:3, 0:7] : (tensor<3x12xi32>) -> tensor<3x7xi32>\n"
    at = module.index("%2 = stablehlo.slice")
    module = module[:at] + cut + module[at:].replace("(tensor<3x12xi32>)", "(tensor<3x7xi32>)", 1)
    assert "k=7" in lifting.jaxpr_of(module, 1)
    same_as_xla(module)


def test_a_sort_that_is_also_used_whole_stays() -> None:
    module = text().replace("return %1, %2 :", "return %1, %2, %0#0 :")
    module = module.replace("tensor<3x4xi32>) {", "tensor<3x4xi32>, tensor<3x12xf32>) {")
    module = module.replace("tensor<3x4xi32>\n    }", "tensor<3x4xi32>, tensor<3x12xf32>\n    }")
    assert "top_k[" not in lifting.jaxpr_of(module, 1)
    same_as_xla(module)


def test_a_top_k_in_a_branch_is_found() -> None:
    body = text().split("{\n", 1)[1].rsplit("return", 1)[0]
    module = f"""func.func @main(%p: tensor<i1>, %x: tensor<3x12xf32>) -> tensor<3x4xf32> {{
      %9 = "stablehlo.if"(%p) ({{
        {body}
        stablehlo.return %1 : tensor<3x4xf32>
      }}, {{
        %z = stablehlo.constant dense<0.0> : tensor<3x4xf32>
        stablehlo.return %z : tensor<3x4xf32>
      }}) : (tensor<i1>) -> tensor<3x4xf32>
      return %9 : tensor<3x4xf32>
    }}"""
    assert "top_k[" in lifting.jaxpr_of(module, 2)
    (found,) = lifting.lifted(module, np.bool_(True), values("f32"))
    np.testing.assert_array_equal(found, lifting.lifted(text(), values("f32"))[0])
