"""Numbers as TF Serving writes them into answers.

Floats have six significant digits (`%g`); where those do not read back as the same value, nine for
float32 and seventeen for float64; `.0` follows where there is neither a point nor an exponent. The
values that are not finite are `NaN`, `Infinity` and `-Infinity`.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

_FULL = {"f": 9, "d": 17}
# Half the distance between neighbours, relative: no shorter text further away can read back as the
# value. A little larger, to be safe against the rounding of the test itself.
_HALF_STEP = {"f": 7e-8, "d": 1e-14}
# Index: the form of one number. `%.0s` takes its argument and prints nothing.
_FLOAT_FORMS = {
    kind: ("%g", "%g.0", f"%.{full}g", f"%.{full}g.0", "%.0sNaN", "%.0sInfinity", "%.0s-Infinity")
    for kind, full in _FULL.items()
}
_NAN, _INF, _NEGATIVE_INF = 4, 5, 6


def decimal(value: np.float32 | np.float64) -> str:
    """The text of one number."""
    return texts(np.asarray(value).reshape(1))[0]


def texts(flat: np.ndarray[Any, Any]) -> list[str]:
    """[n] of float32, float64, bool or an integer dtype → n texts."""
    return joined(flat, np.zeros(flat.shape, np.intp), (" ",)).split()


def joined(
    flat: np.ndarray[Any, Any], gaps: np.ndarray[Any, Any], separators: Sequence[str]
) -> str:
    """[n] values, each followed by the separator that `gaps` [n] selects, as one text.

    No Python code runs per element: the forms and separators make one format string.
    """
    forms, choice = _forms(flat)
    table = np.array(
        [form + gap.replace("%", "%%") for form in forms for gap in separators], object
    )
    template = "".join(table[choice * len(separators) + gaps].tolist())
    return template % tuple(flat.tolist())


def _forms(flat: np.ndarray[Any, Any]) -> tuple[Sequence[str], np.ndarray[Any, Any]]:
    """Formats and, for each value, the index of its format."""
    if flat.dtype.kind == "b":
        return ("%.0sfalse", "%.0strue"), flat.astype(np.intp)
    if flat.dtype.kind in "iu":
        return ("%d",), np.zeros(flat.shape, np.intp)
    kind = flat.dtype.char
    with np.errstate(all="ignore"):
        short = _reads_back(flat)
        limit = np.where(short, 1e6, 10.0 ** _FULL[kind])
        whole = (np.abs(flat) < limit) & (np.floor(flat) == flat)
    choice = np.where(short, 0, 2) + whole
    choice[np.isnan(flat)] = _NAN
    choice[np.isposinf(flat)] = _INF
    choice[np.isneginf(flat)] = _NEGATIVE_INF
    return _FLOAT_FORMS[kind], choice


def _reads_back(flat: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """[n] bool: whether six significant digits read back as the value."""
    wide = flat.astype(np.float64)
    size = np.abs(wide)
    scaled = size * 10.0 ** (5 - np.floor(np.log10(size)))
    # Cheap and one-sided: most values of a model are certainly not six digits long.
    maybe = ~(np.abs(scaled - np.rint(scaled)) > scaled * _HALF_STEP[flat.dtype.char])
    maybe &= np.isfinite(flat)
    # Where the scale or the neighbours are out of the ordinary the text decides.
    maybe |= (size < 1e-290) if flat.dtype.char == "d" else (size < 1.2e-38)
    some = wide[maybe].tolist()
    back = np.array(list(map(float, map(_six_digits, some))), np.float64)
    result = np.zeros(flat.shape, bool)
    result[maybe] = back.astype(flat.dtype) == flat[maybe]
    return result


_six_digits = functools.partial(str.__mod__, "%g")
