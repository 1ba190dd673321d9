"""Which layers gain time from fewer bits: tables, large products of int8, rows from memory."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from programs import program

from jaxrt.compression.forms import form_of
from jaxrt.compression.layers import find
from jaxrt.compression.pays import CACHE, pays
from jaxrt.compression.schemes import Rule, Scheme
from jaxrt.passes.rewrite import inline
from jaxrt.target import Target

CPU = Target(platform="cpu", device_kind="cpu", num_devices=1, fingerprint="", features="")
TPU = Target(platform="tpu", device_kind="TPU v5e", num_devices=1, fingerprint="", features="")


def _product(w: Any, x: Any) -> list[Any]:
    return [jnp.dot(x, w["w"])]


def _look_up(w: Any, ids: Any) -> list[Any]:
    return [jnp.take(w["w"], ids, axis=0, mode="clip")]


def _tied(w: Any, ids: Any) -> list[Any]:
    return [jnp.dot(_look_up(w, ids)[0], w["w"].T)]


def _loop(w: Any, x: Any) -> list[Any]:
    return [lax.fori_loop(0, 3, lambda _, y: jnp.tanh(jnp.dot(y, w["w"])), x)]


def _pays(
    function: Any, shape: tuple[int, int], rows: int, scheme: Scheme, target: Target, total: int
) -> bool:
    given = ((), np.int32) if function in (_look_up, _tied) else ((shape[0],), np.float32)
    made = program(function, rows, {"x": given}, {"w": np.zeros(shape, np.float32)})
    (found,) = find(dataclasses.replace(made, jaxpr=inline(made.jaxpr)))
    return pays(found, form_of(found, Rule(pattern=".*", scheme=scheme)), target, total)


LARGE, SMALL = (1024, 1024), (128, 128)


@pytest.mark.parametrize(
    ("function", "shape", "rows", "scheme", "target", "wanted"),
    [
        (_product, LARGE, 1, Scheme.INT8, CPU, True),
        (_product, LARGE, 1, Scheme.W8A8, CPU, True),
        (_product, LARGE, 8, Scheme.W8A8, CPU, True),
        (_product, LARGE, 8, Scheme.INT8, CPU, False),
        (_product, LARGE, 1, Scheme.INT4, CPU, False),
        (_product, SMALL, 1, Scheme.INT8, CPU, False),
        (_product, SMALL, 8, Scheme.W8A8, CPU, False),
        (_look_up, LARGE, 8, Scheme.W8A8, CPU, True),
        (_look_up, LARGE, 8, Scheme.INT4, CPU, False),
        (_tied, LARGE, 8, Scheme.INT8, CPU, False),
        (_loop, LARGE, 8, Scheme.W8A8, CPU, False),
        (_product, LARGE, 8, Scheme.INT4, TPU, True),
        (_product, LARGE, 512, Scheme.INT4, TPU, False),
        (_product, LARGE, 512, Scheme.W8A8, TPU, True),
    ],
)
def test_layers_pay_where_they_were_measured_to(
    function: Any,
    shape: tuple[int, int],
    rows: int,
    scheme: Scheme,
    target: Target,
    wanted: bool,
) -> None:
    assert _pays(function, shape, rows, scheme, target, 2 * CACHE) is wanted


def test_one_row_of_weights_that_fit_the_cache_does_not_pay() -> None:
    assert not _pays(_product, LARGE, 1, Scheme.INT8, CPU, CACHE)
