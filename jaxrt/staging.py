"""Directories written beside their place and moved into it whole; nothing of a killed writer stays.

Beside a destination `name` there may be, hidden:
    .name.<random>.partial   being written: its writer holds an flock on the directory, which the
                             kernel drops however the writer dies; without the lock it is garbage
    .name.<random>.old       the replaced directory, where the filesystem cannot swap two in one
                             step; put back if its writer died before the new one was in place
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

Exchange = Callable[[Path, Path], bool]
"""Swaps two directories in one step, or says False where that cannot be done."""

_BUSY = (errno.ENOTEMPTY, errno.EEXIST)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@contextlib.contextmanager
def staged(destination: Path) -> Iterator[Path]:
    """An empty directory to write in, beside `destination`, gone afterwards if not published.

    Raises OSError when the parent cannot be written.
    """
    path, lock = _create(destination)
    try:
        yield path
    finally:
        # After `publish` this name is free, or it is the replaced directory.
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def publish(path: Path, destination: Path, *, exchange: Exchange | None = None) -> None:
    """Move the directory `path` to `destination`, in place of a directory that is there.

    Every file and directory is on the disk before the move; at every moment of it `destination`
    is the old directory or the new one, or (without an exchange) `restore` makes it so.
    """
    swap = exchange_directories if exchange is None else exchange
    aside = _beside(destination, "old")
    _sync_tree(path)
    while True:
        try:
            os.rename(path, destination)  # also over an empty directory
            break
        except OSError as error:
            if error.errno not in _BUSY:
                raise
        with contextlib.suppress(FileNotFoundError):  # another writer moved it: try again
            if swap(path, destination):
                break
            os.rename(destination, aside)
    _sync(destination.parent)
    shutil.rmtree(aside, ignore_errors=True)


def restore(destination: Path) -> list[Path]:
    """Put back a directory that was moved aside by a writer who died before replacing it.

    Gives those that were moved aside and have been replaced.
    """
    replaced = []
    for path in _leftovers(destination, "old"):
        try:
            os.rename(path, destination)
        except OSError as error:
            replaced += [path] if error.errno in _BUSY else []
    return replaced


def sweep(destination: Path) -> None:
    """Restore, then remove what dead writers left; a living writer's directory stays."""
    for path in (*restore(destination), *_leftovers(destination, "partial")):
        _remove_abandoned(path)


def exchange_directories(one: Path, other: Path) -> bool:
    """renameat2(2) with RENAME_EXCHANGE, where the system and the filesystem have it."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:  # not Linux
        return False
    at_fdcwd, rename_exchange = -100, 2
    if renameat2(at_fdcwd, os.fsencode(one), at_fdcwd, os.fsencode(other), rename_exchange) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(one), None, str(other))


def is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file or directory still has this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _beside(destination: Path, what: str) -> Path:
    return destination.parent / f".{destination.name}.{secrets.token_hex(8)}.{what}"


def _leftovers(destination: Path, what: str) -> list[Path]:
    form = re.compile(re.escape(f".{destination.name}.") + r"[0-9a-f]{16}\." + what)
    try:
        names = sorted(os.listdir(destination.parent))
    except FileNotFoundError:
        return []
    return [destination.parent / name for name in names if form.fullmatch(name)]


def _create(destination: Path) -> tuple[Path, int]:
    """A new directory and the descriptor that holds its lock."""
    while True:
        path = _beside(destination, "partial")
        path.mkdir()
        # A sweeper may be faster than our lock: then the directory is gone, or about to be.
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(path, _DIRECTORY)
            if _lock(lock) is not False and is_at(lock, path):
                return path, lock
            os.close(lock)


def _remove_abandoned(path: Path) -> None:
    """Remove a directory unless somebody holds its lock, or locks cannot tell."""
    try:
        lock = os.open(path, _DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        if _lock(lock):
            shutil.rmtree(path, ignore_errors=True)  # its writer may be removing it as well
    finally:
        os.close(lock)


def _lock(descriptor: int) -> bool | None:
    """True: ours until the descriptor closes; False: another's; None: no locks here (some NFS)."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            return None
        raise
    return True


def _sync_tree(directory: Path) -> None:
    for folder, _, names in os.walk(directory, topdown=False):
        for name in names:
            _sync(Path(folder, name))
        _sync(Path(folder))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
