"""Regress over real sockets: what it asks of a model, and the bytes of its answer."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from rest_server import Echo, FakeModels, infer, inference_error, serving, spec

from jaxrt.errors import InvalidArgument
from jaxrt.serving.app import build_app
from jaxrt.serving.engine.servable import HostTensors
from jaxrt.serving.rest.regression import body, check
from jaxrt.serving.rest.routes import RestApi
from jaxrt.specs import SignatureSpec

Address = tuple[str, int]
METHOD = "tensorflow/serving/regress"
OUTPUTS = {"outputs": "float32"}
STRING = {"inputs": "string"}


def signature(
    inputs: dict[str, str], outputs: dict[str, str], method: str = METHOD
) -> SignatureSpec:
    return SignatureSpec(
        inputs={alias: spec(dtype) for alias, dtype in inputs.items()},
        outputs={alias: spec(dtype) for alias, dtype in outputs.items()},
        method_name=method,
    )


def sizes(inputs: HostTensors, deadline: float | None) -> HostTensors:
    """A tenth of the number of bytes of each example."""
    assert list(inputs) == ["inputs"] and inputs["inputs"].dtype == np.object_
    return {"outputs": np.array([[len(item) / 10] for item in inputs["inputs"]], np.float32)}


MODELS = FakeModels(
    servables=[
        Echo(
            name="m",
            version=1,
            signatures={
                "serving_default": signature(STRING, OUTPUTS, "tensorflow/serving/predict"),
                "predict": signature({"x": "float32"}, {"y": "float32"}),
                "classify": signature(STRING, {"scores": "float32"}),
                "ints": signature({"inputs": "int64"}, OUTPUTS),
            },
            work=sizes,
        )
    ]
)


@pytest.fixture(scope="module")
def server() -> Iterator[Address]:
    with serving(build_app(MODELS)) as address:
        yield address


def test_values_come_on_one_line(server: Address) -> None:
    text = b'{"examples": [{"x": 2.0}, {}, {"x": true, "yyy": "a"}], "context": {"c": "d"}}'
    assert infer(server, "m/labels/stable:regress", text) == (
        200,
        b'{\n    "results": [3.1, 1.4, 4.2]\n}',
    )


@pytest.mark.parametrize(
    ("path", "text", "status", "message"),
    [
        ("none:regress", "", 400, "JSON Parse error: The document is empty"),
        ("none:regress", "{}", 400, "JSON Value: {} When method is classify, key 'examples' is"
         " expected and was not found"),
        ("none:regress", '{"examples": [{"x": [1, 1.0]}]}', 400,
         "Unexpected element type in feature: x expecting type: int64"),
        ("none/versions/7:regress", '{"examples": [{}]}', 404,
         "Servable not found for request: Specific(none, 7)"),
        ("m:regress", '{"examples": [{}], "signature_name": "nope"}', 400,
         "No signature was found with the name: nope"),
        ("m:regress", '{"examples": [{}], "signature_name": "ints"}', 400,
         "Expects arg[0] to be int64 but string is provided"),
    ],
)  # fmt: skip
def test_a_request_fails_in_tf_servings_order(
    server: Address, path: str, text: str, status: int, message: str
) -> None:
    assert inference_error(server, path, text.encode()) == (status, message)


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("predict", "No regression inputs found in SignatureDef: inputs {\n"),
        ("classify", "No regression outputs found in SignatureDef: inputs {\n"),
    ],
)
def test_a_signature_of_another_method_is_printed(server: Address, name: str, start: str) -> None:
    text = f'{{"examples": [{{}}], "signature_name": "{name}"}}'.encode()
    status, message = inference_error(server, "m:regress", text)
    assert status == 400 and message.startswith(start)
    assert message.endswith('method_name: "tensorflow/serving/regress"\n')


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ({}, OUTPUTS, "Expected one input Tensor."),
        ({"inputs": "string", "x": "string"}, {}, "Expected one input Tensor."),
        ({"x": "string"}, {}, "Expected one output Tensor."),
        (STRING, {"outputs": "float32", "y": "float32"}, "Expected one output Tensor."),
    ],
)
def test_a_signature_that_regress_cannot_call(
    inputs: dict[str, str], outputs: dict[str, str], message: str
) -> None:
    with pytest.raises(InvalidArgument) as error:
        check(signature(inputs, outputs, "anything"), False)
    assert str(error.value) == message


def test_the_method_name_counts_when_asked_for() -> None:
    check(signature(STRING, OUTPUTS), True)
    api = RestApi(MODELS, clock=lambda: 0.0, timeout_ms=0, cors=False, check_method_name=True)
    with serving(api) as server:
        assert inference_error(server, "m:regress", b'{"examples": [{}]}') == (
            400,
            "Expected regression signature method_name to be tensorflow/serving/regress."
            " Was: tensorflow/serving/predict",
        )


@pytest.mark.parametrize(
    ("values", "results"),
    [
        ([3, 0.2], b"3.0, 0.2"),
        ([[3], [16777216]], b"3.0, 16777216.0"),
        ([np.nan, -np.inf], b"NaN, -Infinity"),
    ],
)
def test_answers(values: Any, results: bytes) -> None:
    outputs = {"outputs": np.array(values, np.float32)}
    wanted = b'{\n    "results": [' + results + b"]\n}"
    assert body(outputs, signature(STRING, OUTPUTS), 2) == wanted


SHAPE = "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((), "float32", SHAPE + "[]"),
        ((1, 2), "float32", SHAPE + "[1,2]"),
        ((2, 0), "float32", SHAPE + "[2,0]"),
        ((2, 1, 1), "float64", SHAPE + "[2,1,1]"),
        ((3,), "float64", "Input batch size did not match output batch size: 2 vs. 3"),
        ((1, 1), "float32", "Input batch size did not match output batch size: 2 vs. 1"),
        ((2,), "float64", "Expected output Tensor of DT_FLOAT.  Got: DT_DOUBLE"),
        ((2, 1), "bfloat16", "Expected output Tensor of DT_FLOAT.  Got: DT_BFLOAT16"),
    ],
)
def test_outputs_that_are_no_regression(shape: tuple[int, ...], dtype: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        body({"outputs": np.zeros(shape)}, signature(STRING, {"outputs": dtype}), 2)
    assert str(error.value) == message
