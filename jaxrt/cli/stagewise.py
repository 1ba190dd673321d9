"""Signatures in stages, answered as a server answers them, beside TensorFlow."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np

from jaxrt import loader
from jaxrt.cli import loading
from jaxrt.converters import check, conversion
from jaxrt.converters.records import Refused, Sample
from jaxrt.errors import JaxrtError, ModelError
from jaxrt.manifest import ProgramEntry
from jaxrt.program import Rows
from jaxrt.serving.engine.scheduler import Scheduler
from jaxrt.serving.engine.version import Version

Array = np.ndarray[Any, Any]

ROWS = (1, 3)
"""Where no program on the device says how many."""

Samples = Callable[[int], Sample | Refused]
"""Rows → inputs that TensorFlow takes, and its answer."""


class Server:
    """A loaded model behind queues and batches, without HTTP, until the block is left."""

    def __init__(self, name: str, model: loader.LoadedModel) -> None:
        self._schedulers = (Scheduler(name="verified"), Scheduler(name="verified-host"))
        self._model = model
        self._version = Version(
            name=name,
            version=1,
            signatures=loading.signatures(name, model),
            scheduler=self._schedulers[0],
            host_scheduler=self._schedulers[1],
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for scheduler in self._schedulers:
            asyncio.run(scheduler.drain(10.0))

    def answer(self, key: str, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Raises what the server would tell its client."""
        return asyncio.run(self._version.predict(key, inputs, deadline=None))

    def compare(
        self, key: str, samples: Samples, allowed: check.Allowed
    ) -> Iterator[tuple[str, list[check.OutputError] | str]]:
        """Input shapes, and the error of every output or why there is none, at several rows."""
        stages = self._model.signatures[key].stages
        if any(_draws(entry.entry) for stage in stages for entry in stage.programs):
            yield "", "it draws random numbers"
            return
        for number, stage in enumerate(stages):
            if stage.host is None and not stage.programs:
                yield "", f"stage {number} has no program: nobody planned its sizes"
                return
        seen = set()
        for rows in _rows(stages):
            try:
                found = samples(rows)
            except ModelError as error:  # its process may also die of them
                yield f"{rows} rows", f"TensorFlow does not run it: {error}"
                continue
            if isinstance(found, Refused):
                yield "", found.reason
                return
            at = conversion.spell({name: array.shape for name, array in found.inputs.items()})
            if at not in seen:  # sizes that are declared stay as they are
                seen.add(at)
                yield at, self._errors(key, found, allowed)

    def _errors(self, key: str, sample: Sample, allowed: check.Allowed) -> list[check.OutputError]:
        try:
            got = self.answer(key, sample.inputs)
        except JaxrtError as error:
            return check.failed(sample.answers, f"it fails where TensorFlow does not: {error}")
        return check.compare(got, sample.answers, allowed)


def _draws(entry: ProgramEntry) -> bool:
    """Of programs for one value of an input, those for False are run: samples have no others."""
    return entry.random and not any(entry.values.values())


def _rows(stages: tuple[loader.LoadedStage, ...]) -> list[int]:
    """Each batch size that has a program, and one between where rows may be padded."""
    sizes, padded = set(), True
    for stage in stages:
        rowful = {n for n, t in stage.entry.spec.inputs.items() if t.shape and t.shape[0] is None}
        for entry in stage.programs:
            shapes = entry.program.input_shapes
            sizes |= {shapes[name][0] for name in rowful & shapes.keys()}
            padded &= entry.rows is Rows.INDEPENDENT
    if not sizes:
        return list(ROWS)
    between = {max(sizes) - 1} - {0} if padded else set()
    return sorted(sizes | between)
