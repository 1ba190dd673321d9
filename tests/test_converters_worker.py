"""Real SavedModels through the real TensorFlow process: one start for all tests that can share."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lifting
import numpy as np
import psutil
import pytest
import savedmodels
from jax.interpreters import mlir as jax_mlir
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo

from jaxrt.converters.records import Kind, Lowered, ModelRecord, Refused
from jaxrt.converters.worker import Bridge
from jaxrt.errors import ConversionError, ModelError
from jaxrt.specs import Dim, TensorSpec

MANY = {"z": (3, 2), "a": (4,), "unused": ()}

REDESCRIBE = """
import sys
from tensorflow.core.protobuf import saved_model_pb2
path = sys.argv[1]
saved = saved_model_pb2.SavedModel.FromString(open(path, "rb").read())
signatures = saved.meta_graphs[0].signature_def
signature = signatures["serving_default"]
signature.CopyFrom(signatures["scalar"])
value = signature.defaults["x"]
value.dtype = 1
value.tensor_shape.dim.add(size=1)
value.float_val.append(1.5)
signature.outputs["y"].dtype = 101
signature.outputs["y"].tensor_shape.unknown_rank = True
signature.inputs["x"].tensor_shape.dim.add(size=4, name="rows")
open(path, "wb").write(saved.SerializeToString())
"""
"""Writes a default value, a reference dtype and a named dimension into a description."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = ("module", "counter", "session", "keras2", "keras3")
    path = savedmodels.build(tmp_path_factory.mktemp("models"), *names)
    shutil.copytree(path / "module", path / "defaults")
    graph = path / "defaults" / "saved_model.pb"
    subprocess.run([sys.executable, "-c", REDESCRIBE, str(graph)], check=True, capture_output=True)
    return path


@pytest.fixture(scope="module")
def bridge() -> Iterator[Bridge]:
    with Bridge(timeout=300) as started:
        yield started


@pytest.fixture
def module(bridge: Bridge, models: Path) -> ModelRecord:
    return bridge.open_model(models / "module")


@pytest.fixture
def session(bridge: Bridge, models: Path) -> ModelRecord:
    return bridge.open_model(models / "session")


def lowered(
    bridge: Bridge, model: ModelRecord, signature: str, shapes: dict[str, tuple[int, ...]]
) -> Lowered:
    found = bridge.lower(model, signature, shapes)
    assert isinstance(found, Lowered), found
    return found


def refused(
    bridge: Bridge, model: ModelRecord, signature: str, shapes: dict[str, tuple[int, ...]]
) -> Refused:
    found = bridge.lower(model, signature, shapes)
    assert isinstance(found, Refused)
    assert found.signature == signature
    assert found.reason.endswith(".")
    assert "\n" not in found.reason
    return found


def by_xla(bridge: Bridge, model: ModelRecord, found: Lowered, inputs: Any) -> dict[str, Any]:
    """The answers of the StableHLO with its weights, by alias."""
    weights = bridge.weights(model, [w.name for w in found.weights])
    for parameter in found.weights:
        array = weights[parameter.name]
        assert (array.shape, array.dtype.name) == (parameter.shape, parameter.dtype)
    context = jax_mlir.make_ir_context()
    with context:
        parsed = stablehlo.deserialize_portable_artifact(context, found.stablehlo)
        text = str(parsed if isinstance(parsed, ir.Module) else ir.Module.parse(parsed))
    arguments = [inputs[p.name] for p in found.inputs] + [weights[p.name] for p in found.weights]
    answers = lifting.by_xla(text, *arguments)
    return {o.name: a for o, a in zip(found.outputs, answers, strict=True)}


