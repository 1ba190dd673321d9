"""Random numbers: with a state given by the program, or with one that lives in the executable."""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxrt.converters.lift.evaluator import rule
from jaxrt.converters.lift.module import Operation

_ALGORITHMS = {
    "DEFAULT": lax.RandomAlgorithm.RNG_DEFAULT,
    "THREE_FRY": lax.RandomAlgorithm.RNG_THREE_FRY,
    "PHILOX": lax.RandomAlgorithm.RNG_PHILOX,
}


def _numbers(op: Operation) -> str | None:
    kind, distribution = np.dtype(op.aval.dtype), op.attrs["rng_distribution"]
    if distribution == "UNIFORM" and kind != np.bool_ and kind.kind != "c":
        return None
    if distribution == "NORMAL" and jnp.issubdtype(kind, np.floating):
        return None
    return f"{distribution} of {kind}"


@rule("stablehlo.rng", "rng_distribution", check=_numbers)
def rng(op: Operation, a: Array, b: Array, _shape: Array) -> Array:
    """Uniform in [a, b), or normal of mean a and deviation b; another draw at every run.

    `rng_uniform` keeps its state in the XLA runtime: it is a primitive with no operand that
    varies, so whoever folds constants must leave it alone.
    """
    shape = op.aval.shape
    if op.attrs["rng_distribution"] == "UNIFORM":
        return _uniform(a, b, shape)
    kind = np.dtype(op.aval.dtype)
    wide = np.dtype(np.float64) if kind.itemsize == 8 else np.dtype(np.float32)
    one = np.ones((), wide)
    # erf_inv is finite only inside (-1, 1).
    unit = lax.rng_uniform(np.nextafter(-one, one, dtype=wide), one, shape)
    normal = lax.mul(lax.erf_inv(unit), lax.full(shape, np.sqrt(2.0), wide))
    mean, deviation = (lax.broadcast(x, shape) for x in (a, b))
    return lax.add(mean, lax.mul(deviation, lax.convert_element_type(normal, kind)))


def _uniform(a: Array, b: Array, shape: tuple[int, ...]) -> Array:
    kind = np.dtype(a.dtype)
    if kind.kind in "iu" and kind.itemsize < 4:
        # XLA:CPU aborts the process on narrower integers.
        wide = np.dtype(np.int32)
        a, b = (lax.convert_element_type(x, wide) for x in (a, b))
    drawn: Array = lax.rng_uniform(a, b, shape)
    return lax.convert_element_type(drawn, kind)


def _integers(op: Operation) -> str | None:
    state, output = op.avals
    if not np.issubdtype(output.dtype, np.integer):
        return f"of {output.dtype}: only bits of integer types are defined"
    if op.attrs["rng_algorithm"] == "THREE_FRY" and state.shape != (2,):
        return f"THREE_FRY with a state of {state.shape}: want ui64[2]"
    if state.dtype != np.uint64 or state.shape not in ((2,), (3,)):
        return f"with a state of {state.dtype}{list(state.shape)}: want ui64[2] or ui64[3]"
    return None


@rule("stablehlo.rng_bit_generator", "rng_algorithm", check=_integers)
def rng_bit_generator(op: Operation, state: Array) -> list[Array]:
    """(state, bits): a pure function of the state."""
    _, output = op.avals
    kind = np.dtype(output.dtype)
    unsigned = np.dtype(f"uint{kind.itemsize * 8}")
    if state.shape == (3,):
        after, bits = _philox_bits(state, output.shape, unsigned)
    else:
        algorithm = _ALGORITHMS[op.attrs["rng_algorithm"]]
        after, bits = lax.rng_bit_generator(state, output.shape, unsigned, algorithm)
    return [after, bits if kind == unsigned else lax.bitcast_convert_type(bits, kind)]


_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
"""Philox4x32-10: Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (SC 2011), table 2."""


def _philox_bits(
    state: Array, shape: tuple[int, ...], kind: np.dtype[np.unsignedinteger]
) -> tuple[Array, Array]:
    """State ui64[3] = key, low and high half of the counter; JAX's op takes no such state.

    As XLA does it: every 128-bit block gives four 32-bit or two 64-bit numbers, the narrower
    types are the low bits of 32, and the counter moves on by the blocks used.
    """
    size = int(np.prod(shape, dtype=np.int64))
    each = 2 if kind.itemsize == 8 else 4
    blocks = -(-size // each)
    key, low, high = (lax.index_in_dim(state, i, keepdims=False) for i in range(3))
    words = _philox(key, *_counters(low, high, blocks))
    if each == 2:
        columns = [_joined(words[0], words[1]), _joined(words[2], words[3])]
    else:
        columns = list(words)
    flat = lax.concatenate([lax.expand_dims(c, (1,)) for c in columns], 1)
    bits = lax.slice(lax.reshape(flat, (blocks * each,)), (0,), (size,))
    next_low = lax.add(low, np.uint64(blocks))
    carry = lax.convert_element_type(lax.lt(next_low, low), np.uint64)
    after = [lax.expand_dims(x, (0,)) for x in (key, next_low, lax.add(high, carry))]
    return lax.concatenate(after, 0), lax.convert_element_type(lax.reshape(bits, shape), kind)


def _counters(low: Array, high: Array, blocks: int) -> tuple[Array, Array]:
    start = lax.broadcast(low, (blocks,))
    lows = lax.add(start, lax.iota(np.uint64, blocks))
    carry = lax.convert_element_type(lax.lt(lows, start), np.uint64)
    return lows, lax.add(lax.broadcast(high, (blocks,)), carry)


def _philox(key: Array, low: Array, high: Array) -> tuple[Array, Array, Array, Array]:
    words = (*_halves(low), *_halves(high))
    keys = _halves(key)
    for _ in range(_ROUNDS):
        (low0, high0), (low1, high1) = (
            _halves(lax.mul(_wide(word), lax.full(word.shape, m, np.uint64)))
            for word, m in zip(words[::2], _MULTIPLIERS, strict=True)
        )
        words = (
            lax.bitwise_xor(lax.bitwise_xor(high1, words[1]), lax.broadcast(keys[0], low.shape)),
            low1,
            lax.bitwise_xor(lax.bitwise_xor(high0, words[3]), lax.broadcast(keys[1], low.shape)),
            low0,
        )
        keys = (lax.add(keys[0], np.uint32(_WEYL[0])), lax.add(keys[1], np.uint32(_WEYL[1])))
    return words


def _wide(x: Array) -> Array:
    return lax.convert_element_type(x, np.uint64)


def _halves(x: Array) -> tuple[Array, Array]:
    """ui64 → low and high ui32."""
    shifted = lax.shift_right_logical(x, lax.full(x.shape, 32, np.uint64))
    return lax.convert_element_type(x, np.uint32), lax.convert_element_type(shifted, np.uint32)


def _joined(low: Array, high: Array) -> Array:
    shifted = lax.shift_left(_wide(high), lax.full(high.shape, 32, np.uint64))
    return lax.bitwise_or(_wide(low), shifted)
