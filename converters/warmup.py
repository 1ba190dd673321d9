"""The shapes in a SavedModel's warm-up file, read without TensorFlow.

The format is TensorFlow Serving's: `assets.extra/tf_serving_warmup_requests`, a TFRecord file of
PredictionLog messages (tensorflow_serving/apis/prediction_log.proto).
"""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from jaxrt.converters.tfrecord import records
from jaxrt.errors import ModelError
from jaxrt.program import Shapes

FILE = Path("assets.extra") / "tf_serving_warmup_requests"

LIMIT = 1000
"""WarmupConsts::kMaxNumRecords in tensorflow_serving/servables/tensorflow/saved_model_warmup.cc."""

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
    "PredictLog": {"request": (1, "PredictRequest")},
    "ExamplesLog": {"request": (1, "ExamplesRequest")},
    "MultiInferenceLog": {"request": (1, "MultiInferenceRequest")},
    "PredictionLog": {
        "classify_log": (2, "ExamplesLog"),
        "regress_log": (3, "ExamplesLog"),
        "multi_inference_log": (4, "MultiInferenceLog"),
        "session_run_log": (5, "Blob"),
        "predict_log": (6, "PredictLog"),
        "predict_streamed_log": (7, "Blob"),
    },
}
_PACKAGE = "jaxrt.warmup"


def planned_shapes(model: Path) -> list[tuple[str, Shapes]]:
    """(signature, alias → shape) of every request in the file, in its order; none without a file.

    `model` is a version's directory. Raises ModelError where TensorFlow Serving refuses the load:
    no TFRecord, a record that is no PredictionLog, more than 1000 records, session_run_log and
    predict_streamed_log.
    """
    path = model / FILE
    if not path.is_file():
        return []
    found: list[tuple[str, Shapes]] = []
    for number, record in enumerate(records(path)):
        if number >= LIMIT:
            raise ModelError(
                f"{path}: Number of warmup records exceeds the maximum ({LIMIT}); keep one of "
                "each shape"
            )
        found += _requests(record, f"{path}: record {number}")
    return found


def _requests(record: bytes, where: str) -> Iterator[tuple[str, Shapes]]:
    log = _message_class("PredictionLog")()
    try:
        log.ParseFromString(record)
    except DecodeError:
        raise ModelError(
            f"{where}: Failed to parse warmup record: want a PredictionLog of {len(record)} bytes; "
            "write the file again"
        ) from None
    for kind in ("session_run_log", "predict_streamed_log"):
        if log.HasField(kind):
            raise ModelError(f"{where}: found a {kind}, want predict_log or the like; leave it out")
    if log.HasField("predict_log"):
        yield _predict(log.predict_log.request, where)
    for examples in (log.classify_log, log.regress_log):
        if examples.HasField("request"):
            request = examples.request
            yield _signature(request.model_spec), {EXAMPLES: (_count(request.input),)}
    request = log.multi_inference_log.request
    for task in request.tasks:
        yield _signature(task.model_spec), {EXAMPLES: (_count(request.input),)}


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
        for field, (number, kind) in fields.items():
            described.field.append(_field(field, number, kind))
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
    }[kind]
    return proto(name=name, number=number, label=label, type=scalar)
