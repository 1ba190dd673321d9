"""The manifest of an artifact: what was compiled from what, for what, and in which files."""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from jaxrt.digest import json_sha256
from jaxrt.entries import ExecutableEntry as ExecutableEntry
from jaxrt.entries import HostEntry as HostEntry
from jaxrt.entries import ProgramEntry as ProgramEntry
from jaxrt.entries import SignatureEntry as SignatureEntry
from jaxrt.entries import StageEntry as StageEntry
from jaxrt.entries import Stats as Stats
from jaxrt.errors import ArtifactError
from jaxrt.fields import Fields
from jaxrt.mesh import MeshRecord, Spec, layouts_from_json, layouts_to_json
from jaxrt.specs import stage_key

# Format versions; a reader of an older one, or a refusal that names both, comes with each.
# Version 1, November 22nd, 2026, the first: weights.safetensors, programs/, executables/, host/.
# Version 2, the same day: what answers shapes that no program takes.
# Version 3, the same day: meshes of several devices and layouts on them, compressed weights.
FORMAT_VERSION: Final = 3

MANIFEST: Final = "manifest.json"
FORMAT: Final = "jaxrt artifact"
"""The first field of every manifest: by it even a damaged artifact is known as ours."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """The SavedModel an artifact came from."""

    path: str
    """As given on the command line."""
    sha256: str
    """`jaxrt.digest.content_hash` of the directory."""
    tags: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "sha256": self.sha256, "tags": list(self.tags)}

    @classmethod
    def from_json(cls, data: Any, where: str = "source") -> "Source":
        with Fields(data, where) as fields:
            return cls(
                path=fields.text("path"),
                sha256=fields.text("sha256", _SHA256),
                tags=fields.texts("tags"),
            )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TargetRecord:
    """The device that the executables are for."""

    platform: str
    """JAX's name: `cpu`, `cuda`, `tpu`."""
    device_kind: str
    fingerprint: Mapping[str, Any]
    """JSON values; what else must agree for an executable to run (CPU features, topology)."""

    def to_json(self) -> dict[str, Any]:
        return {
            "platform": self.platform,
            "device_kind": self.device_kind,
            "fingerprint": dict(self.fingerprint),
        }

    @classmethod
    def from_json(cls, data: Any, where: str = "target") -> "TargetRecord":
        with Fields(data, where) as fields:
            return cls(
                platform=fields.text("platform"),
                device_kind=fields.text("device_kind"),
                fingerprint=fields.mapping("fingerprint"),
            )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FileEntry:
    sha256: str
    bytes: int

    def to_json(self) -> dict[str, Any]:
        return {"sha256": self.sha256, "bytes": self.bytes}

    @classmethod
    def from_json(cls, data: Any, where: str = "file") -> "FileEntry":
        with Fields(data, where) as fields:
            return cls(sha256=fields.text("sha256", _SHA256), bytes=fields.natural("bytes"))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """manifest.json.

    Invariants: program keys are unique; the names of `files` are relative paths that stay inside
    the artifact. `options` and `target.fingerprint` hold JSON values (lists, not tuples).
    """

    jaxrt: str
    """jaxrt's version."""
    model: str
    tools: Mapping[str, str]
    """Name → version of jax, jaxlib, tensorflow, python."""
    source: Source
    options: Mapping[str, Any]
    target: TargetRecord
    signatures: Mapping[str, SignatureEntry]
    files: Mapping[str, FileEntry] = dataclasses.field(default_factory=dict)
    """Relative path → what it must be, for every file but manifest.json."""
    mesh: MeshRecord | None = None
    """None: one device."""
    layouts: Mapping[str, Spec] = dataclasses.field(default_factory=dict)
    """On a mesh, of the weights that are split; the others are whole on each device."""
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        keys = [program.key for program in self.programs]
        if twice := sorted({key for key in keys if keys.count(key) > 1}):
            raise ValueError(f"program keys {twice} come twice; give each program its own")
        for name in self.files:
            check_relative(name)
        for what, free in (("options", self.options), ("fingerprint", self.target.fingerprint)):
            if json.loads(json.dumps(free, allow_nan=False)) != free:
                raise ValueError(f"{what}: JSON does not give the same back; want JSON values")

    @property
    def programs(self) -> tuple[ProgramEntry, ...]:
        """Of all signatures and stages, in their order."""
        return tuple(program for programs in self.parts.values() for program in programs)

    @property
    def parts(self) -> dict[str, tuple[ProgramEntry, ...]]:
        """Signature, or device stage by its `stage_key` → its programs; those that have some."""
        found = {}
        for name, entry in self.signatures.items():
            found[name] = entry.programs
            for number, stage in enumerate(entry.stages):
                found[stage_key(name, number)] = stage.programs
        return {key: programs for key, programs in found.items() if programs}

    @property
    def hosts(self) -> tuple[HostEntry, ...]:
        """The host segments of all signatures, in their order."""
        stages = [stage for entry in self.signatures.values() for stage in entry.stages]
        return tuple(stage.host for stage in stages if stage.host)

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "format_version": self.format_version,
            "jaxrt": self.jaxrt,
            "model": self.model,
            "tools": dict(self.tools),
            "source": self.source.to_json(),
            "options": dict(self.options),
            "target": self.target.to_json(),
            "signatures": {name: entry.to_json() for name, entry in self.signatures.items()},
            "files": {name: entry.to_json() for name, entry in self.files.items()},
            "mesh": self.mesh.to_json() if self.mesh else None,
            "layouts": layouts_to_json(self.layouts),
        }

    @classmethod
    def from_json(cls, data: Any) -> "Manifest":
        """Raises ValueError that names the field, what was found and what is wanted."""
        with Fields(data, "") as fields:
            fields.text("format")
            signatures, files = fields.mapping("signatures"), fields.mapping("files")
            mesh = fields.value("mesh")
            return cls(
                format_version=fields.natural("format_version"),
                jaxrt=fields.text("jaxrt"),
                model=fields.text("model"),
                tools=fields.text_map("tools"),
                source=Source.from_json(fields.value("source")),
                options=fields.mapping("options"),
                target=TargetRecord.from_json(fields.value("target")),
                signatures={
                    name: SignatureEntry.from_json(entry, f"signatures.{name}")
                    for name, entry in signatures.items()
                },
                files={
                    name: FileEntry.from_json(entry, f"files.{name}")
                    for name, entry in files.items()
                },
                mesh=None if mesh is None else MeshRecord.from_json(mesh),
                layouts=fields.parsed("layouts", layouts_from_json),
            )


