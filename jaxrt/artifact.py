"""The artifact: a directory that holds compiled programs, their weights and where they came from.

    manifest.json          what is here and what it must be (`jaxrt.manifest`)
    weights.safetensors    the weights of all programs (`jaxrt.weights`); or, on a mesh of several
    weights.json weights/  devices, Orbax checkpoints and their index (`jaxrt.checkpoint`)
    programs/<key>.jaxexport, executables/<key>.pjrt
    report.json            what the compiler decided, and why
    host/                  files of the host segments: vocabularies, assets

Nothing in it is a pickle. Nothing in it is used before its SHA-256 was compared.
"""

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from jaxrt import checkpoint, staging
from jaxrt.checkpoint import Checkpoint
from jaxrt.digest import files_sha256
from jaxrt.errors import ArtifactError, UsageError
from jaxrt.manifest import (
    MANIFEST,
    FileEntry,
    Manifest,
    check_relative,
    decode,
    encode,
    recognised,
)
from jaxrt.weights import Array, Shaped, Weights, open_weights, stream_weights, write_weights

WEIGHTS = "weights.safetensors"
REPORT = "report.json"
BATCHING = "batching_params.pbtxt"
"""How a server batches this version: whoever serves it may write one, so it is in no manifest."""
SAVED_MODEL = "host/saved_model"
"""The SavedModel itself, where TensorFlow runs signatures whole."""
_AGAIN = "recompile with `jaxrt compile`"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Artifact:
    """An opened artifact; `weights` are mapped until `close` and the last array's end."""

    path: Path
    manifest: Manifest
    weights: Weights | Checkpoint
    """A checkpoint on a mesh of several devices."""

    def portable(self, key: str) -> bytes:
        """The jax.export bytes of a program; KeyError for a key the manifest does not have."""
        return self._read(self._programs[key].portable)

    def executable(self, key: str) -> bytes | None:
        """PJRT's bytes of a program, None when it was kept as a portable program alone.

        The caller compares the entry's fingerprint with the device's: jaxlib does not.
        """
        entry = self._programs[key].executable
        return None if entry is None else self._read(entry.file)

    def report(self) -> dict[str, Any]:
        report = json.loads(self._read(REPORT))
        if not isinstance(report, dict):
            raise ArtifactError(f"{self.path / REPORT}: want a JSON object; {_AGAIN}")
        return report

    def file(self, name: str) -> Path:
        """Where a file of the manifest lies: `host/vocab.txt`; KeyError when it names none such."""
        if name not in self.manifest.files:
            raise KeyError(name)
        return self.path / name

    def close(self) -> None:
        self.weights.close()

    def __enter__(self) -> "Artifact":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _programs(self) -> dict[str, Any]:
        return {program.key: program for program in self.manifest.programs}

    def _read(self, name: str) -> bytes:
        # Hashed again: the directory may have been replaced since it was opened, or not verified.
        try:
            content = (self.path / name).read_bytes()
        except OSError as error:
            raise _unreadable(self.path / name, error) from error
        found = hashlib.sha256(content).hexdigest()
        if found != self.manifest.files[name].sha256:
            raise _altered(self.path / name, found, self.manifest.files[name].sha256)
        return content


