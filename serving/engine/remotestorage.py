"""A Storage of base paths on this machine and on remote file systems."""

import time
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path

from jaxrt import remote
from jaxrt.remote import Remote
from jaxrt.serving.engine import source
from jaxrt.serving.engine.storage import SETTLED_SECONDS, LocalStorage, Storage


class AnyStorage:
    """URIs are looked at and copied by jaxrt.remote, all else is local."""

    def __init__(self, copies: Remote, *, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives seconds since the epoch."""
        self._copies = copies
        self._clock = clock
        self._local = LocalStorage(clock=clock)

    def versions(self, base_path: str) -> Mapping[int, str]:
        """As Storage says."""
        if not remote.is_remote(base_path):
            return self._local.versions(base_path)
        found: dict[int, str] = {}
        for name, uri in remote.directories(base_path).items():  # of `1` and `01` the last by name
            number = source.version_number(name)
            if number is not None:
                found[number] = uri
        return dict(sorted(found.items(), reverse=True))

    def look(self, place: str) -> Hashable:
        """As Storage says."""
        return remote.files(place) if remote.is_remote(place) else self._local.look(place)

    def written(self, place: str) -> bool:
        """As Storage says: by the times of remote files, where the file system has some."""
        if not remote.is_remote(place):
            return self._local.written(place)
        newest = max((file.modified for file in remote.files(place)), default=0.0)
        return 0.0 <= self._clock() - newest < SETTLED_SECONDS

    def fetch(self, place: str) -> Path:
        """As Storage says."""
        return self._copies.fetch(place) if remote.is_remote(place) else self._local.fetch(place)


_: type[Storage] = AnyStorage
