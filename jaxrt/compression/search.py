"""Which layers are compressed how: first those that cost the least error for the bytes saved."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

S = TypeVar("S")
"""A scheme."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Option(Generic[S]):
    """One layer in one scheme, all others as they were."""

    layer: str
    scheme: S
    saved: int
    """Bytes of its weights that are no longer stored."""
    error: float
    """Relative RMS error of the worst output."""


def steps(options: Sequence[Option[S]]) -> list[Option[S]]:
    """The options in the order in which they are to be taken; a later one of a layer replaces the
    earlier.

    Errors of layers are taken as independent, so that their squares add up. An option whose layer
    would save more bytes at less error for each byte with another one is left out.
    """
    rated = []
    for _, found in itertools.groupby(sorted(options, key=_of_layer), key=lambda o: o.layer):
        rated += list(_hull(list(found)))
    order = sorted(rated, key=lambda pair: pair[0])
    return [option for _, option in order]


def _of_layer(option: Option[S]) -> tuple[str, int, float]:
    return option.layer, option.saved, option.error


def _hull(options: Sequence[Option[S]]) -> Iterator[tuple[float, Option[S]]]:
    """(squared error added for each byte saved, option), both rising, of one layer's options."""
    saved, square = 0, 0.0
    left = [o for o in options if o.saved > 0]
    while left:
        rate, best = min(
            (((o.error**2 - square) / (o.saved - saved), o) for o in left),
            key=lambda pair: (pair[0], -pair[1].saved),
        )
        yield rate, best
        saved, square = best.saved, best.error**2
        left = [o for o in left if o.saved > saved]


def chosen(taken: Sequence[Option[S]]) -> dict[str, S]:
    """Layer → scheme after the steps `taken`."""
    return {option.layer: option.scheme for option in taken}


def largest(
    ordered: Sequence[Option[S]], holds: Callable[[Mapping[str, S]], bool]
) -> list[Option[S]]:
    """The longest beginning of `ordered` found by halving that `holds`; the empty one always does.

    `holds` is asked some log2(len(ordered)) times, the whole first.
    """
    if not ordered or holds(chosen(ordered)):
        return list(ordered)
    good, bad = 0, len(ordered)
    while bad - good > 1:
        middle = (good + bad) // 2
        if holds(chosen(ordered[:middle])):
            good = middle
        else:
            bad = middle
    return list(ordered[:good])


def saved(taken: Sequence[Option[S]]) -> int:
    """Bytes, the last step of each layer counted."""
    return sum({option.layer: option.saved for option in taken}.values())
