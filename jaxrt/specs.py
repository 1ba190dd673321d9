"""What a signature takes and gives: names, dtypes, shapes, in TensorFlow's terms."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np


@dataclasses.dataclass(frozen=True, slots=True)
class DType:
    """One TensorFlow dtype under its three names, and the numpy dtype that carries it."""

    name: str
    """numpy's and JAX's name: `float32`; `string` for DT_STRING."""
    proto: str
    """The enum's name in tensorflow/core/framework/types.proto: `DT_FLOAT`."""
    text: str
    """TensorFlow's DataTypeString, as in error messages: `float`."""
    numpy: np.dtype[Any] | None
    """None where no array can carry it (resource, variant, DT_INVALID)."""


def _table() -> dict[str, DType]:
    rows = [
        ("float32", "DT_FLOAT", "float", np.float32),
        ("float64", "DT_DOUBLE", "double", np.float64),
        ("float16", "DT_HALF", "half", np.float16),
        ("bfloat16", "DT_BFLOAT16", "bfloat16", ml_dtypes.bfloat16),
        ("int8", "DT_INT8", "int8", np.int8),
        ("int16", "DT_INT16", "int16", np.int16),
        ("int32", "DT_INT32", "int32", np.int32),
        ("int64", "DT_INT64", "int64", np.int64),
        ("uint8", "DT_UINT8", "uint8", np.uint8),
        ("uint16", "DT_UINT16", "uint16", np.uint16),
        ("uint32", "DT_UINT32", "uint32", np.uint32),
        ("uint64", "DT_UINT64", "uint64", np.uint64),
        ("bool", "DT_BOOL", "bool", np.bool_),
        ("complex64", "DT_COMPLEX64", "complex64", np.complex64),
        ("complex128", "DT_COMPLEX128", "complex128", np.complex128),
        ("string", "DT_STRING", "string", np.object_),
        ("qint8", "DT_QINT8", "qint8", np.int8),
        ("quint8", "DT_QUINT8", "quint8", np.uint8),
        ("qint16", "DT_QINT16", "qint16", np.int16),
        ("quint16", "DT_QUINT16", "quint16", np.uint16),
        ("qint32", "DT_QINT32", "qint32", np.int32),
        ("float8_e5m2", "DT_FLOAT8_E5M2", "float8_e5m2", ml_dtypes.float8_e5m2),
        ("float8_e4m3fn", "DT_FLOAT8_E4M3FN", "float8_e4m3fn", ml_dtypes.float8_e4m3fn),
        ("int4", "DT_INT4", "int4", ml_dtypes.int4),
        ("uint4", "DT_UINT4", "uint4", ml_dtypes.uint4),
        ("resource", "DT_RESOURCE", "resource", None),
        ("variant", "DT_VARIANT", "variant", None),
        ("invalid", "DT_INVALID", "INVALID", None),
    ]
    return {n: DType(n, p, t, None if d is None else np.dtype(d)) for n, p, t, d in rows}


DTYPES: dict[str, DType] = _table()
BY_PROTO: dict[str, DType] = {d.proto: d for d in DTYPES.values()}


@dataclasses.dataclass(frozen=True, slots=True)
class Dim:
    """One dimension; size -1 is unknown."""

    size: int
    name: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TensorSpec:
    """One input or output of a signature: TensorInfo in core/protobuf/meta_graph.proto."""

    name: str
    """The tensor in the graph: `serving_default_x:0`."""
    dtype: str
    """A key of DTYPES. A reference dtype is recorded as its base."""
    dims: tuple[Dim, ...] | None
    """None: unknown rank."""
    is_ref: bool = False
    """The SavedModel declared DT_..._REF (TF1's reference variables)."""
    declared: str | None = None
    """The dtype that the signature declares, where its graph has another: a key of DTYPES.

    TF Serving shows it, and feeds what the graph takes.
    """

    @property
    def shape(self) -> tuple[int | None, ...] | None:
        """[n, ...] with None for unknown sizes; None for unknown rank."""
        if self.dims is None:
            return None
        return tuple(None if d.size < 0 else d.size for d in self.dims)

    def to_json(self) -> dict[str, Any]:
        dims = None if self.dims is None else [[d.size, d.name] for d in self.dims]
        found = {"name": self.name, "dtype": self.dtype, "dims": dims, "is_ref": self.is_ref}
        return found if self.declared is None else {**found, "declared": self.declared}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "TensorSpec":
        dims = data["dims"]
        return cls(
            name=data["name"],
            dtype=data["dtype"],
            dims=None if dims is None else tuple(Dim(size, name) for size, name in dims),
            is_ref=data["is_ref"],
            declared=data.get("declared"),
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SignatureSpec:
    """A SignatureDef: alias → tensor, in the SavedModel's own names."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    method_name: str = ""
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """alias → TensorProto as protobuf's JSON mapping prints it (snake case, all fields)."""

    def shared(self, shapes: Mapping[str, tuple[int, ...]]) -> frozenset[str]:
        """Inputs without rows, at these shapes, beside others that have them: `keep_prob`.

        All rows of a batch see one value of them. Those whose dim 0 the signature fixes, or that
        are scalars; none where that is true of all inputs, since then it says nothing.
        """
        fixed = frozenset(
            alias
            for alias, tensor in self.inputs.items()
            if not (shapes[alias] if tensor.shape is None else tensor.shape)
            or (tensor.shape is not None and tensor.shape[0] is not None)
        )
        return fixed if len(fixed) < len(self.inputs) else frozenset()

    def to_json(self) -> dict[str, Any]:
        return {
            "inputs": {k: v.to_json() for k, v in self.inputs.items()},
            "outputs": {k: v.to_json() for k, v in self.outputs.items()},
            "method_name": self.method_name,
            "defaults": dict(self.defaults),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "SignatureSpec":
        return cls(
            inputs={k: TensorSpec.from_json(v) for k, v in data["inputs"].items()},
            outputs={k: TensorSpec.from_json(v) for k, v in data["outputs"].items()},
            method_name=data["method_name"],
            defaults=data["defaults"],
        )


def stage_key(signature: str, stage: int) -> str:
    """The name of a stage where names of signatures are expected: `serving_default[1]`."""
    return f"{signature}[{stage}]"
