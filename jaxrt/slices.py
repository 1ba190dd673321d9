"""A batch in slices: one executable of few rows, run several times at once, each on a core.

XLA:CPU runs the rounds of a loop one after the other, most of each on one thread, so a recurrent
net or a loop over rows leaves cores idle that executions side by side use.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, partial
from typing import Any, Protocol, TypeVar

import jax
import numpy as np

Array = np.ndarray[Any, Any]
T = TypeVar("T")


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


def count(rows: int, cores: int) -> int:
    """Into how many slices of equal size `rows` are cut: as many as cores can have one each."""
    return max(n for n in range(1, max(1, min(rows, cores)) + 1) if rows % n == 0)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="jaxrt-slice")


def at_once(runs: Sequence[Callable[[], T]]) -> list[T]:
    """What each gives, in their order; the calling thread runs the first.

    One after the other where there is one core. Returns or raises when all have ended.
    """
    if (threads := min(len(runs), cores()) - 1) < 1:
        return [run() for run in runs]
    others: list[Future[T]] = [_pool(threads).submit(run) for run in runs[1:]]
    try:
        first = runs[0]()
    finally:
        for other in others:
            other.exception()
    return [first, *(other.result() for other in others)]


class Program(Protocol):
    """What runs one slice."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]: ...


class Sliced:
    """A program of independent rows: every input and output has rows, `slices` times a slice's."""

    def __init__(
        self,
        program: Program,
        slices: int,
        *,
        inputs: Mapping[str, jax.ShapeDtypeStruct],
        outputs: Mapping[str, jax.ShapeDtypeStruct],
    ) -> None:
        """`inputs` and `outputs` are the whole batch's."""
        self._program = program
        self._slices = slices
        self.inputs = dict(inputs)
        self.outputs = dict(outputs)

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: aval.shape for name, aval in self.inputs.items()}

    @property
    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: aval.shape for name, aval in self.outputs.items()}

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Alias → array of exactly the shape and dtype of `inputs`."""
        given = {name: np.split(inputs[name], self._slices) for name in self.inputs}
        parts = at_once(
            [
                partial(self._program.run, {name: pieces[i] for name, pieces in given.items()})
                for i in range(self._slices)
            ]
        )
        return {name: np.concatenate([part[name] for part in parts]) for name in self.outputs}


def sliced(
    avals: Mapping[str, jax.ShapeDtypeStruct], slices: int
) -> dict[str, jax.ShapeDtypeStruct]:
    """Of one slice: a whole batch's, with rows cut."""
    return {
        name: jax.ShapeDtypeStruct((aval.shape[0] // slices, *aval.shape[1:]), aval.dtype)
        for name, aval in avals.items()
    }


def whole(
    avals: Mapping[str, jax.ShapeDtypeStruct], slices: int
) -> dict[str, jax.ShapeDtypeStruct]:
    """Of the whole batch: those of one slice, with its rows as often."""
    return {
        name: jax.ShapeDtypeStruct((aval.shape[0] * slices, *aval.shape[1:]), aval.dtype)
        for name, aval in avals.items()
    }
