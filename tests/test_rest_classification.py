"""Classify over real sockets: what the model is fed, what it must give, the bytes of the answer."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from rest_server import Echo, FakeModels, infer, inference_error, serving, spec

from jaxrt.errors import FailedPrecondition, InvalidArgument, Unimplemented
from jaxrt.serving.app import build_app
from jaxrt.serving.engine.servable import HostTensors
from jaxrt.serving.rest.classification import body, check
from jaxrt.serving.rest.routes import OFF_LOOP, RestApi
from jaxrt.specs import Dim, SignatureSpec, TensorSpec

Address = tuple[str, int]
METHOD = "tensorflow/serving/classify"
BOTH = {"classes": "string", "scores": "float32"}
STRING = {"inputs": "string"}
TWO = b'{"examples": [{"x": 1.0}, {"x": 2.0}]}'


def signature(
    inputs: dict[str, str], outputs: dict[str, str], method: str = METHOD
) -> SignatureSpec:
    return SignatureSpec(
        inputs={alias: spec(dtype, f"{alias}:0") for alias, dtype in inputs.items()},
        outputs={alias: spec(dtype, f"{alias}:0") for alias, dtype in outputs.items()},
        method_name=method,
    )


def labels(*rows: list[bytes]) -> np.ndarray[Any, Any]:
    return np.array(rows, np.object_)


def scores(*rows: list[float]) -> np.ndarray[Any, Any]:
    return np.array(rows, np.float32)


def half_and_same(inputs: HostTensors, deadline: float | None) -> HostTensors:
    """The sizes of the serialized examples, and half of them."""
    assert list(inputs) == ["inputs"] and inputs["inputs"].ndim == 1
    sizes = [float(len(item)) for item in inputs["inputs"]]
    return {
        "scores": scores(*([size / 2, size] for size in sizes)),
        "classes": labels(*([b"half", b"same"] for _ in sizes)),
    }


def fail(inputs: HostTensors, deadline: float | None) -> HostTensors:
    raise InvalidArgument("Feature: x (data type: float) is required but could not be found.")


def refuse(inputs: HostTensors, deadline: float | None) -> HostTensors:
    raise Unimplemented("no program")


MODELS = FakeModels(
    servables=[
        Echo(
            name="m",
            version=1,
            signatures={
                "serving_default": signature({"x": "float32"}, {"y": "float32"}),
                "both": signature(STRING, BOTH, "tensorflow/serving/predict"),
                "float_inputs": signature({"inputs": "float32"}, BOTH),
            },
            work=half_and_same,
        ),
        Echo(name="bad", version=1, signatures={"serving_default": signature(STRING, BOTH)},
             work=fail),
        Echo(name="refused", version=1, signatures={"serving_default": signature(STRING, BOTH)},
             work=refuse),
    ]
)  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[Address]:
    with serving(build_app(MODELS)) as address:
        yield address


def test_labels_and_scores_come_as_pairs(server: Address) -> None:
    text = b'{"signature_name": "both", "examples": [{"x": 2.0}, {"xx": 2.0}]}'
    assert infer(server, "m/versions/1:classify", text) == (
        200,
        b'{\n    "results": [[["half", 8.5], ["same", 17.0]], [["half", 9.0], ["same", 18.0]]'
        b"\n    ]\n}",
    )


@pytest.mark.parametrize(
    ("path", "text", "status", "message"),
    [
        ("none:classify", "{", 400, "JSON Parse error: Missing a name for object member."
         " at offset: 1"),
        ("none:classify", "[]", 400, "JSON Value: [] Is not object"),
        ("none:classify", '{"signature_name": 1}', 400,
         'JSON Value: {\n    "signature_name": 1\n} not formatted correctly.'
         " 'signature_name' key must be a string value."),
        ("none:classify", '{"context": 1, "signature_name": ""}', 400,
         "Example must be JSON object but got JSON Number"),
        ("none:classify", "{}", 400, "JSON Value: {} When method is classify, key 'examples' is"
         " expected and was not found"),
        ("none:classify", '{"examples": [{"x": null}]}', 400,
         "Feature: x has element with unexpected JSON type: Null"),
        ("none:classify", '{"examples": [{}]}', 404,
         "Servable not found for request: Latest(none)"),
        ("m/labels/x:classify", '{"examples": [{}]}', 400,
         "Unrecognized servable version label: x"),
        ("m:classify", '{"examples": [{}], "signature_name": "nope"}', 400,
         "No signature was found with the name: nope"),
        ("m:classify", '{"examples": [{}], "signature_name": "float_inputs"}', 400,
         "Expects arg[0] to be float but string is provided"),
        ("bad:classify", '{"examples": [{}]}', 400,
         "Feature: x (data type: float) is required but could not be found."),
        ("refused:classify", '{"examples": [{}]}', 501, "no program"),
    ],
)  # fmt: skip
def test_a_request_fails_in_tf_servings_order(
    server: Address, path: str, text: str, status: int, message: str
) -> None:
    assert inference_error(server, path, text.encode()) == (status, message)


def test_a_predict_signature_is_printed_in_the_error(server: Address) -> None:
    assert inference_error(server, "m:classify", TWO) == (
        400,
        "No classification inputs found in SignatureDef: "
        'inputs {\n  key: "x"\n  value {\n    name: "x:0"\n    dtype: DT_FLOAT\n'
        "    tensor_shape {\n      dim {\n        size: -1\n      }\n    }\n  }\n}\n"
        'outputs {\n  key: "y"\n  value {\n    name: "y:0"\n    dtype: DT_FLOAT\n'
        "    tensor_shape {\n      dim {\n        size: -1\n      }\n    }\n  }\n}\n"
        'method_name: "tensorflow/serving/classify"\n',
    )


def test_shapes_of_all_kinds_are_printed_in_the_error() -> None:
    tensor = TensorSpec(name="a", dtype="string", dims=(Dim(2, "rows"), Dim(0)), is_ref=True)
    outputs = {
        "b": TensorSpec(name="\u00e9:0", dtype="qint8", dims=()),
        "a": TensorSpec(name="c:0", dtype="uint64", dims=None),
    }
    with pytest.raises(InvalidArgument) as error:
        check(SignatureSpec(inputs={"inputs": tensor}, outputs=outputs), False)
    assert str(error.value) == (
        'Expected classification signature outputs to contain at least one of "classes" or "scores"'
        '. Signature was: inputs {\n  key: "inputs"\n  value {\n    name: "a"\n'
        "    dtype: DT_STRING_REF\n    tensor_shape {\n      dim {\n        size: 2\n"
        '        name: "rows"\n      }\n      dim {\n      }\n    }\n  }\n}\n'
        'outputs {\n  key: "a"\n  value {\n    name: "c:0"\n    dtype: DT_UINT64\n'
        "    tensor_shape {\n      unknown_rank: true\n    }\n  }\n}\n"
        'outputs {\n  key: "b"\n  value {\n    name: "\\303\\251:0"\n    dtype: DT_QINT8\n'
        "    tensor_shape {\n    }\n  }\n}\n"
    )


@pytest.mark.parametrize(
    ("inputs", "outputs", "start"),
    [
        ({}, BOTH, "Expected one input Tensor."),
        ({"inputs": "string", "x": "float32"}, BOTH, "Expected one input Tensor."),
        ({"x": "string"}, {}, "Expected one or two output Tensors, found 0"),
        (STRING, BOTH | {"z": "float32"}, "Expected one or two output Tensors, found 3"),
        ({"x": "string"}, {"z": "float32"}, "No classification inputs found in SignatureDef: inp"),
        (STRING, {"a": "float32", "b": "float32"},
         "Expected classification signature outputs to contain at least one of"),
    ],
)  # fmt: skip
def test_a_signature_that_classify_cannot_call(
    inputs: dict[str, str], outputs: dict[str, str], start: str
) -> None:
    with pytest.raises(InvalidArgument) as error:
        check(signature(inputs, outputs, "anything"), False)
    assert str(error.value).startswith(start)


@pytest.mark.parametrize("outputs", [BOTH, {"scores": "float32", "z": "int8"},
                                     {"classes": "float32"}])  # fmt: skip
def test_a_signature_that_classify_can_call(outputs: dict[str, str]) -> None:
    check(signature({"inputs": "float32"}, outputs, ""), False)
    check(signature(STRING, outputs), True)


def test_the_method_name_counts_when_asked_for() -> None:
    api = RestApi(MODELS, clock=lambda: 0.0, timeout_ms=0, cors=False, check_method_name=True)
    text = b'{"examples": [{}], "signature_name": "both"}'
    with serving(build_app(MODELS)) as plain:
        assert infer(plain, "m:classify", text)[0] == 200
    with serving(api) as strict:
        assert inference_error(strict, "m:classify", text) == (
            400,
            "Expected classification signature method_name to be tensorflow/serving/classify."
            " Was: tensorflow/serving/predict",
        )


@pytest.mark.parametrize(
    ("outputs", "results"),
    [
        ({"scores": scores([3.0], [0.2])}, '[["", 3.0]], [["", 0.2]]'),
        ({"scores": scores([np.nan, np.inf], [-np.inf, 1e10])},
         '[["", NaN], ["", Infinity]], [["", -Infinity], ["", 1e+10]]'),
        ({"classes": labels([b"a", b'"\n'], [b"\xff", b""])},
         '[["a", 0.0], ["\\"\\n", 0.0]], [["\udcff", 0.0], ["", 0.0]]'),
        ({"scores": scores([], [])}, "[], []"),
        ({"classes": labels([], []), "scores": scores([], [])}, "[], []"),
        ({"scores": scores([1], [2]), "z": np.zeros(7, np.int8)}, '[["", 1.0]], [["", 2.0]]'),
    ],
)  # fmt: skip
def test_answers(outputs: HostTensors, results: str) -> None:
    dtypes = {"scores": "float32", "classes": "string", "z": "int8"}
    sig = signature(STRING, {alias: dtypes[alias] for alias in outputs})
    wanted = f'{{\n    "results": [{results}\n    ]\n}}'.encode("utf-8", "surrogateescape")
    assert body(outputs, sig, 2) == wanted


SHAPE = "Expected Tensor shape: [batch_size num_classes] but got "
FINE = scores([1, 2], [3, 4])
NAMES = labels([b"a", b"b"], [b"c", b"d"])


@pytest.mark.parametrize(
    ("outputs", "dtypes", "message"),
    [
        ({"scores": scores([1, 2])[0]}, {}, SHAPE + "[2]"),
        ({"scores": np.array(1, np.float32)}, {}, SHAPE + "[]"),
        ({"scores": FINE[None]}, {}, SHAPE + "[1,2,2]"),
        ({"scores": FINE.astype(np.float64)}, {"scores": "float64"},
         "Expected scores Tensor of DT_FLOAT. Got: DT_DOUBLE"),
        ({"scores": NAMES}, {"scores": "string"},
         "Expected scores Tensor of DT_FLOAT. Got: DT_STRING"),
        ({"scores": FINE[:1]}, {}, "Expected scores output batch size of 2. Got: 1"),
        ({"classes": NAMES[0]}, {}, SHAPE + "[2]"),
        ({"classes": FINE}, {"classes": "float32"},
         "Expected classes Tensor of DT_STRING. Got: DT_FLOAT"),
        ({"classes": np.concatenate([NAMES, NAMES])}, {},
         "Expected classes output batch size of 2. Got: 4"),
        ({"scores": FINE[0], "classes": NAMES[:1]}, {},
         "Expected classes output batch size of 2. Got: 1"),
        ({"scores": FINE.astype(np.int8)[0], "classes": NAMES}, {"scores": "int8"}, SHAPE + "[2]"),
        ({"scores": FINE[:, :1], "classes": NAMES}, {},
         "Tensors class and score should match in dim_size(1). Got 2 vs. 1"),
    ],
)  # fmt: skip
def test_outputs_that_are_no_classification(
    outputs: HostTensors, dtypes: dict[str, str], message: str
) -> None:
    declared = {alias: BOTH[alias] for alias in outputs} | dtypes
    with pytest.raises(InvalidArgument) as error:
        body(outputs, signature(STRING, declared), 2)
    assert str(error.value) == message


def test_one_tensor_under_both_names_counts_as_classes() -> None:
    shared = spec("string", "same:0")
    sig = SignatureSpec(
        inputs={"inputs": spec("string")}, outputs={"classes": shared, "scores": shared}
    )
    wanted = b'{\n    "results": [[["a", 0.0], ["b", 0.0]], [["c", 0.0], ["d", 0.0]]\n    ]\n}'
    assert body({"classes": NAMES, "scores": NAMES}, sig, 2) == wanted


def test_a_large_body_is_read_and_answered(server: Address) -> None:
    count = OFF_LOOP // 8
    text = b'{"signature_name": "both", "examples": [' + b", ".join([b'{"x": 1}'] * count) + b"]}"
    status, answer = infer(server, "m:classify", text)
    assert status == 200
    assert json.loads(answer)["results"] == [[["half", 7.0], ["same", 14.0]]] * count


def test_a_code_of_the_model_passes_through() -> None:
    def work(inputs: HostTensors, deadline: float | None) -> HostTensors:
        raise FailedPrecondition(f"at {deadline}")

    sig = {"serving_default": signature(STRING, BOTH)}
    models = FakeModels(servables=[Echo(name="m", version=1, signatures=sig, work=work)])
    with serving(build_app(models, clock=lambda: 1.0, timeout_ms=500)) as server:
        assert inference_error(server, "m:classify", TWO) == (400, "at 1.5")
