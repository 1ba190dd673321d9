"""KServe's v2 protocol over real sockets."""

import base64
import http.client
import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from rest_server import Echo, FakeModels, echo_signature, serving

from jaxrt.serving.app import build_app
from jaxrt.serving.v2.datatypes import NAMES
from jaxrt.specs import DTYPES

Address = tuple[str, int]

MODELS = FakeModels(
    servables=[
        *(
            Echo(name=d, version=3, signatures={"serving_default": echo_signature(x=d)})
            for d in NAMES
        ),
        Echo(
            name="two",
            version=1,
            signatures={"other": echo_signature(a="float32", b="string")},
        ),
    ]
)


@pytest.fixture(scope="module")
def server() -> Iterator[Address]:
    with serving(build_app(MODELS)) as address:
        yield address


def ask(
    address: Address, method: str, path: str, body: bytes = b"", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(*address, timeout=30)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body or None, named)
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def infer(address: Address, model: str, content: Any) -> tuple[int, Any]:
    path = f"/v2/models/{model}/infer"
    status, _, answer = ask(address, "POST", path, json.dumps(content).encode())
    return status, json.loads(answer)


def one(datatype: str, shape: list[int], data: Any, **more: Any) -> dict[str, Any]:
    tensor = {"name": "x", "shape": shape, "datatype": datatype, "data": data}
    return {"inputs": [tensor]} | more


@pytest.mark.parametrize(
    ("dtype", "data"),
    [
        ("bool", [True, False]),
        ("uint8", [0, 255]),
        ("uint16", [0, 65535]),
        ("uint32", [0, 2**32 - 1]),
        ("uint64", [0, 2**64 - 1]),
        ("int8", [-128, 127]),
        ("int16", [-32768, 32767]),
        ("int32", [-(2**31), 2**31 - 1]),
        ("int64", [-(2**63), 2**63 - 1]),
        ("float16", [0.5, -2.0]),
        ("bfloat16", [0.5, -2.0]),
        ("float32", [0.25, 3]),
        ("float64", [0.1, 1e300]),
        ("string", ["a", "\u00e9"]),
    ],
)
def test_every_datatype_goes_in_and_out_as_json(server: Address, dtype: str, data: Any) -> None:
    name = NAMES[dtype]
    for given, shape in ((data, [2]), ([data], [1, 2]), (data, [2, 1])):
        status, answer = infer(server, dtype, one(name, shape, given, id="7"))
        assert status == 200, answer
        tensor = {"name": "x", "shape": shape, "datatype": name, "data": data}
        top = {"model_name": dtype, "model_version": "3", "id": "7"}
        assert answer == top | {"outputs": [tensor]}


@pytest.mark.parametrize("dtype", [d for d in NAMES if d != "string"])
def test_every_datatype_goes_in_and_out_as_bytes(server: Address, dtype: str) -> None:
    raw = np.arange(6).astype(DTYPES[dtype].numpy).tobytes()
    tensor = {"name": "x", "shape": [2, 3], "datatype": NAMES[dtype]}
    head = {
        "inputs": [tensor | {"parameters": {"binary_data_size": len(raw)}}],
        "parameters": {"binary_data_output": True},
    }
    text = json.dumps(head).encode()
    path = f"/v2/models/{dtype}/versions/3/infer"
    status, headers, answer = ask(
        server, "POST", path, text + raw, Inference_Header_Content_Length=str(len(text))
    )
    assert status == 200, answer
    size = int(headers["inference-header-content-length"])
    assert headers["content-type"] == "application/octet-stream"
    assert json.loads(answer[:size])["outputs"] == [
        tensor | {"parameters": {"binary_data_size": len(raw)}}
    ]
    assert answer[size:] == raw


def test_raw_tensors_fit_into_json_as_base64(server: Address) -> None:
    raw = base64.b64encode(np.array([1.5, -2], np.float32).tobytes()).decode()
    tensor = {"name": "x", "shape": [2], "datatype": "FP32", "b64": raw}
    status, answer = infer(
        server, "float32", {"inputs": [tensor], "parameters": {"b64_output": True}}
    )
    assert (status, answer["outputs"]) == (200, [tensor])


