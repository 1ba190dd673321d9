"""Which layers are compressed how: first those that cost the least error for what they gain."""

import bisect
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

S = TypeVar("S")
"""A scheme."""

AIM = 0.95
"""Share of the budget that a guess aims at."""

CLOSE = 0.9
"""Share of the budget from which nothing more is tried."""

_HUGE = 1e100
"""In place of an infinite error, so that sums of squares can be subtracted."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Option(Generic[S]):
    """One layer in one scheme, all others as they were."""

    layer: str
    scheme: S
    gain: float
    """What it is worth: bytes that are no longer stored, or time, in a unit of all options."""
    error: float
    """Relative RMS error of the worst output."""

    @property
    def square(self) -> float:
        return min(self.error, _HUGE) ** 2


def steps(options: Sequence[Option[S]]) -> list[Option[S]]:
    """The options in the order in which they are to be taken; a later one of a layer replaces the
    earlier.

    Errors of layers are taken as independent, so that their squares add up. An option whose layer
    would gain more at less error for each gain with another one is left out.
    """
    rated = []
    for _, found in itertools.groupby(sorted(options, key=_of_layer), key=lambda o: o.layer):
        rated += list(_hull(list(found)))
    order = sorted(rated, key=lambda pair: pair[0])
    return [option for _, option in order]


def _of_layer(option: Option[S]) -> tuple[str, float, float]:
    return option.layer, option.gain, option.error


def _hull(options: Sequence[Option[S]]) -> Iterator[tuple[float, Option[S]]]:
    """(squared error added for each gain, option), both rising, of one layer's options."""
    gain, square = 0.0, 0.0
    left = [o for o in options if o.gain > 0]
    while left:
        rate, best = min(
            (((o.square - square) / (o.gain - gain), o) for o in left),
            key=lambda pair: (pair[0], -pair[1].gain),
        )
        yield rate, best
        gain, square = best.gain, best.square
        left = [o for o in left if o.gain > gain]


def chosen(taken: Sequence[Option[S]]) -> dict[str, S]:
    """Layer → scheme after the steps `taken`."""
    return {option.layer: option.scheme for option in taken}


def predicted(ordered: Sequence[Option[S]]) -> list[float]:
    """Squared error after 0, 1, 2 ... steps, were errors independent."""
    latest: dict[str, float] = {}
    found = [0.0]
    for option in ordered:
        found.append(found[-1] + option.square - latest.get(option.layer, 0.0))
        latest[option.layer] = option.square
    return found


def closest(
    ordered: Sequence[Option[S]],
    used: Callable[[int], float],
    *,
    tries: int,
    start: int | None = None,
    bad: tuple[int, float] | None = None,
    enough: float = CLOSE,
) -> int:
    """How many steps of `ordered` the budget allows; 0 where none of those tried is within it.

    `used` measures which share of the budget the first steps take: above 1 they are over it. It is
    asked `tries` times at most: `start` steps first, by default all; then where the budget is used
    up if errors grow between the last choice within it and the first one over it as predicted;
    every third time, and where errors are infinite, in the middle. `bad`: steps that are known to
    be over it, and what they use. It ends with `enough` of the budget used.
    """
    squares = predicted(ordered)
    good = (0, 0.0)
    bad = bad or (len(ordered) + 1, 0.0)
    count = len(ordered) if start is None else min(start, len(ordered))
    for number in range(tries):
        share = used(count)
        if share <= 1:
            good = (count, share)
        else:
            bad = (count, share)
        if bad[0] - good[0] <= 1 or good[1] >= enough:
            break
        is_middle = bad[0] <= len(ordered) and (number % 3 == 2 or math.isinf(bad[1]))
        count = (good[0] + bad[0]) // 2 if is_middle else _guess(squares, good, bad)
    return good[0]


def _guess(squares: Sequence[float], good: tuple[int, float], bad: tuple[int, float]) -> int:
    """Strictly between the two, by the shares of the budget that they use."""
    last = len(squares) - 1
    low, high = squares[good[0]], squares[min(bad[0], last)]
    rise = bad[1] ** 2 - good[1] ** 2
    if bad[0] <= last:
        aim = low + (high - low) * (max(0.0, AIM**2 - good[1] ** 2) / rise)
    else:  # nothing was over the budget yet
        aim = low * (AIM / good[1]) ** 2 if good[1] else high
    found = bisect.bisect_right(squares, aim) - 1
    return min(max(found, good[0] + 1), bad[0] - 1)
