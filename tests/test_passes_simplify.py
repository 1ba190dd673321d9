"""Identities and detours go; what remains computes the same."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax
from programs import program, run

from jaxrt.passes.prepare import primitives
from jaxrt.passes.simplify import simplify, simplify_jaxpr

F32 = np.float32
S = (4, 6)

CASES: dict[str, tuple[Callable[[Array], Array], list[str]]] = {
    "a reshape to its own shape": (lambda x: lax.reshape_p.bind(
        x, new_sizes=x.shape, dimensions=None, sharding=None) * 2.0, ["mul"]),
    "a chain of reshapes": (
        lambda x: lax.reshape(lax.reshape(lax.reshape(x, (2, 36)), (72,)), (4, 18)),
        ["reshape"],
    ),
    "there and back": (lambda x: lax.reshape(lax.reshape(x, (72,)), x.shape) * 2.0, ["mul"]),
    "two transposes that cancel": (lambda x: x.T.T * 2.0, ["mul"]),
    "two transposes that do not": (
        lambda x: lax.transpose(lax.transpose(x, (1, 2, 0)), (1, 2, 0)),
        ["transpose"],
    ),
    "a conversion to its own dtype": (
        lambda x: lax.convert_element_type_p.bind(
            x, new_dtype=np.dtype(F32), weak_type=False, sharding=None) * 2.0,
        ["mul"],
    ),
    "a broadcast to its own shape": (
        lambda x: lax.broadcast_in_dim_p.bind(
            x, shape=x.shape, broadcast_dimensions=(0, 1, 2), sharding=None) * 2.0,
        ["mul"],
    ),
    "a broadcast of a broadcast": (
        lambda x: lax.broadcast_in_dim(lax.broadcast_in_dim(x, (5, 3, *S), (1, 2, 3)),
                                       (2, 5, 3, *S), (1, 2, 3, 4)),
        ["broadcast_in_dim"],
    ),
    "a slice of everything": (
        lambda x: lax.slice_p.bind(
            x, start_indices=(0, 0, 0), limit_indices=x.shape, strides=None) * 2.0,
        ["mul"],
    ),
    "a padding by nothing": (
        lambda x: lax.pad(x, jnp.float32(0), [(0, 0, 0)] * 3) * 2.0,
        ["mul"],
    ),
    "a concatenation with nothing": (
        lambda x: lax.concatenate([x, jnp.zeros((3, 0, 6), F32)], 1) * 2.0,
        ["mul"],
    ),
    "a broadcast that moves an axis": (
        lambda x: lax.broadcast_in_dim(x, (3, 4, 6, 6), (0, 1, 2)),
        ["broadcast_in_dim"],
    ),
    "a negative padding": (
        lambda x: lax.pad(x, jnp.float32(0), [(0, 0, 0), (1, -1, 0), (0, 0, 0)]),
        ["pad"],
    ),
    "dead code": (lambda x: (jnp.sin(x), x + 1.0)[1], ["add"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_means_nothing_is_dropped(case: str) -> None:
    function, wanted = CASES[case]
    found = program(lambda w, x: function(x), 3, {"x": (S, F32)})
    after = simplify_jaxpr(found.jaxpr)
    assert list(primitives(after)) == wanted
    data = np.arange(72, dtype=F32).reshape(3, *S)
    np.testing.assert_array_equal(run(found.jaxpr, [data])[0], run(after, [data])[0])


def test_loops_are_simplified_inside() -> None:
    def loop(w: Any, x: Array) -> Any:
        return lax.fori_loop(0, 3, lambda i, v: lax.reshape(lax.reshape(v, (72,)), v.shape) + 1, x)

    found = simplify_jaxpr(program(loop, 3, {"x": (S, F32)}).jaxpr)
    assert "reshape" not in set(primitives(found))


def test_weights_of_dead_code_leave_the_program() -> None:
    weights = {"dead": np.ones(6, F32), "used": np.ones(6, F32)}
    found = program(
        lambda w, x: (x * w["dead"][None, None], x + w["used"][None, None])[1],
        3,
        {"x": (S, F32)},
        weights,
    )
    after = simplify(found)
    assert after.weight_names == ("used",)
    assert after.input_names == ("x",)
