"""What `jaxrt serve` loads: a version's directory → programs that answer."""

import dataclasses
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

from jaxrt import loader
from jaxrt.artifact import open_artifact
from jaxrt.buckets import Buckets
from jaxrt.cli import batching, footprint, hosts
from jaxrt.cli.placing import Placing
from jaxrt.cli.ready import Ready
from jaxrt.compiler import Weights
from jaxrt.entries import HostEntry
from jaxrt.errors import ModelError, UsageError
from jaxrt.serving.engine import source
from jaxrt.serving.engine.product import Loader
from jaxrt.serving.engine.scheduler import Scheduler
from jaxrt.serving.engine.servable import OnDemand, Rows, SignaturePrograms, StagePrograms
from jaxrt.serving.engine.version import Version
from jaxrt.serving.engine.warmup import Warmed, warm
from jaxrt.serving.monitoring.calls import Calls
from jaxrt.target import Target

log = logging.getLogger("jaxrt.serving")


class SavedModels(Protocol):
    """Compiles SavedModels; `jaxrt.cli.saving.Saving`. Imported when there is one to serve."""

    def sizes(self, path: Path) -> Buckets: ...

    def artifact(self, name: str, path: Path, *, calm: bool) -> Path: ...

    def on_demand(self, path: Path, weights: Weights) -> OnDemand | None: ...

    def forget(self, path: Path) -> None:
        """The SavedModel is unloaded; another one may lie there soon."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Loading:
    """How models are loaded; equal for all of a server."""

    target: Target
    scheduler: Scheduler
    host_scheduler: Scheduler
    saved_models: Callable[[], SavedModels]
    alone: bool = True
    """False: several processes serve the same models, and none may have state."""
    queues: batching.Queues | None = None
    """Where requests wait for batches, with `--enable_batching`."""
    calls: Calls | None = None
    """Where versions are counted."""
    placing: Placing = dataclasses.field(default_factory=lambda: Placing(several=False))


Tell = Callable[[str, Ready, Sequence[Warmed], bool], None]
"""Name, version, first runs, calm → lines of the log."""

Replay = Callable[[Version, Path], Awaitable[None]]
"""What warms a version up beyond its planned programs: requests in its directory."""


class VersionLoader:
    """A Loader of artifacts and SavedModels."""

    def __init__(
        self,
        loading: Loading,
        *,
        tell: Tell,
        stop: Callable[[], None],
        replay: Replay | None = None,
    ) -> None:
        """`stop` ends the compiles under way, which then fail, and all later ones."""
        self._loading = loading
        self._tell = tell
        self._stop = stop
        self._replay = replay

    def load(self, name: str, version: int, directory: Path, *, calm: bool) -> "LoadedVersion":
        """As Loader says."""
        ready = load_version(name, version, directory, self._loading, calm=calm)
        saved = source.kind_of(directory) is source.Kind.SAVED_MODEL
        return LoadedVersion(
            ready,
            tell=lambda loaded, warmed: self._tell(name, loaded, warmed, calm),
            replay=self._replay,
            forget=self._loading.saved_models().forget if saved else lambda path: None,
        )

    def stop(self) -> None:
        """As Loader says."""
        self._stop()


class LoadedVersion:
    """A Product."""

    def __init__(
        self,
        ready: Ready,
        *,
        tell: Callable[[Ready, Sequence[Warmed]], None],
        replay: Replay | None,
        forget: Callable[[Path], None],
    ) -> None:
        self.servable = ready.version
        self._path = ready.path
        self._ready: Ready | None = ready
        self._spread = ready.spread
        self._tell = tell
        self._replay = replay
        self._forget = forget

    async def warm(self, *, calm: bool) -> None:
        """Every planned program, then the requests that the model brings along. Used once."""
        assert self._ready is not None
        warmed = await warm(self.servable, gently=calm)
        if self._replay is not None:
            await self._replay(self.servable, self._path)
        self._tell(self._ready, warmed)
        # What runs has its own hold on the pages of the weights.
        self._ready.artifact.close()
        self._ready = None

    async def finish(self) -> None:
        """Returns when no request is being answered."""
        await self.servable.idle()

    def close(self) -> None:
        """Lets TensorFlow's process forget the model."""
        if self._ready is not None:
            self._ready.artifact.close()
        self._forget(self._path)
        self._spread.close()


