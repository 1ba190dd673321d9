"""What a loader makes of a version's directory: the seam between the keeper and the command line.

serving knows no compiler: `jaxrt.cli` injects what turns a SavedModel or an artifact into something
that answers.
"""

from pathlib import Path
from typing import Protocol

from jaxrt.serving.engine.manager import Drainable


class Product(Protocol):
    """A loaded version."""

    @property
    def servable(self) -> Drainable: ...

    async def warm(self, *, calm: bool) -> None:
        """Runs what has to run before the first request, on the event loop's schedulers.

        `calm`: others are being served. Raises what its programs and warm-up requests raise, which
        fails the load.
        """

    async def finish(self) -> None:
        """Returns when no request is being answered."""

    def close(self) -> None:
        """Gives back what garbage collection alone would not: files, processes, threads."""


class Loader(Protocol):
    """Makes products; blocks for as long as a compile takes, so never on the event loop."""

    def load(self, name: str, version: int, directory: Path, *, calm: bool) -> Product:
        """Version `version` of model `name`; `calm`: others are being served meanwhile.

        Raises JaxrtError leaves; OSError.
        """

    def stop(self) -> None:
        """Ends the loads under way, which then fail, and all later ones."""