def assert_as_tensorflow(
    bridge: Bridge, model: ModelRecord, signature: str, inputs: dict[str, Any]
) -> Lowered:
    """Lowered at the shapes of `inputs`, run by XLA and by TensorFlow, compared."""
    found = lowered(bridge, model, signature, {k: v.shape for k, v in inputs.items()})
    got = by_xla(bridge, model, found, inputs)
    want = bridge.run(model, signature, inputs)
    assert set(got) == set(want) == set(model.signatures[signature].outputs)
    for output in found.outputs:
        assert got[output.name].dtype.name == want[output.name].dtype.name == output.dtype
        assert got[output.name].shape == want[output.name].shape
        got64, want64 = (a[output.name].astype(np.float64) for a in (got, want))
        np.testing.assert_allclose(got64, want64, rtol=1e-5, atol=1e-6)
    return found


def test_a_signature_is_described_in_the_models_own_names(module: ModelRecord) -> None:
    spec = module.signatures["many"]
    assert spec.method_name == "tensorflow/serving/predict"
    assert list(spec.inputs) == ["a", "unused", "z"]
    assert spec.inputs["z"] == TensorSpec(
        name="many_z:0", dtype="float32", dims=(Dim(-1), Dim(2)), is_ref=False
    )
    assert spec.inputs["unused"].dims == ()
    assert spec.outputs["half"].dtype == "bfloat16"
    assert re.match(r"StatefulPartitionedCall(_\d+)?:\d$", spec.outputs["zz"].name)
    assert module.tensorflow_version.startswith("2.")
    assert "MatMul" in module.ops["many"]


def test_the_init_op_is_metadata(module: ModelRecord) -> None:
    spec = module.signatures["__saved_model_init_op"]
    output = spec.outputs["__saved_model_init_op"]
    assert (output.name, output.dtype, output.dims) == ("NoOp", "invalid", None)
    assert spec.method_name == ""
    assert module.refused["__saved_model_init_op"].kind is Kind.ENCODING


def test_default_values_are_printed_with_all_their_fields(bridge: Bridge, models: Path) -> None:
    printed = bridge.open_model(models / "defaults").signatures["serving_default"].defaults
    assert printed["x"]["dtype"] == "DT_FLOAT"
    assert printed["x"]["tensor_shape"] == {
        "dim": [{"size": "1", "name": ""}],
        "unknown_rank": False,
    }
    assert printed["x"]["version_number"] == 0
    assert printed["x"]["float_val"] == [1.5]


def test_references_names_of_dimensions_and_unknown_ranks_are_kept(
    bridge: Bridge, models: Path
) -> None:
    spec = bridge.open_model(models / "defaults").signatures["serving_default"]
    assert spec.outputs["y"].is_ref
    assert (spec.outputs["y"].dtype, spec.outputs["y"].dims) == ("float32", None)
    assert spec.inputs["x"].dims == (Dim(4, "rows"),)


def test_parameters_and_results_are_listed_in_their_order(
    bridge: Bridge, module: ModelRecord
) -> None:
    rng = np.random.default_rng(0)
    inputs = {
        "z": rng.normal(size=(3, 2)).astype("f4"),
        "a": np.arange(4) + 2**40,
        "unused": np.asarray(1.0),
    }
    found = assert_as_tensorflow(bridge, module, "many", inputs)
    assert [p.name for p in found.inputs] == ["a", "unused", "z"]
    assert [p.dtype for p in found.inputs] == ["int64", "float64", "float32"]
    assert [o.name for o in found.outputs] == sorted(module.signatures["many"].outputs)
    names = {w.name: (w.dtype, w.shape) for w in found.weights}
    assert names == {
        "Variable": ("float32", (2, 3)),
        "Variable_1": ("float32", (2, 3)),
        "half": ("bfloat16", (2,)),
        "empty": ("float32", (0, 3)),
        "constant": ("float32", (300,)),
    }


def test_shapes_may_differ_from_the_declared_ones(bridge: Bridge, module: ModelRecord) -> None:
    inputs = {"x": np.ones((2, 5), "f4")}
    assert_as_tensorflow(bridge, module, "scalar", {"x": np.float32(2).reshape(())})
    found = lowered(bridge, module, "scalar", {"x": (2, 5)})
    assert by_xla(bridge, module, found, inputs)["y"].tolist() == [[2.0] * 5] * 2


