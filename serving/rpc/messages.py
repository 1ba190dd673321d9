"""The messages of TensorFlow Serving's services that the protobuf runtime reads and writes.

Names and numbers of fields are facts of tensorflow_serving/apis, config/ssl_config.proto and
tensorflow/core. The messages live in a descriptor pool of their own, under the one package that
decides the type URL in a GetModelMetadataResponse: TensorFlow and tensorflow-serving-api can be
imported beside them.
"""

import functools
from typing import Any

from google.protobuf import message_factory

from jaxrt.errors import Code
from jaxrt.serving import textproto
from jaxrt.serving.engine.servable import State
from jaxrt.serving.rpc.datatypes import NUMBERS, REF
from jaxrt.serving.textproto import Field

PACKAGE = "tensorflow.serving"

_TENSOR = (
    Field("dtype", 1, "DataType"),
    Field("tensor_shape", 2, "TensorShapeProto"),
    Field("tensor_content", 4, "bytes"),
    Field("float_val", 5, "float", repeated=True),
    Field("double_val", 6, "double", repeated=True),
    Field("int_val", 7, "int32", repeated=True),
    Field("string_val", 8, "bytes", repeated=True),
    Field("scomplex_val", 9, "float", repeated=True),
    Field("int64_val", 10, "int64", repeated=True),
    Field("bool_val", 11, "bool", repeated=True),
    Field("dcomplex_val", 12, "double", repeated=True),
    Field("half_val", 13, "int32", repeated=True),
    Field("uint32_val", 16, "uint32", repeated=True),
    Field("uint64_val", 17, "uint64", repeated=True),
    Field("float8_val", 18, "bytes"),
)
_MESSAGES: textproto.Messages = {
    "Int64Value": (Field("value", 1, "int64"),),
    "ModelSpec": (
        Field("name", 1, "string"),
        Field("version", 2, "Int64Value", oneof="version_choice"),
        Field("signature_name", 3, "string"),
        Field("version_label", 4, "string", oneof="version_choice"),
    ),
    "TensorShapeProto": (
        Field("dim", 2, "TensorShapeProto.Dim", repeated=True),
        Field("unknown_rank", 3, "bool"),
    ),
    "TensorShapeProto.Dim": (Field("size", 1, "int64"), Field("name", 2, "string")),
    "TensorProto": _TENSOR,
    "PredictRequest": (
        Field("model_spec", 1, "ModelSpec"),
        Field("inputs", 2, "TensorProto", key="string"),
        Field("output_filter", 3, "string", repeated=True),
    ),
    "PredictResponse": (
        Field("outputs", 1, "TensorProto", key="string"),
        Field("model_spec", 2, "ModelSpec"),
    ),
    # tf.Examples are passed on as they are.
    "ExampleList": (Field("examples", 1, "bytes", repeated=True),),
    "ExampleListWithContext": (
        Field("examples", 1, "bytes", repeated=True),
        Field("context", 2, "bytes", repeated=True),
    ),
    "Input": (
        Field("example_list", 1, "ExampleList", oneof="kind"),
        Field("example_list_with_context", 2, "ExampleListWithContext", oneof="kind"),
    ),
    "InferenceRequest": (  # ClassificationRequest and RegressionRequest
        Field("model_spec", 1, "ModelSpec"),
        Field("input", 2, "Input"),
    ),
    "Class": (Field("label", 1, "string"), Field("score", 2, "float")),
    "Classifications": (Field("classes", 1, "Class", repeated=True),),
    "ClassificationResult": (Field("classifications", 1, "Classifications", repeated=True),),
    "ClassificationResponse": (
        Field("result", 1, "ClassificationResult"),
        Field("model_spec", 2, "ModelSpec"),
    ),
    "Regression": (Field("value", 1, "float"),),
    "RegressionResult": (Field("regressions", 1, "Regression", repeated=True),),
    "RegressionResponse": (
        Field("result", 1, "RegressionResult"),
        Field("model_spec", 2, "ModelSpec"),
    ),
    "InferenceTask": (Field("model_spec", 1, "ModelSpec"), Field("method_name", 2, "string")),
    "MultiInferenceRequest": (
        Field("tasks", 1, "InferenceTask", repeated=True),
        Field("input", 2, "Input"),
    ),
    "InferenceResult": (
        Field("model_spec", 1, "ModelSpec"),
        Field("classification_result", 2, "ClassificationResult", oneof="result"),
        Field("regression_result", 3, "RegressionResult", oneof="result"),
    ),
    "MultiInferenceResponse": (Field("results", 1, "InferenceResult", repeated=True),),
    "GetModelMetadataRequest": (
        Field("model_spec", 1, "ModelSpec"),
        Field("metadata_field", 2, "string", repeated=True),
    ),
    "GetModelMetadataResponse": (
        Field("model_spec", 1, "ModelSpec"),
        Field("metadata", 2, textproto.ANY, key="string"),
    ),
    "TensorInfo": (
        Field("name", 1, "string", oneof="encoding"),
        Field("dtype", 2, "DataType"),
        Field("tensor_shape", 3, "TensorShapeProto"),
    ),
    "SignatureDef": (
        Field("inputs", 1, "TensorInfo", key="string"),
        Field("outputs", 2, "TensorInfo", key="string"),
        Field("method_name", 3, "string"),
        Field("defaults", 4, "TensorProto", key="string"),
    ),
    "SignatureDefMap": (Field("signature_def", 1, "SignatureDef", key="string"),),
    "GetModelStatusRequest": (Field("model_spec", 1, "ModelSpec"),),
    "StatusProto": (Field("error_code", 1, "ErrorCode"), Field("error_message", 2, "string")),
    "ModelVersionStatus": (
        Field("version", 1, "int64"),
        Field("state", 2, "State"),
        Field("status", 3, "StatusProto"),
    ),
    "GetModelStatusResponse": (
        Field("model_version_status", 1, "ModelVersionStatus", repeated=True),
    ),
    "ReloadConfigRequest": (  # the ModelServerConfig is read by serving.config
        Field("config", 1, "bytes", repeated=True),
        Field("metric_names", 2, "string", repeated=True),
    ),
    "Metric": (
        Field("name", 1, "string"),
        Field("int64_value_increase", 2, "int64", oneof="value_increase"),
    ),
    "ReloadConfigResponse": (
        Field("status", 1, "StatusProto"),
        Field("metric", 2, "Metric", repeated=True),
    ),
    "HealthCheckRequest": (Field("service", 1, "string"),),
    "HealthCheckResponse": (Field("status", 1, "ServingStatus"),),
    "SSLConfig": (
        Field("server_key", 1, "string"),
        Field("server_cert", 2, "string"),
        Field("custom_ca", 3, "string"),
        Field("client_verify", 4, "bool"),
    ),
}

STATES = {State.UNKNOWN: 0} | {
    state: 10 * place
    for place, state in enumerate(
        (State.START, State.LOADING, State.AVAILABLE, State.UNLOADING, State.END), start=1
    )
}
"""ModelVersionStatus.State."""

_ENUMS: textproto.Enums = {
    "DataType": {
        **dict(sorted(NUMBERS.items(), key=lambda item: item[1])),
        **{f"{name}_REF": number + REF for name, number in NUMBERS.items() if number},
    },
    # Values of enums share one scope: UNKNOWN is a State's.
    "ErrorCode": {f"ERROR_{code.name}": code.value for code in Code},
    "State": {state.value: number for state, number in STATES.items()},
    "ServingStatus": {
        "SERVING_UNKNOWN": 0,
        "SERVING": 1,
        "NOT_SERVING": 2,
        "SERVICE_UNKNOWN": 3,
    },
}


@functools.cache
def message(name: str) -> type[Any]:
    """The class of a message, by its name without the package."""
    found: type[Any] = message_factory.GetMessageClass(_file().message_types_by_name[name])
    return found


@functools.cache
def _file() -> Any:
    return textproto.message_type(PACKAGE, "ModelSpec", _MESSAGES, _ENUMS).DESCRIPTOR.file
