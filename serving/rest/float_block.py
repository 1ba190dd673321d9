"""Many float32s as text, by the rules of `number_text`, without Python work per element.

A float32 times a power of ten is nine digits before the point, as a double. Whole arrays of them
are cut into three pieces of three digits, whose texts stand in a table, and put together in slots
of sixteen bytes: no number without its sign takes more than fourteen, and two are left for what
stands between two numbers. The slots are then laid over each other, each where the one before ends.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrt.serving.rest.number_text import texts

Array = np.ndarray[Any, Any]

_WORD = np.dtype("<u8")
_SLOT = 16
_BLOCK = 8192
"""Numbers at a time: what some twenty arrays of them take stays in the processor's cache."""

# Forms: where the point is, by the power of ten of the first digit, and what follows the digits.
_LEAST, _MOST = -4, 8
"""Powers of numbers that are written without an exponent."""
_POWERS = [*range(_LEAST, _MOST + 1), 6, 7, 8, *range(9, 39), *range(-45, _LEAST)]
"""Form → the power of ten; numbers of six digits have an exponent from 6 on."""
_FIXED = _MOST - _LEAST + 1
"""Forms below it have no exponent."""
_SHORT_FROM, _SHORT = 6 - _LEAST, 3
_ODD = len(_POWERS)
"""Written one by one: what is not finite, and what is too small to have all its bits."""
_ZERO = _ODD + 1
"""Maybe zero."""

_FORMS_OF = {power: form for form, power in reversed([*enumerate(_POWERS)])}
_NEXT = np.array([*(_FORMS_OF.get(power + 1, 0) for power in _POWERS), _ODD, _ZERO], np.intp)
"""Form → that of the next power of ten."""

# The form of a number and the power of ten that gives it nine digits before the point, by its top
# bits: the exponent and some of the significand, so that few are one too low.
_SHIFT = np.uint32(18)
_UNSIGNED = np.uint32(0x7FFFFFFF)
_CELLS = (np.arange(1 << 13, dtype=np.uint32) << _SHIFT).view(np.float32)
_SUBNORMAL = np.float32(2.0**-126)


def _power(value: float) -> int:
    return int(f"{value:e}".partition("e")[2])


def _cells() -> tuple[Array, Array]:
    forms = np.full(len(_CELLS), _ODD, np.intp)
    plain = (_CELLS >= _SUBNORMAL) & np.isfinite(_CELLS)
    forms[plain] = [_FORMS_OF[_power(cell)] for cell in _CELLS[plain].tolist()]
    forms[0] = _ZERO
    scales = np.array([10.0 ** (8 - p) for p in _POWERS] + [1.0, 1.0])
    return forms, scales[forms]


_FORMS, _SCALES = _cells()
_EXACT = 10.0**22
"""The largest power of ten that a double holds; products with it and less are right to the digit
where they are not nearly between two."""


# Pieces: families of texts for 0 to 999.
def _family(piece: Any) -> list[bytes]:
    return [piece(b"%03d" % value) for value in range(1000)]


def _pointed(at: int, stripped: bool) -> Any:
    """Digits with a point after the first `at`."""

    def piece(digits: bytes) -> bytes:
        rest = digits[at:].rstrip(b"0") or b"0" if stripped else digits[at:]
        return digits[:at] + b"." + rest

    return piece


def _led(zeros: int, stripped: bool) -> Any:
    """Digits after the point and some zeros."""
    return lambda d: b"0." + b"0" * zeros + (d.rstrip(b"0") if stripped else d)


_WHOLE, _ENDED, _NOTHING, _MANTISSA = range(4)
_PIECES = [
    _family(lambda d: d),
    _family(lambda d: d.rstrip(b"0")),
    _family(lambda d: b""),
    _family(lambda d: (d[:1] + b"." + d[1:]).rstrip(b"0").rstrip(b".")),
    *(_family(_pointed(at, stripped)) for at in (1, 2, 3) for stripped in (False, True)),
    *(_family(_led(zeros, stripped)) for zeros in range(4) for stripped in (False, True)),
]
_TEXT = np.array([t for family in _PIECES for t in family], "S8").view(_WORD)
_BITS = np.array([8 * len(t) for family in _PIECES for t in family], _WORD)


def _families(form: int, last: int) -> tuple[int, int, int]:
    """The families of the three pieces of a number whose piece `last` is the last that is not 0."""
    power = _POWERS[form] if form < _ODD else 0
    fixed = form < _FIXED
    if not fixed:
        power = 0
    place = max(power, 0) // 3
    end = max(last, place)
    found = []
    for piece in range(3):
        ends = piece == end
        if piece > end:
            found.append(_NOTHING)
        elif piece != place:
            found.append(_ENDED if ends else _WHOLE)
        elif power < 0:
            found.append(10 + 2 * (-power - 1) + ends)
        elif ends and not fixed:
            found.append(_MANTISSA)
        else:
            found.append(4 + 2 * (power % 3) + ends)
    return found[0], found[1], found[2]


