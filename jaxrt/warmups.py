"""Warm-up files: requests that a SavedModel brings along, read without TensorFlow.

The format is TensorFlow Serving's: `assets.extra/tf_serving_warmup_requests`, a TFRecord file of
PredictionLog messages (tensorflow_serving/apis/prediction_log.proto). The texts of errors are those
of servables/tensorflow/saved_model_warmup_util.cc.
"""

import dataclasses
import enum
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from jaxrt.errors import ModelError
from jaxrt.program import Shapes
from jaxrt.tfrecord import records

FILE = Path("assets.extra") / "tf_serving_warmup_requests"

LIMIT = 1000
"""WarmupConsts::kMaxNumRecords."""

EXAMPLES = "inputs"
"""The alias that Classify and Regress feed: kClassifyInputs, kRegressInputs in TensorFlow."""

# Message → field → (number, type): the fields read here, with the numbers of the .proto files of
# tensorflow_serving/apis and tensorflow/core/framework. A type ending in [] is repeated. What is
# not listed is skipped as an unknown field; Blob reads messages whose content does not matter.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Blob": {},
    "Dim": {"size": (1, "int64")},
    "TensorShape": {"dim": (2, "Dim[]"), "unknown_rank": (3, "bool")},
    "Tensor": {"dtype": (1, "int32"), "tensor_shape": (2, "TensorShape")},
    "Input": {"key": (1, "string"), "value": (2, "Tensor")},
    "ModelSpec": {"signature_name": (3, "string")},
    "PredictRequest": {"model_spec": (1, "ModelSpec"), "inputs": (2, "Input[]")},
    "ExampleList": {"examples": (1, "Blob[]")},
    "Examples": {
        "example_list": (1, "ExampleList"),
        "example_list_with_context": (2, "ExampleList"),
    },
    # ClassificationRequest and RegressionRequest are alike.
    "ExamplesRequest": {"model_spec": (1, "ModelSpec"), "input": (2, "Examples")},
    "Task": {"model_spec": (1, "ModelSpec")},
    "MultiInferenceRequest": {"tasks": (1, "Task[]"), "input": (2, "Examples")},
    # ClassifyLog, RegressLog, PredictLog and MultiInferenceLog are alike.
    "Log": {"request": (1, "bytes")},
    "PredictionLog": {
        "classify_log": (2, "Log"),
        "regress_log": (3, "Log"),
        "multi_inference_log": (4, "Log"),
        "session_run_log": (5, "Blob"),
        "predict_log": (6, "Log"),
        "predict_streamed_log": (7, "Blob"),
    },
}
_ONEOFS = {"PredictionLog": "log_type"}
"""Messages whose fields exclude each other."""
_PACKAGE = "jaxrt.warmup"


class Kind(enum.Enum):
    """Which API a request is for; the value is the log's name in PredictionLog."""

    CLASSIFY = "classify_log"
    REGRESS = "regress_log"
    MULTI_INFERENCE = "multi_inference_log"
    PREDICT = "predict_log"


_REQUESTS = {
    Kind.CLASSIFY: "ExamplesRequest",
    Kind.REGRESS: "ExamplesRequest",
    Kind.MULTI_INFERENCE: "MultiInferenceRequest",
    Kind.PREDICT: "PredictRequest",
}


class NotReplayed(ModelError):
    """A log that TensorFlow Serving does not replay: session_run_log or predict_streamed_log."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One request of the file."""

    kind: Kind
    serialized: bytes
    """A PredictRequest, ClassificationRequest, RegressionRequest or MultiInferenceRequest."""
    where: str
    """File and record, for messages."""


def requests(version: Path) -> Iterator[Request]:
    """The requests of a version's directory, in their order; none without a file.

    Records without a log are skipped, as there. Raises where TensorFlow Serving refuses the load:
    NotATFRecord, NotReplayed, and ModelError for a record that is no PredictionLog and for more
    than 1000 records.
    """
    path = version / FILE
    if path.is_file():
        yield from requests_of(path, limit=LIMIT)


