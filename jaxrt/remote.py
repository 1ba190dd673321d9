"""Models on remote file systems (gs://, s3:// and what else fsspec knows), copied into a cache.

root/<key>         a directory as it was when its files were listed: the key is made of them
root/<key>.json    sizes and times of the copies, written last: without it there is no copy
root/<key>.lock    held exclusively to copy

fsspec and the file systems are imported when a URI is to be read, not before.
"""

import base64
import concurrent.futures
import contextlib
import dataclasses
import datetime
import fcntl
import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from jaxrt import staging
from jaxrt.digest import json_sha256
from jaxrt.errors import ModelError, UsageError
from jaxrt.units import size

_log = logging.getLogger("jaxrt.remote")

_SCHEME = re.compile(r"([a-zA-Z][0-9a-zA-Z.+-]*)://")
_LOCAL = ("file", "local")
_EXTRAS = {"gs": "gcs", "gcs": "gcs", "s3": "s3", "s3a": "s3"}
_PARALLEL = 8
"""Files copied at once."""
_CREDENTIALS = re.compile(
    r"credential|signature|access ?denied|forbidden|unauthori[sz]ed|permission|access ?key"
    r"|anonymous|\b40[13]\b",
    re.IGNORECASE,
)


class Steps(Protocol):
    """Hears how far a copy is; `jaxrt.cli.console.Steps`."""

    def total(self, steps: int) -> None: ...

    def step(self, text: str) -> None: ...


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class RemoteFile:
    """One file below a directory; equal while its content is."""

    name: str
    """Relative, with `/`."""
    size: int
    """Bytes."""
    mark: str
    """Its generation, ETag or time: whatever the file system changes with the content."""
    md5: str = ""
    """Of the content, base64; empty where the file system does not say."""
    modified: float = 0.0
    """Seconds since the epoch; 0 where the file system does not say."""


def is_remote(path: str) -> bool:
    """Whether it is a URI of another file system than this machine's."""
    match = _SCHEME.match(path)
    return match is not None and match[1].lower() not in _LOCAL


def name_of(uri: str) -> str:
    """The last part of a URI."""
    return PurePosixPath(_SCHEME.sub("", uri)).name


def check(uri: str) -> None:
    """Raises UsageError where no installed package reads such URIs."""
    _file_system(uri)


def directories(uri: str) -> dict[str, str]:
    """Name → URI of the directories in a directory. Raises ModelError, UsageError."""
    with _told(uri):
        fs, path = _file_system(uri)
        fs.invalidate_cache()
        found = fs.ls(path, detail=True)
    names = [PurePosixPath(e["name"].rstrip("/")).name for e in found if e["type"] == "directory"]
    return {name: f"{uri.rstrip('/')}/{name}" for name in sorted(names)}


def files(uri: str) -> tuple[RemoteFile, ...]:
    """All files below a directory, by name; none where it is not there.

    Raises ModelError, UsageError.
    """
    with _told(uri):
        fs, path = _file_system(uri)
        fs.invalidate_cache()
        found: Mapping[str, Mapping[str, Any]] = fs.find(path, detail=True)
    root = path.rstrip("/") + "/"
    return tuple(
        sorted(
            _file(uri, name.removeprefix(root), info)
            for name, info in found.items()
            if name.startswith(root) and not name.endswith("/")  # a folder's placeholder
        )
    )


def read_text(uri: str) -> str:
    """A file's text. Raises ModelError, UsageError."""
    with _told(uri):
        fs, path = _file_system(uri)
        content: bytes = fs.cat_file(path)
        return content.decode()


