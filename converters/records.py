"""What crosses the border between the process that knows TensorFlow and the one that does not."""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

from jaxrt.specs import SignatureSpec


class Kind(enum.Enum):
    """Why a signature was not lowered."""

    HOST = "host"
    """Strings, lookup tables, parsing, queues: no device can run them."""
    STATE = "state"
    """An answer depends on requests answered before it."""
    CONTROL_FLOW = "control flow"
    """TF1's Switch, Merge, Enter, Exit, whose predicate is not a constant."""
    SHAPE = "shape"
    """XLA would answer, with a shape that is not TensorFlow's."""
    ENCODING = "encoding"
    """An input or output is not one dense tensor."""
    BRIDGE = "bridge"
    """TensorFlow's XLA bridge declined."""
    LIFT = "lift"
    """No rule knows an op or an attribute of its StableHLO."""
    CRASH = "crash"
    """TensorFlow's process died on it."""
    TIMEOUT = "timeout"
    """TensorFlow was still at it when the time was over."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """A signature that was not lowered: one sentence, and the TF ops to blame where known."""

    signature: str
    kind: Kind
    reason: str
    ops: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"kind": self.kind.value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Refused":
        return cls(
            signature=data["signature"],
            kind=Kind(data["kind"]),
            reason=data["reason"],
            ops=tuple(data["ops"]),
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One parameter of a lowered signature's `main`."""

    name: str
    """An input's alias, or a weight's name: unique in the model, the same in every lowering."""
    dtype: str
    """A key of jaxrt.specs.DTYPES."""
    shape: tuple[int, ...]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Parameter":
        return cls(name=data["name"], dtype=data["dtype"], shape=tuple(data["shape"]))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """One result of a lowered signature's `main`."""

    name: str
    dtype: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Lowered:
    """A signature at concrete shapes, as a StableHLO portable artifact.

    Invariant: `main` takes (*inputs, *weights), whether used or not, and returns the outputs.
    """

    signature: str
    stablehlo: bytes
    """For jaxlib.mlir.dialects.stablehlo.deserialize_portable_artifact."""
    inputs: tuple[Parameter, ...]
    weights: tuple[Parameter, ...]
    outputs: tuple[Output, ...]
    ops: tuple[str, ...]
    """TensorFlow ops that the outputs depend on, sorted. XLA drops `Assert`."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any], stablehlo: bytes) -> "Lowered":
        return cls(
            signature=data["signature"],
            stablehlo=stablehlo,
            inputs=tuple(Parameter.from_json(p) for p in data["inputs"]),
            weights=tuple(Parameter.from_json(p) for p in data["weights"]),
            outputs=tuple(Output(**o) for o in data["outputs"]),
            ops=tuple(data["ops"]),
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ModelRecord:
    """A SavedModel as its metadata describes it; no weight has been read."""

    path: str
    tags: tuple[str, ...]
    signatures: Mapping[str, SignatureSpec]
    """All of them, `__saved_model_init_op` and refused ones included."""
    refused: Mapping[str, Refused]
    """Signatures that cannot be lowered whatever the shapes are."""
    ops: Mapping[str, tuple[str, ...]]
    """Signature → TensorFlow ops its outputs depend on, sorted."""
    tensorflow_version: str
    """Of the writer; empty when the SavedModel does not say."""
    counts: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)
    """Signature → op → how many nodes of it its outputs depend on, constants left out."""

    def to_json(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "tags": list(self.tags),
            "signatures": {k: s.to_json() for k, s in self.signatures.items()},
            "refused": {k: r.to_json() for k, r in self.refused.items()},
            "ops": {k: list(ops) for k, ops in self.ops.items()},
            "tensorflow_version": self.tensorflow_version,
            "counts": {k: dict(counts) for k, counts in self.counts.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ModelRecord":
        return cls(
            path=data["path"],
            tags=tuple(data["tags"]),
            signatures={k: SignatureSpec.from_json(s) for k, s in data["signatures"].items()},
            refused={k: Refused.from_json(r) for k, r in data["refused"].items()},
            ops={k: tuple(ops) for k, ops in data["ops"].items()},
            tensorflow_version=data["tensorflow_version"],
            counts=data["counts"],
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Value:
    """A tensor that flows between the stages of a signature, or in or out of it."""

    name: str
    """An alias of the signature's inputs or outputs, or `%N` between stages; unique."""
    dtype: str
    """A key of jaxrt.specs.DTYPES."""
    shape: tuple[int | None, ...] | None
    """None for a size nobody knows; the first one then is the rows. None: unknown rank."""
    like: tuple[tuple[str, int] | None, ...] = ()
    """For each dimension, the signature's input and its dimension that is as large; None for rows
    and numbers. Empty where there is none such."""

    def to_json(self) -> dict[str, Any]:
        shape = None if self.shape is None else list(self.shape)
        like = [dim and list(dim) for dim in self.like]
        return {"name": self.name, "dtype": self.dtype, "shape": shape, "like": like}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Value":
        shape = data["shape"]
        return cls(
            name=data["name"],
            dtype=data["dtype"],
            shape=None if shape is None else tuple(shape),
            like=tuple(dim and (dim[0], dim[1]) for dim in data["like"]),
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What a stage did for one row of a sample, on average; the rehearsal tells."""

    flops: float | None
    """By jaxrt.converters.arithmetic; None for a stage on the device, of which XLA tells."""
    uncounted: tuple[str, ...]
    """Ops whose operations `flops` leaves out."""
    bytes: Mapping[str, float]
    """Value's name → its bytes; of strings, those of their text."""

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Measured":
        return cls(flops=data["flops"], uncounted=tuple(data["uncounted"]), bytes=data["bytes"])


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One segment of a signature. Stages run in order; each sees the values before it.

    A device stage is lowered by its number; a host stage is a GraphDef of its own.
    """

    where: str
    """`device` or `host`."""
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    """May be empty in a host stage that only asserts."""
    ops: tuple[str, ...]
    """TensorFlow ops in it, sorted, each once."""
    why: str
    """One sentence: what keeps a host stage off the device; empty for a device stage."""
    rowwise: bool
    """Row i of the outputs depends on row i of the inputs alone (host; a device stage is proven
    after lifting)."""
    graph: str | None = None
    """Host: file of the serialized GraphDef: placeholders for the inputs, no variables."""
    feeds: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Host: input's name → tensor of the graph (`x:0`)."""
    fetches: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Host: output's name → tensor of the graph."""
    targets: tuple[str, ...] = ()
    """Host: nodes to run for their effect alone, such as an Assert."""
    tables: tuple[str, ...] = ()
    """Host: nodes of hash tables; their contents come from `Bridge.tables`."""
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Op → how many nodes of it there are."""
    reasons: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)
    """Host: why some op is there → op → how many nodes of it."""
    measured: Measured | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "where": self.where,
            "inputs": [v.to_json() for v in self.inputs],
            "outputs": [v.to_json() for v in self.outputs],
            "ops": list(self.ops),
            "why": self.why,
            "rowwise": self.rowwise,
            "graph": self.graph,
            "feeds": dict(self.feeds),
            "fetches": dict(self.fetches),
            "targets": list(self.targets),
            "tables": list(self.tables),
            "counts": dict(self.counts),
            "reasons": {why: dict(ops) for why, ops in self.reasons.items()},
            "measured": self.measured and self.measured.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Stage":
        return cls(
            where=data["where"],
            inputs=tuple(Value.from_json(v) for v in data["inputs"]),
            outputs=tuple(Value.from_json(v) for v in data["outputs"]),
            ops=tuple(data["ops"]),
            why=data["why"],
            rowwise=data["rowwise"],
            graph=data["graph"],
            feeds=data["feeds"],
            fetches=data["fetches"],
            targets=tuple(data["targets"]),
            tables=tuple(data["tables"]),
            counts=data["counts"],
            reasons=data["reasons"],
            measured=data["measured"] and Measured.from_json(data["measured"]),
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TableContents:
    """The contents of a hash table, in TensorFlow's own order."""

    key_dtype: str
    value_dtype: str
    keys: Any
    """[n]; strings are object arrays of bytes."""
    values: Any
    """[n]; LookupTableFindV2 brings the default."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """Inputs that TensorFlow takes of a signature, and its answer to them, by alias."""

    inputs: Mapping[str, Any]
    answers: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Segmented:
    """A signature cut into host and device stages."""

    signature: str
    stages: tuple[Stage, ...]

    def to_json(self) -> dict[str, Any]:
        return {"signature": self.signature, "stages": [s.to_json() for s in self.stages]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Segmented":
        return cls(
            signature=data["signature"], stages=tuple(Stage.from_json(s) for s in data["stages"])
        )
