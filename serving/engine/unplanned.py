"""Shapes nobody planned: compiled once, off the event loop and the device, and remembered."""

import asyncio
import dataclasses
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

from jaxrt.errors import (
    ConversionError,
    DeadlineExceeded,
    Internal,
    RequestError,
    Unavailable,
)
from jaxrt.program import Shapes
from jaxrt.serving.engine.lane import title
from jaxrt.serving.engine.metrics import Metrics
from jaxrt.serving.engine.planned import NO_VALUES, Planned, Values
from jaxrt.serving.engine.servable import Loaded, OnDemand, Rows
from jaxrt.serving.engine.shapes import show

_log = logging.getLogger("jaxrt.serving")

_Key = tuple[str, tuple[tuple[str, tuple[int, ...]], ...], tuple[tuple[str, bool], ...]]
_Outcome: TypeAlias = "Compiled | Refused | RequestError"


@dataclasses.dataclass(frozen=True, slots=True)
class Compiled:
    """A program made on demand."""

    program: Loaded
    rows: Rows


@dataclasses.dataclass(frozen=True, slots=True)
class Refused:
    """The signature cannot take these shapes, and will not tomorrow."""

    reason: str


class Unplanned:
    """The programs made on demand for one version, the least recently used dropped first.

    Used from one event loop; compiles one at a time on a thread of its own. Each key is compiled
    once however many wait for it, and a refusal is remembered like a program.
    """

    def __init__(
        self,
        on_demand: OnDemand,
        *,
        name: str,
        version: int,
        planned: Mapping[str, Planned],
        limit: int,
        clock: Callable[[], float] = time.monotonic,
        metrics: Metrics,
    ) -> None:
        if limit < 1:
            raise ValueError(f"max_unplanned {limit}: want at least 1")
        self._on_demand = on_demand
        self._name = name
        self._version = version
        self._planned = planned
        self._limit = limit
        self._clock = clock
        self._metrics = metrics
        self._known: OrderedDict[_Key, Compiled | Refused] = OrderedDict()
        self._flights: dict[_Key, asyncio.Future[_Outcome]] = {}
        self._closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"jaxrt-compile-{name}")

    def peek(
        self, signature: str, shapes: Shapes, values: Values = NO_VALUES
    ) -> Compiled | Refused | None:
        """What is known already."""
        key = _key(signature, shapes, values)
        found = self._known.get(key)
        if found is not None:
            self._known.move_to_end(key)
        return found

    async def get(
        self,
        signature: str,
        shapes: Shapes,
        values: Values = NO_VALUES,
        *,
        deadline: float | None,
    ) -> Compiled | Refused:
        """The program for exactly these shapes and values, compiled if need be.

        Raises DeadlineExceeded while the compile goes on for those who come later, Unavailable
        when too many compiles wait, Internal when the compiler failed.
        """
        found = self.peek(signature, shapes, values)
        if found is not None:
            return found
        key = _key(signature, shapes, values)
        flight = self._flights.get(key) or self._start(key, signature, shapes, values)
        # Leaving must not end the compile: shield it from a cancelled or late caller.
        timeout = None if deadline is None else max(0.0, deadline - self._clock())
        try:
            outcome = await asyncio.wait_for(asyncio.shield(flight), timeout)
        except TimeoutError:
            self._metrics.expired.add()
            raise DeadlineExceeded(
                f"{title(self._name, self._version, signature)}: the deadline passed while the "
                f"unplanned shape {show(shapes, values)} was compiled; it is ready soon: try again"
            ) from None
        except asyncio.CancelledError:
            self._metrics.cancelled.add()
            raise
        if isinstance(outcome, RequestError):
            raise type(outcome)(str(outcome))  # its own: several callers may get this one
        return outcome

    def close(self) -> None:
        """Fails those who wait; a compile that runs ends by itself and is dropped."""
        self._closed = True
        for flight in self._flights.values():
            _resolve(flight, Unavailable(f"model {self._name} is being unloaded"))
        self._flights.clear()
        self._known.clear()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _start(
        self, key: _Key, signature: str, shapes: Shapes, values: Values
    ) -> "asyncio.Future[_Outcome]":
        if self._closed:
            raise Unavailable(f"model {self._name} is being unloaded")
        if len(self._flights) >= self._limit:
            self._metrics.rejected.add()
            raise Unavailable(
                f"{title(self._name, self._version, signature)}: {len(self._flights)} unplanned "
                f"shapes wait to be compiled, the limit: try again; "
                f"{show(shapes, values)}: {self._planned[signature].advice(shapes)}"
            )
        loop = asyncio.get_running_loop()
        flight = loop.create_future()
        self._flights[key] = flight
        # A frozen copy: the caller may go away and change its own while the compile waits.
        self._thread.submit(self._compile, loop, key, flight, signature, dict(shapes), values)
        return flight

    def _compile(
        self,
        loop: asyncio.AbstractEventLoop,
        key: _Key,
        flight: "asyncio.Future[_Outcome]",
        signature: str,
        shapes: Shapes,
        values: Values,
    ) -> None:
        """On the compile thread."""
        where = title(self._name, self._version, signature)
        started = self._clock()
        outcome: _Outcome
        try:
            outcome = Compiled(*self._on_demand.compile(signature, shapes, values))
        except ConversionError as error:
            outcome = Refused(str(error))
        except Exception as error:
            _log.error("%s: compiling %s failed", where, show(shapes, values), exc_info=error)
            outcome = Internal(
                f"{where}: compiling the unplanned shape {show(shapes, values)} failed: "
                f"{type(error).__name__}: {error}"
            )
        seconds = self._clock() - started
        self._metrics.compiled(seconds)
        self._record(signature, shapes, values, outcome, seconds)
        try:
            loop.call_soon_threadsafe(self._land, key, flight, outcome)
        except RuntimeError:  # the loop is closed: nobody waits any more
            _log.warning("%s: a compile ended after the event loop was closed", where)

    def _record(
        self, signature: str, shapes: Shapes, values: Values, outcome: _Outcome, seconds: float
    ) -> None:
        where = title(self._name, self._version, signature)
        if isinstance(outcome, Compiled):
            self._metrics.unplanned_compiles.add()
            alone = outcome.rows is Rows.DEPENDENT
            advice = self._planned[signature].advice(shapes, batch=alone)
            end = f"compiled in {seconds:.3f} s; {advice}"
        else:
            self._metrics.unplanned_failures.add()
            reason = outcome.reason if isinstance(outcome, Refused) else outcome
            end = f"not compiled after {seconds:.3f} s: {reason}"
        _log.warning("%s: unplanned shape %s %s", where, show(shapes, values), end)

    def _land(
        self,
        key: _Key,
        flight: "asyncio.Future[_Outcome]",
        outcome: _Outcome,
    ) -> None:
        if self._flights.get(key) is not flight:
            return  # closed meanwhile
        del self._flights[key]
        if not isinstance(outcome, RequestError):
            self._known[key] = outcome
            while len(self._known) > self._limit:
                self._known.popitem(last=False)
        _resolve(flight, outcome)


def _key(signature: str, shapes: Shapes, values: Values) -> _Key:
    return signature, tuple(sorted(shapes.items())), tuple(sorted(values.items()))


def _resolve(
    flight: "asyncio.Future[_Outcome]",
    outcome: _Outcome,
) -> None:
    if not flight.done():
        flight.set_result(outcome)