def test_a_signature_without_inputs_lowers(bridge: Bridge, module: ModelRecord) -> None:
    assert assert_as_tensorflow(bridge, module, "nothing_in", {}).inputs == ()


def test_a_weight_has_one_name_in_all_signatures(bridge: Bridge, module: ModelRecord) -> None:
    (twin,) = lowered(bridge, module, "scalar", {"x": ()}).weights
    assert twin in lowered(bridge, module, "many", MANY).weights
    assert bridge.weights(module)[twin.name].tolist() == [[2.0] * 3] * 2


def test_weights_are_mapped_and_read_only(bridge: Bridge, module: ModelRecord) -> None:
    lowered(bridge, module, "many", MANY)
    found = bridge.weights(module)
    assert {"Variable", "Variable_1", "half", "empty", "constant"} <= set(found)
    assert not any(array.flags.writeable for array in found.values())
    assert found["half"].astype("f4").tolist() == [1.5, 2.5]
    with pytest.raises(KeyError):
        bridge.weights(module, ["no such weight"])


def test_asserts_and_ops_nobody_reads_do_not_stand_in_the_way(
    bridge: Bridge, module: ModelRecord
) -> None:
    found = assert_as_tensorflow(bridge, module, "checked", {"x": np.ones(3, "f4")})
    assert "Assert" in found.ops
    assert "AsString" not in found.ops
    with pytest.raises(ConversionError, match=r"TensorFlow fails: assertion failed.*want positive"):
        bridge.run(module, "checked", {"x": -np.ones(3, "f4")})


@pytest.mark.parametrize(
    ("signature", "shapes", "kind", "reason", "ops"),
    [
        ("words", {"text": (3,)}, Kind.HOST, r"'text' is a string tensor", ("StringLength",)),
        ("inside", {"x": (3,)}, Kind.HOST, "AsString, StringTo", ("AsString", "StringToNumber")),
        ("least_squares", {"x": (3, 3)}, Kind.BRIDGE, "no kernel for", ("MatrixSolveLs",)),
        ("many", MANY | {"z": (3, 5)}, Kind.BRIDGE, "Matrix size-incompatible", ()),
        ("sized_by_an_input", {"n": (2,)}, Kind.BRIDGE, r"must be a compile-time constant\.$", ()),
        ("growing", {"n": ()}, Kind.SHAPE, "TensorArray grows", ("TensorListSetItem",)),
        ("__saved_model_init_op", {}, Kind.ENCODING, "no output", ()),
    ],
)
def test_what_xla_cannot_take_is_refused_in_a_sentence(
    bridge: Bridge,
    module: ModelRecord,
    signature: str,
    shapes: dict[str, tuple[int, ...]],
    kind: Kind,
    reason: str,
    ops: tuple[str, ...],
) -> None:
    found = refused(bridge, module, signature, shapes)
    assert (found.kind, found.ops) == (kind, ops)
    assert re.search(reason, found.reason), found.reason
    assert "XLA_CPU_JIT" not in found.reason and "TF_DUMP" not in found.reason


def test_state_that_changes_is_refused_and_its_neighbour_is_not(
    bridge: Bridge, models: Path
) -> None:
    model = bridge.open_model(models / "counter")
    add, peek = (refused(bridge, model, name, {"x": ()}) for name in ("add", "peek"))
    assert add.kind is peek.kind is Kind.STATE
    assert add.ops == ("AssignAddVariableOp",)
    assert "count" in peek.reason
    assert_as_tensorflow(bridge, model, "scaled", {"x": np.asarray(2, "f4")})


def test_reference_variables_become_weights(bridge: Bridge, session: ModelRecord) -> None:
    inputs = {"x": np.asarray([[1, 2], [3, 4], [5, 6]], "f4")}
    found = assert_as_tensorflow(bridge, session, "serving_default", inputs)
    assert sorted(w.name for w in found.weights) == ["b", "w"]
    assert bridge.weights(session)["w"].tolist() == [[1, 2], [3, 4]]
    assert bridge.weights(session)["b"].tolist() == [0.5, -0.5]
    assert session.signatures["serving_default"].outputs["w"].is_ref