def requests_of(path: Path, *, limit: int | None) -> Iterator[Request]:
    """The requests of a file, as `requests`; None: however many there are."""
    for number, record in enumerate(records(path)):
        if limit is not None and number >= limit:
            raise ModelError(
                f"Number of warmup records exceeds the maximum ({limit}) at {path}; keep one of "
                "each shape"
            )
        where = f"{path}: record {number}"
        log = _parsed("PredictionLog", record, where)
        kind = log.WhichOneof("log_type")
        if kind in ("session_run_log", "predict_streamed_log"):
            field = log.DESCRIPTOR.fields_by_name[kind].number
            raise NotReplayed(
                f"Unsupported log_type for warmup: {field} ({where}: found a {kind}, want "
                "predict_log or the like; leave it out)"
            )
        if kind is not None:
            serialized = getattr(log, kind).request
            yield Request(kind=Kind(kind), serialized=serialized, where=where)


def planned_shapes(version: Path) -> list[tuple[str, Shapes]]:
    """(signature, alias → shape) of every request in the file, in its order; none without a file.

    Raises as `requests`, and ModelError for requests that are none.
    """
    return [found for request in requests(version) for found in _shapes(request)]


def unreadable(where: str, size: int) -> ModelError:
    """A record of so many bytes is no PredictionLog, or holds no request."""
    return ModelError(
        f"{where}: Failed to parse warmup record: want a PredictionLog of {size} bytes; "
        "write the file again"
    )


def _shapes(request: Request) -> Iterator[tuple[str, Shapes]]:
    found = _parsed(_REQUESTS[request.kind], request.serialized, request.where)
    match request.kind:
        case Kind.PREDICT:
            yield _predict(found, request.where)
        case Kind.MULTI_INFERENCE:
            for task in found.tasks:
                yield _signature(task.model_spec), {EXAMPLES: (_count(found.input),)}
        case _:
            yield _signature(found.model_spec), {EXAMPLES: (_count(found.input),)}


def _parsed(name: str, data: bytes, where: str) -> Any:
    message = _message_class(name)()
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise unreadable(where, len(data)) from None
    return message


def _predict(request: Any, where: str) -> tuple[str, Shapes]:
    shapes: dict[str, tuple[int, ...]] = {}
    for entry in request.inputs:
        shape = entry.value.tensor_shape
        shapes[entry.key] = tuple(dim.size for dim in shape.dim)
        if shape.unknown_rank or any(dim.size < 0 for dim in shape.dim):
            raise ModelError(
                f"{where}: input {entry.key!r} has no shape, want the sizes of its dimensions; "
                "write the file again"
            )
    return _signature(request.model_spec), shapes


def _signature(spec: Any) -> str:
    return str(spec.signature_name) or "serving_default"


def _count(examples: Any) -> int:
    lists = (examples.example_list, examples.example_list_with_context)
    return sum(len(found.examples) for found in lists)


@functools.cache
def _message_class(name: str) -> Any:
    """In a pool of its own: the real messages may be loaded in the same process."""
    file = descriptor_pb2.FileDescriptorProto(
        name="jaxrt/warmup.proto", package=_PACKAGE, syntax="proto3"
    )
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        if message in _ONEOFS:
            described.oneof_decl.add(name=_ONEOFS[message])
        for field, (number, kind) in fields.items():
            described.field.append(_field(field, number, kind))
            if message in _ONEOFS:
                described.field[-1].oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


def _field(name: str, number: int, kind: str) -> Any:
    proto = descriptor_pb2.FieldDescriptorProto
    label = proto.LABEL_REPEATED if kind.endswith("[]") else proto.LABEL_OPTIONAL
    kind = kind.removesuffix("[]")
    if kind in _MESSAGES:
        return proto(
            name=name,
            number=number,
            label=label,
            type=proto.TYPE_MESSAGE,
            type_name=f".{_PACKAGE}.{kind}",
        )
    scalar = {
        "int32": proto.TYPE_INT32,
        "int64": proto.TYPE_INT64,
        "bool": proto.TYPE_BOOL,
        "string": proto.TYPE_STRING,
        "bytes": proto.TYPE_BYTES,
    }[kind]
    return proto(name=name, number=number, label=label, type=scalar)
