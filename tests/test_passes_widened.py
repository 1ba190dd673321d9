"""Products of bfloat16 as products of f32: equal numbers, and sums where they were."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import jaxpr_as_fun

from jaxrt.passes import widened
from jaxrt.program import Program


def test_products_of_bfloat16_keep_their_numbers_in_f32() -> None:
    def function(weights: jax.Array, x: jax.Array) -> jax.Array:
        half = lax.convert_element_type(x, jnp.bfloat16)
        return lax.dot(half, weights, preferred_element_type=np.float32)

    given = (
        jax.ShapeDtypeStruct((16, 3), jnp.bfloat16),
        jax.ShapeDtypeStruct((5, 16), np.float32),
    )
    program = Program(
        signature="s",
        jaxpr=jax.make_jaxpr(function)(*given),
        weight_names=("w",),
        input_names=("x",),
        output_names=("y",),
    )
    found = widened.apply(program)
    eqns: list[Any] = list(found.jaxpr.jaxpr.eqns)
    products = [e for e in eqns if e.primitive.name == "dot_general"]
    assert [[v.aval.dtype for v in e.invars] for e in products] == [[np.float32] * 2]
    random = np.random.default_rng(0)
    weights = random.normal(size=(16, 3)).astype(jnp.bfloat16)
    x = random.normal(size=(5, 16)).astype(np.float32)
    (answer,) = jaxpr_as_fun(found.jaxpr)(weights, x)
    exact = x.astype(jnp.bfloat16).astype(np.float64) @ weights.astype(np.float64)
    np.testing.assert_allclose(np.asarray(answer), exact, rtol=1e-5, atol=1e-5)
