"""What an official client of TensorFlow Serving gets: run in an environment that has
`tensorflow-serving-api`, which brings TensorFlow, and nothing of jaxrt.

    python tests/official_client.py localhost:8500 MEGABYTES

The server is that of `tests/test_rpc_official_client.py`. Ends with a line `ok`, or an assertion.
"""

import os
import sys
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

DTYPES = [
    "float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64", "uint8",
    "uint16", "uint32", "uint64", "bool", "complex64", "complex128", "string",
]  # fmt: skip


def predict(stub: Any, signature: str, array: Any) -> Any:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    request.model_spec.signature_name = signature
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(array, tf.as_dtype(signature)))
    return stub.Predict(request, timeout=300)


def predictions(stub: Any, megabytes: int) -> None:
    for name in DTYPES:
        dtype = tf.as_dtype(name)
        for values in ([[0, 1, 2], [3, 4, 5]], [7, 7, 7, 7], 9):
            array = np.array(values, np.object_ if name == "string" else dtype.as_numpy_dtype)
            if name == "string":
                array = np.array([str(v).encode() for v in array.ravel()], object)
            answer = predict(stub, name, array)
            assert answer.outputs["x"].dtype == dtype.as_datatype_enum, name
            assert tf.make_ndarray(answer.outputs["x"]).tolist() == array.tolist(), name
            assert answer.model_spec.version.value == 7
    array = np.random.default_rng(0).normal(size=megabytes << 18).astype(np.float32)
    answer = predict(stub, "float32", array)
    assert np.array_equal(tf.make_ndarray(answer.outputs["x"]), array)


def inferences(stub: Any) -> None:
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.append(2.0)
    size = float(len(example.SerializeToString()))
    classify = classification_pb2.ClassificationRequest()
    regress = regression_pb2.RegressionRequest()
    both = inference_pb2.MultiInferenceRequest()
    for request, name in ((classify, "classify"), (regress, "regress")):
        request.model_spec.name, request.model_spec.signature_name = "infer", name
        request.input.example_list.examples.append(example)
        task = both.tasks.add(method_name=f"tensorflow/serving/{name}")
        task.model_spec.CopyFrom(request.model_spec)
    both.input.CopyFrom(classify.input)
    (found,) = stub.Classify(classify, timeout=60).result.classifications
    assert [(c.label, c.score) for c in found.classes] == [("label", size)]
    (value,) = stub.Regress(regress, timeout=60).result.regressions
    assert value.value == size
    first, second = stub.MultiInference(both, timeout=60).results
    assert first.classification_result.classifications[0] == found
    assert second.regression_result.regressions[0] == value


def models(channel: Any, stub: Any) -> None:
    asked = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    asked.model_spec.name = "m"
    answer = stub.GetModelMetadata(asked, timeout=60)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(signatures)
    assert signatures.signature_def["bfloat16"].inputs["x"].dtype == tf.bfloat16.as_datatype_enum
    service = model_service_pb2_grpc.ModelServiceStub(channel)
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "m"
    (found,) = service.GetModelStatus(status, timeout=60).model_version_status
    assert (found.version, found.state) == (7, get_model_status_pb2.ModelVersionStatus.AVAILABLE)
    reload = model_management_pb2.ReloadConfigRequest(metric_names=["/tensorflow/serving/x"])
    config = reload.config.model_config_list.config.add(name="n", base_path="/n")
    config.model_platform = "tensorflow"
    answer = service.HandleReloadConfigRequest(reload, timeout=60)
    assert answer.status.error_code == 0
    assert answer.metric[0].int64_value_increase == 0


def errors(stub: Any) -> None:
    try:
        stub.Predict(predict_pb2.PredictRequest(), timeout=60)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert error.details() == "Missing ModelSpec"
    else:
        raise AssertionError("answered")


def main() -> None:
    address, megabytes = sys.argv[1], int(sys.argv[2])
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(address, options=unlimited) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        predictions(stub, 4)
        predictions(stub, megabytes)
        inferences(stub)
        models(channel, stub)
        errors(stub)
    assert not any(name.startswith("jaxrt") for name in sys.modules)
    print("ok")


if __name__ == "__main__":
    main()
