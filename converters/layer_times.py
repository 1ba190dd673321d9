"""How long one layer takes in float and in few bits on the attached CPU: small programs in turns.

Rules tell for kinds of layers; this tells for the shapes at hand, so that those that get slower
stay float and the others do not.
"""

import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import jaxpr_as_fun

from jaxrt import target as targets
from jaxrt.compression import pays, rewrite
from jaxrt.compression.forms import form_of
from jaxrt.compression.layers import GATHER, Found
from jaxrt.compression.pays import CACHE
from jaxrt.compression.schemes import Rule
from jaxrt.converters.conversion import Optimize
from jaxrt.passes import prepare
from jaxrt.passes.jaxprs import bind
from jaxrt.program import Program
from jaxrt.target import Target
from jaxrt.tuning import forms
from jaxrt.tuning.timing import Run, interleaved

Array = np.ndarray[Any, Any]

BUDGET = 40.0
"""Seconds for all layers of a build, compiling included; then rules decide."""

SECONDS = 0.25
"""That one pair of programs is timed for, about."""

FEWEST, MOST = 5, 60
"""Rounds."""

COPIES = 64
"""Of small weights at most, which stand for all others of the model."""

SLOWER = 1.02
"""From here a layer stays float: what is not slower is smaller at least."""


class LayerTimes:
    """Layers of one build; equal ones are timed once."""

    def __init__(
        self,
        target: Target,
        optimize: Optimize,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._target, self._optimize, self._clock = target, optimize, clock
        self._known: dict[str, float] = {}
        self._spent = 0.0
        self.ratios: dict[str, float] = {}
        """Layer → how many times as long it takes in few bits, where it loses the most."""

    def ratio(self, found: Found, rule: Rule, total: int) -> float | None:
        """Time in few bits by time in float; None where that is not to be timed.

        `total`: bytes of all weights of the model, with which this layer shares the cache.
        """
        kinds = {use.kind for use in found.uses}
        if kinds == {GATHER}:
            return None  # tables are joined: alone, their look-ups mostly wake threads
        if len(kinds) > 1 or any(use.is_nested for use in found.uses):
            return None  # rules know: it is widened before the loop, or for its products
        eqn = found.uses[0].eqn
        shapes = [(v.aval.shape, str(v.aval.dtype)) for v in eqn.invars]
        moves = found.uses[0].moves
        key = f"{found.layer.shape} {moves} {shapes} {eqn.params} {rule.scheme} {rule.group}"
        if key not in self._known:
            if self._spent > BUDGET:
                return None
            started = self._clock()
            self._known[key] = self._timed(found, rule, total)
            self._spent += self._clock() - started
        name, ratio = found.layer.name, self._known[key]
        self.ratios[name] = max(ratio, self.ratios.get(name, 0.0))
        return ratio

    def _timed(self, found: Found, rule: Rule, total: int) -> float:
        program = alone(found)
        every = dataclasses.replace(rule, pattern=".*")
        held, _ = rewrite.apply(program, [every], self._target)
        random = np.random.default_rng(0)
        weights = random.standard_normal(found.layer.shape, np.float32)
        name = program.weight_names[0]
        wanted = {name: weights.astype(program.weight_avals[0].dtype)}
        inputs = _inputs(program, random)
        working = min(total, 2 * CACHE)
        copies = min(COPIES, max(1, math.ceil(working / max(1, weights.nbytes))))
        runs = {
            name: self._run(made, wanted, copies, inputs)
            for name, made in (("float", program), ("few bits", held))
        }
        times = interleaved(runs, clock=self._clock, rounds=MOST, seconds=SECONDS, least=FEWEST)
        return times["few bits"] / times["float"]

    def _run(
        self, program: Program, weights: dict[str, Array], copies: int, inputs: Sequence[Array]
    ) -> Run:
        """Each run with the next of `copies` sets of weights."""
        if any(eqn.primitive.name == "conv_general_dilated" for eqn in program.jaxpr.jaxpr.eqns):
            split = self._optimize(program, (), frozenset()).split
        else:
            split = prepare.split(forms.rewritten(program, ())[0])
        prepared = list(prepare.run_prepare(split, weights).values())
        device = targets.devices(self._target.platform)[0]
        with jax.enable_x64(True), jax.default_device(device):
            sets = [[jax.device_put(a.copy(), device) for a in prepared] for _ in range(copies)]
            given = [jax.device_put(a, device) for a in inputs]
            function = jax.jit(jaxpr_as_fun(split.apply.jaxpr), keep_unused=True)
            lowered = function.lower(*split.apply.avals)
            compiled = lowered.compile(compiler_options=self._target.compiler_options)

        calls = itertools.cycle(sets)
        return lambda: jax.block_until_ready(compiled(*next(calls), *given))


def slower(
    takers: Sequence[Found], rule: Rule, target: Target, total: int, times: LayerTimes | None
) -> str | None:
    """Where a layer would be slower, of the programs that take it; None: nowhere."""
    for found in takers:
        form = form_of(found, rule)
        ratio = None if times is None else times.ratio(found, rule, total)
        at = f"on {target.platform} at {found.layer.rows} rows"
        if ratio is not None and ratio > SLOWER:
            return f"{form.scheme.value} takes {ratio:.2f} times as long {at}"
        if ratio is None and not pays.pays(found, form, target, total):
            return f"{form.scheme.value} is slower {at}"
    return None


def alone(found: Found) -> Program:
    """What first takes a layer, as a program of one weight and one input."""
    use = found.uses[0]
    other = use.eqn.invars[1 - use.operand].aval

    def function(weight: Any, given: Any) -> Any:
        for move in use.moves:
            weight = move.of(weight)
        operands = [given, weight] if use.operand else [weight, given]
        return bind(use.eqn.primitive, operands, use.eqn.params)

    before = found.variable.aval
    like = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (before, other)]
    with jax.enable_x64(True):
        closed = jax.make_jaxpr(function)(*like)
    return Program(
        signature=found.layer.name,
        jaxpr=closed,
        weight_names=("weight",),
        input_names=("given",),
        output_names=("found",),
    )


def _inputs(program: Program, random: np.random.Generator) -> list[Array]:
    (aval,) = program.input_avals
    return [np.asarray(random.standard_normal(aval.shape, np.float32).astype(aval.dtype))]
