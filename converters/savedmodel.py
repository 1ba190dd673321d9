"""Reads a SavedModel's signatures, without its variables."""

import dataclasses
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from tensorflow.core.framework import types_pb2
from tensorflow.python.saved_model import loader_impl

from jaxrt.converters.opnames import VARIABLES
from jaxrt.converters.records import Kind, ModelRecord, Refused
from jaxrt.converters.subgraph import Subgraph, reach
from jaxrt.converters.suitability import refusals
from jaxrt.errors import ModelError
from jaxrt.specs import BY_PROTO, Dim, SignatureSpec, TensorSpec

INIT_OP = "__saved_model_init_op"
"""The signature under which TF2 files its initialisation: metadata, not a function."""

_FILES = ("saved_model.pb", "saved_model.pbtxt", "saved_model.cpb")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A SavedModel read from disk. `meta_graph` is TensorFlow's MetaGraphDef."""

    record: ModelRecord
    meta_graph: Any
    parts: dict[str, Subgraph]
    """Signature → what its outputs depend on, for those whose encoding allows to say."""
    is_tf2: bool
    """Saved by tf.saved_model.save: its functions are restored, not its graph."""


def read(path: str, tags: Sequence[str]) -> Source:
    """Raises ModelError: no such directory, nothing to read, no such tags, variables missing."""
    saved = _parse(Path(path))
    meta_graph = _choose(path, saved, tags)
    parts = {
        key: reach(meta_graph.graph_def, *_ends(signature))
        for key, signature in meta_graph.signature_def.items()
        if not _encoding(key, signature)
    }
    _check_variables(Path(path), parts)
    record = ModelRecord(
        path=path,
        tags=tuple(tags),
        signatures={
            k: _fed(signature_spec(s), meta_graph.graph_def)
            for k, s in sorted(meta_graph.signature_def.items())
        },
        refused=_refused(meta_graph, parts),
        ops={key: part.ops for key, part in parts.items()},
        tensorflow_version=meta_graph.meta_info_def.tensorflow_version,
        counts={key: part.counts for key, part in parts.items()},
    )
    return Source(
        record=record,
        meta_graph=meta_graph,
        parts=parts,
        is_tf2=len(saved.meta_graphs) == 1 and meta_graph.HasField("object_graph_def"),
    )


def signature_spec(signature: Any) -> SignatureSpec:
    """A SignatureDef as TF Serving's metadata shows it. Raises nothing: the unknown is invalid."""
    defaults = getattr(signature, "defaults", {})  # TensorFlow < 2.15 has no such field
    return SignatureSpec(
        inputs={k: _tensor(v) for k, v in sorted(signature.inputs.items())},
        outputs={k: _tensor(v) for k, v in sorted(signature.outputs.items())},
        method_name=signature.method_name,
        defaults={k: _tensor_proto(v) for k, v in sorted(defaults.items())},
    )


def _fed(spec: SignatureSpec, graph: Any) -> SignatureSpec:
    """Inputs with the dtypes that their placeholders have, whatever the signature declares.

    TF Serving's own saved_model_half_plus_three declares floats and takes serialized Examples.
    """
    nodes = {f"{n.name}:0": n for n in graph.node if n.op.startswith("Placeholder")}
    inputs = {}
    for alias, tensor in spec.inputs.items():
        node = nodes.get(tensor.name)
        dtype = tensor.dtype if node is None else _base(node.attr["dtype"].type)[0]
        wrong = "invalid" not in (dtype, tensor.dtype) and dtype != tensor.dtype
        if wrong:
            tensor = dataclasses.replace(tensor, dtype=dtype, declared=tensor.dtype)
        inputs[alias] = tensor
    return dataclasses.replace(spec, inputs=inputs)


def _parse(path: Path) -> Any:
    if not path.is_dir():
        raise ModelError(f"{path}: no such directory, want a SavedModel; check the path")
    if not any((path / name).is_file() for name in _FILES):
        inside = sorted(p.name for p in path.iterdir())[:5]
        hint = "; pass one version's directory" if any(n.isdigit() for n in inside) else ""
        raise ModelError(
            f"{path}: found {', '.join(inside) or 'nothing'}, want saved_model.pb or "
            f"saved_model.pbtxt{hint or '; export the model again'}"
        )
    try:
        return loader_impl.parse_saved_model(str(path))
    except Exception as error:  # DecodeError, ParseError, OSError, absl's StatusNotOk
        name = next(n for n in _FILES if (path / n).is_file())
        raise ModelError(
            f"{path / name}: not a SavedModel or truncated ({first_line(error)}); "
            "export or copy the model again"
        ) from None