_: type[Loader] = VersionLoader


def load_version(
    name: str, version: int, path: Path, loading: Loading, *, calm: bool = False
) -> Ready:
    """One version, compiled unless it was before, on its device. Raises JaxrtError leaves."""
    kind = source.kind_of(path)
    if kind is None:
        raise ModelError(
            f"{path}: no saved_model.pb and no manifest.json in it; want a SavedModel or "
            "an artifact"
        )
    if kind is source.Kind.SAVED_MODEL and loading.placing.hosts is not None:
        raise UsageError(
            f"{path}: several hosts serve artifacts alone; make one with `jaxrt compile` and put "
            "it at the same path on each"
        )
    saved_models = loading.saved_models() if kind is source.Kind.SAVED_MODEL else None
    if saved_models is None:
        artifact = open_artifact(path)
    else:  # the store has just compared every hash
        artifact = open_artifact(saved_models.artifact(name, path, calm=calm), verify=False)
    open_host = hosts.opener(artifact)
    fallback = _none if saved_models else hosts.fallback(artifact, open_host)
    placing = loading.placing
    spread = placing.begin(artifact)
    try:
        model = loader.load(
            artifact,
            loading.target,
            open_host=open_host,
            open_fallback=fallback,
            replicas=placing.replicas,
            combine=spread.combine,
        )
        spread.settle()
    except BaseException:
        spread.close()
        raise
    loading.scheduler.widen(len(model.places))
    if not loading.alone:
        _refuse_state(name, model)
    queues = loading.queues.of(path) if loading.queues else None
    made = Version(
        name=name,
        version=version,
        signatures=signatures(name, model),
        scheduler=loading.scheduler,
        host_scheduler=loading.host_scheduler,
        on_demand=_on_demand(path, model, placing, saved_models),
        batch_sizes=saved_models.sizes(path) if saved_models else None,
        batching=queues,
        calls=loading.calls,
    )
    if queues is not None and saved_models is None:
        batching.tell_missing(made, queues[0])
    ready = Ready(version=made, model=model, artifact=artifact, path=path, spread=spread)
    if loading.calls is not None:
        footprint.count(loading.calls, ready)
    return ready


def _on_demand(
    path: Path, model: loader.LoadedModel, placing: Placing, saved_models: SavedModels | None
) -> OnDemand | None:
    if saved_models is None:
        return None
    return placing.on_demand(saved_models.on_demand(path, model.weights), model.places)


def _none(entry: HostEntry) -> None:
    """What is compiled when it is asked for needs no fallback."""


def _refuse_state(name: str, model: loader.LoadedModel) -> None:
    for key, signature in model.signatures.items():
        if any(stage.entry.host and stage.entry.host.stateful for stage in signature.stages):
            raise UsageError(
                f"signature {key!r} of model {name} has state, which several "
                "processes would each have of their own; serve it with --num-workers 1"
            )


def signatures(name: str, model: loader.LoadedModel) -> dict[str, SignaturePrograms]:
    """What a Version serves of a loaded model."""
    return {
        key: SignaturePrograms(
            spec=signature.spec,
            programs=[(entry.program, entry.rows) for entry in signature.programs],
            fixed=[entry.entry.values for entry in signature.programs],
            stages=[_stage(stage) for stage in signature.stages],
            fallback=signature.fallback,
            refused=signature.refused and f"signature {key!r} of model {name}: {signature.refused}",
        )
        for key, signature in model.signatures.items()
    }


def _stage(stage: loader.LoadedStage) -> StagePrograms:
    host = stage.entry.host
    return StagePrograms(
        spec=stage.entry.spec,
        programs=[(entry.program, entry.rows) for entry in stage.programs],
        fixed=[entry.entry.values for entry in stage.programs],
        host=stage.host,
        rows=Rows.DEPENDENT if host is None else Rows(host.rows),
    )
