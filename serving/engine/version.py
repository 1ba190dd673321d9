"""One version of one model, ready for requests: finds the programs of a request and runs them."""

import asyncio
import functools
import weakref
from collections.abc import Awaitable, Callable, Mapping
from typing import ParamSpec, TypeVar

import numpy as np

from jaxrt.buckets import Buckets
from jaxrt.errors import DeadlineExceeded, InvalidArgument, Unavailable, Unimplemented
from jaxrt.program import Shapes
from jaxrt.serving.engine.batchpool import BatchPool
from jaxrt.serving.engine.fallback import Fallback, NoProgram
from jaxrt.serving.engine.lane import Lane, alone, title
from jaxrt.serving.engine.metrics import Metrics
from jaxrt.serving.engine.parameters import BatchingParameters
from jaxrt.serving.engine.pipeline import HostStage, Pipeline, Run
from jaxrt.serving.engine.planned import Planned, Values
from jaxrt.serving.engine.scheduler import Scheduler
from jaxrt.serving.engine.servable import (
    HostTensors,
    OnDemand,
    Rows,
    SignaturePrograms,
    StagePrograms,
)
from jaxrt.serving.engine.session import Session
from jaxrt.serving.engine.task import Call, Told
from jaxrt.serving.engine.unplanned import Compiled, Refused, Unplanned
from jaxrt.serving.monitoring import families
from jaxrt.serving.monitoring.calls import Calls
from jaxrt.serving.monitoring.series import Gauge
from jaxrt.specs import DTYPES, SignatureSpec, stage_key

Arguments = ParamSpec("Arguments")
T = TypeVar("T")


