"""Regress over HTTP where the signature declares another dtype than its graph has."""

from pathlib import Path
from typing import Any

import declared_models
import pytest
from endtoend import Server, run

PATH = "/v1/models/half_plus_three:regress"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("declared")
    declared_models.build(found, "half_plus_three")
    done = run("compile", "half_plus_three", "--batch-sizes", "1,4", home=found)
    assert done.returncode == 0, done.stderr
    return found


def asked(signature: str) -> dict[str, Any]:
    return {"signature_name": signature, "examples": [{"x": 1.0}, {"x": 2.0}, {"x": 5.0}]}


def test_examples_are_fed_to_a_graph_that_parses_them_whatever_is_declared(home: Path) -> None:
    with Server(home / "half_plus_three.jaxrt", home=home) as server:
        for signature in ("tensorflow/serving/regress", "misnamed"):
            answer = server.ask("POST", PATH, asked(signature))
            assert answer == (200, {"results": [3.5, 4.0, 5.5]})
        status, metadata = server.ask("GET", "/v1/models/half_plus_three/metadata")
        plain = server.predict("half_plus_three", {"x": [[1.0], [2.0]]})
    assert status == 200
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    declared = signatures["tensorflow/serving/regress"]["inputs"]["inputs"]
    assert (declared["dtype"], declared["name"]) == ("DT_FLOAT", "tf_example:0")
    assert declared["tensor_shape"] == {"dim": [], "unknown_rank": False}
    assert plain == (200, [[3.5], [4.0]])


def test_the_method_name_is_checked_when_asked_for(home: Path) -> None:
    flag = "--enable_signature_method_name_check=true"
    with Server(home / "half_plus_three.jaxrt", flag, home=home) as server:
        assert server.ask("POST", PATH, asked("tensorflow/serving/regress"))[0] == 200
        status, answer = server.ask("POST", PATH, asked("misnamed"))
    assert status == 400
    assert "method_name to be tensorflow/serving/regress" in answer["error"]
