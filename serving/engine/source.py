"""Where versions come from: version directories, policies, and what a path on disk is."""

import dataclasses
import enum
import logging
import re
from collections.abc import Collection
from pathlib import Path

from jaxrt.errors import ModelError

_log = logging.getLogger(__name__)

SAVED_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")
MANIFEST_FILE = "manifest.json"
ARTIFACT_SUFFIX = ".jaxrt"

# What absl::SimpleAtoi takes, which TensorFlow Serving parses directory names with: ASCII blanks
# around it, a sign, leading zeros.
_INTEGER = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)[ \t\n\v\f\r]*")
# The scheme of a URI, as in TensorFlow's io::ParseURI.
_SCHEME = re.compile(r"([a-zA-Z][0-9a-zA-Z.]*)://")


class Kind(enum.Enum):
    """What a directory holds."""

    ARTIFACT = "artifact"
    SAVED_MODEL = "SavedModel"


@dataclasses.dataclass(frozen=True, slots=True)
class Latest:
    """The `count` highest versions on disk; 0 counts as 1, as in TensorFlow Serving."""

    count: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class All:
    """Every version on disk."""


@dataclasses.dataclass(frozen=True, slots=True)
class Specific:
    """The listed versions; those missing on disk are only logged."""

    versions: tuple[int, ...]


Policy = Latest | All | Specific


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class VersionPath:
    """One version directory."""

    version: int
    path: Path


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Location:
    """What a path given on the command line stands for."""

    name: str
    """The model's name unless the user gives another."""
    base_path: Path | None
    """The folder of numbered versions, to be scanned again; None when the path is one version."""
    versions: tuple[VersionPath, ...]
    """All versions found, highest first; never empty."""


def version_number(name: str) -> int | None:
    """The version a directory name stands for (`00000123` is 123), or None."""
    match = _INTEGER.fullmatch(name)
    number = int(match[1]) if match else None
    return number if number is not None and -(2**63) <= number < 2**63 else None


def is_relative(base_path: str) -> bool:
    """Neither an absolute path nor a URI with a scheme."""
    return not base_path.startswith("/") and not _SCHEME.match(base_path)


def local_path(base_path: str) -> Path:
    """The local directory of a base path; ModelError for a URI of a remote file system."""
    match = _SCHEME.match(base_path)
    if match is None:
        return Path(base_path)
    if match[1] != "file":
        raise ModelError(
            f"{base_path}: found a {match[1]} URI, want a local path: mount or copy the model"
        )
    return Path("/" + base_path[match.end() :].partition("/")[2])


def scan(base_path: Path) -> dict[int, Path]:
    """Version → directory of all numbered directories, highest first.

    Of several names of one number (`1`, `01`) the one that sorts last is taken, as in TensorFlow
    Serving. Raises ModelError when `base_path` cannot be listed.
    """
    found: dict[int, Path] = {}
    for child in sorted(_children(base_path)):
        number = version_number(child.name)
        if number is None or not child.is_dir():
            continue
        if number in found:
            _log.warning(
                "%s: version %d is there twice: loading it from %r, ignoring %r",
                base_path, number, child.name, found[number].name,
            )  # fmt: skip
        found[number] = child
    return dict(sorted(found.items(), reverse=True))


def chosen(found: Collection[int], policy: Policy) -> tuple[list[int], list[int]]:
    """The versions that `policy` wants served of those found, highest first; and those it lacks."""
    highest_first = sorted(found, reverse=True)
    match policy:
        case Latest(count):
            return highest_first[: max(count, 1)], []
        case All():
            return highest_first, []
        case Specific(versions):
            wanted = set(versions)
            return [n for n in highest_first if n in wanted], sorted(wanted - set(found))


def kind_of(path: Path) -> Kind | None:
    """Whether `path` is an artifact or a SavedModel; None when it is neither."""
    if (path / MANIFEST_FILE).is_file():
        return Kind.ARTIFACT
    if any((path / name).is_file() for name in SAVED_MODEL_FILES):
        return Kind.SAVED_MODEL
    return None


def locate(path: Path) -> Location:
    """What `path` is: an artifact, a SavedModel, or a base path of numbered ones.

    The name is the directory's, without `.jaxrt`; of `.../model/1` it is `model`, at version 1.
    Raises ModelError when there is nothing to serve.
    """
    full = Path(path).absolute()
    if kind_of(full) is not None:
        number = version_number(full.name)
        if number is None:
            return Location(name=_name(full), base_path=None, versions=(VersionPath(1, full),))
        return Location(
            name=_name(full.parent), base_path=None, versions=(VersionPath(number, full),)
        )
    if not full.is_dir():
        raise _nothing(path, "a file" if full.exists() else "nothing there")
    versions = scan(full)
    if not any(kind_of(directory) for directory in versions.values()):
        raise _nothing(path, _listing(full, versions))
    return Location(
        name=_name(full),
        base_path=full,
        versions=tuple(VersionPath(number, where) for number, where in versions.items()),
    )


def _children(base_path: Path) -> list[Path]:
    try:
        return list(base_path.iterdir())
    except OSError as error:
        raise ModelError(
            f"{base_path}: found no base path to list ({error.strerror}), want a directory of "
            "numbered versions: create it, or correct the path"
        ) from error


def _name(directory: Path) -> str:
    name = directory.name.removesuffix(ARTIFACT_SUFFIX)
    return name or "model"  # `/1` has no parent to be named after


def _listing(directory: Path, versions: dict[int, Path]) -> str:
    if versions:
        names = ", ".join(sorted(where.name for where in versions.values()))
        return f"version directories with no model inside ({names})"
    names = ", ".join(sorted(child.name for child in _children(directory))[:5])
    return f"a directory with {names}" if names else "an empty directory"


def _nothing(path: Path, found: str) -> ModelError:
    return ModelError(
        f"{path}: found {found}, want an artifact ({MANIFEST_FILE}), a SavedModel "
        f"({' or '.join(SAVED_MODEL_FILES)}) or numbered directories of these: "
        "export with `model.export(path)` or `tf.saved_model.save(model, path)` and pass that path"
    )
