"""SipHash-2-4 (https://www.aumasson.jp/siphash/siphash.pdf), TensorFlow's strong hash."""

import functools

_MASK = (1 << 64) - 1

CACHED = 1 << 16
"""Strings whose hash is kept; features have few values."""


@functools.lru_cache(maxsize=CACHED)
def siphash(data: bytes, first: int, second: int) -> int:
    """0 ≤ hash < 2**64 under a key of two numbers, taken modulo 2**64."""
    first, second = first & _MASK, second & _MASK
    state = (
        first ^ 0x736F6D6570736575,
        second ^ 0x646F72616E646F6D,
        first ^ 0x6C7967656E657261,
        second ^ 0x7465646279746573,
    )
    whole = len(data) & ~7
    tail = data[whole:].ljust(7, b"\0") + bytes([len(data) & 0xFF])
    for at in range(0, whole + 8, 8):
        word = int.from_bytes(data[at : at + 8] if at < whole else tail, "little")
        a, b, c, d = state
        state = _rounds((a, b, c, d ^ word), 2)
        state = (state[0] ^ word, *state[1:])
    a, b, c, d = _rounds((state[0], state[1], state[2] ^ 0xFF, state[3]), 4)
    return a ^ b ^ c ^ d


def _rounds(state: tuple[int, int, int, int], count: int) -> tuple[int, int, int, int]:
    a, b, c, d = state
    for _ in range(count):
        a = (a + b) & _MASK
        c = (c + d) & _MASK
        b = _rotate(b, 13) ^ a
        d = _rotate(d, 16) ^ c
        a = _rotate(a, 32)
        c = (c + b) & _MASK
        a = (a + d) & _MASK
        b = _rotate(b, 17) ^ c
        d = _rotate(d, 21) ^ a
        c = _rotate(c, 32)
    return a, b, c, d


def _rotate(value: int, shift: int) -> int:
    return ((value << shift) | (value >> (64 - shift))) & _MASK
