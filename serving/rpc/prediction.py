"""Predict: PredictRequest in, PredictResponse out, both without the protobuf runtime.

The checks, their order and their texts are those of servables/tensorflow/predict_util.cc of
TensorFlow Serving and of cc/saved_model/util.cc of TensorFlow.
"""

import dataclasses
from collections.abc import Iterable, Mapping

from jaxrt.errors import FailedPrecondition, Internal, InvalidArgument
from jaxrt.serving.engine.servable import HostTensors
from jaxrt.serving.rest import classification, regression
from jaxrt.serving.rpc import decode, encode, modelspec
from jaxrt.serving.rpc.datatypes import BY_NAME
from jaxrt.serving.rpc.defaults import default
from jaxrt.serving.rpc.encode import Chunk
from jaxrt.serving.rpc.modelspec import ModelSpec
from jaxrt.serving.rpc.wire import BYTES, delimited, fields, head, number, text
from jaxrt.specs import DTYPES, SignatureSpec

METHOD = "tensorflow/serving/predict"
_METHODS = (METHOD, classification.METHOD, regression.METHOD)

Extent = tuple[bytes, int, int]
"""Bytes, and where in them a message begins and ends."""


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """`spec` is None where the request has none; tensors are not looked into yet."""

    spec: ModelSpec | None
    inputs: Mapping[str, Extent]
    output_filter: tuple[str, ...]


def read(data: bytes, at: int) -> Request:
    """The PredictRequest in data[at:]. Raises wire.Malformed."""
    spec = None
    inputs: dict[str, Extent] = {}
    outputs: list[str] = []
    for field, wire, begin, end in fields(data, at, len(data)):
        if wire != BYTES:
            continue
        match field:
            case 1:
                # Messages of one field are merged, which is what their bytes in a row are.
                part = bytes(data[begin:end])
                spec = part if spec is None else spec + part
            case 2:
                alias, extent = _entry(data, begin, end)
                inputs[alias] = extent
            case 3:
                outputs.append(text(data, begin, end))
    return Request(None if spec is None else modelspec.read(spec), inputs, tuple(outputs))


def _entry(data: bytes, at: int, end: int) -> tuple[str, Extent]:
    alias, extents = "", []
    for field, wire, begin, finish in fields(data, at, end):
        if wire != BYTES:
            continue
        if field == 1:
            alias = text(data, begin, finish)
        elif field == 2:
            extents.append((data, begin, finish))
    if len(extents) == 1:
        return alias, extents[0]
    joined = b"".join(data[begin:finish] for _, begin, finish in extents)
    return alias, (joined, 0, len(joined))


def signature(
    spec: ModelSpec, signatures: Mapping[str, SignatureSpec], *, check_method_name: bool
) -> SignatureSpec:
    """The one asked for. Raises FailedPrecondition if there is none, Internal for its method."""
    found = signatures.get(spec.signature)
    if found is None:
        raise FailedPrecondition(f'Serving signature key "{spec.signature}" not found.')
    if check_method_name and found.method_name not in _METHODS:
        raise Internal(
            "Expected prediction signature method_name to be one of "
            f"{{{', '.join(_METHODS)}}}. Was: {found.method_name}"
        )
    return found


def inputs(request: Request, spec: SignatureSpec) -> HostTensors:
    """Alias → array; defaults of the signature for what is left out.

    Raises InvalidArgument, wire.Malformed.
    """
    sent, wanted = request.inputs, spec.inputs
    if len(sent) > len(wanted) or (len(sent) < len(wanted) and not spec.defaults):
        raise InvalidArgument(
            f"input size does not match signature: {len(sent)}!={len(wanted)}"
            f" len({_set(sent)}) != len({_set(wanted)})."
            f" Sent extra: {_set(sent.keys() - wanted.keys())}."
            f" Missing but required: {_set(wanted.keys() - sent.keys())}."
        )
    arrays = {alias: _input(alias, request, spec) for alias in sorted(wanted)}
    if sent.keys() - wanted.keys():
        used = sent.keys() & wanted.keys()
        raise InvalidArgument(
            f"Inputs contains invalid name. Used request inputs: {','.join(sorted(used))}"
            f", request input: {','.join(sorted(sent))}"
        )
    return arrays


def _input(alias: str, request: Request, spec: SignatureSpec) -> decode.Array:
    wanted = spec.inputs[alias]
    extent = request.inputs.get(alias)
    if extent is None:
        if alias not in spec.defaults:
            raise InvalidArgument(
                f"Signature input alias: {alias}(feed name: {wanted.name}) not found in request and"
                f" no default value provided. Inputs expected to be in the request"
                f" {_set(request.inputs)}, or default input alias set:"
                f" {','.join(sorted(spec.defaults))}"
            )
        extent = default(spec.defaults[alias])
    try:
        datatype, array = decode.tensor(*extent)
    except decode.Unreadable:
        raise InvalidArgument(f"tensor parsing error: {alias}") from None
    if datatype.dtype.name != wanted.dtype:
        # FunctionCallFrame::SetArgs in core/framework/function.cc: feeds by the tensors' names.
        names = sorted(tensor.name for tensor in spec.inputs.values())
        raise InvalidArgument(
            f"Expects arg[{names.index(wanted.name)}] to be {DTYPES[wanted.dtype].text}"
            f" but {datatype.dtype.text} is provided"
        )
    return array


def outputs(request: Request, spec: SignatureSpec) -> tuple[str, ...]:
    """The aliases to answer with. Raises InvalidArgument for an unknown or repeated one."""
    if not request.output_filter:
        return tuple(spec.outputs)
    seen: set[str] = set()
    for alias in request.output_filter:
        if alias not in spec.outputs:
            raise InvalidArgument(
                f"output tensor alias not found in signature: {alias}"
                f" Outputs expected to be in the set {_set(spec.outputs)}."
            )
        if alias in seen:
            raise InvalidArgument(f"duplicate output tensor alias: {alias}")
        seen.add(alias)
    return request.output_filter


def response(
    arrays: HostTensors,
    aliases: Iterable[str],
    spec: SignatureSpec,
    answered: bytes,
    *,
    content: bool,
) -> list[Chunk]:
    """The PredictResponse; `answered` is its serialized ModelSpec, `content` as in encode."""
    chunks: list[Chunk] = []
    for alias in aliases:
        datatype = BY_NAME[spec.outputs[alias].dtype]
        message = encode.tensor(arrays[alias], datatype, content=content)
        size = sum(map(len, message))
        key = delimited(1, alias.encode())
        inner = number(2 << 3 | BYTES) + number(size)
        chunks.append(head(1, len(key) + len(inner) + size) + key + inner)
        chunks += message
    chunks.append(delimited(2, answered))
    return chunks


def _set(names: Iterable[str]) -> str:
    return f"{{{','.join(sorted(names))}}}"