class ArtifactWriter:
    """Writes an artifact aside; `commit` moves it into place whole, replacing one that is there.

    A context manager: left without a commit, or killed, it leaves the destination as it was.
    Entering raises UsageError when the destination is something else than an artifact, and
    removes what killed writers of the same destination left. A destination that is a link is
    followed.
    """

    def __init__(self, destination: Path, *, exchange: staging.Exchange | None = None) -> None:
        self._destination = Path(os.path.realpath(destination))
        self._exchange = exchange
        self._stack = ExitStack()
        self._path: Path | None = None

    def __enter__(self) -> "ArtifactWriter":
        try:
            _check_replaceable(self._destination)
            self._destination.parent.mkdir(parents=True, exist_ok=True)
            staging.sweep(self._destination)
            self._path = self._stack.enter_context(staging.staged(self._destination))
        except OSError as error:
            raise UsageError(
                f"{error.filename or self._destination}: cannot be written: {error.strerror}; "
                "choose another place for the artifact"
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._path = None

    def weights(self, tensors: Mapping[str, Array]) -> None:
        """Write all weights; see `jaxrt.weights.write_weights`."""
        write_weights(self.file(WEIGHTS), tensors)

    def stream_weights(
        self, layout: Mapping[str, Shaped], tensors: Iterable[tuple[str, Array]]
    ) -> None:
        """Write all weights one by one; see `jaxrt.weights.stream_weights`."""
        stream_weights(self.file(WEIGHTS), layout, tensors)

    def portable(self, key: str, content: bytes) -> str:
        """Write a program's jax.export bytes; gives ProgramEntry.portable."""
        return self._write(f"programs/{key}.jaxexport", content)

    def executable(self, key: str, content: bytes) -> str:
        """Write a program's PJRT bytes; gives ExecutableEntry.file."""
        return self._write(f"executables/{key}.pjrt", content)

    def report(self, report: Mapping[str, Any]) -> None:
        """Write the report: JSON values, where infinities and NaN become strings."""
        text = json.dumps(_finite(report), indent=1, allow_nan=False)
        self._write(REPORT, text.encode() + b"\n")

    def file(self, name: str) -> Path:
        """Where to write a file yourself: `host/vocab.txt`. Its folder is there already."""
        check_relative(name)
        if self._path is None:
            raise RuntimeError(f"{self._destination}: write inside `with ArtifactWriter(...)`")
        path = self._path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def commit(self, manifest: Manifest) -> Manifest:
        """Write `manifest` with the files that are there, and move the artifact into place.

        Weights and report that were not written are written empty. For a mesh of several devices
        the weights become Orbax checkpoints. Raises ValueError when the manifest names a file or a
        weight that was not written, UsageError as at entering.
        """
        if not self.file(WEIGHTS).exists():
            self.weights({})
        if not self.file(REPORT).exists():
            self.report({})
        path = self.file(WEIGHTS).parent
        if _spread(manifest):
            _check_point(path, manifest)
        names = sorted(_regular_files(path))
        sizes = [(path / name).stat().st_size for name in names]
        hashes = files_sha256([path / name for name in names])
        files = {
            name: FileEntry(sha256=digest, bytes=size)
            for name, digest, size in zip(names, hashes, sizes, strict=True)
        }
        whole = dataclasses.replace(manifest, files=files)
        with _weights(path, whole) as weights:
            if lost := _lost(whole, weights):
                raise ValueError(f"{self._destination}: the manifest names {lost}: write them")
        (path / MANIFEST).write_bytes(encode(whole))
        _check_replaceable(self._destination)
        staging.publish(path, self._destination, exchange=self._exchange)
        self._path = None
        return whole

    def _write(self, name: str, content: bytes) -> str:
        self.file(name).write_bytes(content)
        return name


def open_artifact(path: Path, *, verify: bool = True) -> Artifact:
    """Check an artifact and map its weights.

    Always checked: format version, the manifest's own hash, that the files are those it names and
    have their sizes. `verify` also compares the SHA-256 of every file: 440 MB of weights in 0.31 s
    (an EPYC with SHA extensions, pages cached), against 0.5 ms without. Raises ArtifactError that
    names the file and what to do.
    """
    if not path.exists():
        staging.restore(path)
    while True:
        before = _identity(path)
        try:
            artifact = _open(path, verify=verify)
        except (ArtifactError, OSError) as error:
            if _identity(path) != before:
                continue
            if isinstance(error, OSError):
                raise _unreadable(path, error) from error
            raise
        # Another one may have been moved here while we read: never a mixture of two.
        if _identity(path) == before:
            return artifact
        artifact.close()


def _open(path: Path, *, verify: bool) -> Artifact:
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing there"
        raise ArtifactError(f"{path}: {found}, want the directory of an artifact; {_AGAIN}")
    manifest_path = path / MANIFEST
    present = set(_regular_files(path))
    if MANIFEST not in present:
        raise ArtifactError(f"{manifest_path}: missing, so this is no artifact; {_AGAIN}")
    manifest = decode(manifest_path.read_bytes(), str(manifest_path))
    _check_files(path, manifest, present - {MANIFEST, BATCHING})
    if verify:
        _check_hashes(path, manifest)
    weights = _weights(path, manifest)
    if lost := _lost(manifest, weights):
        raise ArtifactError(f"{manifest_path}: it names {lost}, which are not there; {_AGAIN}")
    return Artifact(path=path, manifest=manifest, weights=weights)


def _spread(manifest: Manifest) -> bool:
    """Whether the weights lie on several devices together."""
    return manifest.mesh is not None and manifest.mesh.shape.devices > 1


def _weights(path: Path, manifest: Manifest) -> Weights | Checkpoint:
    return checkpoint.open_checkpoint(path) if _spread(manifest) else open_weights(path / WEIGHTS)


def _check_point(path: Path, manifest: Manifest) -> None:
    """Checkpoints in place of the safetensors file, whose pages come and go as they are read."""
    assert manifest.mesh is not None
    with open_weights(path / WEIGHTS) as weights:
        checkpoint.write_checkpoint(path, weights.items(), manifest.layouts, manifest.mesh.shape)
    (path / WEIGHTS).unlink()


def _check_files(path: Path, manifest: Manifest, present: set[str]) -> None:
    wanted = manifest.files.keys() | {checkpoint.INDEX if _spread(manifest) else WEIGHTS, REPORT}
    if missing := sorted(wanted - present):
        raise ArtifactError(f"{path / missing[0]}: missing ({len(missing)} in all); {_AGAIN}")
    if added := sorted(present - manifest.files.keys()):
        raise ArtifactError(
            f"{path / added[0]}: not in the manifest ({len(added)} in all); remove it or {_AGAIN}"
        )
    for name, entry in manifest.files.items():
        if (size := (path / name).stat().st_size) != entry.bytes:
            raise ArtifactError(
                f"{path / name}: {size} bytes, the manifest says {entry.bytes}; {_AGAIN}"
            )


def _check_hashes(path: Path, manifest: Manifest) -> None:
    found = files_sha256([path / name for name in manifest.files])
    for (name, entry), digest in zip(manifest.files.items(), found, strict=True):
        if digest != entry.sha256:
            raise _altered(path / name, digest, entry.sha256)


def _lost(manifest: Manifest, weights: Mapping[str, Array]) -> list[str]:
    """Files and weights that programs need and that are not there."""
    files = {file for program in manifest.programs for file in program.files}
    files |= {file for host in manifest.hosts for file in host.files}
    names = {name for program in manifest.programs for name in program.weights}
    return sorted(files - manifest.files.keys()) + sorted(names - weights.keys())


def _regular_files(directory: Path, prefix: str = "") -> Iterator[str]:
    """Relative names; links are refused: they reach out of the artifact."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _regular_files(Path(entry.path), f"{prefix}{entry.name}/")
            elif entry.is_file(follow_symlinks=False):
                yield prefix + entry.name
            else:
                what = "a symbolic link" if entry.is_symlink() else "no regular file"
                raise ArtifactError(f"{entry.path}: {what}; copy the file itself or {_AGAIN}")


def _check_replaceable(destination: Path) -> None:
    """Raises UsageError when something else than an artifact or an empty directory is there."""
    if not destination.exists() or (destination.is_dir() and not os.listdir(destination)):
        return
    try:
        with open(destination / MANIFEST, "rb") as file:
            if recognised(file.read(64)):
                return
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        pass
    raise UsageError(
        f"{destination}: there is something that is not a jaxrt artifact, and it would be "
        "replaced; choose another place or remove it"
    )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _finite(value: Any) -> Any:
    """JSON has no NaN: the strings of protobuf's JSON mapping instead."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _altered(path: Path, found: str, wanted: str) -> ArtifactError:
    return ArtifactError(f"{path}: SHA-256 {found}, the manifest says {wanted}; {_AGAIN}")


def _unreadable(path: Path, error: OSError) -> ArtifactError:
    return ArtifactError(f"{error.filename or path}: cannot be read: {error.strerror}; {_AGAIN}")