class Version:
    """A Servable over one scheduler. Used from one event loop."""

    def __init__(
        self,
        *,
        name: str,
        version: int,
        signatures: Mapping[str, SignaturePrograms],
        scheduler: Scheduler,
        host_scheduler: Scheduler | None = None,
        on_demand: OnDemand | None = None,
        batch_sizes: Buckets | None = None,
        max_unplanned: int = 64,
        batching: tuple[BatchingParameters, BatchPool] | None = None,
        calls: Calls | None = None,
    ) -> None:
        """`host_scheduler` runs host stages; a version that has some needs it.

        `batch_sizes`: the buckets that `on_demand` is asked for; None asks for exact shapes.

        `batching` puts TensorFlow Serving's queues before everything else: then they alone are
        bounded, and merge, pad and fail requests by its rules.

        `calls` is where the version is counted; None: by its schedulers.

        Raises ValueError when a program does not take its signature's inputs.
        """
        self.name = name
        self.version = version
        self.signatures: Mapping[str, SignatureSpec] = {k: s.spec for k, s in signatures.items()}
        self.scheduler = scheduler
        self._titles = {k: title(name, version, k) for k in signatures}
        self._session: Session | None = None
        if batching is not None:
            self._session = Session(self.signatures, *batching, _unowned(self._whole))
        self._calls = calls
        self.metrics = self._counted("device") or scheduler.metrics
        self._in_flight = Gauge()
        if calls is not None:
            self._in_flight = calls.registry.gauge(families.IN_FLIGHT, name, str(version))
        self._refused = {k: s.refused for k, s in signatures.items() if s.refused is not None}
        devices = _device_programs(signatures)
        counted = self.metrics if calls is not None else None
        self._planned = {
            k: Planned(title(name, version, k), s, counted) for k, s in devices.items()
        }
        self.startable = frozenset(
            key
            for key in self._planned.keys() & signatures.keys()
            if self._session is None and key not in self._refused
        )
        self._pipelines = {
            key: self._pipeline(key, signature, host_scheduler)
            for key, signature in signatures.items()
            if signature.stages
        }
        self._fallbacks = {
            key: self._fallback(key, signature, host_scheduler)
            for key, signature in signatures.items()
            if signature.fallback is not None
        }
        self._batch_sizes = batch_sizes
        self._unplanned: Unplanned | None = None
        if on_demand is not None:
            self._unplanned = Unplanned(
                on_demand,
                name=name,
                version=version,
                planned=self._planned,
                limit=max_unplanned,
                clock=scheduler.clock,
                metrics=self.metrics,
            )
        self._draining = False
        self._serving = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def predict(
        self, signature: str, inputs: HostTensors, *, deadline: float | None
    ) -> HostTensors:
        """As Servable says; unplanned shapes are compiled first where on_demand was given."""
        if self._draining:
            raise Unavailable(
                f"model {self.name} version {self.version} is shutting down; try again"
            )
        self._depart()
        try:
            return await self._predict(signature, inputs, deadline)
        finally:
            self._arrive()

    def start(
        self, signature: str, inputs: HostTensors, *, deadline: float | None, told: Told
    ) -> Call | None:
        """As Servable says: where one program that runs on the event loop is all there is to do."""
        if signature not in self.startable or self._draining:
            return None
        planned = self._planned[signature]
        spec = planned.spec
        check(self._titles[signature], spec, inputs)
        shapes = {alias: inputs[alias].shape for alias in spec.inputs}
        lane, rows = planned.route(shapes, planned.values(inputs))
        if lane is None:
            return None
        if lane.rows is Rows.DEPENDENT:
            rows = 1
        call = _Flight(self, told)
        if not rows or not self.scheduler.start(lane, inputs, rows, deadline, call):
            return None
        self._depart()
        return call

    def _depart(self) -> None:
        self._serving += 1
        self._in_flight.set(self._serving)
        if self._serving == 1:
            self._idle.clear()

    def _arrive(self) -> None:
        self._serving -= 1
        self._in_flight.set(self._serving)
        if not self._serving:
            self._idle.set()

    def lanes(self) -> Mapping[str, list[Lane]]:
        """Signature, or a stage's `stage_key` → the lanes of its planned programs."""
        return {key: planned.lanes() for key, planned in self._planned.items()}

    def device_spec(self, key: str) -> SignatureSpec:
        """What a key of `lanes` takes and gives."""
        return self._planned[key].spec

    async def idle(self) -> None:
        """Returns when no request is being answered; refuses none."""
        await self._idle.wait()

    async def drain(self, grace: float) -> bool:
        """Refuses new requests and waits up to `grace` seconds for the accepted ones.

        True: all of them were answered. Compiles that nobody planned end here.
        """
        self._draining = True
        if self._session is not None:
            self._session.drain()
        try:
            await asyncio.wait_for(self._idle.wait(), grace)
        except TimeoutError:
            return False
        finally:
            if self._unplanned is not None:
                self._unplanned.close()
        return True

    async def _predict(
        self, signature: str, inputs: HostTensors, deadline: float | None
    ) -> HostTensors:
        spec = self.signatures.get(signature)
        if spec is None:
            raise InvalidArgument(
                f'Serving signature name: "{signature}" not found in signature def'
            )
        if signature in self._refused:
            raise Unimplemented(self._refused[signature])
        check(self._titles[signature], spec, inputs)
        if self._session is not None:
            return await self._session.predict(signature, inputs, deadline)
        return await self._whole(signature, inputs, deadline)

    async def _whole(
        self, signature: str, inputs: HostTensors, deadline: float | None
    ) -> HostTensors:
        """All stages of a signature, or what stands in for them."""
        try:
            if signature in self._pipelines:
                return await self._pipelines[signature].run(inputs, deadline)
            return await self._run(signature, inputs, deadline)
        except NoProgram as error:
            if signature not in self._fallbacks:
                raise
            return await self._fallbacks[signature].run(inputs, deadline, error)

    async def _run(
        self, signature: str, inputs: HostTensors, deadline: float | None
    ) -> HostTensors:
        """A signature that is one device program, or a device stage under its `stage_key`."""
        spec = self._planned[signature].spec
        shapes = {alias: inputs[alias].shape for alias in spec.inputs}
        planned = self._planned[signature]
        values = planned.values(inputs)
        lane, rows = planned.route(shapes, values)
        if lane is None:
            lane = await self._compile(signature, shapes, values, deadline)
        if lane.rows is Rows.DEPENDENT:
            rows = 1
        elif not rows:
            return _no_rows(spec, lane)
        return await self.scheduler.submit(
            lane, inputs, rows=rows, deadline=deadline, bounded=self._session is None
        )

    def _pipeline(self, key: str, signature: SignaturePrograms, host: Scheduler | None) -> Pipeline:
        stages: list[tuple[StagePrograms, Run]] = []
        for number, stage in enumerate(signature.stages):
            name = stage_key(key, number)
            if stage.host is None:
                stages.append((stage, functools.partial(_unowned(self._run), name)))
                continue
            where = title(self.name, self.version, name)
            if host is None:
                raise ValueError(f"{where}: a host stage wants a host_scheduler")
            stages.append((stage, self._host_stage(where, stage, host).run))
        return Pipeline(stages, list(signature.spec.outputs))

    def _fallback(self, key: str, signature: SignaturePrograms, host: Scheduler | None) -> Fallback:
        where = title(self.name, self.version, key)
        if host is None:
            raise ValueError(f"{where}: a fallback wants a host_scheduler")
        stage = StagePrograms(spec=signature.spec, host=signature.fallback)
        return Fallback(self._host_stage(where, stage, host), self.metrics)

    def _host_stage(self, where: str, stage: StagePrograms, host: Scheduler) -> HostStage:
        metrics = self._counted("host")
        return HostStage(where, stage, host, bounded=self._session is None, metrics=metrics)

    def _counted(self, on: str) -> Metrics | None:
        if self._calls is None:
            return None
        return Metrics(self._calls.registry, self.name, self.version, on)

    async def _compile(
        self, signature: str, shapes: Shapes, values: Values, deadline: float | None
    ) -> Lane:
        """The lane of a shape nobody planned."""
        planned = self._planned[signature]
        if self._unplanned is None:
            raise NoProgram(planned.missing(shapes, values))
        rows = planned.rows(shapes)
        if rows is not None and self._batch_sizes is not None:
            size = self._batch_sizes.fit(min(rows, self._batch_sizes.largest))
            bucketed = planned.with_rows(shapes, size)
            found = await self._unplanned.get(signature, bucketed, values, deadline=deadline)
            if isinstance(found, Compiled) and found.rows is Rows.INDEPENDENT:
                return self._lane(signature, shapes, values, size, found)
            # A refusal of the bucket says nothing of the shapes asked for: the graph may fix them.
        found = await self._unplanned.get(signature, shapes, values, deadline=deadline)
        where = title(self.name, self.version, signature)
        if isinstance(found, Refused):
            raise InvalidArgument(f"{where}: {found.reason}")
        counted = self.metrics if self._calls is not None else None
        return alone(where, found.program, values, counted)

    def _lane(
        self, signature: str, shapes: Shapes, values: Values, size: int, found: Compiled
    ) -> Lane:
        """The bucket just found, with those of the same inner shapes made before."""
        assert self._unplanned is not None and self._batch_sizes is not None
        planned = self._planned[signature]
        programs = {size: found.program}
        for other in self._batch_sizes.sizes:
            known = self._unplanned.peek(signature, planned.with_rows(shapes, other), values)
            if isinstance(known, Compiled) and known.rows is Rows.INDEPENDENT:
                programs[other] = known.program
        return planned.lane(programs, values)