class Remote:
    """The copies below `root`, shared by any number of processes.

    `progress` is a bar's title → what is told of the files.
    """

    def __init__(
        self,
        root: Path,
        *,
        progress: Callable[[str], AbstractContextManager[Steps]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._progress = progress
        self._clock = clock

    def fetch(self, uri: str) -> Path:
        """The directory on this machine, whole and as it is now.

        Of several processes that want it one copies, the others wait. Raises ModelError where it
        is empty, changes meanwhile or cannot be read; UsageError; OSError of this machine's disk.
        """
        listed = files(uri)
        if not listed:
            raise ModelError(f"{uri}: found nothing there, want the files of a model")
        key = json_sha256({"uri": uri, "files": [dataclasses.asdict(file) for file in listed]})
        place = self._root / key
        self._root.mkdir(parents=True, exist_ok=True)
        with _locked(self._root / f"{key}.lock"):
            if not _whole(place, listed):
                self._copy(uri, listed, place)
        return place

    def _copy(self, uri: str, listed: tuple[RemoteFile, ...], place: Path) -> None:
        started, total = self._clock(), sum(file.size for file in listed)
        _log.info("%s: copying %d files, %s", uri, len(listed), size(total))
        _receipt(place).unlink(missing_ok=True)
        staging.sweep(place)
        with staging.staged(place) as directory:
            with _told(uri), self._progress(f"copy {name_of(uri)}") as steps:
                steps.total(len(listed))
                _download(uri, listed, directory, steps)
            if files(uri) != listed:
                raise ModelError(f"{uri}: its files changed while they were copied; they are again")
            staging.publish(directory, place)
        _receipt(place).write_text(json.dumps(_stats(place, listed)))
        _log.info("%s: copied in %.1f s", uri, self._clock() - started)


def _download(uri: str, listed: tuple[RemoteFile, ...], directory: Path, steps: Steps) -> None:
    fs, path = _file_system(uri)
    root = path.rstrip("/")

    def copy(file: RemoteFile) -> RemoteFile:
        target = directory / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        fs.get_file(f"{root}/{file.name}", str(target))
        _compare(uri, file, target)
        return file

    with concurrent.futures.ThreadPoolExecutor(_PARALLEL) as pool:
        try:
            for done in concurrent.futures.as_completed([pool.submit(copy, f) for f in listed]):
                steps.step(done.result().name)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _compare(uri: str, file: RemoteFile, target: Path) -> None:
    found = target.stat().st_size
    if found != file.size:
        raise ModelError(f"{uri}/{file.name}: {found} bytes arrived, want {file.size}")
    if file.md5:
        with target.open("rb") as copied:
            digest = hashlib.file_digest(copied, "md5").digest()
        if base64.b64encode(digest).decode() != file.md5:
            raise ModelError(f"{uri}/{file.name}: what arrived does not have its MD5")


def _whole(place: Path, listed: tuple[RemoteFile, ...]) -> bool:
    """Whether the copy is there, as it was left."""
    try:
        found: object = json.loads(_receipt(place).read_text())
        return found == _stats(place, listed)
    except (OSError, ValueError):
        return False


def _stats(place: Path, listed: tuple[RemoteFile, ...]) -> dict[str, list[int]]:
    stats = {file.name: (place / file.name).stat() for file in listed}
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}


def _receipt(place: Path) -> Path:
    return place.with_name(f"{place.name}.json")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """A process that dies lets go."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _file(uri: str, name: str, info: Mapping[str, Any]) -> RemoteFile:
    if any(part in ("", ".", "..") for part in name.split("/")):
        raise ModelError(f"{uri}/{name}: a name that is no path below the directory")
    marks = ("generation", "ETag", "etag", "md5Hash", "LastModified", "updated", "mtime", "created")
    mark = next((info[key] for key in marks if info.get(key)), "")
    return RemoteFile(
        name=name,
        size=int(info["size"]),
        mark=str(mark),
        md5=str(info.get("md5Hash") or ""),
        modified=_modified(info),
    )


def _modified(info: Mapping[str, Any]) -> float:
    """Seconds since the epoch, of the forms that file systems have for it."""
    keys = ("LastModified", "last_modified", "updated", "mtime", "created")
    value = next((info[key] for key in keys if info.get(key)), 0.0)
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = datetime.datetime.fromisoformat(value)
    if isinstance(value, datetime.datetime):
        return value.timestamp()
    return float(value) if isinstance(value, int | float) else 0.0


def _file_system(uri: str) -> tuple[Any, str]:
    """What reads the URI, and the path in its terms."""
    match = _SCHEME.match(uri)
    scheme = match[1] if match else ""
    try:
        import fsspec.core

        # Listings that are remembered would hide what comes and goes.
        fs, path = fsspec.core.url_to_fs(uri, use_listings_cache=False)
    except ImportError as error:
        extra = _EXTRAS.get(scheme.lower())
        package = f"jaxrt[{extra}]" if extra else "its fsspec file system"
        raise UsageError(
            f"{uri}: {scheme}:// takes a package that is not installed ({error}); pip install "
            f'"{package}", or copy the model to this machine'
        ) from None
    except ValueError as error:
        raise UsageError(f"{uri}: {error}; want gs://, s3:// or a path of this machine") from None
    return fs, str(path)


@contextlib.contextmanager
def _told(uri: str) -> Iterator[None]:
    """What file systems raise, of any class, as a ModelError that says what to do."""
    try:
        yield
    except (ModelError, UsageError):
        raise
    except FileNotFoundError as error:
        raise ModelError(
            f"{uri}: nothing is there ({_line(error)}); create it, or correct bucket and path"
        ) from error
    except Exception as error:
        text = _line(error)
        if _CREDENTIALS.search(f"{type(error).__name__} {text}"):
            raise ModelError(
                f"{uri}: may not be read ({text}); want credentials in the environment, as "
                f"{_variables(uri)} has them, that may list and read it"
            ) from error
        raise ModelError(f"{uri}: cannot be read: {text}") from error


def _variables(uri: str) -> str:
    if uri.lower().startswith("s3"):
        return "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or a role of the machine"
    if uri.lower().startswith("g"):
        return "GOOGLE_APPLICATION_CREDENTIALS or a service account of the machine"
    return "the file system"


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
