"""`jaxrt serve` answers as TensorFlow does: artifacts, SavedModels, base paths, config files."""

import concurrent.futures
import dataclasses
import json
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from endtoend import ROWS, Artifact, Case, Server, bridges_of, run, signed, without_tensorflow

from jaxrt import tfrecord, warmups
from jaxrt.manifest import Manifest

pytest_plugins = ("endtoend_fixtures",)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("serve")


@pytest.fixture(scope="module")
def served(artifact: Artifact, home: Path) -> Iterator[Server]:
    """The artifact, its server's imports listed in the log."""
    with Server(artifact.path, home=home, PYTHONPROFILEIMPORTTIME="1") as server:
        yield server


@pytest.fixture(scope="module")
def lifted(models: Path, home: Path) -> Iterator[Server]:
    """The SavedModel itself, with buckets and without a shape for `tokens`."""
    with Server(models / "rows", "--batch-sizes", "1,4,8", "--cache-dir", "c", home=home) as server:
        yield server


@pytest.mark.parametrize("rows", ROWS)
def test_an_artifact_answers_as_tensorflow_at_any_number_of_rows(
    served: Server, cases: dict[str, Case], rows: int
) -> None:
    case = cases[f"dense {rows}"]
    case.assert_answered(*served.predict("rows", case.inputs))


@pytest.mark.parametrize("rows", ROWS)
def test_a_saved_model_answers_as_tensorflow_at_any_number_of_rows(
    lifted: Server, cases: dict[str, Case], rows: int
) -> None:
    case = cases[f"dense {rows}"]
    case.assert_answered(*lifted.predict("rows", case.inputs))


def test_row_form_answers_too(served: Server, cases: dict[str, Case]) -> None:
    case = cases["dense 2"]
    instances = [{"x": row.tolist()} for row in case.inputs["x"]]
    status, answer = served.ask("POST", "/v1/models/rows:predict", {"instances": instances})
    assert status == 200
    found = {alias: [row[alias] for row in answer["predictions"]] for alias in ("y", "best")}
    case.assert_answered(status, found)


@pytest.mark.parametrize("name", ["tokens 1x4", "tokens 3x6", "tokens 9x4"])
def test_inner_shapes_that_were_planned_have_buckets(
    served: Server, cases: dict[str, Case], name: str
) -> None:
    case = cases[name]
    case.assert_answered(*served.predict("rows", case.inputs, case.signature))


@pytest.mark.parametrize("rows", [1, 4, 8])
def test_rows_that_depend_on_each_other_are_answered_at_their_exact_number(
    served: Server, cases: dict[str, Case], rows: int
) -> None:
    case = cases[f"centered {rows}"]
    case.assert_answered(*served.predict("rows", case.inputs, case.signature))


def test_strangers_do_not_share_a_batch_of_dependent_rows(
    served: Server, cases: dict[str, Case]
) -> None:
    asked = [cases["centered 1"], cases["centered 4"], cases["centered 8"]] * 8
    with concurrent.futures.ThreadPoolExecutor(len(asked)) as pool:
        answers = pool.map(lambda c: served.predict("rows", c.inputs, c.signature), asked)
        for case, answer in zip(asked, answers, strict=True):
            case.assert_answered(*answer)


def test_strangers_who_share_a_batch_get_their_own_rows(
    served: Server, cases: dict[str, Case]
) -> None:
    asked = [cases[f"dense {n}"] for n in ROWS] * 4
    with concurrent.futures.ThreadPoolExecutor(len(asked)) as pool:
        answers = pool.map(lambda c: served.predict("rows", c.inputs), asked)
        for case, answer in zip(asked, answers, strict=True):
            case.assert_answered(*answer)


def test_an_artifact_without_the_batch_size_names_its_shapes_and_the_flag(
    served: Server, cases: dict[str, Case]
) -> None:
    case = cases["centered 3"]
    status, error = served.predict("rows", case.inputs, case.signature)
    assert status == 400
    assert "x=[3,3]" in error and "x=[1,3]; x=[4,3]; x=[8,3]" in error
    assert "--batch-sizes 1,3,4,8" in error


def test_an_artifact_without_the_inner_shape_names_its_shapes_and_the_flag(
    served: Server, cases: dict[str, Case]
) -> None:
    case = cases["tokens 2x5"]
    status, error = served.predict("rows", case.inputs, case.signature)
    assert status == 400
    assert "ids=[2,5]" in error and "ids=[1,4]; ids=[4,4]" in error
    assert "--shape ids=5" in error


