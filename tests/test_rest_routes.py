"""The REST API over real sockets: raw bytes in, raw bytes out."""

import asyncio
import gzip
import http.client
import json
import socket
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from rest_server import Echo, FakeModels, echo_signature, serving

from jaxrt.errors import DeadlineExceeded, Unavailable
from jaxrt.serving.app import build_app
from jaxrt.serving.engine.servable import HostTensors
from jaxrt.serving.rest.routes import OFF_LOOP

Address = tuple[str, int]
DTYPES = ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64",
          "bool", "string")  # fmt: skip
NO_NAME = "JSON Parse error: Missing a name for object member. at offset: 1"
CORS = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "POST, GET",
    "access-control-allow-headers": "Content-Type",
}


def deadline_of(inputs: HostTensors, deadline: float | None) -> HostTensors:
    return {"x": np.array([-1.0 if deadline is None else deadline], np.float64)}


def never(inputs: HostTensors, deadline: float | None) -> "asyncio.Future[HostTensors]":
    return asyncio.get_running_loop().create_future()


def fail(error: Exception) -> Any:
    def work(inputs: HostTensors, deadline: float | None) -> HostTensors:
        raise error

    return work


def model(name: str, work: Any = None, **dtypes: str) -> Echo:
    signature = echo_signature(**(dtypes or {"x": "float32"}))
    return Echo(name=name, version=1, signatures={"serving_default": signature}, work=work)


HANGING = model("hanging", never)
MODELS = FakeModels(
    servables=[
        *(model(dtype, x=dtype) for dtype in DTYPES),
        model("two", a="float32", b="int32"),
        model("deadline", deadline_of, x="float64"),
        model("late", fail(DeadlineExceeded("too late"))),
        model("full", fail(Unavailable("the queue is full"))),
        model("broken", fail(RuntimeError("a bug"))),
        HANGING,
    ]
)


@pytest.fixture(scope="module")
def server() -> Iterator[Address]:
    with serving(build_app(MODELS, clock=lambda: 100.0)) as address:
        yield address


