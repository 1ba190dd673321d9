"""A device part as a function of its weights and inputs, on the CPU of the machine that compiles.

It is what tells how far other weights, or another form of the program, move the answers.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import jaxpr_as_fun

from jaxrt.compression.switches import SWITCHES
from jaxrt.converters.conversion import spell
from jaxrt.converters.planning import Planned
from jaxrt.errors import ConversionError
from jaxrt.program import Program

Array = np.ndarray[Any, Any]
Answers = Mapping[str, Array]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """One program of a part, and what its shapes mean."""

    program: Program
    planned: Planned
    values: Mapping[str, bool]
    independent: bool
    """Whether its rows may be filled up with others."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Inputs of exactly the shapes of one program."""

    form: int
    inputs: Mapping[str, Array]
    rows: int | None
    """Those that stand for somebody; None: all."""
    size: int
    """Of the program."""


class Runner:
    """Compiles what it is asked for, each program once."""

    def __init__(self, forms: Sequence[Form]) -> None:
        self.forms = tuple(forms)
        self._compiled: dict[int, Any] = {}
        self._cpu = jax.local_devices(backend="cpu")[0]

    @property
    def switches(self) -> int:
        """How many of `jaxrt.compression.switches` the programs have."""
        found = (
            aval.shape[0]
            for form in self.forms
            for name, aval in zip(form.program.weight_names, form.program.weight_avals, strict=True)
            if name == SWITCHES
        )
        return max(found, default=0)

    def place(self, arrays: Mapping[str, Array]) -> dict[str, Any]:
        """Weights where `run` takes them without a copy."""
        with jax.enable_x64(True):
            return {name: jax.device_put(array, self._cpu) for name, array in arrays.items()}

    def batches(self, inputs: Mapping[str, Array]) -> list[Batch]:
        """Raises ConversionError where no program takes them."""
        number = self._fitting(inputs)
        form = self.forms[number]
        size = form.planned.batch
        if size is None or not form.independent:
            return [Batch(form=number, inputs=inputs, rows=None, size=size or 1)]
        rowful = _rowful(inputs, form)
        count = len(inputs[rowful[0]])
        found = []
        for start in range(0, count, size):
            rows = min(size, count - start)
            part = {
                a: _filled(v[start : start + rows], size) if a in rowful else v
                for a, v in inputs.items()
            }
            found.append(Batch(form=number, inputs=part, rows=rows, size=size))
        return found

    def head(self, inputs: Mapping[str, Array], rows: int) -> Mapping[str, Array]:
        """The first rows; all where rows depend on each other."""
        form = self.forms[self._fitting(inputs)]
        if form.planned.batch is None or not form.independent:
            return inputs
        rowful = _rowful(inputs, form)
        return {a: v[:rows] if a in rowful else v for a, v in inputs.items()}

    def _fitting(self, inputs: Mapping[str, Array]) -> int:
        shapes = {alias: array.shape for alias, array in inputs.items()}
        best: tuple[tuple[bool, int], int] | None = None
        for number, form in enumerate(self.forms):
            if any(bool(inputs[a]) != value for a, value in form.values.items()):
                continue
            batch = form.planned.batch
            if shapes == dict(form.planned.shapes):
                rated = (False, 0)
            elif batch is not None and form.independent:
                rowful = [a for a in inputs if a not in form.planned.shared]
                counts = {shapes[a][:1] for a in rowful}
                if len(counts) != 1 or counts == {(0,)} or counts == {()}:
                    continue
                (count,) = counts
                if shapes != dict(form.planned.rebatch(count[0]).shapes):
                    continue
                rated = (True, -batch if batch <= count[0] else batch)
            else:
                continue
            best = min(best or (rated, number), (rated, number))
        if best is None:
            raise ConversionError(f"no program takes {spell(shapes)}")
        return best[1]

    def run(self, weights: Mapping[str, Any], batch: Batch) -> Answers:
        """The answers to the rows that stand for somebody; `weights` of `place`, or arrays."""
        form = self.forms[batch.form]
        program = form.program
        with jax.enable_x64(True), jax.default_device(self._cpu):
            if batch.form not in self._compiled:
                self._compiled[batch.form] = jax.jit(jaxpr_as_fun(program.jaxpr))
            results = self._compiled[batch.form](
                *(weights[name] for name in program.weight_names),
                *(batch.inputs[name] for name in program.input_names),
            )
        outputs = dict(zip(program.output_names, map(np.asarray, results), strict=True))
        if batch.rows is None:
            return outputs
        return {name: array[: batch.rows] for name, array in outputs.items()}

    def answer(self, weights: Mapping[str, Any], inputs: Mapping[str, Array]) -> Answers:
        """To inputs of any number of rows. Raises ConversionError where no program takes them."""
        return joined([self.run(weights, batch) for batch in self.batches(inputs)])


def _rowful(inputs: Mapping[str, Array], form: Form) -> list[str]:
    return [a for a in inputs if a not in form.planned.shared and inputs[a].ndim]


def joined(answers: Sequence[Answers]) -> Answers:
    """Those of several batches as one."""
    if len(answers) == 1:
        return answers[0]
    return {
        name: np.concatenate([found[name] for found in answers]) if array.ndim else array
        for name, array in answers[0].items()
    }


def _filled(rows: Array, size: int) -> Array:
    """With the last row again until there are `size`."""
    missing = size - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows
