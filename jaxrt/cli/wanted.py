"""What `jaxrt serve` was asked to serve: paths and configuration files → models and storage."""

import dataclasses
import os
from collections.abc import Hashable, Mapping
from pathlib import Path

from jaxrt.cli.settings import Settings
from jaxrt.errors import ModelError, UsageError
from jaxrt.serving import config
from jaxrt.serving.config import ModelConfig
from jaxrt.serving.engine import source
from jaxrt.serving.engine.storage import LocalStorage, Storage


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """The first set of models, and where their versions lie."""

    models: tuple[ModelConfig, ...]
    storage: Storage
    patient: bool
    """Whether what is not there yet is waited for, and failed loads are tried again before the
    server is ready: as TensorFlow Serving's flags ask for. PATH has to be there and to be right."""


class OneVersion:
    """A Storage: one directory that is a model itself, beside the base paths of another one."""

    def __init__(self, others: Storage, path: Path, version: int) -> None:
        self._others = others
        self._path = str(path)
        self._version = version

    def versions(self, base_path: str) -> Mapping[int, str]:
        """As Storage says; the version stays wanted while its directory is away."""
        if base_path == self._path:
            return {self._version: self._path}
        return self._others.versions(base_path)

    def look(self, place: str) -> Hashable:
        """As Storage says."""
        return self._others.look(place)

    def written(self, place: str) -> bool:
        """As Storage says."""
        return self._others.written(place)

    def fetch(self, place: str) -> Path:
        """As Storage says."""
        return self._others.fetch(place)


_: tuple[type[Storage], ...] = (OneVersion, LocalStorage)


def wanted(settings: Settings, storage: Storage) -> Wanted:
    """Raises UsageError, and ModelError where PATH is no model."""
    given = (settings.path, settings.model_base_path, settings.model_config_file)
    count = sum(value is not None for value in given)
    if count != 1:
        raise UsageError(
            f"{'several models' if count else 'no model'} given: want one of PATH, "
            "--model_base_path and --model_config_file"
        )
    if settings.path is not None:
        return _located(settings.path, settings.model_name, storage)
    if settings.model_base_path is not None:
        return _based(settings.model_base_path, settings.model_name or "default", storage)
    assert settings.model_config_file is not None
    text = read_config(settings.model_config_file)
    models = config.parse(text, where=settings.model_config_file)
    return Wanted(models=models, storage=storage, patient=True)


def read_config(path: str) -> str:
    """The text of a configuration file; UsageError when it cannot be read."""
    return config.read_text(source.local_path(path))


def _located(path: Path, name: str | None, storage: Storage) -> Wanted:
    location = source.locate(path)
    name = name or location.name
    if location.base_path is not None:
        model = ModelConfig(name=name, base_path=str(location.base_path))
        return Wanted(models=(model,), storage=storage, patient=False)
    (version,) = location.versions
    return _one(name, version, storage, patient=False)


def _based(base_path: str, name: str, storage: Storage) -> Wanted:
    if source.is_relative(base_path):  # TensorFlow Serving refuses it
        base_path = os.path.abspath(base_path)
    if base_path.startswith("/") and source.kind_of(Path(base_path)) is not None:
        version = source.locate(Path(base_path)).versions[0]
        return _one(name, version, storage, patient=True)
    model = ModelConfig(name=name, base_path=base_path)
    return Wanted(models=(model,), storage=storage, patient=True)


def _one(name: str, version: source.VersionPath, storage: Storage, *, patient: bool) -> Wanted:
    model = ModelConfig(name=name, base_path=str(version.path))
    one = OneVersion(storage, version.path, version.version)
    return Wanted(models=(model,), storage=one, patient=patient)


def check_local(models: tuple[ModelConfig, ...]) -> None:
    """Raises ModelError for base paths of remote file systems."""
    for model in models:
        try:
            source.local_path(model.base_path)
        except ModelError as error:
            raise ModelError(f"model {model.name}: {error}") from None