def encode(manifest: Manifest) -> bytes:
    """The bytes of manifest.json: its own hash, over the canonical JSON of the rest, comes last."""
    data = manifest.to_json()
    data["manifest_sha256"] = json_sha256(data)
    # No newline at the end: what is truncated is never whole JSON.
    return json.dumps(data, indent=1, allow_nan=False).encode()


def decode(content: bytes, where: str) -> Manifest:
    """`content` as read from the file `where`.

    Raises ArtifactError: not JSON, another format version, altered, or a field is wrong.
    """
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _damaged(where, f"not JSON: {error}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise _damaged(where, f"want an object whose `format` is {FORMAT!r}")
    if (version := data.get("format_version")) != FORMAT_VERSION:
        raise ArtifactError(
            f"{where}: format version {version!r} (written by jaxrt {data.get('jaxrt')!r}), this "
            f"jaxrt reads version {FORMAT_VERSION}; recompile with `jaxrt compile`"
        )
    wanted = data.pop("manifest_sha256", None)
    try:
        if (found := json_sha256(data)) != wanted:
            raise _damaged(where, f"its content has SHA-256 {found}, it says {wanted}")
        return Manifest.from_json(data)
    except ValueError as error:
        raise _damaged(where, str(error)) from error


def recognised(start: bytes) -> bool:
    """Whether a file that starts so is a manifest, of any version, whole or damaged."""
    return re.match(rb'\s*\{\s*"format"\s*:\s*"' + FORMAT.encode(), start) is not None


def check_relative(name: str) -> None:
    """Raises ValueError unless `name` is a relative path that stays inside, with `/` between."""
    parts = name.split("/")
    if {"", ".", ".."} & set(parts) or re.search(r"[\\\0]", name) or name == MANIFEST:
        raise ValueError(f"file name {name!r}: want a relative path inside the artifact")


def _damaged(where: str, why: str) -> ArtifactError:
    return ArtifactError(f"{where}: {why}; the manifest is damaged: recompile with `jaxrt compile`")
