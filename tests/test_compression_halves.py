"""int4 multiplied by halves, as TPUs do it: the numbers of the whole."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from programs import program, run

from jaxrt.compression import rewrite
from jaxrt.compression.schemes import parse_rule
from jaxrt.passes import prepare
from jaxrt.program import Program
from jaxrt.target import Target

CPU = Target(platform="cpu", device_kind="cpu", num_devices=1, fingerprint="", features="")
V5E = Target(platform="tpu", device_kind="TPU v5 lite", num_devices=1, fingerprint="", features="")
Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]


def _columns(w: Any, x: Any) -> list[Any]:
    return [jnp.dot(x, w["w"])]


def _heads(w: Any, x: Any) -> list[Any]:
    return [jnp.einsum("bthk,hkd->btd", x, w["w"])]


def _turned(w: Any, x: Any) -> list[Any]:
    """The weight comes first, its contraction last."""
    return [jnp.einsum("nk,bk->nb", w["w"], x)]


CASES: list[tuple[Callable[..., Any], Shape, Shape, str]] = [
    (_columns, (256, 96), (256,), "int4"),
    (_columns, (250, 96), (250,), "int4:32"),
    (_heads, (8, 40, 96), (5, 8, 40), "int4"),
    (_turned, (96, 256), (256,), "int4"),
]


@pytest.mark.parametrize(("function", "weight", "row", "scheme"), CASES)
def test_halves_add_up_to_the_product_with_the_whole(
    function: Callable[..., Any], weight: Shape, row: Shape, scheme: str
) -> None:
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal(weight).astype(np.float32)}
    found = program(function, 3, {"x": (row, np.float32)}, weights)
    x = rng.standard_normal((3, *row)).astype(np.float32)
    whole, halves = (_held(found, scheme, target) for target in (CPU, V5E))
    assert _products(halves) == 2 * _products(whole) == 2
    want, got = (_answer(split, weights, x) for split in (whole, halves))
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def _held(found: Program, scheme: str, target: Target) -> prepare.Split:
    held, changed = rewrite.apply(found, [parse_rule(f".*={scheme}")], target)
    assert len(changed) == 1
    return prepare.split(held)


def _answer(split: prepare.Split, weights: dict[str, Array], x: Array) -> Array:
    (found,) = run(split.apply.jaxpr, [*prepare.run_prepare(split, weights).values(), x])
    return np.asarray(found)


def _products(split: prepare.Split) -> int:
    return list(prepare.primitives(split.apply.jaxpr)).count("dot_general")
