"""Chooses the lowering of each convolution: by rule, or by timing candidates on the target."""

import dataclasses
import enum
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax

from jaxrt import target as targets
from jaxrt.passes.convolution import Convolution
from jaxrt.passes.convolution_table import LOWERINGS, XLA, Lowering, candidates
from jaxrt.target import Target
from jaxrt.tuning import numerics, rules, timing
from jaxrt.tuning.choices import Choice, Choices

Array = np.ndarray[Any, Any]


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


_EFFORTS = {
    Autotune.FAST: _Effort(rounds=6, seconds=0.3),
    Autotune.FULL: _Effort(rounds=20, seconds=2.0),
}

DOUBTFUL = 2e6
"""FLOPs: a smaller convolution is never timed by FAST, a call takes longer than it does."""

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
    ) -> None:
        """`without` are lowerings never to use; `clock` is time.perf_counter, or a test's."""
        self._target = target
        self._mode = mode
        self._choices = choices
        self._clock = clock
        self._without = frozenset(without)
        self._chosen: dict[str, Choice] = {}

    def choose(self, conv: Convolution) -> Choice:
        """The same convolution always gets the same choice from one tuner."""
        names = self._names(conv)
        if len(names) == 1:
            return Choice(lowering=names[0])
        key = f"{conv} | {', '.join(names)}"
        found = self._chosen.get(key)
        if found is None:
            found = self._choices.get(key) if self._choices else None
        if found is None:
            found = self._time(conv, names)
            if self._choices:
                self._choices.put(key, found)
        self._chosen[key] = found
        return found

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
        x, kernel = _operands(conv)
        runs, errors = {}, {}
        for name in names:
            run = _compiled(LOWERINGS[name], conv, x, kernel, self._target)
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


def _operands(conv: Convolution) -> tuple[Array, Array]:
    """Random ones, of the magnitudes that trained networks have."""
    random = np.random.default_rng(0)
    dtype = np.dtype(conv.dtype)
    kernel = random.normal(size=conv.kernel_shape) / math.sqrt(conv.terms)
    return random.random(conv.x_shape, dtype.type), kernel.astype(dtype)


def _compiled(
    lowering: Lowering, conv: Convolution, x: Array, kernel: Array, target: Target
) -> Callable[[], Any]:
    """Runs the convolution, a bias and a relu, until the result is there."""

    def function(x: Any, weights: Any, bias: Any) -> Any:
        y = lowering.apply(conv, x, weights)
        y = lax.add(y, lax.broadcast_in_dim(bias, y.shape, (y.ndim - 1,)))
        return lax.max(y, np.zeros((), y.dtype))

    device = targets.devices(target.platform)[0]
    with jax.enable_x64(True), jax.default_device(device):
        weights = jax.jit(lowering.transform)(kernel)
        operands = [jax.device_put(a, device) for a in (x, weights, _bias(conv))]
        compiled = jax.jit(function).lower(*operands).compile()
    return functools.partial(_wait, compiled, operands)


def _bias(conv: Convolution) -> Array:
    return np.zeros(conv.out_features, conv.dtype)


def _wait(compiled: Any, operands: Sequence[Any]) -> Any:
    return jax.block_until_ready(compiled(*operands))
