"""Chooses the lowering of each convolution: by rule, or by timing candidates on the target."""

import contextlib
import dataclasses
import enum
import math
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from jaxrt import slices
from jaxrt.passes import convolution_lowering, one_kernel, prepare, provenance
from jaxrt.passes.convolution import Convolution
from jaxrt.passes.convolution_table import LOWERINGS, XLA, candidates
from jaxrt.program import Program
from jaxrt.target import Target
from jaxrt.tuning import numerics, rules, timing
from jaxrt.tuning.choices import Choice, Choices
from jaxrt.tuning.trials import compiles_whole, convolved, operands, runnable


class Autotune(enum.Enum):
    """How much is timed before a program is compiled."""

    OFF = "off"
    """Nothing: rules choose, so that equal versions give equal programs on every machine."""
    FAST = "fast"
    """Convolutions that rules leave in doubt: few candidates, few runs."""
    FULL = "full"
    """Every candidate of every convolution."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Effort:
    rounds: int
    seconds: float
    budget: float
    """Seconds for all of one build's trials, compiling them included; then rules choose."""


_EFFORTS = {
    Autotune.FAST: _Effort(rounds=6, seconds=0.3, budget=20.0),
    Autotune.FULL: _Effort(rounds=20, seconds=2.0, budget=math.inf),
}

DOUBTFUL = 2e6
"""FLOPs: a smaller convolution is never timed by FAST, a call takes longer than it does."""

ALL = "all"
"""The choice of rows at a time that is no loop."""

WHOLE = 1.2
"""What a program must be faster by than its loop over blocks of rows."""

SLICES = "slices"
"""The choice of executions side by side."""

OWN = 0.75
"""Of the cores' time: slices that got less shared them with other processes."""

ONE = "one kernel"
KERNELS = "kernels"

WHOLE_SECONDS = 0.2
"""Spent on timing a small program as one kernel against many."""

PROGRAM_SECONDS = 2.0
"""Spent on timing loops against the whole, if two rounds do not take longer."""

CLEARLY = 1.05
"""What a candidate must be faster by than the rule's to replace it: noise changes no program."""