def request(
    address: Address, method: str, path: str, body: bytes = b"", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Header names come and go with `_` for `-`."""
    connection = http.client.HTTPConnection(*address, timeout=30)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        if body:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body or None)
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        connection.close()


def predict(address: Address, name: str, body: str | bytes, **headers: str) -> tuple[int, bytes]:
    data = body.encode() if isinstance(body, str) else body
    status, _, answer = request(address, "POST", f"/v1/models/{name}:predict", data, **headers)
    return status, answer


def error(message: str) -> bytes:
    return b'{\n    "error": ' + json.dumps(message).encode() + b"\n}"


@pytest.mark.parametrize(
    ("dtype", "sent", "received"),
    [
        ("float32", "1, 0.2, 16777216", "1.0, 0.2, 16777216.0"),
        ("float64", "0.3, 1e16, NaN", "0.3, 1e+16, NaN"),
        ("int8", "300, -1", "44, -1"),
        ("int16", "40000", "-25536"),
        ("int32", "-2147483648, -0", "-2147483648, 0"),
        ("int64", "9007199254740993", "9007199254740993"),
        ("uint8", "256, 255", "0, 255"),
        ("uint32", "4294967295", "4294967295"),
        ("uint64", "18446744073709551615", "18446744073709551615"),
        ("bool", "true,false", "true, false"),
        ("string", '"a\\u00e9", {"b64": "/w=="}', '"a\u00e9", "\udcff"'),
    ],
)
def test_an_echo_keeps_every_dtype(server: Address, dtype: str, sent: str, received: str) -> None:
    wanted = f'{{\n    "predictions": [{received}\n    ]\n}}'.encode("utf-8", "surrogateescape")
    assert predict(server, dtype, f'{{"instances": [{sent}]}}') == (200, wanted)


def test_columns_and_several_inputs_are_answered(server: Address) -> None:
    status, body = predict(server, "two", '{"inputs": {"a": [1, 2], "b": 3}}')
    assert (status, json.loads(body)) == (200, {"outputs": {"a": [1.0, 2.0], "b": 3}})
    status, body = predict(server, "two", '{"instances": [{"a": 1, "b": 3}]}')
    assert (status, json.loads(body)) == (200, {"predictions": [{"a": 1.0, "b": 3}]})


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("none:predict", "{", 400, NO_NAME),
        ("none:predict", "[]", 400, "JSON Value: [] Is not object"),
        ("none:predict", "{}", 404, "Servable not found for request: Latest(none)"),
        ("none/versions/7:predict", "{}", 404, "Servable not found for request: Specific(none, 7)"),
        ("none/versions/9223372036854775808:predict", "{", 400,
         "Failed to convert version: 9223372036854775808 to numeric."),
        ("none/labels/x:predict", "{}", 400, "Unrecognized servable version label: x"),
        ("none:predict", '{"signature_name": 1}', 400,
         'JSON Value: {\n    "signature_name": 1\n} not formatted correctly.'
         " 'signature_name' key must be a string value."),
        ("int32:predict", '{"signature_name": "s"}', 400,
         'Serving signature name: "s" not found in signature def'),
        ("int32:predict", '{"inputs": 1.5}', 400,
         "JSON Value: 1.5 Type: Number is not of expected type: int32"),
        ("int32/labels/stable:predict", "{}", 400, "Missing 'inputs' or 'instances' key"),
        ("float32:predict", '{"instances": 5}', 400,
         'JSON Value: {\n    "instances": 5\n} Expecting \'instances\' to be an list/array'),
        ("two:predict?x=1", "{}", 400, "Malformed request: POST /v1/models/two:predict?x=1"),
        ("int32:predict", "", 400, "JSON Parse error: The document is empty"),
        ("int32:classify", "{", 400, NO_NAME),
        ("none:classify", "{}", 400, "JSON Value: {} When method is classify, key 'examples' is"
         " expected and was not found"),
        ("int32:regress", '{"signature_name": "s", "examples": [{}]}', 400,
         "No signature was found with the name: s"),
        ("late:predict", '{"inputs": 1}', 504, "too late"),
        ("full:predict", '{"inputs": 1}', 503, "the queue is full"),
        ("broken:predict", '{"inputs": 1}', 500, "Internal error: see the log of the server"),
        ("deadline:predict", '{"instances": ["\xff"]}', 400,
         "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: JSON Value:"
         ' "ÿ" Type: String is not of expected type: double'),
    ],
)  # fmt: skip
def test_a_post_fails_in_tf_servings_order(
    server: Address, path: str, body: str, status: int, message: str
) -> None:
    got = request(server, "POST", "/v1/models/" + path, body.encode())
    assert (got[0], got[1]["content-type"]) == (status, "application/json")
    assert json.loads(got[2]) == {"error": message}


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/v1/", 400, "Malformed request: GET /v1/"),
        ("/v1/models", 400, "Missing model name in request."),
        ("/v1/models/none", 404, "Could not find any versions of model none"),
        ("/v1/models/a%2Fb%0A", 404, "Could not find any versions of model a/b\n"),
        ("/v1/models/m?x=1", 404, "Could not find any versions of model m?x=1"),
        ("/v1/models/none/metadata", 404, "Servable not found for request: Latest(none)"),
        ("/v1/models/int32/labels/x/metadata", 400, "Unrecognized servable version label: x"),
    ],
)
def test_a_get_that_fails(server: Address, path: str, status: int, message: str) -> None:
    got = request(server, "GET", path)
    assert (got[0], got[2]) == (status, error(message))


def test_status_and_metadata_are_json(server: Address) -> None:
    status, headers, body = request(server, "GET", "/v1/models/int32/labels/ignored")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(body)["model_version_status"][0]["version"] == "1"
    status, headers, body = request(server, "GET", "/V1/Models/int32/versions/1/metadata")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(body)["model_spec"] == {"name": "int32", "signature_name": "", "version": "1"}


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "content_type", "body"),
    [
        ("GET", "/", {}, 404, "text/html", b"<H1>Not Found</H1>"),
        ("POST", "/v1", {}, 404, "text/html", b"<H1>Not Found</H1>"),
        ("GET", "/v1/models/[x]", {}, 400, "text/html", b"<H1>Bad Request</H1>"),
        ("GET", "/v1/models/%zz", {}, 400, "text/html", b"<H1>Bad Request</H1>"),
        ("TRACE", "/v1/models/x", {}, 501, "text/html", b"<H1>Not Implemented</H1>"),
        ("POST", "/v1/models/x:predict", {"Expect": "200-ok"}, 417, "text/html", b"Expectation"),
        ("PUT", "/v1/m", {}, 400, "application/json", b"Malformed request: PUT /v1/m\""),
        ("DELETE", "/v1/x?y", {}, 400, "application/json", b"Malformed request: DELETE /v1/x?y\""),
        ("PATCH", "/v1/x", {}, 400, "application/json", b"Malformed request: PATCH /v1/x\""),
        ("HEAD", "/v1/models/x", {}, 400, "application/json", b""),
        ("OPTIONS", "/v1/x", {"Origin": "http://a"}, 200, "text/html; charset=ISO-8859-1", b""),
        ("OPTIONS", "/v1/x", {"Origin": "https://a"}, 200, "text/html; charset=ISO-8859-1", b""),
        ("OPTIONS", "/v1/x", {"Origin": "a"}, 400, "text/html; charset=ISO-8859-1", b""),
        ("OPTIONS", "/v1/x", {}, 400, "text/html; charset=ISO-8859-1", b""),
    ],
)  # fmt: skip
def test_methods_and_paths_have_their_rules(
    server: Address, method: str, path: str, headers: dict[str, str], status: int,
    content_type: str, body: bytes,
) -> None:  # fmt: skip
    got_status, got_headers, got = request(server, method, path, b"", **headers)
    assert (got_status, got_headers["content-type"]) == (status, content_type)
    assert body in got and (body or not got)
    assert "access-control-allow-origin" not in got_headers


def test_gzip_bodies_are_inflated_and_bad_ones_are_empty(server: Address) -> None:
    body = gzip.compress(b'{"inputs": [1, 2]}')
    assert predict(server, "int32", body, Content_Encoding="x-gzip")[0] == 200
    empty = (400, error("JSON Parse error: The document is empty"))
    assert predict(server, "int32", body[:-3], Content_Encoding="gzip") == empty
    assert predict(server, "int32", b"{}", Content_Encoding="gzip") == empty


def test_a_bomb_is_an_empty_body_and_inflates_no_further_than_the_limit() -> None:
    bomb = gzip.compress(b'{"inputs": 1, "x": "' + b"x" * (64 << 20) + b'"}')
    with serving(build_app(MODELS, max_inflated=1 << 20)) as server:
        predict(server, "int32", b'{"inputs": 1}')
        tracemalloc.start()
        try:
            status, body = predict(server, "int32", bomb, Content_Encoding="gzip")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert (status, body) == (400, error("JSON Parse error: The document is empty"))
    assert peak < 8 << 20


def test_integers_that_do_not_fit_are_cut_unless_that_is_refused() -> None:
    body = b'{"instances": [300, -1]}'
    with serving(build_app(MODELS)) as server:
        assert json.loads(predict(server, "uint8", body)[1]) == {"predictions": [44, 255]}
    with serving(build_app(MODELS, strict_integers=True)) as server:
        status, answer = predict(server, "uint8", body)
        assert status == 400
        assert json.loads(answer)["error"] == (
            "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: JSON "
            "Value: 300 Type: Number is not of expected type: uint8"
        )
        assert predict(server, "uint8", b'{"instances": [255, 0]}')[0] == 200


def test_an_answer_is_never_compressed(server: Address) -> None:
    path, body = "/v1/models/int32:predict", b'{"inputs": 1}'
    _, headers, _ = request(server, "POST", path, body, Accept_Encoding="gzip")
    assert "content-encoding" not in headers


def test_cors_headers_are_on_every_answer_when_asked_for() -> None:
    with serving(build_app(MODELS, cors=True)) as server:
        for method, path in [
            ("GET", "/v1/models/int32"), ("POST", "/v1/models/none:predict"), ("OPTIONS", "/v1/x"),
            ("PUT", "/v1/x"),
        ]:  # fmt: skip
            _, headers, _ = request(server, method, path)
            assert {name: headers.get(name) for name in CORS} == CORS
        assert "access-control-allow-origin" not in request(server, "GET", "/")[1]


@pytest.mark.parametrize(("timeout_ms", "deadline"), [(2500, 102.5), (0, -1.0), (-1, -1.0)])
def test_the_timeout_becomes_a_deadline(timeout_ms: int, deadline: float) -> None:
    app = build_app(MODELS, clock=lambda: 100.0, timeout_ms=timeout_ms)
    with serving(app) as server:
        status, body = predict(server, "deadline", '{"instances": [0]}')
    assert (status, json.loads(body)) == (200, {"predictions": [deadline]})


def test_a_client_that_hangs_up_cancels_its_prediction(server: Address) -> None:
    body = b'{"inputs": 1}'
    head = f"POST /v1/models/hanging:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    with socket.create_connection(server) as client:
        client.sendall(head.encode() + b"\r\n" + body)
        assert HANGING.started.wait(10)
        time.sleep(0.05)
        assert not HANGING.cancelled.is_set()
    assert HANGING.cancelled.wait(10)


def test_a_client_that_hangs_up_while_sending_does_no_harm(server: Address) -> None:
    with socket.create_connection(server) as client:
        client.sendall(b"POST /v1/models/int32:predict HTTP/1.1\r\nContent-Length: 99\r\n\r\n{")
    assert predict(server, "int32", '{"inputs": 1}')[0] == 200


def test_a_large_body_is_read_and_written_off_the_loop(server: Address) -> None:
    values = np.random.default_rng(0).random((300, 200), np.float32)
    body = json.dumps({"instances": values.tolist()}).encode()
    assert len(body) > OFF_LOOP
    status, answer = predict(server, "float32", body)
    assert status == 200
    got = np.array(json.loads(answer)["predictions"], np.float32)
    np.testing.assert_array_equal(got, values)


def test_a_connection_serves_one_request_after_the_other(server: Address) -> None:
    connection = http.client.HTTPConnection(*server, timeout=30)
    try:
        for path, status in [("int32:predict", 200), ("none:predict", 404), ("int32:predict", 200)]:
            connection.request("POST", "/v1/models/" + path, '{"inputs": 1}')
            response = connection.getresponse()
            response.read()
            assert response.status == status
    finally:
        connection.close()