def test_a_refused_signature_says_why_and_the_others_are_served(models: Path, home: Path) -> None:
    done = run("compile", models / "mixed", "-o", "mixed.jaxrt", home=home)
    assert (done.returncode, done.stderr) == (0, "")
    (row,) = [line for line in done.stdout.splitlines() if line.strip().startswith("sparse")]
    assert "Its output 'y' is a sparse tensor." in row
    with Server("mixed.jaxrt", home=home) as server:
        assert "signature 'sparse' is not served: " in server.log
        assert server.predict("mixed", {"x": [1.0, 2.0]}) == (200, [2.0, 4.0])
        status, error = server.predict("mixed", {"x": [1.0]}, "sparse")
        assert status == 501
        assert (
            "signature 'sparse' of model mixed: " in error and "Its output 'y' is a sparse" in error
        )


def test_the_metadata_lists_every_signature(served: Server) -> None:
    status, found = served.ask("GET", "/v1/models/rows/metadata")
    assert status == 200
    signatures = found["metadata"]["signature_def"]["signature_def"]
    assert {"serving_default", "centered", "tokens", "slow"} <= signatures.keys()


def test_alive_and_ready(served: Server) -> None:
    assert served.ask("GET", "/healthz") == (200, "ok")
    assert served.ask("GET", "/readyz") == (200, "ok")


def test_serving_an_artifact_imports_neither_tensorflow_nor_the_converters(served: Server) -> None:
    lines = [line for line in served.log.splitlines() if line.startswith("import time:")]
    loaded = {line.rpartition("|")[2].strip() for line in lines}
    assert {"jaxrt.serving.rest.decode", "jax", "jaxrt.loader"} <= loaded
    unwanted = ("tensorflow", "orbax", "flax", "keras", "tf_keras", "jaxrt.converters")
    assert [name for name in loaded if name.startswith(unwanted)] == []


def test_an_unplanned_inner_shape_is_compiled_once_for_all_who_want_it(
    lifted: Server, cases: dict[str, Case]
) -> None:
    asked = [cases["tokens 1x9"]] * 6
    with concurrent.futures.ThreadPoolExecutor(len(asked)) as pool:
        answers = pool.map(lambda c: lifted.predict("rows", c.inputs, c.signature), asked)
        for case, answer in zip(asked, answers, strict=True):
            case.assert_answered(*answer)
    assert lifted.log.count("unplanned shape ids=[1,9] compiled in") == 1
    assert "--shape ids=9" in lifted.log


def test_unplanned_rows_of_an_unplanned_inner_shape_go_into_a_bucket(
    lifted: Server, cases: dict[str, Case]
) -> None:
    case = cases["tokens 2x5"]
    case.assert_answered(*lifted.predict("rows", case.inputs, case.signature))
    assert "unplanned shape ids=[4,5] compiled in" in lifted.log


def test_unplanned_dependent_rows_are_compiled_at_their_exact_number(
    lifted: Server, cases: dict[str, Case]
) -> None:
    case = cases["centered 3"]
    for _ in range(2):
        case.assert_answered(*lifted.predict("rows", case.inputs, case.signature))
    assert lifted.log.count("unplanned shape x=[3,3] compiled in") == 1
    assert "--batch-sizes 1,3,4,8" in lifted.log


def test_a_shape_the_signature_cannot_take_is_a_400(lifted: Server) -> None:
    status, error = lifted.predict("rows", {"x": [[1.0, 2.0]]})
    assert status == 400
    assert "serving_default" in error
    status, again = lifted.predict("rows", {"x": [[1.0, 2.0]]})
    assert (status, again) == (400, error)


def test_a_second_start_takes_the_cache_and_starts_no_tensorflow(
    lifted: Server, models: Path, home: Path, cases: dict[str, Case]
) -> None:
    assert "compiling" in lifted.log
    flags = ("--batch-sizes", "1,4,8", "--cache-dir", "c")
    before = set(bridges_of(home))
    with Server(models / "rows", *flags, home=home, path=without_tensorflow(home)) as server:
        assert "compiling" not in server.log
        assert set(bridges_of(home)) <= before
        case = cases["dense 7"]
        case.assert_answered(*server.predict("rows", case.inputs))


def times(server: Server, path: str) -> Any:
    """What a model of `linear` multiplies with; or status and error."""
    status, answer = server.ask("POST", f"/v1/models/{path}:predict", {"instances": [1.0]})
    return answer["predictions"][0] if status == 200 else (status, answer["error"])


def test_a_base_path_serves_its_highest_version(linear: Path, home: Path) -> None:
    with Server(linear, home=home) as server:
        assert times(server, "linear") == 10.0
        _, status = server.ask("GET", "/v1/models/linear")
        (version,) = status["model_version_status"]
        assert (version["version"], version["state"]) == ("10", "AVAILABLE")


