"""The manifest of an artifact: what was compiled from what, for what, and in which files."""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from jaxrt.digest import json_sha256
from jaxrt.errors import ArtifactError
from jaxrt.fields import Fields
from jaxrt.specs import DTYPES, SignatureSpec

# Format versions; a reader of an older one, or a refusal that names both, comes with each.
# Version 1, November 22nd, 2026, the first: weights.safetensors, programs/, executables/, host/.
FORMAT_VERSION: Final = 1

MANIFEST: Final = "manifest.json"
FORMAT: Final = "jaxrt artifact"
"""The first field of every manifest: by it even a damaged artifact is known as ours."""
ROWS: Final = ("independent", "dependent")
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
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
class Stats:
    """What XLA says of one executable; None where the platform does not say."""

    flops: float | None = None
    bytes_accessed: float | None = None
    argument_bytes: int | None = None
    output_bytes: int | None = None
    temp_bytes: int | None = None
    generated_code_bytes: int | None = None
    compile_seconds: float | None = None

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Any, where: str = "stats") -> "Stats":
        with Fields(data, where) as fields:
            return cls(
                flops=fields.number_or_none("flops"),
                bytes_accessed=fields.number_or_none("bytes_accessed"),
                argument_bytes=fields.natural_or_none("argument_bytes"),
                output_bytes=fields.natural_or_none("output_bytes"),
                temp_bytes=fields.natural_or_none("temp_bytes"),
                generated_code_bytes=fields.natural_or_none("generated_code_bytes"),
                compile_seconds=fields.number_or_none("compile_seconds"),
            )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExecutableEntry:
    """PJRT's bytes of a program, and the fingerprint of the one kind of device they run on."""

    file: str
    key: str

    def to_json(self) -> dict[str, Any]:
        return {"file": self.file, "key": self.key}

    @classmethod
    def from_json(cls, data: Any, where: str = "executable") -> "ExecutableEntry":
        with Fields(data, where) as fields:
            return cls(file=fields.text("file"), key=fields.text("key"))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ProgramEntry:
    """One signature at one set of input shapes: (*weights, *inputs) -> outputs, flat.

    Invariants: input_shapes and input_dtypes have exactly the names of input_names, the outputs
    likewise; no input's or output's name comes twice.
    """

    key: str
    """Unique in the artifact; the stem of its files' names."""
    input_names: tuple[str, ...]
    """In the order of the executable's arguments, after the weights."""
    input_shapes: Mapping[str, tuple[int, ...]]
    input_dtypes: Mapping[str, str]
    """Name → key of jaxrt.specs.DTYPES."""
    output_names: tuple[str, ...]
    """In the order of the executable's results."""
    output_shapes: Mapping[str, tuple[int, ...]]
    output_dtypes: Mapping[str, str]
    weights: tuple[str, ...]
    """Names in weights.safetensors, in the order of the executable's leading arguments.

    One may come several times: equal weights, such as biases that are all zero, are stored once.
    """
    rows: str
    """`independent`: row i of every output depends on row i of the inputs alone; or `dependent`."""
    rows_reason: str
    """One sentence: what makes the rows depend on each other, or why they do not."""
    random: bool
    """Two calls with the same inputs may differ."""
    portable: str
    """The file of the jax.export bytes."""
    executable: ExecutableEntry | None = None
    stats: Stats = dataclasses.field(default_factory=Stats)

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.key):
            raise ValueError(f"program key {self.key!r}: want a file stem, {_KEY.pattern}")
        if self.rows not in ROWS:
            raise ValueError(f"program {self.key}: rows {self.rows!r}, want one of {ROWS}")
        _check_tensors(self.key, "input", self.input_names, self.input_shapes, self.input_dtypes)
        _check_tensors(
            self.key, "output", self.output_names, self.output_shapes, self.output_dtypes
        )

    @property
    def files(self) -> tuple[str, ...]:
        """Relative paths of what the program needs on disk, beside the weights."""
        return (self.portable, self.executable.file) if self.executable else (self.portable,)

    def to_json(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "input_names": list(self.input_names),
            "input_shapes": {name: list(shape) for name, shape in self.input_shapes.items()},
            "input_dtypes": dict(self.input_dtypes),
            "output_names": list(self.output_names),
            "output_shapes": {name: list(shape) for name, shape in self.output_shapes.items()},
            "output_dtypes": dict(self.output_dtypes),
            "weights": list(self.weights),
            "rows": self.rows,
            "rows_reason": self.rows_reason,
            "random": self.random,
            "portable": self.portable,
            "executable": self.executable.to_json() if self.executable else None,
            "stats": self.stats.to_json(),
        }

    @classmethod
    def from_json(cls, data: Any, where: str = "program") -> "ProgramEntry":
        with Fields(data, where) as fields:
            executable = fields.value("executable")
            return cls(
                key=fields.text("key"),
                input_names=fields.texts("input_names"),
                input_shapes=fields.shapes("input_shapes"),
                input_dtypes=fields.text_map("input_dtypes"),
                output_names=fields.texts("output_names"),
                output_shapes=fields.shapes("output_shapes"),
                output_dtypes=fields.text_map("output_dtypes"),
                weights=fields.texts("weights"),
                rows=fields.text("rows"),
                rows_reason=fields.text("rows_reason"),
                random=fields.flag("random"),
                portable=fields.text("portable"),
                executable=None
                if executable is None
                else ExecutableEntry.from_json(executable, f"{where}.executable"),
                stats=Stats.from_json(fields.value("stats"), f"{where}.stats"),
            )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SignatureEntry:
    """One signature: its spec and its programs, or why it has none."""

    spec: SignatureSpec
    programs: tuple[ProgramEntry, ...] = ()
    refused: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "spec": self.spec.to_json(),
            "refused": self.refused,
            "programs": [program.to_json() for program in self.programs],
        }

    @classmethod
    def from_json(cls, data: Any, where: str = "signature") -> "SignatureEntry":
        with Fields(data, where) as fields:
            programs = fields.items("programs")
            return cls(
                spec=fields.parsed("spec", SignatureSpec.from_json),
                refused=fields.text_or_none("refused"),
                programs=tuple(
                    ProgramEntry.from_json(program, f"{where}.programs[{i}]")
                    for i, program in enumerate(programs)
                ),
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
        """Of all signatures, in their order."""
        return tuple(p for entry in self.signatures.values() for p in entry.programs)

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
        }

    @classmethod
    def from_json(cls, data: Any) -> "Manifest":
        """Raises ValueError that names the field, what was found and what is wanted."""
        with Fields(data, "") as fields:
            fields.text("format")
            signatures, files = fields.mapping("signatures"), fields.mapping("files")
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


def _check_tensors(
    key: str,
    what: str,
    names: tuple[str, ...],
    shapes: Mapping[str, tuple[int, ...]],
    dtypes: Mapping[str, str],
) -> None:
    if not len(set(names)) == len(names) or not set(names) == shapes.keys() == dtypes.keys():
        raise ValueError(
            f"program {key}: {what} names {names}, shapes of {sorted(shapes)}, dtypes of "
            f"{sorted(dtypes)}; want the same names, each once"
        )
    for name in names:
        if min(shapes[name], default=0) < 0 or dtypes[name] not in DTYPES:
            raise ValueError(
                f"program {key}: {what} {name!r} is {dtypes[name]}{list(shapes[name])}; want a "
                "dtype of jaxrt.specs.DTYPES and sizes of 0 or more"
            )


def _damaged(where: str, why: str) -> ArtifactError:
    return ArtifactError(f"{where}: {why}; the manifest is damaged: recompile with `jaxrt compile`")
