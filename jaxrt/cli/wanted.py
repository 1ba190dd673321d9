"""What `jaxrt serve` was asked to serve: paths and configuration files → models and storage."""

import dataclasses
import os
from collections.abc import Hashable, Mapping
from pathlib import Path

from jaxrt import remote
from jaxrt.cli import copies
from jaxrt.cli.settings import Settings
from jaxrt.errors import UsageError
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

    def __init__(self, others: Storage, place: str, version: int) -> None:
        self._others = others
        self._path = place
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
    """The text of a configuration file; UsageError when it cannot be read, ModelError of a URI."""
    if remote.is_remote(path):
        return remote.read_text(path)
    return config.read_text(source.local_path(path))


def _located(path: str, name: str | None, storage: Storage) -> Wanted:
    if remote.is_remote(path):
        return _remote(path, name, storage, patient=False)
    location = source.locate(Path(path))
    name = name or location.name
    if location.base_path is not None:
        model = ModelConfig(name=name, base_path=str(location.base_path))
        return Wanted(models=(model,), storage=storage, patient=False)
    (version,) = location.versions
    return _one(name, str(version.path), version.version, storage, patient=False)


def _remote(uri: str, name: str | None, storage: Storage, *, patient: bool) -> Wanted:
    found, version, place = copies.locate(uri)
    name = name or found
    if version is not None:
        return _one(name, place, version, storage, patient=patient)
    model = ModelConfig(name=name, base_path=place)
    return Wanted(models=(model,), storage=storage, patient=patient)


def _based(base_path: str, name: str, storage: Storage) -> Wanted:
    if source.is_relative(base_path):  # TensorFlow Serving refuses it
        base_path = os.path.abspath(base_path)
    if base_path.startswith("/") and source.kind_of(Path(base_path)) is not None:
        version = source.locate(Path(base_path)).versions[0]
        return _one(name, str(version.path), version.version, storage, patient=True)
    model = ModelConfig(name=name, base_path=base_path)
    return Wanted(models=(model,), storage=storage, patient=True)


def _one(name: str, place: str, version: int, storage: Storage, *, patient: bool) -> Wanted:
    model = ModelConfig(name=name, base_path=place)
    return Wanted(models=(model,), storage=OneVersion(storage, place, version), patient=patient)


def check_readable(models: tuple[ModelConfig, ...]) -> None:
    """Raises UsageError for URIs of file systems that no installed package reads."""
    for model in models:
        if remote.is_remote(model.base_path):
            try:
                remote.check(model.base_path)
            except UsageError as error:
                raise UsageError(f"model {model.name}: {error}") from None
