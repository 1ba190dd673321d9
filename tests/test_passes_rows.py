"""The row proof: what may share a batch, what may not, and that the proven do not mix rows."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array, lax
from programs import Spec, mixes_rows, program, rows_of, run

from jaxrt.passes import rows
from jaxrt.program import Program

F32 = np.float32
I32 = np.int32
SIZES = (1, 5, 8)
Weights = Mapping[str, Array]


def weight(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(F32)


def verdict(
    function: Callable[..., Any],
    inputs: Mapping[str, Spec],
    weights: Mapping[str, Any] | None = None,
    sizes: tuple[int, ...] = SIZES,
) -> rows.RowsVerdict:
    return rows.verdict({b: program(function, b, inputs, weights) for b in sizes})


def one(*shape: int, dtype: Any = F32) -> dict[str, Spec]:
    return {"x": (shape, dtype)}


# --- What must be refused ---------------------------------------------------------------------


def batch_statistics(w: Weights, x: Array) -> Array:
    mean = jnp.mean(x, axis=0, keepdims=True)
    return (x - mean) / jnp.sqrt(jnp.mean((x - mean) ** 2, axis=0, keepdims=True) + 1e-3)


def decode_until_all_done(w: Weights, x: Array) -> Array:
    def going(state: tuple[Array, Array]) -> Array:
        return (state[0] < 9) & ~jnp.all(state[1] > 3.0)

    return lax.while_loop(going, lambda s: (s[0] + 1, s[1] * 1.5), (jnp.int32(0), x))[1]


def stays_while_any(w: Weights, x: Array) -> Array:
    return lax.while_loop(lambda c: jnp.sum(c) < 100.0, lambda c: c + 1.0, x)


def running_total(w: Weights, x: Array) -> Array:
    return lax.scan(lambda c, row: (c + row, c + row), jnp.zeros(x.shape[1:], x.dtype), x)[1]


def branch_on_the_first_row(w: Weights, x: Array) -> Any:
    return lax.cond(x[0, 0] > 0, lambda v: v, lambda v: -v, x)


def shuffled_reshape(w: Weights, x: Array) -> Array:
    return jnp.reshape(jnp.transpose(x), x.shape)


def neighbours(w: Weights, x: Array) -> Array:
    return x + jnp.roll(x, 1, axis=0)


def pooled_over_rows(w: Weights, x: Array) -> Any:
    return lax.reduce_window(x, -np.float32(np.inf), lax.max, (2, 1), (1, 1), "SAME")


def numbers_off_by_one(w: Weights, x: Array) -> Array:
    n = x.shape[0]
    return x[jnp.minimum(jnp.arange(n) + 1, n - 1)]


def scattered_to_other_rows(w: Weights, x: Array) -> Array:
    return jnp.zeros_like(x).at[jnp.arange(x.shape[0])[::-1]].set(x)


def scattered_by_data(w: Weights, x: Array) -> Array:
    at = jnp.clip(x[:, 0].astype(I32), 0, x.shape[0] - 1)
    return jnp.zeros_like(x).at[at].add(x)


def gathered_by_data(w: Weights, x: Array) -> Array:
    return x[jnp.clip(x[:, 0].astype(I32), 0, x.shape[0] - 1)]


def convolved_over_rows(w: Weights, x: Array) -> Array:
    kernel = jnp.ones((3, 1, 1), F32)
    columns = jnp.transpose(x)[:, :, None]
    out = lax.conv_general_dilated(
        columns, kernel, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
    )
    return jnp.transpose(out[:, :, 0])


def first_rows_masked(w: Weights, x: Array) -> Array:
    return jnp.where(jnp.arange(x.shape[0])[:, None] < 2, x, 0.0)


def noise(w: Weights, x: Array) -> Array:
    return x + jax.random.uniform(jax.random.key(0), x.shape, F32)


def weight_of_batch_size(w: Weights, x: Array) -> Array:
    return x + w["w"][: x.shape[0]]


REFUSED: dict[str, tuple[Callable[..., Any], str]] = {
    "a scalar": (lambda w, x: jnp.sum(x), "output 'y0': `reduce_sum"),
    "a total added to each row": (lambda w, x: x + jnp.sum(x), "reduces over the rows"),
    "softmax over the batch": (lambda w, x: jax.nn.softmax(x, axis=0), "reduces over the rows"),
    "batch statistics": (batch_statistics, "reduces over the rows"),
    "the batch twice": (lambda w, x: jnp.concatenate([x, x]), "want rows on axis 0"),
    "half of the batch": (lambda w, x: x[: x.shape[0] // 2 + 1], "cuts the axis of the rows"),
    "the batch twice, every second row": (lambda w, x: jnp.repeat(x, 2, axis=0)[::2], "rows"),
    "positions added": (
        lambda w, x: x + jnp.arange(x.shape[0], dtype=F32)[:, None],
        "depends on the position in the batch",
    ),
    "positions alone": (
        lambda w, x: jnp.arange(x.shape[0], dtype=F32)[:, None] * 1.0,
        "depends on no input and changes along axis 0",
    ),
    "first rows masked": (first_rows_masked, "depends on the position in the batch"),
    "a running total": (lambda w, x: jnp.cumsum(x, axis=0), "accumulates over the rows"),
    "a scan over rows": (running_total, "walks over the rows"),
    "rows in reverse": (lambda w, x: jnp.flip(x, axis=0), "the axis of the rows"),
    "rolled rows": (neighbours, "rows"),
    "greedy decoding until all are done": (decode_until_all_done, "decides how often a loop runs"),
    "a loop until the sum is large": (stays_while_any, "decides how often a loop runs"),
    "a branch on the first row": (branch_on_the_first_row, "the axis of the rows"),
    "the largest rows": (lambda w, x: lax.top_k(x.T, 5)[0].T[: x.shape[0]], "picks the largest"),
    "rows sorted": (lambda w, x: jnp.sort(x, axis=0), "sorts the rows"),
    "the row of the maximum": (lambda w, x: jnp.argmax(x, axis=0), "reduces over the rows"),
    "transposed and reshaped": (shuffled_reshape, "the axis of the rows"),
    "the transpose": (lambda w, x: jnp.transpose(x), "want rows on axis 0"),
    "rows against rows": (lambda w, x: x @ x.T, "pairs every row with every other"),
    "rows against rows, summed": (lambda w, x: x @ (x.T @ x), "sums over the rows"),
    "the first row for all": (
        lambda w, x: x[jnp.zeros(x.shape[0], I32)],
        "not their own number",
    ),
    "the next row": (numbers_off_by_one, "not their own number"),
    "rows chosen by data": (gathered_by_data, "not their own number"),
    "rows written in reverse": (scattered_to_other_rows, "rows"),
    "rows written by data": (scattered_by_data, "not their own number"),
    "pooling over rows": (pooled_over_rows, "takes windows over the rows"),
    "convolution over rows": (convolved_over_rows, "convolves over the rows"),
    "a random draw": (noise, "is random"),
    "a row padded on top": (
        lambda w, x: jnp.pad(x, ((1, 0), (0, 0)))[: x.shape[0]],
        "pads the axis of the rows",
    ),
    "the Fourier transform of columns": (
        lambda w, x: jnp.abs(jnp.fft.fft(x, axis=0)).astype(F32),
        "mixes the axis of the rows",
    ),
    "an update of one row": (
        lambda w, x: lax.dynamic_update_slice(x, x[:1], (0, 0)),
        "rows",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_rows_that_meet_are_refused_with_the_reason(case: str) -> None:
    function, reason = REFUSED[case]
    found = verdict(function, one(6), sizes=(5, 8))
    assert not found.independent
    assert reason in found.reason


@pytest.mark.parametrize("case", REFUSED)
def test_a_dimension_that_equals_the_batch_does_not_hide_a_mixture(case: str) -> None:
    found = rows.prove(program(REFUSED[case][0], 6, one(6)), 6)
    assert not found.independent


def test_a_weight_as_long_as_the_batch_is_not_taken_for_rows() -> None:
    found = rows.prove(program(weight_of_batch_size, 5, one(6), {"w": weight(9, 6)}), 5)
    assert "depends on the position in the batch" in found.reason


def test_noise_drawn_per_run_says_nothing_of_other_rows() -> None:
    def dropout(w: Weights, x: Array) -> Array:
        kept = lax.rng_uniform(np.float32(0), np.float32(1), x.shape) < 0.5
        return jnp.where(kept, x, np.float32(0))

    programs = {n: program(dropout, n, one(6)) for n in (1, 5, 8)}
    assert rows.verdict(programs).independent


def test_an_input_without_rows_is_named() -> None:
    found = program(lambda w, x: x * 2.0, 5, one(6))
    assert rows.prove(found, 4).reason == ("input 'x' has shape [5, 6], want rows on axis 0 of 4")


# --- What must be proven ----------------------------------------------------------------------


def conv(x: Array, k: Array, stride: int = 1, groups: int = 1, dilation: int = 1) -> Array:
    return lax.conv_general_dilated(
        x,
        k,
        (stride, stride),
        "SAME",
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def mlp(w: Weights, x: Array) -> Array:
    return jax.nn.softmax(jnp.tanh(x @ w["w"] + w["b"][None]))


def convnet(w: Weights, x: Array) -> tuple[Array, Array]:
    y = jax.nn.relu(conv(x, w["k"], 2))
    scale = w["g"] * lax.rsqrt(w["v"] + 1e-3)
    y = y * scale[None, None, None] + (w["b"] - w["m"] * scale)[None, None, None]
    y = conv(y, w["d"], groups=4)
    pooled = lax.reduce_window(y, -np.float32(np.inf), lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "SAME")
    return jnp.mean(pooled, axis=(1, 2)), jnp.argmax(jnp.sum(y, axis=(1, 2)), axis=-1)


def transposed_convolution(w: Weights, x: Array) -> Array:
    return lax.conv_transpose(x, w["k"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def space_to_batch(w: Weights, x: Array) -> Array:
    b, h, n, c = x.shape
    y = jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    y = y.reshape(b, (h + 4) // 2, 2, (n + 4) // 2, 2, c)
    y = jnp.transpose(y, (2, 4, 0, 1, 3, 5)).reshape(4 * b, (h + 4) // 2, (n + 4) // 2, c)
    y = lax.conv_general_dilated(
        y, w["k"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    y = y.reshape(2, 2, b, y.shape[1], y.shape[2], y.shape[3])
    y = jnp.transpose(y, (2, 3, 0, 4, 1, 5))
    return y.reshape(b, y.shape[1] * 2, y.shape[3] * 2, y.shape[5])[:, :h, :n]


def layer_norm(x: Array, g: Array, b: Array) -> Array:
    # As TensorFlow writes it: statistics over [1, B*T, H] merged.
    flat = x.reshape(1, -1, x.shape[-1])
    mean = jnp.mean(flat, axis=-1, keepdims=True)
    flat = (flat - mean) * lax.rsqrt(jnp.mean((flat - mean) ** 2, axis=-1, keepdims=True) + 1e-6)
    return flat.reshape(x.shape) * g[None, None] + b[None, None]


def attention(w: Weights, ids: Array, mask: Array) -> tuple[Array, Array]:
    b, t = ids.shape
    positions = jnp.broadcast_to(jnp.arange(t, dtype=I32)[None], (b, t))
    x = w["tokens"][ids] + w["positions"][positions]
    x = layer_norm(x, w["g"], w["b"])
    heads = [(x.reshape(b * t, 8) @ w[n]).reshape(b, t, 2, 4).transpose(0, 2, 1, 3) for n in "qkv"]
    q, k, v = heads
    scores = jnp.einsum("bhqd,bhkd->bhqk", q, k)
    ones = jnp.ones((b, t, 1), F32)
    seen = ones * mask.reshape(b, 1, t).astype(F32)
    scores = scores + (1.0 - seen[:, None]) * -1e4
    y = jnp.einsum("bhqk,bhkd->bhqd", jax.nn.softmax(scores), v)
    y = y.transpose(0, 2, 1, 3).reshape(b * t, 8) @ w["o"]
    y = y.reshape(b, t, 8) + x
    return y, jnp.tanh(y[:, 0] @ w["o"])


def lstm_scan(w: Weights, x: Array) -> tuple[Array, Array]:
    def step(state: tuple[Array, Array], row: Array) -> tuple[tuple[Array, Array], Array]:
        h, c = state
        gates = jnp.concatenate([row, h], axis=1) @ w["w"]
        i, f, o, g = jnp.split(gates, 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zero = jnp.zeros((x.shape[0], 4), F32)
    (h, _), hs = lax.scan(step, (zero, zero), jnp.transpose(x, (1, 0, 2)))
    return h, jnp.transpose(hs, (1, 0, 2))


def while_time_major(w: Weights, x: Array) -> Array:
    major = jnp.transpose(x, (1, 0, 2))

    def body(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        t, h, out = state
        row = lax.dynamic_slice_in_dim(major, t, 1, 0)[0]
        h = jnp.tanh(jnp.concatenate([row, h], axis=1) @ w["w"][:, :4])
        return t + 1, h, lax.dynamic_update_slice(out, h[None], (t, jnp.int32(0), jnp.int32(0)))

    start = (
        jnp.int32(0),
        jnp.zeros((x.shape[0], 4), F32),
        jnp.zeros((x.shape[1], x.shape[0], 4), F32),
    )
    out = lax.while_loop(lambda s: s[0] < x.shape[1], body, start)[2]
    return jnp.transpose(out, (1, 0, 2))


def convolutional_memory(w: Weights, x: Array) -> Any:
    """[B, T, H, W, C]: the state starts as zeros, the same for every row."""
    major = jnp.transpose(x, (1, 0, 2, 3, 4))

    def body(t: Array, state: Array) -> Array:
        frame = lax.dynamic_index_in_dim(major, t, 0, keepdims=False)
        return jnp.tanh(conv(frame, w["k"]) + conv(state, w["r"]))

    return lax.fori_loop(0, x.shape[1], body, jnp.zeros((*x.shape[:1], 4, 4, 2), F32))


def own_rows(w: Weights, x: Array, at: Array) -> tuple[Array, Array, Array]:
    n = x.shape[0]
    picked = x[jnp.arange(n), at[:, 0]]
    batched = jax.vmap(lambda row, i: row[i])(x, at)
    nested = x[jnp.arange(n)[:, None], at]
    return picked, batched, nested


def written_to_own_rows(w: Weights, x: Array, at: Array) -> tuple[Array, Array]:
    n = x.shape[0]
    once = jnp.zeros((n, 4), F32).at[jnp.arange(n), at[:, 0]].set(x[:, 0, 0])
    return once, x.at[jnp.arange(n), at[:, 1]].add(1.0)


def flags_by_row(w: Weights, x: Array) -> Any:
    return lax.cond(w["flag"] > 0, lambda v: jnp.maximum(v, 0.0), lambda v: -v, x)


def pairs_through_one_tower(w: Weights, x: Array, y: Array) -> Array:
    both = jnp.tanh(jnp.concatenate([x, y]) @ w["w"])
    a, b = both[: x.shape[0]], both[x.shape[0] :]
    return jnp.sum(a * b, axis=1, keepdims=True)


def interactions(w: Weights, x: Array) -> Array:
    products = jnp.einsum("bij,bkj->bik", x, x)
    flat = products.reshape(x.shape[0], -1)
    return flat[:, np.array([1, 2, 5])]


def factored(w: Weights, x: Array) -> tuple[Array, Array]:
    square = jnp.einsum("bij,bkj->bik", x, x) + 4.0 * jnp.eye(x.shape[1], dtype=F32)[None]
    lower = lax.linalg.cholesky(square)
    solved = lax.linalg.triangular_solve(lower, x, left_side=True, lower=True)
    return solved, jnp.abs(jnp.fft.rfft(x)).astype(F32)


def own_number_in_bounds(w: Weights, x: Array, at: Array) -> Array:
    n = x.shape[0]
    count = jnp.arange(n, dtype=I32)
    count = jnp.where(count < 0, count + n, count)
    count = lax.clamp(jnp.int32(0), count, jnp.int32(n - 1))
    index = jnp.stack([count, at[:, 0]], axis=1)
    numbers = lax.GatherDimensionNumbers(
        offset_dims=(1,), collapsed_slice_dims=(0, 1), start_index_map=(0, 1)
    )
    return lax.gather(x, index, numbers, (1, 1, x.shape[2]), mode="clip")


CONV = {
    "k": weight(3, 3, 3, 4),
    "d": weight(3, 3, 1, 4),
    **{n: np.abs(weight(4)) for n in "gvbm"},
}
BERT = {
    "tokens": weight(4, 8),
    "positions": weight(7, 8),
    **{n: weight(8) for n in "gb"},
    **{n: weight(8, 8) for n in "qkvo"},
}
IMAGE = one(8, 8, 3)
SERIES = one(3, 5)
PICKS: dict[str, Spec] = {"x": ((4, 3), F32), "at": ((2,), I32)}

PROVEN: dict[str, tuple[Callable[..., Any], Mapping[str, Spec], Mapping[str, Any]]] = {
    "an MLP": (mlp, one(6), {"w": weight(6, 4), "b": weight(4)}),
    "a convolutional net": (convnet, IMAGE, CONV),
    "a transposed convolution": (transposed_convolution, IMAGE, {"k": weight(3, 3, 3, 2)}),
    "a dilated convolution": (
        lambda w, x: conv(x, w["k"], dilation=2),
        IMAGE,
        {"k": weight(3, 3, 3, 2)},
    ),
    "space to batch and back": (space_to_batch, IMAGE, {"k": weight(3, 3, 3, 2)}),
    "attention": (attention, {"ids": ((6,), I32), "mask": ((6,), I32)}, BERT),
    "attention over as many tokens as rows": (
        attention,
        {"ids": ((5,), I32), "mask": ((5,), I32)},
        BERT,
    ),
    "an LSTM by scan": (lstm_scan, SERIES, {"w": weight(9, 16)}),
    "a loop over time": (while_time_major, SERIES, {"w": weight(9, 16)}),
    "a loop of convolutions": (
        convolutional_memory,
        one(3, 4, 4, 3),
        {"k": weight(3, 3, 3, 2), "r": weight(3, 3, 2, 2)},
    ),
    "gathers of the own row": (own_rows, PICKS, {}),
    "a gather of the own row by a clamped index": (own_number_in_bounds, PICKS, {}),
    "scatters to the own row": (written_to_own_rows, PICKS, {}),
    "the largest of each row": (lambda w, x: lax.top_k(x, 3), one(6), {}),
    "each row sorted": (lambda w, x: jnp.sort(x, axis=1), one(6), {}),
    "each row in its own order": (lambda w, x: jnp.argsort(x, axis=1), one(6), {}),
    "one-hot": (lambda w, x: jax.nn.one_hot(x, 4, dtype=F32), one(3, dtype=I32), {}),
    "an embedding": (
        lambda w, x: jnp.sum(w["e"][x], axis=1),
        one(3, dtype=I32),
        {"e": weight(4, 5)},
    ),
    "a branch on a weight": (flags_by_row, one(6), {"flag": np.asarray(1.0, F32)}),
    "two inputs through one tower": (
        pairs_through_one_tower,
        {"x": ((6,), F32), "y": ((6,), F32)},
        {"w": weight(6, 4)},
    ),
    "pairwise products": (interactions, one(3, 4), {}),
    "factorizations and transforms": (factored, one(3, 3), {}),
    "totals along a row": (lambda w, x: jnp.cumsum(x, axis=1), one(6), {}),
    "a row in reverse": (lambda w, x: jnp.flip(x, axis=1), one(6), {}),
    "the same answer for all": (lambda w, x: (x, jnp.ones((x.shape[0], 2), F32)), one(6), {}),
    "a rank-1 input": (lambda w, x: x * 0.5 + 2.0, one(), {}),
}


@pytest.mark.parametrize("case", PROVEN)
def test_models_whose_rows_are_independent_are_proven(case: str) -> None:
    function, inputs, weights = PROVEN[case]
    found = verdict(function, inputs, weights)
    assert found == rows.RowsVerdict(independent=True, reason="proven at batch sizes [1, 5, 8]")


@pytest.mark.parametrize("case", PROVEN)
def test_a_proven_row_does_not_change_with_the_others_or_its_place(case: str) -> None:
    function, inputs, weights = PROVEN[case]
    found = program(function, 5, inputs, weights)
    assert mixes_rows(found, list(weights.values()), inputs) is None


@pytest.mark.parametrize("case", PROVEN)
def test_a_proven_row_is_the_same_at_another_batch_size(case: str) -> None:
    function, inputs, weights = PROVEN[case]
    data = rows_of(inputs, 8)
    large = run(program(function, 8, inputs, weights).jaxpr, [*weights.values(), *data])
    small = run(
        program(function, 3, inputs, weights).jaxpr, [*weights.values(), *(d[:3] for d in data)]
    )
    for a, b in zip(large, small, strict=True):
        np.testing.assert_allclose(a[:3], b, rtol=1e-5, atol=1e-5)


# --- What the batch size may do ---------------------------------------------------------------


def switch_on_the_batch_size(w: Weights, x: Array) -> Array:
    return [lambda: x, lambda: x * 2.0, lambda: jnp.cumsum(x, axis=1)][x.shape[0] % 3]()


FUNCTIONS_OF_THE_SIZE: dict[str, tuple[Callable[..., Any], str]] = {
    "a switch on the size": (switch_on_the_batch_size, "differs between batch 7 and 8"),
    "a division by the size": (lambda w, x: x / x.shape[0], "a constant differs: 7.0 vs 8.0"),
    "a sum of ones": (
        lambda w, x: x * jnp.sum(jnp.ones(x.shape[0], F32)),
        "axis 0 of operand 0 of `reduce_sum",
    ),
    "a count of rows": (
        lambda w, x: x * jnp.sum(jnp.arange(x.shape[0], dtype=F32)),
        "axis 0 of operand 0 of `reduce_sum",
    ),
    "a product of ones": (
        lambda w, x: x * (jnp.ones(x.shape[0], F32) @ jnp.ones(x.shape[0], F32)),
        "of `dot_general",
    ),
    "the last position": (
        lambda w, x: x * jnp.arange(x.shape[0], dtype=F32)[-1],
        "differs between batch 7 and 8",
    ),
    "as many steps as rows": (
        lambda w, x: lax.fori_loop(0, x.shape[0], lambda i, v: v * 1.5, x),
        "differs between batch 7 and 8",
    ),
    "as many columns as rows": (
        lambda w, x: jnp.concatenate([x, jnp.zeros((x.shape[0], x.shape[0]), F32)], axis=1),
        "differs between batch 7 and 8",
    ),
}


@pytest.mark.parametrize("case", FUNCTIONS_OF_THE_SIZE)
def test_a_function_of_the_batch_size_is_proven_at_each_and_refused_over_two(case: str) -> None:
    function, reason = FUNCTIONS_OF_THE_SIZE[case]
    for batch in (7, 8):
        assert rows.prove(program(function, batch, one(6)), batch).independent
    found = verdict(function, one(6), sizes=(7, 8))
    assert not found.independent
    for part in reason.split(": "):
        assert part in found.reason


@pytest.mark.parametrize("case", FUNCTIONS_OF_THE_SIZE)
def test_a_function_of_the_batch_size_is_refused_against_a_batch_of_one(case: str) -> None:
    assert not verdict(FUNCTIONS_OF_THE_SIZE[case][0], one(6), sizes=(1, 8)).independent


def test_one_batch_size_says_nothing_about_others() -> None:
    assert verdict(mlp, one(6), {"w": weight(6, 4), "b": weight(4)}, sizes=(8,)).reason == (
        "lifted at batch sizes [8] only, want two or more to compare"
    )


def test_a_shared_input_has_no_rows_and_may_scale_them() -> None:
    programs = {
        batch: Program(
            signature="test",
            jaxpr=jax.make_jaxpr(lambda keep, x: keep * x)(
                jax.ShapeDtypeStruct((), F32), jax.ShapeDtypeStruct((batch,), F32)
            ),
            weight_names=(),
            input_names=("keep", "x"),
            output_names=("y",),
        )
        for batch in (5, 8)
    }
    assert rows.verdict(programs, frozenset({"keep"})).independent
    assert "input 'keep' has shape []" in rows.verdict(programs).reason


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [
        ({1}, 2),
        ({8}, 7),
        ({1, 8, 32}, 7),
        ({2}, 3),
        ({1, 2}, 5),
        ({4, 5}, 7),
        ({3}, 4),
        ({1, 3}, 4),
    ],
)
def test_the_witness_makes_two_batch_sizes_neighbours(sizes: set[int], wanted: int) -> None:
    assert rows.witness(sizes) == wanted


@pytest.mark.parametrize("modulus", [2, 3, 4, 5, 6, 7])
@pytest.mark.parametrize("bucket", [1, 2, 3, 8, 32])
def test_no_remainder_of_the_batch_size_hides_from_the_witness(bucket: int, modulus: int) -> None:
    found = verdict(
        lambda w, x: x * float(x.shape[0] % modulus + 1),
        one(6),
        sizes=(bucket, rows.witness({bucket})),
    )
    assert "a constant differs" in found.reason