def test_any_tensor_may_be_fed_under_any_key(bridge: Bridge, session: ModelRecord) -> None:
    inputs = {"h:in": np.ones((3, 2), "f4")}
    found = assert_as_tensorflow(bridge, session, "default_input_alternative:None", inputs)
    assert [o.name for o in found.outputs] == ["y/out"]
    assert found.weights == ()


def test_two_aliases_of_one_tensor_are_both_parameters(
    bridge: Bridge, session: ModelRecord
) -> None:
    x = np.asarray([[1, 2], [3, 4]], "f4")
    found = assert_as_tensorflow(bridge, session, "twice", {"a": x, "b": x})
    assert [p.name for p in found.inputs] == ["a", "b"]


@pytest.mark.parametrize(
    ("signature", "shapes", "kind", "ops"),
    [
        ("trained", {"x": (3, 2), "training": ()}, Kind.CONTROL_FLOW, ("Merge", "Switch")),
        ("switched", {"x": (3, 2)}, Kind.CONTROL_FLOW, ("Merge", "Switch")),
        ("count", {}, Kind.STATE, ("AssignAdd",)),
        ("counted", {}, Kind.STATE, ()),
        ("unfed", {"x": (3, 2)}, Kind.BRIDGE, ("Placeholder",)),
        ("sparse", {"x": (3, 2)}, Kind.ENCODING, ()),
    ],
)
def test_what_tf1_has_of_its_own_is_refused(
    bridge: Bridge,
    session: ModelRecord,
    signature: str,
    shapes: dict[str, tuple[int, ...]],
    kind: Kind,
    ops: tuple[str, ...],
) -> None:
    found = refused(bridge, session, signature, shapes)
    assert (found.kind, found.ops) == (kind, ops)


def test_tensorflow_runs_what_is_refused(bridge: Bridge, session: ModelRecord) -> None:
    x = np.asarray([[1, 2]], "f4")
    assert bridge.run(session, "switched", {"x": x})["y"].tolist() == [[2, 3]]
    assert bridge.run(session, "switched", {"x": -x})["y"].tolist() == [[-2, -4]]


@pytest.mark.parametrize("name", ["keras2", "keras3"])
def test_keras_exports_lower(bridge: Bridge, models: Path, name: str) -> None:
    model = bridge.open_model(models / name)
    (alias,) = model.signatures["serving_default"].inputs
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("f4")
    found = assert_as_tensorflow(bridge, model, "serving_default", {alias: x})
    assert any(w.name.endswith("score/kernel") for w in found.weights)


def test_the_tag_set_is_chosen_and_those_found_are_named(bridge: Bridge, models: Path) -> None:
    path = models / "session"
    assert bridge.open_model(path, ("gpu", "serve")).tags == ("gpu", "serve")
    with pytest.raises(ModelError, match=r"found the tag sets serve; gpu,serve, want tpu; pass"):
        bridge.open_model(path, ("tpu",))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("absent", "no such directory"),
        ("empty", "found nothing, want saved_model.pb"),
        ("versions", "found 1, want saved_model.pb or saved_model.pbtxt; pass one version"),
        ("truncated", "saved_model.pb: not a SavedModel or truncated"),
        ("zero", "found the tag sets no graph at all, want serve"),
        ("variables", "variables.index: not found, and the signatures read variables"),
        ("shards", r"found no variables.data-00000-of-00001 beside variables.index"),
        ("garbage", "TensorFlow cannot load it"),
    ],
)
def test_a_damaged_model_is_an_error_of_one_line(
    bridge: Bridge, models: Path, tmp_path: Path, damage: str, message: str
) -> None:
    path = tmp_path / "model"
    if damage == "empty":
        path.mkdir()
    elif damage == "versions":
        (path / "1").mkdir(parents=True)
    elif damage != "absent":
        shutil.copytree(models / "keras2", path)
        graph, shards = path / "saved_model.pb", path / "variables"
        match damage:
            case "truncated" | "zero":
                graph.write_bytes(graph.read_bytes()[: 1000 if damage == "truncated" else 0])
            case "variables":
                shutil.rmtree(shards)
            case "shards":
                (shards / "variables.data-00000-of-00001").unlink()
            case "garbage":
                (shards / "variables.index").write_bytes(b"no table")
    with pytest.raises(ModelError, match=message) as raised:
        model = bridge.open_model(path)
        bridge.lower(model, "serving_default", {"features": (1, 4)})
    assert not isinstance(raised.value, ConversionError)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)


