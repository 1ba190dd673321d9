"""Host segments of an artifact → programs: native ones, TensorFlow's where nothing else can."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from jaxrt.artifact import SAVED_MODEL, Artifact
from jaxrt.converters.host import native, tables, tensorflow
from jaxrt.errors import ModelError
from jaxrt.manifest import HostEntry


class HostProgram(Protocol):
    def run(
        self, inputs: Mapping[str, np.ndarray[Any, Any]]
    ) -> Mapping[str, np.ndarray[Any, Any]]: ...


class Executors:
    """Opens the host segments of one artifact; what they share is loaded once."""

    def __init__(self, artifact: Artifact) -> None:
        self._artifact = artifact
        self._saved_models: tensorflow.SavedModels | None = None

    def open(self, entry: HostEntry) -> HostProgram:
        """Raises ModelError naming the ops that need TensorFlow where it is not installed."""
        try:
            return self._open(entry)
        except ImportError as error:
            raise ModelError(
                f"{self._artifact.path}: TensorFlow is needed for {', '.join(entry.ops)} and is "
                f'not installed ({error}); pip install "jaxrt[convert]" where it is served'
            ) from error

    def _open(self, entry: HostEntry) -> HostProgram:
        if entry.executor == "saved_model":
            assert entry.signature is not None
            return self._whole().signature(entry.signature)
        assert entry.graph is not None
        if entry.executor == "native":
            return native.opened(entry, self._artifact.file)
        return tensorflow.GraphProgram(
            self._artifact.file(entry.graph).read_bytes(),
            feeds=entry.feeds,
            fetches=entry.fetches,
            targets=entry.targets,
            tables={
                node: tables.read(self._artifact.file(file)) for node, file in entry.tables.items()
            },
        )

    def _whole(self) -> tensorflow.SavedModels:
        if self._saved_models is None:
            path = self._artifact.path / SAVED_MODEL
            self._saved_models = tensorflow.SavedModels(path, self._artifact.manifest.source.tags)
        return self._saved_models
