"""The model metadata answer."""

import json

from rest_server import Echo, echo_signature

from jaxrt.serving.rest.metadata import metadata_body
from jaxrt.specs import Dim, SignatureSpec, TensorSpec

SIGNATURE = SignatureSpec(
    inputs={
        "x": TensorSpec(name="x:0", dtype="float32", dims=(Dim(-1), Dim(3, "c")), is_ref=True),
        "s": TensorSpec(name="s:0", dtype="string", dims=None),
    },
    outputs={"y": TensorSpec(name="y:0", dtype="bfloat16", dims=())},
    method_name="tensorflow/serving/predict",
    defaults={"s": {"dtype": "DT_STRING"}},
)
INIT = SignatureSpec(
    inputs={},
    outputs={"__saved_model_init_op": TensorSpec(name="NoOp", dtype="invalid", dims=None)},
)


def test_every_signature_is_told_in_full() -> None:
    servable = Echo(name="m", version=7, signatures={"s": SIGNATURE, "__saved_model_init_op": INIT})
    assert json.loads(metadata_body(servable)) == {
        "model_spec": {"name": "m", "signature_name": "", "version": "7"},
        "metadata": {"signature_def": {"signature_def": {
            "s": {
                "inputs": {
                    "x": {
                        "dtype": "DT_FLOAT_REF",
                        "tensor_shape": {
                            "dim": [{"size": "-1", "name": ""}, {"size": "3", "name": "c"}],
                            "unknown_rank": False,
                        },
                        "name": "x:0",
                    },
                    "s": {
                        "dtype": "DT_STRING",
                        "tensor_shape": {"dim": [], "unknown_rank": True},
                        "name": "s:0",
                    },
                },
                "outputs": {
                    "y": {
                        "dtype": "DT_BFLOAT16",
                        "tensor_shape": {"dim": [], "unknown_rank": False},
                        "name": "y:0",
                    }
                },
                "method_name": "tensorflow/serving/predict",
                "defaults": {"s": {"dtype": "DT_STRING"}},
            },
            "__saved_model_init_op": {
                "inputs": {},
                "outputs": {
                    "__saved_model_init_op": {
                        "dtype": "DT_INVALID",
                        "tensor_shape": {"dim": [], "unknown_rank": True},
                        "name": "NoOp",
                    }
                },
                "method_name": "",
                "defaults": {},
            },
        }}},
    }  # fmt: skip


def test_two_messages_are_joined_as_tf_serving_joins_them() -> None:
    servable = Echo(name="m", version=1, signatures={"serving_default": echo_signature()})
    assert (
        metadata_body(servable)
        .decode()
        .startswith(
            '{\n"model_spec":{\n "name": "m",\n "signature_name": "",\n "version": "1"\n}\n,\n'
            '"metadata": {"signature_def": {\n "signature_def": {\n  "serving_default": {\n'
        )
    )
