"""Times of alternatives on a machine that does other things too: interleaved, the least of each."""

from collections.abc import Callable, Mapping

HOPELESS = 2.5
"""Times the best, after the first round: not run again."""

Run = Callable[[], object]
"""Runs one alternative to its end."""


def interleaved(
    runs: Mapping[str, Run],
    *,
    clock: Callable[[], float],
    rounds: int,
    seconds: float,
    least: int = 2,
) -> dict[str, float]:
    """Name → its least time, in the unit of `clock`; what the neighbours did is not in it.

    Every round runs all alternatives, each time starting with another one. It ends after `rounds`,
    or after `seconds` but not before `least` rounds. One warm-up run each is not counted.
    """
    for run in runs.values():
        run()
    found = dict.fromkeys(runs, float("inf"))
    names = list(runs)
    started = clock()
    for number in range(rounds):
        if number >= least and clock() - started > seconds:
            break
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            before = clock()
            runs[name]()
            found[name] = min(found[name], clock() - before)
        best = min(found.values())
        names = [n for n in names if found[n] <= best * HOPELESS]
    return found
