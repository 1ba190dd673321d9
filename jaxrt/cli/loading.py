"""What `jaxrt serve` serves: paths and configuration files → versions, loaded."""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from jaxrt import loader
from jaxrt.artifact import Artifact, open_artifact
from jaxrt.buckets import Buckets
from jaxrt.cli import console, hosts
from jaxrt.compiler import Weights
from jaxrt.errors import ModelError, UsageError
from jaxrt.serving import config
from jaxrt.serving.engine import source
from jaxrt.serving.engine.scheduler import Scheduler
from jaxrt.serving.engine.servable import OnDemand, Rows, SignaturePrograms, StagePrograms
from jaxrt.serving.engine.version import Version
from jaxrt.target import Target

log = logging.getLogger("jaxrt.serving")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """One model to serve: its versions, highest first, and its labels."""

    name: str
    versions: tuple[source.VersionPath, ...]
    labels: dict[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """One version, loaded: what the server runs, and what its start log says."""

    version: Version
    model: loader.LoadedModel
    artifact: Artifact
    path: Path


class SavedModels(Protocol):
    """Compiles SavedModels; `jaxrt.cli.savedmodels.Cache`. Imported when there is one to serve."""

    @property
    def batch_sizes(self) -> Buckets: ...

    def artifact(self, name: str, path: Path) -> Path: ...

    def on_demand(self, path: Path, weights: Weights) -> OnDemand | None: ...


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Loading:
    """How models are loaded; equal for all of a server."""

    target: Target
    scheduler: Scheduler
    host_scheduler: Scheduler
    saved_models: Callable[[], SavedModels]


def wanted(
    path: Path | None,
    *,
    model_name: str | None,
    model_base_path: Path | None,
    model_config_file: Path | None,
) -> list[Wanted]:
    """What the command line asks for. Raises UsageError, ModelError."""
    given = [p for p in (path, model_base_path, model_config_file) if p is not None]
    if len(given) != 1:
        raise UsageError(
            f"{'no model' if not given else 'several models'} given: want one of PATH, "
            "--model_base_path and --model_config_file"
        )
    if model_config_file is not None:
        return [_configured(c) for c in config.read(model_config_file)]
    location = source.locate(given[0])
    name = model_name or location.name
    return [Wanted(name=name, versions=location.versions[:1])]


def _configured(model: config.ModelConfig) -> Wanted:
    base = source.local_path(model.base_path)
    found = source.scan(base)
    versions = tuple(source.VersionPath(n, found[n]) for n in source.chosen(found, model.policy)[0])
    if not versions:
        raise ModelError(
            f"model {model.name}: no version its policy wants is in {model.base_path}; add a "
            "numbered directory such as 1/, or change model_version_policy"
        )
    return Wanted(name=model.name, versions=versions, labels=dict(model.labels))


def load(
    models: Sequence[Wanted], loading: Loading, *, steps: console.Steps
) -> list[tuple[Wanted, list[Ready]]]:
    """Every version of every model, compiled where it was not yet. Raises JaxrtError leaves."""
    steps.total(sum(len(m.versions) for m in models))
    return [
        (model, [_load_version(model.name, version, loading, steps) for version in model.versions])
        for model in models
    ]


def _load_version(
    name: str, version: source.VersionPath, loading: Loading, steps: console.Steps
) -> Ready:
    steps.step(f"{name} version {version.version}")
    kind = source.kind_of(version.path)
    if kind is None:
        raise ModelError(
            f"{version.path}: no saved_model.pb and no manifest.json in it; want a SavedModel or "
            "an artifact"
        )
    if kind is source.Kind.ARTIFACT:
        artifact = open_artifact(version.path)
        open_host = hosts.opener(artifact)
        model = loader.load(
            artifact,
            loading.target,
            open_host=open_host,
            open_fallback=hosts.fallback(artifact, open_host),
        )
        return _ready(name, version, artifact, model, loading, None)
    saved_models = loading.saved_models()
    # The store has just compared every hash.
    artifact = open_artifact(saved_models.artifact(name, version.path), verify=False)
    model = loader.load(artifact, loading.target, open_host=hosts.opener(artifact))
    return _ready(name, version, artifact, model, loading, saved_models)


def _ready(
    name: str,
    version: source.VersionPath,
    artifact: Artifact,
    model: loader.LoadedModel,
    loading: Loading,
    saved_models: SavedModels | None,
) -> Ready:
    made = Version(
        name=name,
        version=version.version,
        signatures=signatures(name, model),
        scheduler=loading.scheduler,
        host_scheduler=loading.host_scheduler,
        on_demand=saved_models.on_demand(version.path, model.weights) if saved_models else None,
        batch_sizes=saved_models.batch_sizes if saved_models else None,
    )
    return Ready(version=made, model=model, artifact=artifact, path=version.path)


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
