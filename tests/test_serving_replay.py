"""Warm-up requests are answered as clients' would be, and what fails fails the load."""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warmup_files as files
from by_predict import ByPredict

from jaxrt import tfrecord, warmups
from jaxrt.errors import (
    Code,
    FailedPrecondition,
    InvalidArgument,
    RequestError,
    Unavailable,
    Unimplemented,
)
from jaxrt.serving import replay
from jaxrt.serving.engine.fallback import NoProgram
from jaxrt.serving.engine.servable import HostTensors
from jaxrt.serving.rest import classification, regression
from jaxrt.serving.rpc.wire import delimited
from jaxrt.specs import Dim, SignatureSpec, TensorSpec


def tensor(name: str, dtype: str, *sizes: int) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, dims=tuple(map(Dim, sizes)))


FED = {"inputs": tensor("examples:0", "string", -1)}
SIGNATURES: Mapping[str, SignatureSpec] = {
    "serving_default": SignatureSpec(
        inputs={"x": tensor("x:0", "float32", -1)}, outputs={"y": tensor("y:0", "float32", -1)}
    ),
    "regress": SignatureSpec(
        inputs=FED,
        outputs={"outputs": tensor("r:0", "float32", -1, 1)},
        method_name=regression.METHOD,
    ),
    "classify": SignatureSpec(
        inputs=FED,
        outputs={"scores": tensor("s:0", "float32", -1, 2)},
        method_name=classification.METHOD,
    ),
}


class Asked(ByPredict):
    """A Servable that remembers what it was asked."""

    name, version, signatures = "m", 1, SIGNATURES

    def __init__(self, *errors: RequestError) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self._errors = list(errors)

    async def predict(
        self, signature: str, inputs: HostTensors, *, deadline: float | None
    ) -> HostTensors:
        self.calls.append((signature, {alias: x.tolist() for alias, x in inputs.items()}))
        if self._errors:
            raise self._errors.pop(0)
        rows = len(next(iter(inputs.values())))
        shapes = {"y": (rows,), "outputs": (rows, 1), "scores": (rows, 2)}
        outputs = self.signatures[signature].outputs
        return {alias: np.zeros(shapes[alias], np.float32) for alias in outputs}


def replayed(servable: Asked, directory: Path, **more: Any) -> int:
    return asyncio.run(replay.replay(servable, directory, **more))


X = {"x": np.asarray([1.0, 2.0], np.float32)}


def test_requests_of_all_kinds_are_answered_in_their_order(tmp_path: Path) -> None:
    both = {"classify": classification.METHOD, "regress": regression.METHOD}
    files.write(
        tmp_path,
        files.predict("", X),
        files.classify("classify", 2),
        files.regress("regress", 1),
        files.multi_inference(both, 3),
    )
    servable = Asked()
    assert replayed(servable, tmp_path) == 4
    assert servable.calls == [
        ("serving_default", {"x": [1.0, 2.0]}),
        ("classify", {"inputs": [b"", b""]}),
        ("regress", {"inputs": [b""]}),
        ("classify", {"inputs": [b""] * 3}),
        ("regress", {"inputs": [b""] * 3}),
    ]


def test_nothing_is_asked_where_there_is_no_file(tmp_path: Path) -> None:
    assert replayed(Asked(), tmp_path) == 0


def test_a_record_without_a_log_is_skipped(tmp_path: Path) -> None:
    files.write(tmp_path, b"", files.predict("", X))
    assert replayed(Asked(), tmp_path) == 1


@pytest.mark.parametrize(("iterations", "runs"), [(0, 1), (1, 1), (3, 3)])
def test_each_request_runs_as_often_as_wanted(tmp_path: Path, iterations: int, runs: int) -> None:
    files.write(tmp_path, files.predict("", X))
    servable = Asked()
    replayed(servable, tmp_path, iterations=iterations)
    assert len(servable.calls) == runs


