"""SHA-256 of files, of directories by content and of JSON values."""

import contextlib
import hashlib
import json
import mmap
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jaxrt.errors import ModelError

MAPPED = 1 << 20
"""Bytes of a file from which it is hashed in one call, so that the interpreter lock is left alone:
taking it again for every block waits for whoever imports meanwhile."""


def file_sha256(path: Path) -> str:
    """In hexadecimal. Raises OSError."""
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size < MAPPED:
            return hashlib.file_digest(file, "sha256").hexdigest()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return hashlib.sha256(content).hexdigest()


class Ahead:
    """Hashes of files that will be asked for, computed on a thread of its own meanwhile.

    A start hashes its weights on the core that importing jax leaves idle.
    """

    def __init__(self) -> None:
        self._begun: dict[Path, tuple[_Identity, Future[str]]] = {}

    def begin(self, paths: Iterable[Path]) -> None:
        """Returns at once. What cannot be read is left for `sha256` to say."""
        for path in paths:
            with contextlib.suppress(OSError):
                future: Future[str] = Future()
                self._begun[path.absolute()] = _identity(path), future
                thread = threading.Thread(target=_resolve, args=(future, path), daemon=True)
                thread.start()

    def sha256(self, path: Path) -> str:
        """As `file_sha256`; what was begun counts once, if the file is still the same."""
        identity, future = self._begun.pop(path.absolute(), (None, None))
        if future is not None and identity == _identity(path):
            found = future.result()
            if identity == _identity(path):
                return found
        return file_sha256(path)


_Identity = tuple[int, int, int, int, int]


def _identity(path: Path) -> _Identity:
    """What another file, or another content, would change."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _resolve(future: "Future[str]", path: Path) -> None:
    try:
        future.set_result(file_sha256(path))
    except BaseException as error:  # told to whoever asks
        future.set_exception(error)


AHEAD = Ahead()
"""The process's: what a command knows before it imports what opens artifacts."""


def files_sha256(paths: Sequence[Path]) -> list[str]:
    """One for each path, several at once: hashing releases the interpreter lock."""
    if len(paths) < 2:
        return [AHEAD.sha256(path) for path in paths]
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(AHEAD.sha256, paths))


def json_sha256(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys. Raises ValueError for NaN."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def content_hash(directory: Path) -> str:
    """SHA-256 over the relative names and bytes of all files below `directory`.

    Neither times, modes, empty directories nor the directory's own name count; a link counts as
    what it points to (mounted volumes are full of links). Raises ModelError when the directory or
    something in it cannot be read.
    """
    try:
        files = dict(sorted(_walk(directory, b"", ())))
        hashes = files_sha256(list(files.values()))
    except OSError as error:
        raise ModelError(
            f"{error.filename or directory}: cannot be read: {error.strerror}; "
            "give the directory of a SavedModel"
        ) from error
    total = hashlib.sha256()
    for name, digest in zip(files, hashes, strict=True):
        # The length keeps (name, digest) pairs apart whatever bytes a name has.
        total.update(b"%d:%b%b" % (len(name), name, bytes.fromhex(digest)))
    return total.hexdigest()


def _walk(directory: Path, prefix: bytes, above: tuple[str, ...]) -> Iterator[tuple[bytes, Path]]:
    real = os.path.realpath(directory)
    if real in above:
        raise ModelError(f"{directory}: a link to a directory above it; remove the link")
    with os.scandir(directory) as entries:
        for entry in entries:
            name = prefix + os.fsencode(entry.name)
            if entry.is_dir():
                yield from _walk(Path(entry.path), name + b"/", (*above, real))
            elif entry.is_file() or entry.is_symlink():  # a broken link: opening it will tell
                yield name, Path(entry.path)
            else:
                raise ModelError(f"{entry.path}: not a file; remove it from the SavedModel")
