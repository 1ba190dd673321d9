"""TensorFlow functions with their answers and their StableHLO, written by a process of its own.

python tests/tensorflow_functions.py OUT    # OUT/NAME.hlo and OUT/NAME.npz

An archive holds inputs x0, x1, …, captures w0, …, and answers y0, ….
"""

import functools
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

Array = np.ndarray[Any, Any]
Case = tuple[Callable[..., Any], Sequence[Any]]


def build(out: Path) -> Path:
    """Lowers and runs all functions; returns `out`."""
    done = subprocess.run(
        [sys.executable, __file__, str(out)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def data(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def whole(*shape: int, low: int = 0, high: int = 5, seed: int = 1, kind: Any = np.int32) -> Array:
    return np.random.default_rng(seed).integers(low, high, shape).astype(kind)


def square(*batch: int) -> Array:
    return data(*batch, 4, 4) + 4 * np.eye(4, dtype=np.float32)


def symmetric(*batch: int) -> Array:
    a = data(*batch, 4, 4)
    return np.asarray(a @ np.swapaxes(a, -1, -2) + np.eye(4), np.float32)


def indexing(tf: Any) -> dict[str, Case]:
    def scatter(name: str) -> Callable[..., Any]:
        return lambda x, i, u: getattr(tf, f"tensor_scatter_nd_{name}")(x, i, u)

    def segment(name: str) -> Callable[..., Any]:
        return lambda x, i: getattr(tf.math, f"unsorted_segment_{name}")(x, i, 3)

    x, rows = data(4, 5, 6), whole(3, high=4)
    spread = (data(8, 2), np.array([[1], [5], [7]], np.int32), data(3, 2, seed=2))
    segments = (data(6, 5), np.array([0, 2, 1, 2, -1, 0], np.int32))
    return {
        "gather": (lambda x, i: tf.gather(x, i, axis=1), (x, rows)),
        "gather_batched": (
            lambda x, i: tf.gather(x, i, axis=2, batch_dims=1),
            (x, whole(4, 3, kind=np.int64)),
        ),
        "gather_nd": (lambda x, i: tf.gather_nd(x, i), (x, whole(7, 2, high=4))),
        "gather_nd_batched": (
            lambda x, i: tf.gather_nd(x, i, batch_dims=1),
            (x, whole(4, 3, 2, high=5)),
        ),
        "embedding": (
            lambda table, i: tf.nn.embedding_lookup(table, i),
            (data(9, 4), whole(2, 3, high=9, kind=np.int64)),
        ),
        "embedding_mean": (
            lambda table, i: tf.reduce_mean(
                tf.nn.embedding_lookup(table, tf.maximum(i, 0))
                * tf.cast(i >= 0, tf.float32)[..., None],
                1,
            ),
            (data(9, 4), whole(2, 3, low=-2, high=9)),
        ),
        "scatter_nd": (
            lambda i, u: tf.scatter_nd(i, u, (8, 2)),
            (np.array([[1], [5], [1]], np.int32), data(3, 2)),
        ),
        **{f"scatter_{n}": (scatter(n), spread) for n in ("update", "add", "sub", "min", "max")},
        **{f"segment_{n}": (segment(n), segments) for n in ("sum", "mean", "max", "min", "prod")},
        "strided": (lambda x: x[1:3, tf.newaxis, ..., ::-2], (x,)),
        "shrunk": (lambda x: x[-1, ..., 2], (x,)),
        "strided_by_data": (lambda x, i: x[i, 1], (x, np.int32(2))),
        "slice_by_data": (lambda x, i: tf.slice(x, [i, 0, 1], [2, 5, 3]), (x, np.int32(1))),
        "one_hot": (lambda i: tf.one_hot(i, 5), (whole(3, low=-1, high=6),)),
        "stitch": (lambda x: tf.dynamic_stitch([[0, 2], [1, 3]], [x[:2], x[2:]]), (x,)),
        "reverse_sequence": (
            lambda x, n: tf.reverse_sequence(x, n, seq_axis=1),
            (data(4, 5), whole(4, low=1, high=6)),
        ),
        "roll": (lambda x, k: tf.roll(x, k, 0), (data(6, 2), np.int32(-2))),
        "resize_bilinear": (lambda x: tf.image.resize(x, (6, 7)), (data(1, 4, 5, 3),)),
        "resize_nearest": (
            lambda x: tf.image.resize(x, (6, 7), method="nearest"),
            (data(1, 4, 5, 3),),
        ),
        "band_part": (lambda x: tf.linalg.band_part(x, 1, 2), (data(4, 5),)),
        "set_diag": (lambda x, d: tf.linalg.set_diag(x, d), (data(4, 4), data(4))),
    }


def sorting(tf: Any) -> dict[str, Case]:
    ties = whole(4, 9, high=4).astype(np.float32)
    special = np.array([[1, -np.inf, 0, np.inf, -1, 1, 2, -np.inf]], np.float32)

    def boxes() -> Array:
        corners = np.random.default_rng(5).uniform(0, 1, (1, 8, 4)).astype(np.float32)
        return np.concatenate(
            [np.sort(corners[..., ::2], -1), np.sort(corners[..., 1::2], -1)], -1
        )[..., [0, 2, 1, 3]]

    return {
        "top_k": (lambda x: tf.math.top_k(x, 3), (ties,)),
        "top_k_special": (lambda x: tf.math.top_k(x, 8), (special,)),
        "top_k_int": (lambda x: tf.math.top_k(x, 3), (whole(4, 9, low=-4, high=4),)),
        "top_k_bf16": (
            lambda x: tf.cast(tf.math.top_k(tf.cast(x, tf.bfloat16), 3)[0], tf.float32),
            (data(4, 9),),
        ),
        "in_top_k": (lambda x, i: tf.math.in_top_k(i, x, 2), (data(4, 7), whole(4, high=7))),
        "approx_top_k": (lambda x: tf.math.approx_max_k(x, 3), (data(4, 70),)),
        "sort": (lambda x: tf.sort(x), (ties,)),
        "sort_descending": (lambda x: tf.sort(x, direction="DESCENDING", axis=0), (ties,)),
        "argsort": (lambda x: tf.argsort(x, stable=True), (ties,)),
        "argsort_descending": (
            lambda x: tf.argsort(x, direction="DESCENDING", stable=True),
            (ties,),
        ),
        "searchsorted": (
            lambda x, y: tf.searchsorted(x, y, side="right"),
            (np.sort(ties, -1), ties[:, :3]),
        ),
        "median": (
            lambda x: tf.gather(tf.sort(x, -1), 4, axis=-1),
            (ties,),
        ),
        "suppression": (
            lambda b, s: tf.image.non_max_suppression_padded(
                b, s, 3, iou_threshold=0.3, pad_to_max_output_size=True
            ),
            (boxes(), np.random.default_rng(6).uniform(0, 1, (1, 8)).astype(np.float32)),
        ),
    }


def control_flow(tf: Any) -> dict[str, Case]:
    def arrays(x: Any) -> Any:
        found = tf.TensorArray(tf.float32, 5)
        for i in tf.range(5):
            found = found.write(i, x[i] * tf.cast(i, tf.float32))
        return found.stack()

    def decode(x: Any) -> Any:
        """Greedy decoding: a loop that ends by its data."""

        def goes_on(i: Any, token: Any, _out: Any) -> Any:
            return tf.logical_and(i < 8, token != 3)

        def step(i: Any, token: Any, out: Any) -> Any:
            new = tf.argmax(tf.gather(x, token), output_type=tf.int32)
            return i + 1, new, tf.tensor_scatter_nd_update(out, [[i]], [new])

        return tf.while_loop(goes_on, step, (0, tf.constant(0), tf.zeros(8, tf.int32)))

    def branches(i: Any, x: Any) -> Any:
        return tf.switch_case(i, [lambda: x, lambda: x + 1, lambda: x * 2])

    keras = tf.keras
    keras.utils.set_random_seed(1)
    return {
        "while": (
            lambda x: tf.while_loop(
                lambda i, _: i < 10, lambda i, a: (i + 1, a * 1.5), (tf.constant(0), x)
            ),
            (data(3),),
        ),
        "decode": (decode, (data(6, 6),)),
        "cond_true": (
            lambda x: tf.cond(tf.reduce_sum(x) > 0, lambda: x + 1, lambda: x * 2),
            (abs(data(3)),),
        ),
        "cond_false": (
            lambda x: tf.cond(tf.reduce_sum(x) > 0, lambda: x + 1, lambda: x * 2),
            (-abs(data(3)),),
        ),
        **{f"switch_{i}": (branches, (np.int32(i), data(3))) for i in (-1, 0, 2, 7)},
        "scan": (lambda x: tf.scan(lambda a, b: a * 0.5 + b, x), (data(5, 3),)),
        "map": (lambda x: tf.map_fn(lambda a: tf.reduce_sum(a) * a, x), (data(5, 3),)),
        "fold": (lambda x: tf.foldr(lambda a, b: a - b, x), (data(5, 3),)),
        "tensor_array": (arrays, (data(5, 3),)),
        "lstm": (keras.layers.LSTM(4, return_sequences=True), (data(2, 5, 3),)),
        "gru": (keras.layers.GRU(4, go_backwards=True), (data(2, 5, 3),)),
        "bidirectional": (
            keras.layers.Bidirectional(keras.layers.LSTM(3)),
            (data(2, 5, 3),),
        ),
        "rnn": (keras.layers.RNN(keras.layers.SimpleRNNCell(4)), (data(2, 5, 3),)),
        "masked_lstm": (
            keras.Sequential([keras.layers.Masking(input_shape=(5, 3)), keras.layers.LSTM(4)]),
            (data(2, 5, 3) * np.array([[1], [1], [1], [0], [0]], np.float32),),
        ),
        "cumulative": (lambda x: tf.cumsum(x, axis=1, exclusive=True, reverse=True), (data(4, 5),)),
        "cumulative_logsumexp": (lambda x: tf.math.cumulative_logsumexp(x), (data(4, 5),)),
        "betainc": (lambda x: tf.math.betainc(x, x + 1, x / 3), (abs(data(4)) + 0.1,)),
    }


def transforms(tf: Any) -> dict[str, Case]:
    wave = (data(3, 8) + 1j * data(3, 8, seed=2)).astype(np.complex64)
    field = (data(2, 8, 6) + 1j * data(2, 8, 6, seed=2)).astype(np.complex64)
    return {
        "fft": (lambda x: tf.signal.fft(x), (wave,)),
        "ifft2": (lambda x: tf.signal.ifft2d(x), (field,)),
        "fft3": (lambda x: tf.signal.fft3d(x), (field,)),
        "rfft": (lambda x: tf.signal.rfft(x, fft_length=[6]), (data(3, 8),)),
        "rfft3": (lambda x: tf.signal.rfft3d(x), (data(3, 4, 6),)),
        "irfft": (lambda x: tf.signal.irfft(x), (wave[:, :5],)),
        "stft": (lambda x: tf.abs(tf.signal.stft(x, 16, 8)), (data(2, 64),)),
        "istft": (
            lambda x: tf.signal.inverse_stft(tf.signal.stft(x, 16, 8), 16, 8),
            (data(2, 64),),
        ),
        "dct": (lambda x: tf.signal.dct(x), (data(2, 8),)),
        "mfcc": (
            lambda x: tf.signal.mfccs_from_log_mel_spectrograms(tf.math.log(x)),
            (abs(data(2, 5, 8)) + 0.1,),
        ),
    }


def linalg(tf: Any) -> dict[str, Case]:
    L = tf.linalg

    def qr(x: Any) -> Any:
        q, r = L.qr(x)
        return q @ r, tf.abs(r), L.matmul(q, q, transpose_a=True)

    def svd(x: Any) -> Any:
        s, u, v = L.svd(x)
        return s, L.matmul(u * s[..., None, :], v, transpose_b=True)

    def eigh(x: Any) -> Any:
        values, vectors = L.eigh(x)
        return values, L.matmul(vectors * values[..., None, :], vectors, transpose_b=True)

    bands = np.stack([data(4), data(4, seed=1) + 4, data(4, seed=2)]).astype(np.float32)
    return {
        "qr": (qr, (data(2, 5, 3),)),
        "qr_full": (lambda x: tf.abs(L.qr(x, full_matrices=True)[1]), (data(5, 3),)),
        "svd": (svd, (data(4, 3),)),
        "svd_wide": (svd, (data(2, 3, 4),)),
        "eigh": (eigh, (symmetric(2),)),
        "eigvalsh": (lambda x: L.eigvalsh(x), (symmetric(2),)),
        "logdet": (lambda x: L.logdet(x), (symmetric(),)),
        "solve": (lambda x, y: L.solve(x, y), (square(2), data(2, 4, 2))),
        "solve_adjoint": (lambda x, y: L.solve(x, y, adjoint=True), (square(), data(4, 2))),
        "cholesky": (lambda x: L.cholesky(x), (symmetric(2),)),
        "cholesky_solve": (
            lambda x, y: L.cholesky_solve(L.cholesky(x), y),
            (symmetric(), data(4, 2)),
        ),
        "solve_of_erf": (
            lambda x, y: L.solve(x, tf.math.erf(y)),
            (square(2), data(2, 4, 2)),
        ),
        "triangular_solve": (
            lambda x, y: L.triangular_solve(x, y, lower=False, adjoint=True),
            (square(2), data(2, 4, 3)),
        ),
        "inverse": (lambda x: L.inv(x), (square(),)),
        "pseudo_inverse": (lambda x: L.pinv(x), (data(4, 3),)),
        "expm": (lambda x: L.expm(x), (data(4, 4),)),
        "least_squares": (lambda x, y: L.lstsq(x, y), (data(5, 3), data(5, 2))),
        "tridiagonal_solve": (
            lambda x, y: L.tridiagonal_solve(x, y, partial_pivoting=False),
            (bands, data(4, 2)),
        ),
        "tridiagonal_product": (lambda x, y: L.tridiagonal_matmul(x, y), (bands, data(4, 2))),
    }


def stateless(tf: Any) -> dict[str, Case]:
    """Functions of their seed; TensorFlow's kernels and its lowering to XLA differ in it."""
    seed = (np.array([7, -3], np.int32),)
    return {
        "stateless_uniform": (lambda s: tf.random.stateless_uniform((3, 5), s), seed),
        "stateless_uniform_double": (
            lambda s: tf.random.stateless_uniform((3, 5), s, dtype=tf.float64),
            seed,
        ),
        "stateless_normal": (lambda s: tf.random.stateless_normal((7,), s), seed),
        "stateless_integers": (
            lambda s: tf.random.stateless_uniform((9,), s, minval=0, maxval=9, dtype=tf.int32),
            seed,
        ),
        "stateless_categorical": (
            lambda x: tf.random.stateless_categorical(x, 5, seed=[1, 2]),
            (data(3, 4),),
        ),
    }


def random(tf: Any) -> dict[str, Case]:
    """Their answers differ from run to run: the test looks at what they have in common."""
    x = np.ones((200, 10), np.float32)
    return {
        "random_uniform": (lambda x: tf.random.uniform((200, 10)) + 0 * x, (x,)),
        "random_integers": (
            lambda x: tf.random.uniform((200, 10), maxval=10, dtype=tf.int32),
            (x,),
        ),
        "random_normal": (lambda x: tf.random.normal((200, 10)) + 0 * x, (x,)),
        "random_truncated": (lambda x: tf.random.truncated_normal((200, 10)) + 0 * x, (x,)),
        "random_dropout": (lambda x: tf.nn.dropout(x, 0.25), (x,)),
        "random_categorical": (lambda x: tf.random.categorical(x, 7), (x,)),
        "random_shuffle": (lambda x: tf.random.shuffle(tf.cumsum(x)), (x,)),
    }


def refused(tf: Any) -> dict[str, Case]:
    """Their shapes depend on data."""
    x = data(4, 5)
    return {
        "refused_where": (lambda x: tf.where(x > 0), (x,)),
        "refused_unique": (lambda x: tf.unique(x)[0], (whole(4),)),
        "refused_mask": (lambda x: tf.boolean_mask(x, x > 0), (x,)),
        "refused_mask_inside": (lambda x: tf.reduce_sum(tf.boolean_mask(x, x > 0)), (x,)),
        "refused_partition": (lambda x, i: tf.dynamic_partition(x, i, 2), (x, whole(4, high=2))),
        "refused_slice": (lambda x, n: x[:n], (x, np.int32(2))),
    }


GROUPS = (indexing, sorting, control_flow, transforms, linalg, stateless, random, refused)


def names(*groups: Callable[[Any], dict[str, Case]]) -> list[str]:
    """Needs no TensorFlow: nothing is called before the cases run."""
    return [name for group in groups for name in group(mock.MagicMock())]


def main(out: Path) -> None:
    import tensorflow as tf
    from tensorflow.python.eager.polymorphic_function import compiler_ir

    from jaxrt.converters import portable

    by_xla = stateless(tf)
    for name, (function, inputs) in {k: v for g in GROUPS for k, v in g(tf).items()}.items():
        specs = [tf.TensorSpec(np.shape(x), np.asarray(x).dtype) for x in inputs]
        compiled = tf.function(function, jit_compile=True if name in by_xla else None)
        concrete = compiled.get_concrete_function(*specs)
        answers = tf.nest.flatten(concrete(*map(tf.constant, inputs)))
        arrays = {f"x{i}": np.asarray(x) for i, x in enumerate(inputs)}
        arrays |= {f"y{i}": y.numpy() for i, y in enumerate(answers)}
        variables = {id(v.handle): v for v in concrete.variables}
        captures = [variables.get(id(w), w) for w in concrete.captured_inputs]
        arrays |= {f"w{i}": w.numpy() for i, w in enumerate(captures)}
        lower = compiler_ir.from_concrete_function(concrete, specs)
        try:
            found = lower(stage="stablehlo_serialized", platform_name="CPU")
        except Exception as error:
            raise RuntimeError(f"{name}: {error}") from error
        as_text = functools.partial(lower, stage="stablehlo", platform_name="CPU")
        artifact = portable.artifact(found, as_text)
        (out / f"{name}.hlo").write_bytes(artifact)
        np.savez(out / f"{name}.npz", allow_pickle=False, **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
