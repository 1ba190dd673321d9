"""Requests that are served together, and what each of them is answered alone."""

import asyncio
import concurrent.futures
import dataclasses
import multiprocessing
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from jaxrt import target
from jaxrt.buckets import Buckets
from jaxrt.cli import building, loading
from jaxrt.errors import RequestError
from jaxrt.serving.engine import pipeline
from jaxrt.serving.engine.metrics import Metrics
from jaxrt.serving.engine.scheduler import Scheduler
from jaxrt.serving.engine.version import Version

Values = dict[str, np.ndarray[Any, Any]]
Answer = Values | str
"""Outputs by alias, or what the error says."""
Request = tuple[str, Values]
"""Signature, and inputs by alias."""

HOLD_MICROS = 10_000
"""A batch waits so long for others to share it: all requests of a crowd come within it."""

BUCKETS = (1, 3, 8)

ALIKE = 1e-5
"""Of an output's largest value. Buckets are programs of their own, which round otherwise."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """What a crowd was answered, in its order, and how many runs that took."""

    answers: list[Answer]
    runs: int


class Crowd:
    """Artifacts, served in a process of its own by the engine of `jaxrt serve`."""

    def __init__(self, artifacts: Mapping[str, Path]) -> None:
        # A process: host stages that are TensorFlow's would bring it into this one.
        self._pool = concurrent.futures.ProcessPoolExecutor(
            1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start,
            initargs=({name: str(path) for name, path in artifacts.items()},),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown()

    def together(self, model: str, requests: Sequence[Request]) -> Service:
        """All at once."""
        return self._pool.submit(_serve, model, list(requests)).result()

    def alone(self, model: str, request: Request) -> Answer:
        return self.together(model, [request]).answers[0]


class _Engine:
    """In the process that serves."""

    def __init__(self, artifacts: Mapping[str, str]) -> None:
        self._metrics = Metrics()
        schedulers = [
            Scheduler(name=name, batch_timeout_micros=HOLD_MICROS, metrics=self._metrics)
            for name in ("cpu", "host")
        ]
        self._runner = asyncio.Runner()
        plan = loading.Loading(
            target=target.attached("cpu"),
            scheduler=schedulers[0],
            host_scheduler=schedulers[1],
            saved_models=_no_saved_models,
        )
        self._versions = {
            name: loading.load_version(name, 1, Path(path), plan).version
            for name, path in artifacts.items()
        }

    def serve(self, model: str, requests: Sequence[Request]) -> Service:
        before = self._metrics.snapshot().batches
        answers = self._runner.run(self._together(self._versions[model], requests))
        return Service(answers=answers, runs=self._metrics.snapshot().batches - before)

    async def _together(self, version: Version, requests: Sequence[Request]) -> list[Answer]:
        return await asyncio.gather(*(_answered(version, *request) for request in requests))


async def _answered(version: Version, signature: str, inputs: Values) -> Answer:
    try:
        return dict(await version.predict(signature, inputs, deadline=None))
    except RequestError as error:
        return str(error)


class Silent:
    def total(self, steps: int) -> None:
        pass

    def step(self, text: str) -> None:
        pass


def _no_saved_models() -> Any:
    raise AssertionError("an artifact is served")


_engine: list[_Engine] = []


def _start(artifacts: dict[str, str]) -> None:
    # Work that takes long is spread over threads, and on a loaded machine all takes long: here
    # requests shall meet.
    pipeline.SHARED_SECONDS = 60.0
    _engine.append(_Engine(artifacts))


def _serve(model: str, requests: list[Request]) -> Service:
    return _engine[0].serve(model, requests)


def compile_model(
    path: Path, artifact: Path, bridges: building.Bridges, sizes: Sequence[int] = BUCKETS
) -> None:
    model = building.saved_model(path)
    chosen = building.choose(
        model.path,
        batch_sizes=Buckets(sizes=tuple(sizes)),
        shapes=(),
        tags=("serve",),
        check=False,
    )
    building.build(
        model,
        artifact,
        chosen,
        target=target.attached("cpu"),
        bridges=bridges,
        steps=Silent(),
        allow_empty=True,
    )


def difference(found: Answer, want: Answer, tolerance: float) -> str | None:
    """Where two answers differ: strings and whole numbers at all, floats by more than
    `tolerance` times the output's largest value; errors whatever they say."""
    if isinstance(found, str) or isinstance(want, str):
        both = isinstance(found, str) and isinstance(want, str)
        return None if both else f"found {found}, want {want}"
    if found.keys() != want.keys():
        return f"found outputs {sorted(found)}, want {sorted(want)}"
    for alias, expected in want.items():
        array = found[alias]
        if array.shape != expected.shape or array.dtype != expected.dtype:
            kinds = [f"{a.dtype}{list(a.shape)}" for a in (array, expected)]
            return f"{alias}: found {kinds[0]}, want {kinds[1]}"
        if not _close(array, expected, tolerance):
            return f"{alias}: found {array.tolist()}, want {expected.tolist()}"
    return None


def _close(found: Any, want: Any, tolerance: float) -> bool:
    if want.dtype.kind not in "fc":
        return bool(np.array_equal(found, want))
    finite = want[np.isfinite(want)]
    # What is all but zero is the difference of larger values, whose rounding is left in it.
    largest = float(np.max(np.abs(finite), initial=0.1))
    return bool(np.allclose(found, want, rtol=0.0, atol=tolerance * largest, equal_nan=True))