class _Flight(Call):
    """A request that a version counts as being answered; it may be left alone, not twice."""

    def __init__(self, version: Version, told: Told) -> None:
        super().__init__(told)
        self._version = version

    def settle(self, answer: HostTensors | Exception) -> None:
        if not self.dropped:
            if isinstance(answer, DeadlineExceeded):
                self._version.metrics.expired.add()
            self._version._arrive()
            self.dropped = True
            self._told(answer)

    def cancel(self) -> None:
        if not self.dropped:
            self.dropped = True
            self._version.metrics.cancelled.add()
            self._version._arrive()


def _unowned(run: Callable[Arguments, Awaitable[T]]) -> Callable[Arguments, Awaitable[T]]:
    """A method that does not keep its object: one that kept itself would stay in memory when it is
    unloaded, until a collection that stops every request looks for it."""
    method = weakref.WeakMethod(run)

    def call(*arguments: Arguments.args, **named: Arguments.kwargs) -> Awaitable[T]:
        found = method()
        assert found is not None  # whoever waits for an answer holds the version
        return found(*arguments, **named)

    return call


def _device_programs(
    signatures: Mapping[str, SignaturePrograms],
) -> dict[str, SignaturePrograms]:
    """What runs on the device: whole signatures, and the device stages of those that are cut."""
    found = {key: signature for key, signature in signatures.items() if not signature.stages}
    for key, signature in signatures.items():
        for number, stage in enumerate(signature.stages):
            if stage.host is None:
                found[stage_key(key, number)] = SignaturePrograms(
                    spec=stage.spec, programs=stage.programs, fixed=stage.fixed
                )
    return found


def check(where: str, spec: SignatureSpec, inputs: HostTensors) -> None:
    """Raises InvalidArgument unless the inputs have the signature's names and dtypes."""
    if inputs.keys() != spec.inputs.keys():
        missing = sorted(spec.inputs.keys() - inputs.keys())
        extra = sorted(inputs.keys() - spec.inputs.keys())
        raise InvalidArgument(
            f"{where}: inputs {sorted(inputs)} given, want {sorted(spec.inputs)}"
            + (f"; missing: {', '.join(missing)}" if missing else "")
            + (f"; unknown: {', '.join(extra)}" if extra else "")
        )
    for alias, tensor in spec.inputs.items():
        found, wanted = inputs[alias].dtype, DTYPES[tensor.dtype].numpy
        if found != wanted:
            raise InvalidArgument(
                f'{where}: input "{alias}" has dtype {found}, want {tensor.dtype}'
            )


def _no_rows(spec: SignatureSpec, lane: Lane) -> HostTensors:
    """What a batch of nothing gives: [0, ...] for every output, and nothing runs."""
    inner = next(iter(lane.programs.values())).output_shapes
    return {
        alias: np.empty((0, *inner[alias][1:]), DTYPES[tensor.dtype].numpy)
        for alias, tensor in spec.outputs.items()
    }
