"""SavedModels for a server: compiled apart, found in the cache, unplanned shapes on demand."""

import contextlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from jaxrt.buckets import Buckets
from jaxrt.cli.apart import Apart
from jaxrt.cli.choices import Choices
from jaxrt.compiler import Weights
from jaxrt.serving.engine.servable import OnDemand
from jaxrt.target import Target

if TYPE_CHECKING:  # imports the converters, which a server of artifacts does without
    from jaxrt.cli.savedmodels import Cache


class Saving:
    """`jaxrt.cli.loading.SavedModels`."""

    def __init__(self, cache: "Cache", apart: Apart) -> None:
        self._cache = cache
        self._apart = apart

    def sizes(self, path: Path) -> Buckets:
        """The batch sizes that the SavedModel at `path` is compiled for. Raises ModelError."""
        return self._cache.sizes(path)

    def artifact(self, name: str, path: Path, *, calm: bool) -> Path:
        """The artifact of the SavedModel at `path`. Raises JaxrtError leaves, OSError."""
        return self._apart.artifact(self._cache, name, path, calm=calm)

    def on_demand(self, path: Path, weights: Weights) -> OnDemand | None:
        """As Cache says."""
        return self._cache.on_demand(path, weights)

    def forget(self, path: Path) -> None:
        """As SavedModels says."""
        self._cache.bridges.forget(path, self._cache.tags)


class Lazily:
    """The converter side is imported when a SavedModel is there to be served, not before.

    Any thread may call its methods.
    """

    def __init__(self, stack: contextlib.ExitStack, choices: Choices, attached: Target) -> None:
        """`stack` ends TensorFlow's process."""
        self._stack = stack
        self._choices = choices
        self.target = attached
        self._apart = Apart(choices)
        self._lock = threading.Lock()
        self._found: Saving | None = None

    @property
    def used(self) -> bool:
        return self._found is not None

    def get(self) -> Saving:
        with self._lock:
            if self._found is None:
                from jaxrt.cli.building import Bridges

                bridges = self._stack.enter_context(Bridges())
                self._found = Saving(self._choices.cache(self.target, bridges), self._apart)
            return self._found

    def rest(self) -> None:
        """Ends the processes that wait for another SavedModel to compile."""
        self._apart.rest()

    def stop(self) -> None:
        """Ends the compiles under way, which then fail, and all later ones."""
        self._apart.stop()