@pytest.mark.parametrize(
    ("content", "code", "text"),
    [
        (
            b"not a TFRecord",
            Code.DATA_LOSS,
            "Please verify your warmup data is in TFRecord format.",
        ),
        (files.framed(b"\xff"), Code.INVALID_ARGUMENT, "Failed to parse warmup record: "),
        (
            files.framed(files.log(6, b"\xff")),
            Code.INVALID_ARGUMENT,
            "Failed to parse warmup record: ",
        ),
        (
            files.framed(files.log(2, b"\xff")),
            Code.INVALID_ARGUMENT,
            "Failed to parse warmup record: ",
        ),
        (
            files.framed(delimited(5, b"")),
            Code.UNIMPLEMENTED,
            "Unsupported log_type for warmup: 5",
        ),
        (
            files.framed(delimited(7, b"")),
            Code.UNIMPLEMENTED,
            "Unsupported log_type for warmup: 7",
        ),
        (
            files.framed(*[b""] * 1001),
            Code.INVALID_ARGUMENT,
            "Number of warmup records exceeds the maximum (1000) at ",
        ),
        (
            files.framed(files.predict("absent", X)),
            Code.FAILED_PRECONDITION,
            'Serving signature key "absent" not found.',
        ),
        (
            files.framed(files.log(6, b"")),
            Code.INVALID_ARGUMENT,
            "input size does not match signature: 0!=1 len({}) != len({x})."
            " Sent extra: {}. Missing but required: {x}.",
        ),
        (
            files.framed(files.classify("absent", 1)),
            Code.INVALID_ARGUMENT,
            "No signature was found with the name: absent",
        ),
        (files.framed(files.regress("regress", 0)), Code.INVALID_ARGUMENT, "Input is empty."),
    ],
)
def test_what_tensorflow_serving_refuses_fails_the_load_in_its_words(
    tmp_path: Path, content: bytes, code: Code, text: str
) -> None:
    files.write(tmp_path).write_bytes(content)
    with pytest.raises(RequestError) as caught:
        replayed(Asked(), tmp_path)
    assert caught.value.code is code
    assert text in str(caught.value)


def test_an_error_of_the_model_fails_the_load_and_names_the_record(tmp_path: Path) -> None:
    files.write(tmp_path, files.predict("", X), files.predict("", X))
    servable = Asked(FailedPrecondition("no table"))
    with pytest.raises(FailedPrecondition, match=r"^no table \(.*: record 0\)$"):
        replayed(servable, tmp_path)
    assert len(servable.calls) == 1


@pytest.mark.parametrize("error", [NoProgram("no shape"), Unimplemented("no rule")])
def test_a_request_that_was_not_compiled_is_logged_and_the_others_are_answered(
    tmp_path: Path, error: RequestError, caplog: pytest.LogCaptureFixture
) -> None:
    files.write(tmp_path, files.predict("", X), files.predict("", X))
    servable = Asked(error)
    with caplog.at_level(logging.WARNING):
        assert replayed(servable, tmp_path) == 2
    (record,) = caplog.records
    assert f"record 0: not replayed, clients would get: {error}" in record.message
    assert len(servable.calls) == 2


def test_a_full_queue_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "PAUSE", 0.001)
    files.write(tmp_path, files.predict("", X))
    servable = Asked(Unavailable("full"), Unavailable("full"))
    assert replayed(servable, tmp_path) == 1
    assert len(servable.calls) == 3


def test_a_queue_that_stays_full_fails_the_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "PAUSE", 0.0)
    monkeypatch.setattr(replay, "PATIENCE", 2)
    files.write(tmp_path, files.predict("", X))
    with pytest.raises(Unavailable):
        replayed(Asked(*[Unavailable("full")] * 3), tmp_path)


def test_method_names_count_where_they_are_checked(tmp_path: Path) -> None:
    files.write(tmp_path, files.regress("classify", 1))
    with pytest.raises(InvalidArgument, match="Expected regression signature method_name"):
        replayed(Asked(), tmp_path, check_method_name=True)


def test_the_file_lies_where_tensorflow_serving_has_it(tmp_path: Path) -> None:
    path = files.write(tmp_path, files.predict("", X))
    assert path == tmp_path / "assets.extra" / "tf_serving_warmup_requests"
    assert [request.kind for request in warmups.requests(tmp_path)] == [warmups.Kind.PREDICT]
    assert len(list(tfrecord.records(path))) == 1
