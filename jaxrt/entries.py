"""What a manifest says of each signature: its programs, its stages, their tensors and files."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Final

from jaxrt.fields import Fields
from jaxrt.mesh import Spec, layouts_from_json, layouts_to_json
from jaxrt.specs import DTYPES, SignatureSpec

ROWS: Final = ("independent", "dependent")
EXECUTORS: Final = ("native", "tensorflow", "saved_model")
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")


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
    values: Mapping[str, bool] = dataclasses.field(default_factory=dict)
    """Scalar bool inputs that it is made for one value of, and ignores."""
    input_layouts: Mapping[str, Spec] = dataclasses.field(default_factory=dict)
    """On a mesh, of the inputs that are split; the others are whole on each device."""
    output_layouts: Mapping[str, Spec] = dataclasses.field(default_factory=dict)
    slices: int = 1
    """Runs of the executable that make one of the program, at once; each has as many of the rows.

    All inputs and outputs have rows then, and the shapes here are the whole batch's.
    """
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
        for name in self.values:
            if self.input_dtypes.get(name) != "bool" or self.input_shapes[name]:
                raise ValueError(f"program {self.key}: fixed {name!r} is no scalar bool input")
        for shape in [*self.input_shapes.values(), *self.output_shapes.values()]:
            if self.slices < 1 or (self.slices > 1 and (not shape or shape[0] % self.slices)):
                raise ValueError(f"program {self.key}: {self.slices} slices of {shape}")

    @property
    def files(self) -> tuple[str, ...]:
        """Relative paths of what the program needs on disk, beside the weights."""
        return (self.portable, self.executable.file) if self.executable else (self.portable,)

    def _layouts(self) -> dict[str, Mapping[str, Spec]]:
        return {"input_layouts": self.input_layouts, "output_layouts": self.output_layouts}

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
            **({"values": dict(self.values)} if self.values else {}),
            **{name: layouts_to_json(found) for name, found in self._layouts().items() if found},
            **({"slices": self.slices} if self.slices > 1 else {}),
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
                values=fields.flag_map("values") if fields.has("values") else {},
                input_layouts=_layouts(fields, "input_layouts"),
                output_layouts=_layouts(fields, "output_layouts"),
                slices=fields.natural("slices") if fields.has("slices") else 1,
                portable=fields.text("portable"),
                executable=None
                if executable is None
                else ExecutableEntry.from_json(executable, f"{where}.executable"),
                stats=Stats.from_json(fields.value("stats"), f"{where}.stats"),
            )


def _layouts(fields: Fields, name: str) -> dict[str, Spec]:
    return fields.parsed(name, layouts_from_json) if fields.has(name) else {}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HostEntry:
    """A host segment: a graph that is run without a device."""

    executor: str
    """`native` runs it without TensorFlow, `tensorflow` with it; `saved_model`: the whole
    signature, by TensorFlow, from the SavedModel kept in the artifact."""
    rows: str
    """As in ProgramEntry: whether requests may share a run."""
    ops: tuple[str, ...]
    """TensorFlow ops in it."""
    why: str
    """One sentence: what keeps it off the device."""
    graph: str | None = None
    """The file of the serialized GraphDef; None for `saved_model`."""
    signature: str | None = None
    """The signature that `saved_model` runs."""
    feeds: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Input → tensor of the graph."""
    fetches: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Output → tensor of the graph."""
    targets: tuple[str, ...] = ()
    """Nodes that are run for their effect, such as an Assert."""
    tables: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Node of a hash table → the file of its contents."""
    stateful: bool = False
    """Requests change what later ones see, here or in another signature."""

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS or self.rows not in ROWS:
            raise ValueError(
                f"host segment run by {self.executor!r}, rows {self.rows!r}: want one of "
                f"{EXECUTORS} and of {ROWS}"
            )

    @property
    def files(self) -> tuple[str, ...]:
        return (*([self.graph] if self.graph else []), *self.tables.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "executor": self.executor,
            "rows": self.rows,
            "ops": list(self.ops),
            "why": self.why,
            "graph": self.graph,
            "signature": self.signature,
            "feeds": dict(self.feeds),
            "fetches": dict(self.fetches),
            "targets": list(self.targets),
            "tables": dict(self.tables),
            "stateful": self.stateful,
        }

    @classmethod
    def from_json(cls, data: Any, where: str = "host") -> "HostEntry":
        with Fields(data, where) as fields:
            return cls(
                executor=fields.text("executor"),
                rows=fields.text("rows"),
                ops=fields.texts("ops"),
                why=fields.text("why"),
                graph=fields.text_or_none("graph"),
                signature=fields.text_or_none("signature"),
                feeds=fields.text_map("feeds"),
                fetches=fields.text_map("fetches"),
                targets=fields.texts("targets"),
                tables=fields.text_map("tables"),
                stateful=fields.flag("stateful"),
            )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StageEntry:
    """One segment of a signature that is cut; `host` is None for a device segment."""

    spec: SignatureSpec
    """The values it takes and gives, by name."""
    host: HostEntry | None = None
    programs: tuple[ProgramEntry, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "spec": self.spec.to_json(),
            "host": self.host.to_json() if self.host else None,
            "programs": [program.to_json() for program in self.programs],
        }

    @classmethod
    def from_json(cls, data: Any, where: str = "stage") -> "StageEntry":
        with Fields(data, where) as fields:
            host = fields.value("host")
            return cls(
                spec=fields.parsed("spec", SignatureSpec.from_json),
                host=None if host is None else HostEntry.from_json(host, f"{where}.host"),
                programs=_programs(fields, where),
            )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SignatureEntry:
    """One signature: its spec and its programs or stages, or why it has none."""

    spec: SignatureSpec
    programs: tuple[ProgramEntry, ...] = ()
    refused: str | None = None
    stages: tuple[StageEntry, ...] = ()
    """In the order they run; empty where one device program is the whole signature."""
    fallback: HostEntry | None = None
    """What answers requests of shapes that no program takes, where it can be run."""

    def to_json(self) -> dict[str, Any]:
        return {
            "spec": self.spec.to_json(),
            "refused": self.refused,
            "programs": [program.to_json() for program in self.programs],
            "stages": [stage.to_json() for stage in self.stages],
            "fallback": self.fallback.to_json() if self.fallback else None,
        }

    @classmethod
    def from_json(cls, data: Any, where: str = "signature") -> "SignatureEntry":
        with Fields(data, where) as fields:
            stages = fields.items("stages")
            fallback = fields.value("fallback")
            return cls(
                spec=fields.parsed("spec", SignatureSpec.from_json),
                refused=fields.text_or_none("refused"),
                programs=_programs(fields, where),
                stages=tuple(
                    StageEntry.from_json(stage, f"{where}.stages[{i}]")
                    for i, stage in enumerate(stages)
                ),
                fallback=None
                if fallback is None
                else HostEntry.from_json(fallback, f"{where}.fallback"),
            )


def _programs(fields: Fields, where: str) -> tuple[ProgramEntry, ...]:
    programs = fields.items("programs")
    return tuple(
        ProgramEntry.from_json(program, f"{where}.programs[{i}]")
        for i, program in enumerate(programs)
    )


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