def test_an_unknown_signature_or_input_is_named_beside_those_there_are(
    bridge: Bridge, module: ModelRecord
) -> None:
    with pytest.raises(ConversionError, match=r"no signature 'none'; it has .*scalar"):
        bridge.lower(module, "none", {})
    with pytest.raises(ConversionError, match=r"found inputs \['y'\], want \['x'\]"):
        bridge.lower(module, "scalar", {"y": ()})
    with pytest.raises(ConversionError, match=r"found an input 'x', want \['text'\]"):
        bridge.run(module, "words", {"x": np.zeros(1, "f4")})


def killed_during(bridge: Bridge, call: Any) -> list[Any]:
    """What `call` returns or raises when TensorFlow's process is killed while it works."""
    pid = bridge.pid
    assert pid is not None
    found: list[Any] = []

    def target() -> None:
        try:
            found.append(call())
        except ModelError as error:
            found.append(error)

    os.kill(pid, signal.SIGSTOP)  # so that it cannot answer before it dies
    thread = threading.Thread(target=target)
    thread.start()
    time.sleep(0.2)
    os.kill(pid, signal.SIGKILL)
    thread.join(60)
    return found


def test_after_a_crash_the_next_request_is_answered(bridge: Bridge, module: ModelRecord) -> None:
    before = lowered(bridge, module, "many", MANY)
    old = bridge.pid
    (crash,) = killed_during(bridge, lambda: bridge.lower(module, "many", MANY))
    assert isinstance(crash, Refused)
    assert crash.kind is Kind.CRASH
    assert crash.reason == "TensorFlow's process died on it: signal 9"
    after = lowered(bridge, module, "many", MANY)
    assert bridge.pid != old
    assert (after.weights, after.inputs) == (before.weights, before.inputs)
    assert bridge.weights(module)["half"].astype("f4").tolist() == [1.5, 2.5]

    (error,) = killed_during(
        bridge, lambda: bridge.run(module, "scalar", {"x": np.asarray(1, "f4")})
    )
    assert isinstance(error, ModelError)
    assert "TensorFlow's process died (signal 9)" in str(error)


def test_a_process_that_died_idle_is_nobodys_fault(bridge: Bridge, module: ModelRecord) -> None:
    bridge.open_model(module.path)
    pid = bridge.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert lowered(bridge, module, "scalar", {"x": ()}).weights
    assert bridge.pid not in (None, pid)


def test_a_closed_model_is_loaded_again(bridge: Bridge, module: ModelRecord) -> None:
    bridge.close_model(module)
    assert lowered(bridge, module, "scalar", {"x": ()}).weights


