"""Where versions lie: what is there, whether it is whole, and its directory on this machine."""

import os
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from jaxrt.serving.engine import source

SETTLED_SECONDS = 1.0
"""How long nothing in a version's directory may have changed before it is loaded."""


class Storage(Protocol):
    """Blocks on a disk or a network, so never used on the event loop."""

    def versions(self, base_path: str) -> Mapping[int, str]:
        """Version → where it lies. Raises ModelError when `base_path` cannot be listed."""

    def look(self, place: str) -> Hashable:
        """What the files of a version look like; equal while they do not change."""

    def written(self, place: str) -> bool:
        """Whether somebody seems to be writing its files right now."""

    def fetch(self, place: str) -> Path:
        """The version as a directory of this machine, however long a download takes."""


class LocalStorage:
    """Version directories of a mounted file system."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives seconds since the epoch, as the file system's times do."""
        self._clock = clock

    def versions(self, base_path: str) -> dict[int, str]:
        """As Storage says."""
        found = source.scan(source.local_path(base_path))
        return {version: str(directory) for version, directory in found.items()}

    def look(self, place: str) -> Hashable:
        """Names, sizes and times of all files below."""
        return tuple(sorted((path, s.st_size, s.st_mtime_ns, s.st_ino) for path, s in _all(place)))

    def written(self, place: str) -> bool:
        """Whether a file below changed less than SETTLED_SECONDS ago.

        By ctime, which a copy that keeps mtimes (`cp -p`, rsync, tar) cannot set back. A directory
        that is moved here whole keeps the times of what is in it, and is not waited for.
        """
        newest = max((s.st_ctime for path, s in _all(place) if path != place), default=0.0)
        return 0.0 <= self._clock() - newest < SETTLED_SECONDS

    def fetch(self, place: str) -> Path:
        """The directory itself."""
        return Path(place)


def _all(place: str) -> Iterator[tuple[str, os.stat_result]]:
    """The directory and everything below; what vanishes meanwhile is left out."""
    waiting = [place]
    while waiting:
        path = waiting.pop()
        try:
            yield path, os.stat(path)
            if os.path.isdir(path):
                waiting += [entry.path for entry in os.scandir(path)]
        except OSError:
            continue