def _choose(path: str, saved: Any, tags: Sequence[str]) -> Any:
    found = [sorted(m.meta_info_def.tags) for m in saved.meta_graphs]
    for meta_graph, names in zip(saved.meta_graphs, found, strict=True):
        if set(names) == set(tags):
            return meta_graph
    listed = "; ".join(",".join(names) or "(no tags)" for names in found) or "no graph at all"
    raise ModelError(
        f"{path}: found the tag sets {listed}, want {','.join(tags)}; "
        "pass --saved_model_tags with one of those found"
    )


def _check_variables(path: Path, parts: dict[str, Subgraph]) -> None:
    if not any(VARIABLES & set(part.ops) for part in parts.values()):
        return
    index = path / "variables" / "variables.index"
    if not index.is_file():
        raise ModelError(
            f"{index}: not found, and the signatures read variables; copy the whole model"
        )
    if not list(index.parent.glob("variables.data-*-of-*")):
        raise ModelError(
            f"{index.parent}: found no variables.data-00000-of-00001 beside variables.index; "
            "copy the whole model"
        )


def _ends(signature: Any) -> tuple[list[str], list[str]]:
    """Names of the tensors that are fed, and of those that are fetched."""
    inputs, outputs = sorted(signature.inputs.items()), sorted(signature.outputs.items())
    return [info.name for _, info in inputs], [info.name for _, info in outputs]


def _encoding(key: str, signature: Any) -> Refused | None:
    """What is wrong with the signature's own description, if anything."""
    sides = (("input", signature.inputs), ("output", signature.outputs))
    if key == INIT_OP or not signature.outputs:
        return Refused(
            signature=key, kind=Kind.ENCODING, reason="It has no output: nothing to answer."
        )
    for side, infos in sides:
        for alias, info in sorted(infos.items()):
            kind = info.WhichOneof("encoding")
            if kind != "name":
                words = {"coo_sparse": "a sparse tensor", "composite_tensor": "a composite tensor"}
                reason = f"Its {side} {alias!r} is {words.get(kind, 'not a tensor')}."
                return Refused(signature=key, kind=Kind.ENCODING, reason=reason)
            if _base(info.dtype)[0] == "invalid" or ":" not in info.name:
                reason = f"Its {side} {alias!r} ({info.name}) is not a tensor of a known dtype."
                return Refused(signature=key, kind=Kind.ENCODING, reason=reason)
    return None


def _refused(meta_graph: Any, parts: dict[str, Subgraph]) -> dict[str, Refused]:
    encodings = [_encoding(key, s) for key, s in sorted(meta_graph.signature_def.items())]
    found = {refused.signature: refused for refused in encodings if refused}
    return found | refusals(parts, meta_graph)


def _base(enum: int) -> tuple[str, bool]:
    """DataType number → key of DTYPES, and whether it was a reference dtype (number + 100)."""
    proto = types_pb2.DataType.Name(enum) if enum in types_pb2.DataType.values() else ""
    dtype = BY_PROTO.get(proto.removesuffix("_REF"))
    return ("invalid" if dtype is None else dtype.name), proto.endswith("_REF")


def _tensor(info: Any) -> TensorSpec:
    dtype, is_ref = _base(info.dtype)
    name = info.name
    match info.WhichOneof("encoding"):
        case "coo_sparse":
            name = info.coo_sparse.values_tensor_name
        case "composite_tensor":
            name = next((c.name for c in info.composite_tensor.components), "")
    shape = info.tensor_shape
    dims = None if shape.unknown_rank else tuple(Dim(d.size, d.name) for d in shape.dim)
    return TensorSpec(name=name, dtype=dtype, dims=dims, is_ref=is_ref)


def _tensor_proto(tensor: Any) -> dict[str, Any]:
    printed: dict[str, Any] = json_format.MessageToDict(
        tensor, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return printed


def first_line(error: BaseException) -> str:
    """What an error of TensorFlow's says, in one line: no stack, no graph nodes."""
    text = str(error).removeprefix("Failed getting HLO text: '")
    text = re.sub(r"\{\{(?:function_)?node ([^}]*)\}\}", r"\1", text)
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    said = list(itertools.takewhile(lambda line: not line.startswith("[["), lines))
    if said and said[0].startswith("Graph execution error"):
        said = said[-1:]  # behind the places where the node was made
    return said[0] if said else type(error).__name__
