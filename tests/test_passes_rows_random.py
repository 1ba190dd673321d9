"""Random programs: whatever the row proof accepts keeps its rows apart when it runs."""

import random
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jax import Array, lax
from programs import mixes_rows, program

from jaxrt.passes import rows

F32 = np.float32
Choice = random.Random
LIMIT = 500
"""Elements of a value: larger ones only cost time."""


def axis_of(x: Array, choose: Choice) -> int:
    return choose.randrange(x.ndim)


def reverse(x: Array, choose: Choice) -> Array:
    return lax.rev(x, (axis_of(x, choose),))


def permute(x: Array, choose: Choice) -> Array:
    return lax.transpose(x, choose.sample(range(x.ndim), x.ndim))


def regroup(x: Array, choose: Choice) -> Array:
    shape, rest = [], x.size
    for _ in range(choose.randrange(4)):
        shape.append(choose.choice([n for n in range(1, rest + 1) if rest % n == 0]))
        rest //= shape[-1]
    return lax.reshape(x, (*shape, rest))


def totals(x: Array, choose: Choice) -> Array:
    return lax.cumsum(x, axis_of(x, choose))


def sort(x: Array, choose: Choice) -> Array:
    return lax.sort(x, dimension=axis_of(x, choose))


def positions(x: Array, choose: Choice) -> Array:
    return x * (1 + lax.broadcasted_iota(x.dtype, x.shape, axis_of(x, choose)))


def normalise(x: Array, choose: Choice) -> Array:
    return jax.nn.softmax(x, axis=axis_of(x, choose))


def double(x: Array, choose: Choice) -> Array:
    return lax.concatenate([x, x * 0.5], axis_of(x, choose))


def part(x: Array, choose: Choice) -> Array:
    at = axis_of(x, choose)
    start = choose.randrange(x.shape[at])
    return lax.slice_in_dim(x, start, choose.randrange(start, x.shape[at]) + 1, axis=at)


def project(x: Array, choose: Choice) -> Array:
    at = axis_of(x, choose)
    kernel = np.linspace(-1, 1, x.shape[at] * 3, dtype=F32).reshape(x.shape[at], 3)
    return lax.dot_general(x, kernel, (((at,), (0,)), ((), ())))


def reduce(x: Array, choose: Choice) -> Array:
    return jnp.sum(x, axis=axis_of(x, choose))


def widen(x: Array, choose: Choice) -> Array:
    at = choose.randrange(x.ndim + 1)
    shape = (*x.shape[:at], 2, *x.shape[at:])
    return lax.broadcast_in_dim(x, shape, [i for i in range(x.ndim + 1) if i != at])


def own_rows(x: Array, choose: Choice) -> Array:
    if x.ndim == 1:
        return x[jnp.arange(x.shape[0])]
    at = lax.argmax(x.reshape(x.shape[0], -1), 1, np.int32) % x.shape[1]
    return x[jnp.arange(x.shape[0]), at]


def write_own_rows(x: Array, choose: Choice) -> Array:
    if x.ndim == 1:
        return x
    at = lax.argmax(x.reshape(x.shape[0], -1), 1, np.int32) % x.shape[1]
    return (x * 0.5).at[jnp.arange(x.shape[0]), at].add(x[:, 0])


def picked(x: Array, choose: Choice) -> Array:
    at = axis_of(x, choose)
    index = jnp.clip(x.astype(np.int32).reshape(-1)[:3], 0, x.shape[at] - 1)
    return jnp.take(x, index, axis=at)


def looked_up(x: Array, choose: Choice) -> Array:
    table = jnp.linspace(0, 1, 20, dtype=F32).reshape(10, 2)
    return table[jnp.clip(jnp.abs(x * 3).astype(np.int32), 0, 9)]


def scanned(x: Array, choose: Choice) -> Array:
    carry, out = lax.scan(lambda c, v: (c + v, c * v), jnp.ones(x.shape[1:], x.dtype), x)
    return choose.choice([carry, out])


def windowed(x: Array, choose: Choice) -> Any:
    at = axis_of(x, choose)
    window = [2 if i == at else 1 for i in range(x.ndim)]
    return lax.reduce_window(x, jnp.float32(0), lax.add, window, [1] * x.ndim, "SAME")


def updated(x: Array, choose: Choice) -> Array:
    at = axis_of(x, choose)
    piece = lax.slice_in_dim(x, 0, max(1, x.shape[at] - 1), axis=at) * 2
    return lax.dynamic_update_slice_in_dim(x, piece, choose.randrange(2), at)


STEPS: list[Callable[[Array, Choice], Array]] = [
    reverse, permute, permute, regroup, regroup, totals, sort, positions, normalise, double, part,
    project, reduce, widen, own_rows, write_own_rows, picked, looked_up, scanned, windowed, updated,
]  # fmt: skip


def composed(seed: int, count: int) -> Callable[[Any, Array], Array]:
    """`count` random steps, then back to one row per batch entry where the size allows."""

    def function(w: Any, x: Array) -> Array:
        choose = random.Random(seed)
        y = x
        for _ in range(count):
            found = choose.choice(STEPS)(y, choose)
            if 0 < found.size <= LIMIT and 0 < found.ndim <= 6:
                y = found + y if found.shape == y.shape and choose.random() < 0.3 else found
        return y.reshape(x.shape[0], -1) if y.size % x.shape[0] == 0 else y

    return function


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 10**9),
    count=st.integers(1, 6),
    batch=st.integers(2, 4),
    row=st.lists(st.integers(2, 4), min_size=1, max_size=3),
)
def test_rows_of_an_accepted_program_do_not_mix(
    seed: int, count: int, batch: int, row: list[int]
) -> None:
    inputs = {"x": (tuple(row), F32)}
    found = program(composed(seed, count), batch, inputs)
    if rows.prove(found, batch).independent:
        assert mixes_rows(found, (), inputs) is None