def test_threads_take_turns(bridge: Bridge, module: ModelRecord) -> None:
    found: dict[int, Lowered | Refused] = {}

    def lower(rows: int) -> None:
        found[rows] = bridge.lower(module, "many", MANY | {"z": (rows, 2)})

    threads = [threading.Thread(target=lower, args=(rows,)) for rows in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for rows, lowering in found.items():
        assert isinstance(lowering, Lowered)
        assert lowering.inputs[2].shape == (rows, 2)
    assert len(found) == 8


def test_no_answer_in_time_is_a_refusal_or_an_error(module: ModelRecord) -> None:
    with Bridge(timeout=0.05) as hurried:
        found = hurried.lower(module, "scalar", {"x": ()})
        assert isinstance(found, Refused)
        assert found.kind is Kind.TIMEOUT
        assert hurried.pid is None
        with pytest.raises(ModelError, match="no answer in 0.05 s"):
            hurried.open_model(module.path)


def without_tensorflow(folder: Path, error: str = "ModuleNotFoundError('x')") -> dict[str, str]:
    """An environment where importing TensorFlow fails."""
    (folder / "tensorflow").mkdir()
    (folder / "tensorflow" / "__init__.py").write_text(f"raise {error}\n")
    return {**os.environ, "PYTHONPATH": str(folder)}


def test_without_tensorflow_the_error_says_what_to_install(tmp_path: Path) -> None:
    with Bridge(environment=without_tensorflow(tmp_path)) as bridge:
        with pytest.raises(ModelError) as raised:
            bridge.open_model(tmp_path)
        assert str(raised.value) == (
            "TensorFlow is needed to read a SavedModel and is not installed: "
            'pip install "jaxrt[convert]", or serve a compiled artifact'
        )
        with pytest.raises(ModelError, match="is needed"):  # the process goes on
            bridge.open_model(tmp_path)


def test_a_broken_tensorflow_is_told_from_a_missing_one(tmp_path: Path) -> None:
    environment = without_tensorflow(tmp_path, "ImportError('libfoo.so: no such file')")
    with (
        Bridge(environment=environment) as bridge,
        pytest.raises(ModelError, match=r"not installed properly \(libfoo.so: no such file\)"),
    ):
        bridge.open_model(tmp_path)


def test_the_last_line_of_a_crash_is_told(tmp_path: Path) -> None:
    fatal = "F0000 00:00:1795343149.436562    5084 tensor.cc:12] Check failed: 1 == 2"
    body = f"None\nimport os, sys\nprint({fatal!r}, file=sys.stderr, flush=True)\nos.abort()"
    environment = without_tensorflow(tmp_path)
    (tmp_path / "tensorflow" / "__init__.py").write_text(body)
    with Bridge(environment=environment) as bridge:
        with pytest.raises(ModelError, match=r"process died \(tensor.cc:12\] Check failed: 1 == 2"):
            bridge.open_model(tmp_path)
        assert bridge.pid is None


def test_flags_for_jaxs_xla_do_not_reach_tensorflows(tmp_path: Path) -> None:
    body = "import os\nraise ImportError(os.environ.get('XLA_FLAGS'))"
    environment = without_tensorflow(tmp_path) | {"XLA_FLAGS": "--xla_of_another_version"}
    (tmp_path / "tensorflow" / "__init__.py").write_text(body)
    with (
        Bridge(environment=environment) as bridge,
        pytest.raises(ModelError, match=r"properly \(None\)"),
    ):
        bridge.open_model(tmp_path)


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("thread", ["main", "other"])
def test_the_process_ends_with_its_parent(tmp_path: Path, thread: str) -> None:
    code = """
import os, pathlib, signal, sys, threading
from jaxrt.converters.worker import Bridge
from jaxrt.errors import ModelError
bridge = Bridge()
def start():
    try:
        bridge.open_model(pathlib.Path("."))
    except ModelError:
        print(bridge.pid, flush=True)
if sys.argv[1] == "main":
    start()
else:
    worker = threading.Thread(target=start)
    worker.start()
    worker.join()
    os.kill(bridge.pid, 0)  # it did not end with the thread
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, thread],
        env=without_tensorflow(tmp_path) | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid = int(done.stdout)
    until = time.monotonic() + 20
    while is_running(pid) and time.monotonic() < until:
        time.sleep(0.02)
    assert not is_running(pid)


def test_closing_ends_the_process_and_removes_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    environment = without_tensorflow(tmp_path)
    with Bridge(environment=environment) as bridge:
        with pytest.raises(ModelError):
            bridge.open_model(tmp_path)
        pid = bridge.pid
        assert pid is not None
        (folder,) = tmp_path.glob("*jaxrt-bridge-*")
        assert (folder / "1" / "log").is_file()
    assert not is_running(pid)
    assert not folder.exists()
