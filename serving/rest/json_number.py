"""Number literals, with rapidjson 1.1.0's extensions and limits."""

import math
import re

from jaxrt.serving.rest.json_syntax import EXPONENT, FRACTION, TOO_BIG, VALUE, JsonSyntaxError

_NUMBER = re.compile(rb"-?(0|[1-9][0-9]*+)(?:(\.)([0-9]*+))?(?:([eE])([+-]?)([0-9]*+))?")
_INT64_MIN, _UINT64_MAX = -(1 << 63), (1 << 64) - 1
_MAX_EXACT = (1 << 53) - 1


def read_number(text: bytes, at: int) -> tuple[int | float, int]:
    """The number at `at` and the position after it.

    An int is an integer literal that int64 or uint64 holds; every other number is a float.
    `NaN`, `Inf` and `Infinity` are numbers. Raises JsonSyntaxError.
    """
    match = _NUMBER.match(text, at)
    if match is None:
        return _word(text, at)
    _, point, fraction, exponent, sign, power = match.groups()
    if point is None and exponent is None:
        return _integer(match[0], at), match.end()
    if point and not fraction:
        raise JsonSyntaxError(FRACTION, match.end(2))
    if exponent and not power:
        raise JsonSyntaxError(EXPONENT, match.end())
    digits = match[1]
    if len(digits) > 308 and math.isinf(float(digits)):
        raise JsonSyntaxError(TOO_BIG, at)
    if exponent and sign != b"-":
        # rapidjson judges by the exponent it reads: 1e309 is refused, 1.8e308 is infinite.
        largest = 308 + _fraction_digits(digits, fraction or b"")
        if int(power.lstrip(b"0")[:9] or b"0") > largest:
            raise JsonSyntaxError(TOO_BIG, at)
    return float(match[0]), match.end()


def _integer(literal: bytes, at: int) -> int | float:
    if len(literal) <= 21:  # the sign and the 20 digits of the largest uint64
        value = int(literal)
        if _INT64_MIN <= value <= _UINT64_MAX:
            return value
    double = float(literal)
    if math.isinf(double):
        raise JsonSyntaxError(TOO_BIG, at)
    return double


def _fraction_digits(digits: bytes, fraction: bytes) -> int:
    """How many digits of the fraction rapidjson takes into the significand."""
    if len(digits) >= 20 and int(digits[:21]) > _UINT64_MAX:
        return 0  # the integer part is a double already, with more than 17 digits
    significand, significant, taken = int(digits), len(digits) - 1, 0
    for digit in fraction:
        if significand > _MAX_EXACT and significant >= 17:
            break
        significand = significand * 10 + digit - ord("0")
        taken += 1
        significant += significand != 0
    return taken


def _word(text: bytes, at: int) -> tuple[float, int]:
    """NaN, Inf or Infinity, after an optional minus.

    rapidjson tries N, a, N and goes on to Inf from wherever that failed: `NInf` is infinite too.
    """
    minus = text[at : at + 1] == b"-"
    at += minus
    if text[at : at + 1] not in (b"N", b"I"):
        raise JsonSyntaxError(VALUE, at)
    at += (taken := _common(text, at, b"NaN"))
    if taken == 3:
        return float("nan"), at
    at += (taken := _common(text, at, b"Inf"))
    if taken < 3:
        raise JsonSyntaxError(VALUE, at)
    if text[at : at + 1] == b"i":
        at += (taken := _common(text, at, b"inity"))
        if taken < 5:
            raise JsonSyntaxError(VALUE, at)
    return float("-inf") if minus else float("inf"), at


def _common(text: bytes, at: int, word: bytes) -> int:
    """How many leading bytes of the word stand at `at`."""
    for size in range(len(word), 0, -1):
        if text.startswith(word[:size], at):
            return size
    return 0
