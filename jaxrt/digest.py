"""SHA-256 of files, of directories by content and of JSON values."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jaxrt.errors import ModelError


def file_sha256(path: Path) -> str:
    """In hexadecimal. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_sha256(paths: Sequence[Path]) -> list[str]:
    """One for each path, several at once: hashing releases the interpreter lock."""
    if len(paths) < 2:
        return [file_sha256(path) for path in paths]
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(file_sha256, paths))


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
