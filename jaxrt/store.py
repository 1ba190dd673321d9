"""A cache of compiled artifacts, by the content of what they were compiled from.

root/<key>         an artifact
root/<key>.lock    held shared to check the entry, exclusively to build or remove it; its
                   modification time is the entry's last use
"""

import contextlib
import fcntl
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxrt import staging
from jaxrt.artifact import open_artifact
from jaxrt.digest import json_sha256
from jaxrt.errors import ArtifactError
from jaxrt.manifest import FORMAT_VERSION

_KEY = re.compile(r"[0-9a-f]{64}")
_log = logging.getLogger(__name__)


def entry_key(
    *,
    content: str,
    options: Mapping[str, Any],
    fingerprint: Mapping[str, Any],
    versions: Mapping[str, str],
) -> str:
    """The key of what one compile gives; everything that changes the result must be in it.

    `content` is `jaxrt.digest.content_hash` of the SavedModel, `options` and `fingerprint` (of
    the target) are JSON values, `versions` has at least jaxrt and jaxlib. The format version is
    part of the key. Raises ValueError for what JSON cannot hold.
    """
    if missing := {"jaxrt", "jaxlib"} - versions.keys():
        raise ValueError(f"versions {dict(versions)}: want {sorted(missing)} too")
    return json_sha256(
        {
            "format_version": FORMAT_VERSION,
            "content": content,
            "options": dict(options),
            "fingerprint": dict(fingerprint),
            "versions": dict(versions),
        }
    )


class Store:
    """The entries below `root`, shared by any number of processes.

    `clock` gives seconds since the epoch, as time.time does.
    """

    def __init__(self, root: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.root = root
        self._clock = clock

    def get_or_build(self, key: str, build: Callable[[Path], None]) -> Path:
        """The artifact of `key`, just verified; `build` writes it to its path if it is not there.

        Of several processes that want one key, one builds, the others wait and take what it
        built. An entry that is damaged is removed and built again. What `build` raises passes
        through; ArtifactError when it did not leave a whole artifact. `build` must not ask for
        the same key.
        """
        found = self.find(key)
        if found is not None:
            return found
        entry = self.root / key
        with self._locked(key, fcntl.LOCK_EX):
            if not _whole(entry):  # another process may have built it while we waited
                _remove(entry)
                build(entry)
                open_artifact(entry).close()
            return self._used(entry)

    def find(self, key: str) -> Path | None:
        """The artifact of `key`, just verified; None when it is not there, or damaged.

        Waits for a process that builds it.
        """
        if not _KEY.fullmatch(key):
            raise ValueError(f"key {key!r}: want what entry_key gives")
        self.root.mkdir(parents=True, exist_ok=True)
        entry = self.root / key
        with self._locked(key, fcntl.LOCK_SH):
            return self._used(entry) if _whole(entry) else None

    def prune(self, max_bytes: int, *, idle_seconds: float = 600.0) -> list[Path]:
        """Remove entries, the longest unused first, until the others take at most `max_bytes`.

        Kept whatever they take: entries being built or checked, and those used within
        `idle_seconds`, as whoever got their path may not have opened them yet. What killed
        builders left goes too. Gives the paths of the entries that were removed.
        """
        uses = sorted((self._last_use(key), key) for key in self._keys())
        sizes = {key: _size(self.root / key) for _, key in uses}
        removed = []
        for last_use, key in uses:
            entry = self.root / key
            staging.sweep(entry)
            built = entry.exists()  # else only its lock is left, of a build that failed
            idle = self._clock() - last_use >= idle_seconds
            over = sum(sizes.values()) > max_bytes
            if idle and (over or not built) and self._remove_entry(key):
                removed += [entry] if built else []
                del sizes[key]
        return removed

    def _keys(self) -> list[str]:
        try:
            names = os.listdir(self.root)
        except FileNotFoundError:
            return []
        return sorted({found[0] for name in names if (found := _KEY.match(name.lstrip(".")))})

    def _used(self, entry: Path) -> Path:
        now = self._clock()
        os.utime(self._lock_path(entry.name), (now, now))
        return entry

    def _last_use(self, key: str) -> float:
        try:
            return self._lock_path(key).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def _lock_path(self, key: str) -> Path:
        return self.root / f"{key}.lock"

    def _remove_entry(self, key: str) -> bool:
        """Whether it was removed: not while another process has its lock."""
        try:
            with self._locked(key, fcntl.LOCK_EX | fcntl.LOCK_NB):
                _remove(self.root / key)
                # While locked: who waits for it finds out in `_locked`, and makes a new one.
                self._lock_path(key).unlink()
        except BlockingIOError:
            return False
        return True

    @contextlib.contextmanager
    def _locked(self, key: str, kind: int) -> Iterator[None]:
        """Hold the lock of `key`; a process that dies lets go. BlockingIOError with LOCK_NB."""
        path = self._lock_path(key)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                _flock(descriptor, kind, path)
                if staging.is_at(descriptor, path):
                    yield
                    return
            finally:
                os.close(descriptor)


def _flock(descriptor: int, kind: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        if kind & fcntl.LOCK_NB:
            raise
        _log.info("%s: another process compiles it; waiting", path.stem)
        fcntl.flock(descriptor, kind)


def _whole(entry: Path) -> bool:
    if not os.path.lexists(entry):
        return False
    try:
        open_artifact(entry).close()
    except ArtifactError as error:
        _log.warning("%s; compiling it again", error)
        return False
    return True


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink(missing_ok=True)


def _size(directory: Path) -> int:
    """Bytes of the files below, of those that another process does not remove meanwhile."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total
