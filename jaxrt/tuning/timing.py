"""Times of alternatives on a machine that does other things too: interleaved, the least of each."""

import statistics
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


BURST = 5
"""Runs in a row, as under load: threads that have just run are still awake."""


def medians(
    runs: Mapping[str, Run], *, clock: Callable[[], float], rounds: int, seconds: float
) -> dict[str, float]:
    """Name → its median time, with what it waits for other threads, which the least leaves out.

    Ends after `rounds`, or `seconds` but not before two rounds. A burst's first is not counted.
    """
    found: dict[str, list[float]] = {name: [] for name in runs}
    started = clock()
    for number in range(rounds):
        if number >= 2 and clock() - started > seconds:
            break
        for name, run in runs.items():
            run()
            for _ in range(BURST):
                before = clock()
                run()
                found[name].append(clock() - before)
    return {name: statistics.median(times) for name, times in found.items()}