def test_a_config_file_serves_models_versions_and_labels(
    linear: Path, artifact: Artifact, home: Path, cases: dict[str, Case]
) -> None:
    base = home / "rows_base"
    shutil.copytree(artifact.path, base / "3")
    config = home / "models.config"
    config.write_text(f"""
model_config_list {{
  config {{
    name: "first" base_path: "{linear}" model_platform: "tensorflow"
    model_version_policy {{ specific {{ versions: 1 versions: 2 }} }}
    version_labels {{ key: "stable" value: 1 }}
    version_labels {{ key: "canary" value: 2 }}
  }}
  config {{ name: "second" base_path: "{base}" model_platform: "tensorflow" }}
}}
""")
    with Server("--model_config_file", config, home=home) as server:
        assert times(server, "first") == 2.0
        assert times(server, "first/versions/1") == 1.0
        assert times(server, "first/labels/stable") == 1.0
        assert times(server, "first/labels/canary") == 2.0
        assert times(server, "first/versions/10") == (
            404,
            "Servable not found for request: Specific(first, 10)",
        )
        case = cases["dense 9"]
        case.assert_answered(*server.predict("second", case.inputs))
        assert server.stop() == 0


def test_a_label_of_a_version_that_is_not_there_is_refused(linear: Path, home: Path) -> None:
    config = home / "label.config"
    config.write_text(f"""
model_config_list {{ config {{
  name: "first" base_path: "{linear}" model_platform: "tensorflow"
  version_labels {{ key: "canary" value: 7 }} }} }}
""")
    done = run("serve", "--model_config_file", config, "--rest_api_port", "auto", home=home)
    assert done.returncode == 2
    assert "version 7 of model first" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    with Server(
        "--model_config_file",
        config,
        "--allow_version_labels_for_unavailable_models=true",
        home=home,
    ) as server:
        assert times(server, "first") == 10.0


def test_flags_that_have_no_effect_are_named(linear: Path, home: Path) -> None:
    with Server(linear, "--batch-sizes", "1,2", home=home) as server:
        assert "--shard-policy and --disable_optimizer have no effect" in server.log


def test_executables_of_another_machine_are_compiled_again(
    artifact: Artifact, home: Path, cases: dict[str, Case]
) -> None:
    def of_another_machine(manifest: Manifest) -> Manifest:
        signature = manifest.signatures["serving_default"]
        programs = [
            dataclasses.replace(p, executable=dataclasses.replace(p.executable, key="another"))
            for p in signature.programs
            if p.executable is not None
        ]
        changed = dataclasses.replace(signature, programs=tuple(programs))
        signatures = {**manifest.signatures, "serving_default": changed}
        return dataclasses.replace(manifest, signatures=signatures)

    with Server(signed(artifact.path, home, of_another_machine), home=home) as server:
        log = " ".join(server.log.split())
        assert log.count("is not used: made for another runtime or processor (another)") == 3
        case = cases["dense 7"]
        case.assert_answered(*server.predict("changed", case.inputs))


def write_warm_up(model: Path, signature: str, alias: str, shape: tuple[int, ...]) -> None:
    """One PredictRequest of int32, without values."""

    def field(number: int, *parts: bytes) -> bytes:
        content = b"".join(parts)
        return bytes([number << 3 | 2, len(content)]) + content

    dims = [field(2, bytes([1 << 3, size])) for size in shape]
    tensor = field(2, bytes([1 << 3, 3]), field(2, *dims))
    spec = field(1, field(3, signature.encode()))
    record = field(6, field(1, spec, field(2, field(1, alias.encode()), tensor)))
    length = struct.pack("<Q", len(record))
    path = model / warmups.FILE
    path.parent.mkdir()
    path.write_bytes(length + tfrecord.masked(length) + record + tfrecord.masked(record))


def test_shapes_of_a_warm_up_file_are_planned(
    models: Path, home: Path, cases: dict[str, Case]
) -> None:
    model = home / "warm" / "rows"
    shutil.copytree(models / "rows", model)
    write_warm_up(model, "tokens", "ids", (1, 5))
    done = run(
        *("compile", model, "--signature", "tokens", "--batch-sizes", "1,2"),
        *("-o", "warm.jaxrt", "--no-check"),
        home=home,
    )
    assert done.returncode == 0, done.stderr
    shown = run("inspect", "warm.jaxrt", "--json", home=home)
    programs = json.loads(shown.stdout)["manifest"]["signatures"]["tokens"]["programs"]
    assert [p["input_shapes"]["ids"] for p in programs] == [[1, 5], [2, 5]]
    carried = home / "warm.jaxrt" / warmups.FILE
    assert carried.read_bytes() == (model / warmups.FILE).read_bytes()
    with Server("warm.jaxrt", home=home) as server:
        case = cases["tokens 2x5"]
        case.assert_answered(*server.predict("warm", case.inputs, case.signature))
        status, error = server.predict("warm", {"x": np.zeros((1, 4))})
        assert status == 501 and "--signature" in error
