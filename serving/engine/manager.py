"""The manager: which versions of which models there are, and which one a request gets."""

import asyncio
import dataclasses
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

from jaxrt.errors import Code, FailedPrecondition, InvalidArgument, NotFound
from jaxrt.serving.engine.scheduler import Scheduler
from jaxrt.serving.engine.servable import Servable, State, VersionStatus


class Drainable(Servable, Protocol):
    """A servable that can be told to finish."""

    async def drain(self, grace: float) -> bool: ...


Observer = Callable[[str, int, State, Code], None]
"""Model, version, its state from now on, and the code of the error that led there."""


@dataclasses.dataclass(slots=True)
class _Model:
    configured: bool = True
    statuses: dict[int, VersionStatus] = dataclasses.field(default_factory=dict)
    servables: dict[int, Drainable] = dataclasses.field(default_factory=dict)
    labels: dict[str, int] = dataclasses.field(default_factory=dict)

    def available(self, version: int) -> bool:
        status = self.statuses.get(version)
        return status is not None and status.state is State.AVAILABLE and version in self.servables


class Manager:
    """Implements Models. Used from the event loop alone: loaders post their results to it.

    Invariant: an AVAILABLE version of `get` has a servable; a version once known stays listed.
    """

    def __init__(
        self,
        *,
        schedulers: Sequence[Scheduler] = (),
        models: Iterable[str] = (),
        clock: Callable[[], float] = time.monotonic,
        observer: Observer | None = None,
    ) -> None:
        """`models` are configured and not loaded yet: the server is not ready without them.

        `observer` is told each state of each version.
        """
        self._observer = observer
        self._schedulers = tuple(schedulers)
        self._clock = clock
        self._models = {name: _Model() for name in models}
        self._draining = False

    def get(self, name: str, *, version: int | None = None, label: str | None = None) -> Drainable:
        """As Models says."""
        model = self._models.get(name) or _Model()
        if label is not None:
            if label not in model.labels:
                raise InvalidArgument(f"Unrecognized servable version label: {label}")
            version = model.labels[label]
        if version is None:
            found = max(filter(model.available, model.servables), default=None)
            asked = f"Latest({name})"
        else:
            found = version if model.available(version) else None
            asked = f"Specific({name}, {version})"
        if found is None:
            raise NotFound(f"Servable not found for request: {asked}")
        return model.servables[found]

    def status(self, name: str, version: int | None = None) -> Sequence[VersionStatus]:
        """As Models says."""
        statuses = self._models.get(name, _Model()).statuses
        if version is not None:
            if version not in statuses:
                raise NotFound(f"Could not find version {version} of model {name}")
            return [statuses[version]]
        if not statuses:
            raise NotFound(f"Could not find any versions of model {name}")
        return [statuses[v] for v in sorted(statuses, reverse=True)]

    def ready(self) -> bool:
        """As Models says."""
        return not self._draining and not self.missing()

    def missing(self) -> list[str]:
        """The configured models without an AVAILABLE version."""
        return [
            name
            for name, model in self._models.items()
            if model.configured and not any(model.available(v) for v in model.servables)
        ]

    def configure(self, names: Collection[str]) -> None:
        """From now on these are the models of this server; what is known of others stays listed."""
        for name in names:
            self._models.setdefault(name, _Model())
        for name, model in self._models.items():
            model.configured = name in names

    def add(self, servable: Drainable, labels: Iterable[str] = ()) -> None:
        """A version that is warm: AVAILABLE from now on, under these labels too."""
        model = self._models.setdefault(servable.name, _Model())
        model.servables[servable.version] = servable
        self.set_state(servable.name, servable.version, State.AVAILABLE)
        model.labels.update(dict.fromkeys(labels, servable.version))

    def set_labels(
        self, name: str, labels: Mapping[str, int], *, allow_unavailable: bool = False
    ) -> None:
        """Replaces the labels of a model: all of them or, on an error, none.

        `allow_unavailable` lets a new label (never a moved one) point to a version that is not
        loaded yet. Raises FailedPrecondition with TensorFlow Serving's text.
        """
        self._check_labels(name, labels, allow_unavailable)
        self._models.setdefault(name, _Model()).labels = dict(labels)

    def set_all_labels(
        self, labels: Mapping[str, Mapping[str, int]], *, allow_unavailable: bool = False
    ) -> None:
        """Replaces the labels of all models, by name: all of them or, on an error, none."""
        for name, found in labels.items():
            self._check_labels(name, found, allow_unavailable)
        for model in self._models.values():
            model.labels = {}
        for name, found in labels.items():
            self._models.setdefault(name, _Model()).labels = dict(found)

    def _check_labels(self, name: str, labels: Mapping[str, int], allow_unavailable: bool) -> None:
        model = self._models.get(name, _Model())
        for label, version in labels.items():
            known = label in model.labels
            if known and model.labels[label] == version:
                continue
            if not model.available(version) and (known or not allow_unavailable):
                raise FailedPrecondition(
                    f"Request to assign label to version {version} of model {name}, which is not "
                    "currently available for inference"
                )

    def set_state(
        self,
        name: str,
        version: int,
        state: State,
        *,
        code: Code = Code.OK,
        message: str = "",
    ) -> None:
        """Where a version is in its life; an unknown model or version becomes known.

        END forgets the servable. Raises ValueError for AVAILABLE without `add`.
        """
        model = self._models.setdefault(name, _Model())
        if state is State.AVAILABLE and version not in model.servables:
            raise ValueError(f"model {name} version {version}: AVAILABLE wants a servable; add it")
        if state is State.END:
            model.servables.pop(version, None)
        model.statuses[version] = VersionStatus(
            version=version, state=state, code=code, message=message
        )
        if self._observer is not None:
            self._observer(name, version, state, code)

    def release(self, name: str, version: int) -> None:
        """Forgets the servable of a version; who has it from `get` keeps it."""
        self._models[name].servables.pop(version, None)

    async def drain(self, grace: float) -> bool:
        """Not ready from now on; every accepted request is finished, then all devices stop.

        What is unfinished after `grace` seconds fails with Unavailable. True: nothing was.
        """
        self._draining = True
        end = self._clock() + grace
        servables = [s for model in self._models.values() for s in model.servables.values()]
        # All refuse at once; devices stop last, since accepted requests may still come to them.
        finished = await asyncio.gather(*(s.drain(grace) for s in servables))
        left = max(0.0, end - self._clock())
        stopped = await asyncio.gather(*(s.drain(left) for s in self._schedulers))
        for name, model in self._models.items():
            for version in list(model.servables):
                self.set_state(name, version, State.END)
        return all(finished) and all(stopped)
