"""Calls: what every interface counts of its requests, by TensorFlow Serving's rules."""

from jaxrt.errors import Code
from jaxrt.serving.monitoring import families
from jaxrt.serving.monitoring.registry import Registry
from jaxrt.serving.monitoring.series import Counter, Histogram

RUNTIME = "JAX"
"""Where TensorFlow Serving has `TF1` or `TFRT`."""

STRANGERS = 1000
"""Names of models without one answered request that are counted each for itself: the names come
from clients, who could fill the memory with them. TensorFlow Serving has no limit."""

LONGEST = 256
"""Characters of the name of such a model."""

OTHER = "(other)"
"""The name that further ones and longer ones are counted under."""


_OK = Code.OK  # an enum's members are found slowly


class _Answered:
    """The series of answered requests of one model, API and entrypoint."""

    __slots__ = ("count", "latency")

    def __init__(self, count: Counter, latency: Histogram) -> None:
        self.count = count
        self.latency = latency


class Calls:
    """One object for all interfaces of a server, used from its event loop.

    Cheap enough for every request: no locks, and the series of a call are found in one look-up.
    """

    def __init__(self, registry: Registry | None = None) -> None:
        self.registry = registry or Registry()
        self._answered: dict[tuple[str, str, str], _Answered] = {}
        self._known: set[str] = set()
        """Models with an answered request."""
        self._failed: dict[tuple[str, str], Counter] = {}
        self._strangers: set[str] = set()
        self._runtimes: dict[tuple[str, str, str], Histogram] = {}
        self._stages: dict[tuple[str, int, str], Histogram] = {}
        self._served: dict[tuple[str, int, str], tuple[Histogram, Histogram, Histogram]] = {}

    def finished(self, model: str, code: Code, api: str, entrypoint: str, seconds: float) -> None:
        """A call was answered; `seconds` from its last byte to its answer's first.

        `model` as the client named it, "" if it did not. `api`: REST `predict`, `classify`,
        `regress`, or "" for what only reads; gRPC `Predict`, `Classify`, `Regress`; v2 `infer`.
        `entrypoint`: `REST`, `GRPC` or `V2`. The latency of failed calls is not recorded.
        """
        if code is not _OK:
            self._fail(model, code)
            return
        answered = self._answered.get((model, api, entrypoint))
        if answered is None:
            answered = self._answer(model, api, entrypoint)
        answered.count.add()
        answered.latency.observe(seconds * 1e6)

    def ran(self, model: str, api: str, seconds: float, runtime: str = RUNTIME) -> None:
        """A model has run for a call, its time in queues included; `api` as `Predict`."""
        latency = self._runtimes.get((model, api, runtime))
        if latency is None:
            latency = self._runtimes[model, api, runtime] = self.registry.histogram(
                families.RUNTIME_LATENCY, model, api, runtime
            )
        latency.observe(seconds * 1e6)

    def served(
        self, model: str, version: int, api: str, parse: float, run: float, encode: float
    ) -> None:
        """`ran` and both stages of `staged` in one, for one request: the seconds of each."""
        found = self._served.get((model, version, api))
        if found is None:
            stages = (model, str(version))
            found = self._served[model, version, api] = (
                self.registry.histogram(families.STAGE_SECONDS, *stages, "parse"),
                self.registry.histogram(families.RUNTIME_LATENCY, model, api, RUNTIME),
                self.registry.histogram(families.STAGE_SECONDS, *stages, "encode"),
            )
        found[0].observe(parse)
        found[1].observe(run * 1e6)
        found[2].observe(encode)

    def warmed(self, path: str, code: Code, seconds: float, records: int) -> None:
        """The warm-up file of the version at `path` was replayed, or failed."""
        latency = self.registry.histogram(families.WARMUP_LATENCY, path, code.name)
        latency.observe(seconds * 1e6)
        self.registry.counter(families.WARMUP_RECORDS, path, code.name).add(records)

    def examples(self, model: str, count: int) -> None:
        """A MultiInference call had so many tf.Examples."""
        self.registry.histogram(families.EXAMPLE_COUNTS, model).observe(count)
        self.registry.counter(families.EXAMPLE_TOTAL, model).add(count)

    def staged(self, stage: str, model: str, version: int, seconds: float) -> None:
        """One request's time in `parse` or `encode`."""
        found = self._stages.get((model, version, stage))
        if found is None:
            found = self._stages[model, version, stage] = self.registry.histogram(
                families.STAGE_SECONDS, model, str(version), stage
            )
        found.observe(seconds)

    def forget(self, model: str, version: int) -> None:
        """A version is gone: its own series go, and what counts models stays."""
        for series in (self._stages, self._served):
            for key in [key for key in series if key[:2] == (model, version)]:
                del series[key]
        self.registry.forget(model, version)

    def _answer(self, model: str, api: str, entrypoint: str) -> _Answered:
        self._known.add(model)
        found = self._answered[model, api, entrypoint] = _Answered(
            self.registry.counter(families.REQUEST_COUNT, model, Code.OK.name),
            self.registry.histogram(families.REQUEST_LATENCY, model, api, entrypoint),
        )
        return found

    def _fail(self, model: str, code: Code) -> None:
        if model and model not in self._known and model not in self._strangers:
            if len(self._strangers) >= STRANGERS or len(model) > LONGEST:
                model = OTHER
            else:
                self._strangers.add(model)
        counter = self._failed.get((model, code.name))
        if counter is None:
            counter = self._failed[model, code.name] = self.registry.counter(
                families.REQUEST_COUNT, model, code.name
            )
        counter.add()