def test_several_tensors_strings_in_bytes_and_outputs_that_are_chosen(server: Address) -> None:
    strings = b"".join(struct.pack("<I", len(s)) + s for s in (b"\xff", b""))
    floats = np.array([1.0, 2.0], np.float32).tobytes()
    head = {
        "parameters": {"signature_name": "other"},
        "inputs": [
            {"name": "b", "shape": [2], "datatype": "BYTES",
             "parameters": {"binary_data_size": len(strings)}},
            {"name": "a", "shape": [2], "datatype": "FP32",
             "parameters": {"binary_data_size": len(floats)}},
        ],
        "outputs": [{"name": "a"}, {"name": "b", "parameters": {"binary_data": True}}],
    }  # fmt: skip
    text = json.dumps(head).encode()
    status, headers, answer = ask(
        server,
        "POST",
        "/v2/models/two/infer",
        text + strings + floats,
        Inference_Header_Content_Length=str(len(text)),
    )
    assert status == 200, answer
    size = int(headers["inference-header-content-length"])
    first, second = json.loads(answer[:size])["outputs"]
    assert first == {"name": "a", "shape": [2], "datatype": "FP32", "data": [1.0, 2.0]}
    assert second["parameters"] == {"binary_data_size": len(strings)}
    assert answer[size:] == strings


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (one("FP64", [1], [1.0]), "input 'x': datatype FP64, want FP32"),
        (one("FP32", [3], [1.0]), "input 'x': data has shape [1], want [3] or all of it flat"),
        (one("FP32", [2, 1], [[1.0, 2.0]]), "data has shape [1, 2], want [2, 1]"),
        (one("FP32", [2, 2], [[1.0, 2.0, 3.0], [4.0]]), "data is ragged"),
        (one("FP32", [1], ["a"]), "data has what is no FP32"),
        (one("FP32", [1], 5), "want data (a list), b64 (a string) or binary_data_size"),
        (one("FP32", [-1], [1.0]), "shape [-1], want a list of sizes"),
        (one("FP32", [1], [1.0], outputs=[{"name": "y"}]), "outputs: y unknown, want x"),
        ({"inputs": []}, "inputs: x missing"),
        ({"inputs": 3}, "inputs: want a list of objects"),
        ([1], "the request is no JSON object"),
        (one("FP32", [1], [1.0], parameters={"signature_name": "s"}), "signature 's': unknown"),
        ({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "b64": "@"}]}, "no base64"),
        ({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "b64": "AAA="}]},
         "2 bytes given, shape [1] of FP32 takes 4"),
        ({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32",
                      "parameters": {"binary_data_size": 4}}]}, "binary_data_size 4, 0 bytes"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_a_400_that_says_where(
    server: Address, content: Any, said: str
) -> None:
    status, answer = infer(server, "float32", content)
    assert status == 400 and said in answer["error"], answer


@pytest.mark.parametrize(("dtype", "value"), [("int8", 128), ("uint8", -1), ("int32", 1.5)])
def test_numbers_beyond_the_datatype_are_refused(server: Address, dtype: str, value: Any) -> None:
    for data in ([value], [[value]]):
        status, answer = infer(
            server, dtype, one(NAMES[dtype], [1] * (1 + (data != [value])), data)
        )
        assert status == 400 and NAMES[dtype] in answer["error"]


@pytest.mark.parametrize(
    ("method", "path", "status", "content"),
    [
        ("GET", "/v2/health/live", 200, {"live": True}),
        ("GET", "/v2/health/ready", 200, {"ready": True}),
        ("GET", "/v2/models/int8/ready", 200, {"name": "int8", "ready": True}),
        ("GET", "/v2/models/int8/versions/3/ready", 200, {"name": "int8", "ready": True}),
        ("GET", "/v2/models/nobody", 404, None),
        ("GET", "/v2/models/int8/versions/9", 404, None),
        ("GET", "/v2/models/int8/infer", 404, None),
        ("POST", "/v2/elsewhere", 404, None),
        (
            "GET",
            "/v2/models/int8",
            200,
            {
                "name": "int8",
                "versions": ["3"],
                "platform": "jaxrt",
                "inputs": [{"name": "x", "datatype": "INT8", "shape": [-1]}],
                "outputs": [{"name": "x", "datatype": "INT8", "shape": [-1]}],
            },
        ),
    ],
)
def test_what_the_server_says_of_itself(
    server: Address, method: str, path: str, status: int, content: Any
) -> None:
    found, headers, answer = ask(server, method, path)
    assert (found, headers["content-type"]) == (status, "application/json")
    if content is None:
        assert list(json.loads(answer)) == ["error"]
    else:
        assert json.loads(answer) == content


def test_the_server_names_its_extensions(server: Address) -> None:
    answer = json.loads(ask(server, "GET", "/v2")[2])
    assert answer["name"] == "jaxrt" and answer["extensions"] == ["binary_tensor_data"]
