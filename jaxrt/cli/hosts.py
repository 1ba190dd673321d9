"""Host segments of an artifact, opened; what runs them is imported where there is one."""

import importlib.util
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxrt.artifact import Artifact
from jaxrt.loader import HostProgram
from jaxrt.manifest import HostEntry

log = logging.getLogger("jaxrt.serving")

Array = np.ndarray[Any, Any]


def opener(artifact: Artifact) -> Callable[[HostEntry], HostProgram]:
    """What `jaxrt.loader.load` opens the host segments of one artifact with."""
    executors: list[Callable[[HostEntry], HostProgram]] = []

    def open_host(entry: HostEntry) -> HostProgram:
        if not executors:
            from jaxrt.converters.host.executors import Executors

            executors.append(Executors(artifact).open)
        return executors[0](entry)

    return open_host


def fallback(
    artifact: Artifact, open_host: Callable[[HostEntry], HostProgram]
) -> Callable[[HostEntry], HostProgram | None]:
    """What opens TensorFlow for shapes that no program takes: late, and only if it is installed."""

    def open_fallback(entry: HostEntry) -> HostProgram | None:
        if importlib.util.find_spec("tensorflow") is None:
            log.info(
                "%s: signature %r: shapes without a program get 400: TensorFlow, which would "
                "answer them, is not installed",
                artifact.path,
                entry.signature,
            )
            return None
        return _Late(lambda: open_host(entry))

    return open_fallback


class _Late:
    """A host program that is opened by its first run: TensorFlow costs seconds and memory."""

    def __init__(self, opened: Callable[[], HostProgram]) -> None:
        self._open = opened
        self._lock = threading.Lock()
        self._program: HostProgram | None = None

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        with self._lock:
            if self._program is None:
                self._program = self._open()
            program = self._program
        return program.run(inputs)
