"""Remote models for the commands: where their copies lie, and how far a copy is."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from jaxrt import remote
from jaxrt.cli import console
from jaxrt.errors import ModelError
from jaxrt.remote import Remote
from jaxrt.serving.engine import source
from jaxrt.serving.engine.source import Kind

COPIES = "remote"
"""Below the cache."""

_ONE_BAR = threading.Lock()
"""A terminal shows one at a time; models may be copied at the same time."""


def default_cache() -> Path:
    """The user's: ~/.cache/jaxrt, or below XDG_CACHE_HOME."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "jaxrt"


def copies(cache: Path | None) -> Remote:
    """The copies in a cache directory; None: the user's."""
    root = Path(os.path.abspath(cache or default_cache()))
    return Remote(root / COPIES, progress=_progress)


def kind_of(uri: str) -> Kind | None:
    """As `source.kind_of`, of a URI. Raises ModelError, UsageError."""
    names = {file.name for file in remote.files(uri)}
    if source.MANIFEST_FILE in names:
        return Kind.ARTIFACT
    return Kind.SAVED_MODEL if names & set(source.SAVED_MODEL_FILES) else None


def locate(uri: str) -> tuple[str, int | None, str]:
    """As `source.locate`: a model's name, version and URI; the version is None for a base path.

    Raises ModelError when there is nothing to serve; UsageError.
    """
    uri = uri.rstrip("/")
    name = remote.name_of(uri)
    if kind_of(uri) is None:
        if not any(source.version_number(n) is not None for n in remote.directories(uri)):
            raise ModelError(
                f"{uri}: found neither a model nor numbered directories of models; correct the "
                "path, or copy one there"
            )
        return name.removesuffix(source.ARTIFACT_SUFFIX), None, uri
    number = source.version_number(name)
    if number is not None:
        name = remote.name_of(uri.rpartition("/")[0]) or name
    return name.removesuffix(source.ARTIFACT_SUFFIX), 1 if number is None else number, uri


def highest(uri: str) -> str:
    """The URI of the highest version in a base path. Raises ModelError, UsageError."""
    found = remote.directories(uri)
    numbers = {source.version_number(name): place for name, place in found.items()}
    return max((number, place) for number, place in numbers.items() if number is not None)[1]


@contextlib.contextmanager
def _progress(title: str) -> Iterator[remote.Steps]:
    if not _ONE_BAR.acquire(blocking=False):
        yield _Silent()
        return
    try:
        with console.progress(title) as steps:
            yield steps
    finally:
        _ONE_BAR.release()


class _Silent:
    def total(self, steps: int) -> None:
        pass

    def step(self, text: str) -> None:
        pass