_STARTS = 1000 * np.array(
    [_families(form, last) for form in range(_ZERO + 1) for last in range(3)], np.intp
)
"""[3 × form + last, 3]: where the families of the pieces begin."""
_COLUMNS = [np.ascontiguousarray(column) for column in _STARTS.T]
_TAILS = [
    b"" if form < _FIXED or form >= _ODD else b"e%+03d" % _POWERS[form] for form in range(_ZERO + 1)
]
_EXPONENTS = np.array(_TAILS, "S8").view(_WORD)
_EXPONENT_BITS = np.array([8 * len(tail) for tail in _TAILS], _WORD)


_FIRST = np.ascontiguousarray(_STARTS[2::3, 0])
"""Form → where the family of the first piece begins, if the last one is not 0."""
_AHEAD = _BITS[_FIRST]
_COMMON = 2 - _LEAST
"""The last of the forms whose point is in the first piece, or before it."""
_LAST_TEXT, _LAST_BITS = (table[1000 * _ENDED :][:1000] for table in (_TEXT, _BITS))
_ROOM = 2
"""Bytes of a slot for what stands between two numbers; what is longer is put there afterwards."""


def float_text(array: Array, gaps: Sequence[bytes]) -> bytes:
    """[...] float32, with an element at least; `gaps[k]` where the innermost k dimensions end."""
    flat = np.ascontiguousarray(array, np.float32).reshape(-1)
    gap = gaps[0] if len(gaps[0]) <= _ROOM else b""
    slots, sizes = np.empty((flat.size, 2), _WORD), np.empty(flat.size, np.intp)
    left = []
    for start in range(0, flat.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        others, *taken = _fill(flat[block], gap, slots[block], sizes[block])
        left.append((others + start, *taken))
    others, *taken = map(np.concatenate, zip(*left, strict=True))
    if others.size:
        found, sizes[others] = _any(gap, *taken)
        _whole(slots)[others] = _whole(found)
    minus = np.signbit(flat) & (flat == flat)
    steps = np.cumprod((1, *reversed(array.shape[1:]))).tolist()
    held = len(gap)
    sizes += minus
    for step, wider in zip(steps, gaps, strict=True):
        sizes[step - 1 :: step] += len(wider) - held
        held = len(wider)
    stops = np.cumsum(sizes)
    starts = stops - sizes
    text = np.empty(int(stops[-1]) + _SLOT, np.uint8)
    # In this order: each slot ends in bytes that are not the number's.
    _pieces(text, _SLOT)[starts + minus] = _whole(slots)
    for step, wider in zip(steps, gaps, strict=True):
        if wider != gap:
            ends = stops[step - 1 : -1 : step] - len(wider)
            _pieces(text, len(wider))[ends] = np.void(wider)
    text[starts.take(np.flatnonzero(minus))] = ord("-")
    return text[: int(stops[-1]) - held].tobytes()


def _whole(slots: Array) -> Array:
    """[n, 2] words → [n] slots."""
    return slots.view(f"V{_SLOT}").reshape(-1)


def _pieces(text: Array, size: int) -> Array:
    """Those of `size` bytes that begin at each byte."""
    return np.ndarray((len(text) - size + 1,), f"V{size}", text, 0, (1,))


def _look(table: Array, places: Array) -> Array:
    """What stands in the table at places that it has: without its tests `take` is faster."""
    return table.take(places, mode="clip")


def _fill(flat: Array, gap: bytes, slots: Array, sizes: Array) -> tuple[Array, ...]:
    """[n] → the texts of the numbers without their signs and with the gap; their lengths.

    What `_any` has to write: where they are, and what it takes of them.
    """
    bits = flat.view(np.uint32) & _UNSIGNED
    size = bits.view(np.float32)
    cells = (bits >> _SHIFT).astype(np.intp)
    forms, scales = _look(_FORMS, cells), _look(_SCALES, cells)
    with np.errstate(all="ignore"):
        scaled = size * scales
        over = np.flatnonzero(scaled >= _OVER)
        if over.size:
            forms[over] = _NEXT[forms[over]]
            scales[over] /= 10
            scaled[over] = size[over] * scales[over]
        rounded = np.rint(scaled)
        far = np.flatnonzero(forms >= _FIXED)
        if far.size:
            _settle(far, bits, scaled, rounded, forms)
        digits = rounded.astype(np.uint32)
        high = digits // _THOUSAND
        low = digits - high * _THOUSAND
        few = np.flatnonzero((low - _NEAR) > _BETWEEN)
        if few.size:
            _shorten(few, size, scaled, scales, forms, high, low)
    top = high // _THOUSAND
    middle = high - top * _THOUSAND
    last = _look(_LAST_BITS, low)
    rest = _look(_LAST_TEXT, low) | _word(gap) << last
    rest <<= _DIGITS
    rest |= _look(_TEXT, middle)
    ahead = _look(_AHEAD, forms)
    slots[:, 0] = _look(_TEXT, _look(_FIRST, forms) + top) | rest << ahead
    slots[:, 1] = rest >> (_BITS_OF_WORD - ahead)
    last += ahead
    last += _WORD.type(24 + 8 * len(gap))
    sizes[:] = last >> 3
    others = np.flatnonzero((low == 0) | (forms > _COMMON))
    return others, *(a[others] for a in (forms, top, middle, low, size))


def _any(
    gap: bytes, forms: Array, top: Array, middle: Array, low: Array, size: Array
) -> tuple[Array, Array]:
    """Slots and lengths of numbers in any form."""
    pieces = (top, middle, low)
    keys = 3 * forms + np.where(low != 0, 2, middle != 0)
    texts_of, bits_of = zip(
        *(
            (_TEXT.take(at), _BITS.take(at))
            for at in map(np.add, (column.take(keys) for column in _COLUMNS), pieces)
        ),
        strict=True,
    )
    rest = texts_of[1] | texts_of[2] << bits_of[1]
    ahead, stop = bits_of[0], bits_of[0] + bits_of[1] + bits_of[2]
    tail = _EXPONENTS.take(forms) | _word(gap) << _EXPONENT_BITS.take(forms)
    slots = np.empty((forms.size, 2), _WORD)
    slots[:, 0] = texts_of[0] | rest << ahead | tail << stop
    # One of the last two is shifted by more than there is, and nothing is left of it.
    slots[:, 1] = rest >> (64 - ahead) | tail << (stop - 64) | tail >> (64 - stop)
    sizes = ((stop + _EXPONENT_BITS.take(forms)) >> 3) + len(gap)
    odd = np.flatnonzero(forms == _ODD)
    if odd.size:
        found = [text.encode() + gap for text in texts(size[odd])]
        slots[odd] = np.array(found, f"S{_SLOT}").view(_WORD).reshape(-1, 2)
        sizes[odd] = list(map(len, found))
    return slots, sizes


def _settle(far: Array, bits: Array, scaled: Array, rounded: Array, forms: Array) -> None:
    """Finds zeros, and those with an exponent that have to be written one by one."""
    tied = np.abs(np.abs(scaled[far] - rounded[far]) - 0.5) < _TIE
    zero, nothing = forms[far] == _ZERO, bits[far] == 0
    forms[far[zero & nothing]] = -_LEAST
    forms[far[(zero & ~nothing) | tied]] = _ODD
    rounded[far[forms[far] == _ODD]] = 0


def _shorten(
    few: Array, size: Array, scaled: Array, scales: Array, forms: Array, high: Array, low: Array
) -> None:
    """Cuts the digits of those that six digits are enough for."""
    six = np.rint(scaled[few] * 1e-3)
    value = six * 1e3 / scales[few]
    same = value.astype(np.float32) == size[few]
    # The largest powers of ten are no doubles, and no fractions are.
    apart = (value * _ABOVE).astype(np.float32) != (value * _BELOW).astype(np.float32)
    forms[few[apart & ((scales[few] > _EXACT) | (scales[few] < 1))]] = _ODD
    same = np.flatnonzero(same)
    few, six = few.take(same), six.take(same)
    form = forms[few]
    carried = six == 1e6
    six[carried] = 1e5
    form[carried] = _NEXT[form[carried]]
    form[(form >= _SHORT_FROM) & (form < _FIXED)] += _SHORT
    forms[few], high[few], low[few] = form, six.astype(np.uint32), 0


def _word(text: bytes) -> Any:
    return _WORD.type(int.from_bytes(text, "little"))


_THOUSAND = np.uint32(1000)
_NEAR, _BETWEEN = np.uint32(61), np.uint32(878)
"""Only with the last three digits from 940 to 60 can six be enough: neighbours of a float32 are
less than 120 apart in the ninth digit."""
_OVER = 999999999.5
"""Nine digits from here on round to ten."""
_TIE = 1e-6
"""Products with powers of ten that are no doubles are that near."""
_ABOVE, _BELOW = 1 + 1e-15, 1 - 1e-15
_DIGITS, _BITS_OF_WORD = _WORD.type(24), _WORD.type(64)