class Tuner:
    """Chooses for one target; a convolution seen before, by this or an earlier process, at once."""

    def __init__(
        self,
        target: Target,
        mode: Autotune,
        *,
        choices: Choices | None,
        clock: Callable[[], float],
        without: Sequence[str] = (),
        cpu_clock: Callable[[], float] = time.process_time,
    ) -> None:
        """`without` are lowerings never to use; `clock` is time.perf_counter, or a test's."""
        self._target = target
        self._mode = mode
        self._choices = choices
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._without = frozenset(without)
        self._chosen: dict[str, Choice] = {}
        self._spent = 0.0

    def choose(self, conv: Convolution) -> Choice:
        """The same convolution always gets the same choice from one tuner."""
        names = self._names(conv)
        if len(names) == 1:
            return Choice(lowering=names[0])
        key = f"{conv} | {', '.join(names)}"
        found = self._chosen.get(key)
        if found is None:
            found = self._choices.get(key) if self._choices else None
        if found is None and self._may_time():
            with self._timed():
                found = self._time(conv, names)
            if self._choices:
                self._choices.put(key, found)
        # Not kept on disk: the next build goes on where this one ran out of time.
        self._chosen[key] = found = found or Choice(lowering=names[0])
        return found

    def block(self, program: Program, loops: Sequence[tuple[int, prepare.Split]]) -> int | None:
        """How many rows of `program` at a time, of the `loops` offered; None: all.

        With convolutions a loop also saves the time to tune and compile the whole and the weights
        it alone needs, so the whole has to be clearly faster; without, the loop.
        """
        if self._target.platform != "cpu":
            return None
        sizes = [rows for rows, _ in loops]
        convolves = bool(convolution_lowering.convolutions(program))
        if not self._may_time():
            return min(sizes) if convolves else None
        jaxpr = program.jaxpr
        key = f"rows {provenance.of_jaxpr(jaxpr.jaxpr, jaxpr.consts)} | {sizes}"
        found = self._choices.get(key) if self._choices else None
        if found is None:
            with self._timed():
                found = self._time_blocks(program, loops, WHOLE if convolves else 1 / CLEARLY)
            if self._choices:
                self._choices.put(key, found)
        return None if found.lowering == ALL else int(found.lowering)

    def whole(self, program: Program) -> float | None:
        """How many times as fast a program is as one kernel (`jaxrt.passes.one_kernel`).

        None where it is not to be compiled so.
        """
        if self._target.platform != "cpu" or not one_kernel.fits(program) or not self._may_time():
            return None
        key = f"kernels {provenance.of_closed(program.jaxpr)}"
        found = self._choices.get(key) if self._choices else None
        if found is None:
            with self._timed():
                found = self._time_whole(program)
            if self._choices:
                self._choices.put(key, found)
        return found.seconds[KERNELS] / found.seconds[ONE] if found.lowering == ONE else None

    def slices(self, whole: Program, part: Program, count: int) -> float | None:
        """How many times as fast `count` runs of `part` at once are as one of `whole`.

        None where the whole is to run: without a clear gain, one execution has all threads. Timed
        though a build's time is spent: it is asked once for a program, and gains most of all.
        """
        if self._target.platform != "cpu" or self._mode is Autotune.OFF:
            return None
        key = f"{count} slices {provenance.of_closed(whole.jaxpr)}"
        found = self._choices.get(key) if self._choices else None
        if found is None:
            with self._timed():
                found, alone = self._time_slices(whole, part, count)
            if self._choices and (alone or found.lowering == SLICES):
                self._choices.put(key, found)
        return found.seconds[ALL] / found.seconds[SLICES] if found.lowering == SLICES else None

    def _time_slices(self, whole: Program, part: Program, count: int) -> tuple[Choice, bool]:
        """The choice, and whether slices had the cores to themselves: else it is not kept."""
        run = runnable(part, self._target)
        effort = _EFFORTS[self._mode]
        used, taken = [], []

        def together() -> None:
            before = self._cpu_clock(), self._clock()
            slices.at_once([run] * count)
            used.append(self._cpu_clock() - before[0])
            taken.append(self._clock() - before[1])

        seconds = timing.interleaved(
            {ALL: runnable(whole, self._target), SLICES: together},
            clock=self._clock,
            rounds=effort.rounds,
            seconds=effort.seconds,
        )
        faster = seconds[SLICES] * CLEARLY < seconds[ALL]
        choice = Choice(lowering=SLICES if faster else ALL, seconds=seconds)
        return choice, sum(used) > sum(taken) * count * OWN

    def _time_whole(self, program: Program) -> Choice:
        if not compiles_whole(program):
            return Choice(lowering=KERNELS)
        runs = {
            KERNELS: runnable(program, self._target),
            ONE: runnable(program, self._target, whole=True),
        }
        want, got = (runs[name]() for name in (KERNELS, ONE))
        if not all(
            numerics.close(np.asarray(a), np.asarray(b)) for a, b in zip(got, want, strict=True)
        ):
            return Choice(lowering=KERNELS)
        seconds = timing.medians(runs, clock=self._clock, rounds=40, seconds=WHOLE_SECONDS)
        faster = seconds[ONE] * CLEARLY < seconds[KERNELS]
        return Choice(lowering=ONE if faster else KERNELS, seconds=seconds)

    def _may_time(self) -> bool:
        return self._mode is not Autotune.OFF and self._spent < _EFFORTS[self._mode].budget

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        started = self._clock()
        yield
        self._spent += self._clock() - started

    def _time_blocks(
        self, program: Program, loops: Sequence[tuple[int, prepare.Split]], handicap: float
    ) -> Choice:
        platform = self._target.platform
        whole = convolution_lowering.lower(program, lambda conv: rules.heuristic(conv, platform))
        offered = {str(rows): split.apply for rows, split in loops}
        offered[ALL] = prepare.split(whole).apply
        seconds = timing.interleaved(
            {name: runnable(apply, self._target) for name, apply in offered.items()},
            clock=self._clock,
            rounds=_EFFORTS[self._mode].rounds,
            seconds=PROGRAM_SECONDS,
        )
        handicapped = seconds | {ALL: seconds[ALL] * handicap}
        return Choice(lowering=min(handicapped, key=handicapped.__getitem__), seconds=seconds)

    def _names(self, conv: Convolution) -> tuple[str, ...]:
        """What may be chosen, the rule's choice first; one name: no doubt."""
        platform = self._target.platform
        rule = rules.heuristic(conv, platform)
        if platform != "cpu":
            return (rule,)
        if self._mode is Autotune.FULL:
            every = [lowering.name for lowering in candidates(conv)]
            names = (rule, *(n for n in every if n != rule))
        elif self._mode is Autotune.FAST and conv.flops >= DOUBTFUL:
            names = rules.shortlist(conv)
        else:
            names = (rule,)
        return tuple(n for n in names if n not in self._without) or (XLA,)

    def _time(self, conv: Convolution, names: Sequence[str]) -> Choice:
        effort = _EFFORTS[self._mode]
        x, kernel = operands(conv)
        runs, errors = {}, {}
        for name in names:
            run = convolved(LOWERINGS[name], conv, x, kernel, self._target)
            errors[name] = numerics.error(conv, np.asarray(run()), x, kernel)
            if name == XLA or errors[name] <= numerics.ALLOWED[conv.dtype]:
                runs[name] = run
        seconds = timing.interleaved(
            runs, clock=self._clock, rounds=effort.rounds, seconds=effort.seconds
        )
        best = min(seconds, key=seconds.__getitem__)
        first = next(iter(seconds))
        winner = best if seconds[best] * CLEARLY < seconds[first] else first
        return Choice(lowering=winner, seconds=seconds, errors=errors)
