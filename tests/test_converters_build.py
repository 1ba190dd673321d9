"""A SavedModel becomes an artifact: what is planned, stored, compiled, compared, written down."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fake_tensorflow import FakeTensorFlow, Steps, signature, tensor

from jaxrt import compiler, loader, target
from jaxrt.artifact import Artifact, ArtifactWriter, open_artifact
from jaxrt.buckets import Buckets
from jaxrt.converters import build, planning
from jaxrt.converters.build import Naming, Options
from jaxrt.converters.records import Kind, ModelRecord, Refused, Segmented, Stage, Value
from jaxrt.errors import ConversionError, ModelError, UsageError
from jaxrt.loader import HostProgram
from jaxrt.manifest import HostEntry, Manifest
from jaxrt.program import Shapes

CPU = target.attached("cpu")
RANDOM = np.random.default_rng(0)
WEIGHTS = {
    "kernel": RANDOM.normal(size=(4, 3)).astype(np.float32),
    "table": RANDOM.normal(size=(10, 5)).astype(np.float32),
    "twin": np.zeros(3, np.float32),
    "bias": np.zeros(3, np.float32),
}


def layer(weights: Mapping[str, Any], x: Any) -> dict[str, Any]:
    return {"y": jnp.tanh(x @ weights["kernel"] + weights["bias"][None] + weights["twin"][None])}


def centered(weights: Mapping[str, Any], x: Any) -> dict[str, Any]:
    return {"y": x - x.mean(axis=0, keepdims=True)}


def embed(weights: Mapping[str, Any], ids: Any) -> dict[str, Any]:
    return {"y": jnp.take(weights["table"], ids, axis=0, mode="clip").sum(axis=1)}


FUNCTIONS = {"layer": layer, "centered": centered, "embed": embed}
SPECS = {
    "__saved_model_init_op": signature(),
    "layer": signature(x=tensor("float32", None, 4)),
    "centered": signature(x=tensor("float32", None, 4)),
    "embed": signature(ids=tensor("int32", None, None)),
}
INITIALIZER = {
    "__saved_model_init_op": Refused(
        signature="__saved_model_init_op", kind=Kind.ENCODING, reason="It has no output."
    )
}
NAMING = Naming(model="m", path="given/m", content_sha256="0" * 64)


def options(*signatures: str, shapes: Sequence[str] = (), **more: Any) -> Options:
    return Options(
        buckets=Buckets(sizes=(1, 4)),
        signatures=signatures,
        rules=tuple(planning.parse_rule(text) for text in shapes),
        **more,
    )


def fake(**more: Any) -> FakeTensorFlow:
    return FakeTensorFlow(
        FUNCTIONS, SPECS, WEIGHTS, refused=INITIALIZER | more.pop("no", {}), **more
    )


def make(
    home: Path,
    chosen: Options,
    tensorflow: FakeTensorFlow | None = None,
    *,
    steps: Steps | None = None,
    allow_empty: bool = False,
) -> Manifest:
    """Writes `home`/out."""
    source = home / "source"
    source.mkdir(exist_ok=True)
    (source / "saved_model.pb").write_bytes(b"a graph")
    with ArtifactWriter(home / "out") as writer:
        return build.build(
            source,
            writer,
            naming=NAMING,
            options=chosen,
            target=CPU,
            tensorflow=tensorflow or fake(),
            steps=steps or Steps(),
            allow_empty=allow_empty,
        )


def no_host(entry: HostEntry) -> HostProgram:
    raise AssertionError(f"no host segment is expected: {entry}")


def answers(artifact: Artifact, key: str, inputs: Mapping[str, Any]) -> Any:
    """Of the program that takes exactly these shapes."""
    model = loader.load(artifact, CPU, open_host=no_host)
    (found,) = [
        entry.program
        for entry in model.signatures[key].programs
        if entry.program.input_shapes == {a: x.shape for a, x in inputs.items()}
    ]
    return found.run(inputs)["y"]


def test_an_artifact_computes_what_the_model_does(tmp_path: Path) -> None:
    make(tmp_path, options(shapes=["ids=6"]))
    x = RANDOM.normal(size=(4, 4)).astype(np.float32)
    ids = RANDOM.integers(0, 10, (4, 6)).astype(np.int32)
    with open_artifact(tmp_path / "out") as artifact:
        got = answers(artifact, "layer", {"x": x})
        np.testing.assert_allclose(got, np.tanh(x @ WEIGHTS["kernel"]), rtol=1e-6)
        got = answers(artifact, "centered", {"x": x})
        np.testing.assert_allclose(got, x - x.mean(0), rtol=1e-5, atol=1e-6)
        got = answers(artifact, "embed", {"ids": ids})
        np.testing.assert_allclose(got, WEIGHTS["table"][ids].sum(1), rtol=1e-6)


def test_the_manifest_says_where_it_came_from_and_what_for(tmp_path: Path) -> None:
    made = make(tmp_path, options("layer", tags=("serve", "gpu")))
    assert (made.model, made.source.path, made.source.tags) == ("m", "given/m", ("serve", "gpu"))
    assert (made.target.platform, made.target.fingerprint["key"]) == ("cpu", CPU.fingerprint)
    assert made.tools["jax"] == jax.__version__
    assert made.options == options("layer", tags=("serve", "gpu")).to_json()
    with open_artifact(tmp_path / "out") as artifact:
        assert artifact.manifest == made


def test_every_signature_is_in_the_manifest_with_its_programs_or_a_reason(tmp_path: Path) -> None:
    made = make(tmp_path, options("layer", "embed", shapes=["ids=3,6"]))
    programs = {
        key: [list(p.input_shapes.values()) for p in found.programs]
        for key, found in made.signatures.items()
    }
    assert programs == {
        "__saved_model_init_op": [],
        "layer": [[(1, 4)], [(4, 4)]],
        "centered": [],
        "embed": [[(1, 3)], [(4, 3)], [(1, 6)], [(4, 6)]],
    }
    assert {key: found.refused for key, found in made.signatures.items()} == {
        "__saved_model_init_op": "It has no output.",
        "layer": None,
        "centered": "it was not chosen by --signature",
        "embed": None,
    }


def test_rows_and_why_are_written_down(tmp_path: Path) -> None:
    made = make(tmp_path, options("layer", "centered"))
    rows = {key: {p.rows for p in s.programs} for key, s in made.signatures.items() if s.programs}
    assert rows == {"layer": {"independent"}, "centered": {"dependent"}}
    assert all(p.rows_reason for p in made.programs)


def test_weights_are_stored_once_however_many_programs_take_them(tmp_path: Path) -> None:
    made = make(tmp_path, options("layer", "embed", shapes=["ids=3,6"]))
    with open_artifact(tmp_path / "out") as artifact:
        stored = dict(artifact.weights)
        assert sum(a.nbytes for a in stored.values()) <= sum(
            WEIGHTS[name].nbytes for name in ("kernel", "table", "bias")
        )
    assert len({p.weights for p in made.signatures["embed"].programs}) == 1


def test_a_signature_whose_sizes_nobody_planned_runs_whole_and_says_which_flag_helps(
    tmp_path: Path,
) -> None:
    made = make(tmp_path, options())
    (stage,) = made.signatures["embed"].stages
    assert stage.host is not None and stage.host.executor == "saved_model"
    assert "pass --shape ids=SIZE[,SIZE...]" in stage.host.why


def test_a_stage_whose_sizes_nobody_planned_leaves_its_signature_whole(tmp_path: Path) -> None:
    inside = Stage(
        where="device",
        inputs=(Value(name="ids", dtype="int32", shape=(None, None), like=(None, ("ids", 1))),),
        outputs=(Value(name="y", dtype="float32", shape=(None, 5)),),
        ops=("GatherV2",),
        why="",
        rowwise=False,
    )

    class Cutting(FakeTensorFlow):
        def segment(
            self, model: ModelRecord, signature: str, *, open_sizes: bool = True
        ) -> Segmented | Refused:
            return Segmented(signature=signature, stages=(inside,))

    no = {"embed": Refused(signature="embed", kind=Kind.HOST, reason="It has strings.")}
    tensorflow = Cutting(FUNCTIONS, SPECS, WEIGHTS, refused=INITIALIZER | no)
    made = make(tmp_path, options("embed"), tensorflow)
    (stage,) = made.signatures["embed"].stages
    assert stage.host is not None and stage.host.executor == "saved_model"
    assert "pass --shape ids=SIZE[,SIZE...]" in stage.host.why


def test_a_server_compiles_such_sizes_when_they_come(tmp_path: Path) -> None:
    made = make(tmp_path, options(), allow_empty=True)
    assert made.signatures["embed"].stages == ()
    assert made.signatures["embed"].programs == ()
    assert made.signatures["embed"].refused is None


def test_shapes_of_requests_seen_before_are_planned_for_every_batch_size(tmp_path: Path) -> None:
    made = make(tmp_path, options("embed", observed={"embed": [{"ids": (2, 7)}]}))
    shapes = [p.input_shapes["ids"] for p in made.signatures["embed"].programs]
    assert shapes == [(1, 7), (4, 7)]


def test_a_signature_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no signature 'no'; it has: layer, centered, embed$"):
        make(tmp_path, options("no"))


def test_the_report_holds_the_error_against_tensorflow(tmp_path: Path) -> None:
    make(tmp_path, options("layer", "centered"))
    with open_artifact(tmp_path / "out") as artifact:
        report = artifact.report()["signatures"]
    for key in ("layer", "centered"):
        found = report[key]["against_tensorflow"]
        # The smallest of several rows: of one row, centering leaves nothing.
        assert found["input_shapes"] == {"x": [4, 4]}
        (output,) = found["outputs"]
        assert output["ok"] and output["largest"] > 0.1 and output["values"] > 1


def test_an_answer_that_is_wrong_shows_in_the_report(tmp_path: Path) -> None:
    class Wrong(FakeTensorFlow):
        def run(self, *arguments: Any) -> Mapping[str, Any]:
            return {alias: y * 2 for alias, y in super().run(*arguments).items()}

    make(tmp_path, options("layer"), Wrong(FUNCTIONS, SPECS, WEIGHTS, refused=INITIALIZER))
    with open_artifact(tmp_path / "out") as artifact:
        found = artifact.report()["signatures"]["layer"]["against_tensorflow"]
    assert [output["ok"] for output in found["outputs"]] == [False]


@pytest.mark.parametrize("error", [ConversionError, ModelError])
def test_a_model_that_tensorflow_does_not_run_is_compiled_all_the_same(
    error: type[Exception], tmp_path: Path
) -> None:
    class Dying(FakeTensorFlow):
        def run(self, *_: Any) -> Mapping[str, Any]:
            raise error("TensorFlow's process died")

    made = make(tmp_path, options("layer"), Dying(FUNCTIONS, SPECS, WEIGHTS, refused=INITIALIZER))
    assert len(made.programs) == 2
    with open_artifact(tmp_path / "out") as artifact:
        found = artifact.report()["signatures"]["layer"]["against_tensorflow"]
    assert "TensorFlow's process died" in found["skipped"]


def test_nothing_is_compared_when_nobody_wants_it(tmp_path: Path) -> None:
    make(tmp_path, options("layer", check=False))
    with open_artifact(tmp_path / "out") as artifact:
        assert artifact.report()["signatures"]["layer"]["against_tensorflow"] is None


@pytest.mark.parametrize("check", [True, False])
def test_the_steps_are_as_many_as_were_announced(check: bool, tmp_path: Path) -> None:
    steps = Steps()
    make(tmp_path, options(shapes=["ids=3,6"], check=check), steps=steps)
    assert len(steps.done) == steps.wanted
    assert steps.done[0] == "read the SavedModel" and steps.done[-1] == "write"


def test_what_the_device_does_not_run_is_left_to_tensorflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = compiler.build

    def build_some(program: Any, chosen: Any, **how: bool) -> compiler.Built:
        if program.signature == "centered":
            raise jax.errors.JaxRuntimeError("UNIMPLEMENTED: no such kernel\nat line 1")
        return whole(program, chosen, **how)

    monkeypatch.setattr(compiler, "build", build_some)
    made = make(tmp_path, options("layer", "centered"))
    assert len(made.signatures["layer"].programs) == 2
    (stage,) = made.signatures["centered"].stages
    assert stage.host is not None and stage.host.executor == "saved_model"
    assert stage.host.why.endswith("does not compile it for cpu: UNIMPLEMENTED: no such kernel")


@pytest.mark.parametrize(("kind", "stateful"), [(Kind.STATE, True), (Kind.BRIDGE, False)])
def test_state_is_told_by_what_keeps_a_signature_whole_whatever_it_says(
    tmp_path: Path, kind: Kind, stateful: bool
) -> None:
    no = {"layer": Refused(signature="layer", kind=kind, reason="It does as it likes.")}
    chosen = dataclasses.replace(options("layer", "centered"), optimize=False)
    made = make(tmp_path, chosen, fake(no=no))
    found = [made.signatures[key].stages[0].host for key in ("layer", "centered")]
    assert [host is not None and host.stateful for host in found] == [stateful, False]


def test_a_model_of_which_nothing_runs_is_an_error_with_the_reasons(tmp_path: Path) -> None:
    no = {
        key: Refused(signature=key, kind=Kind.ENCODING, reason="It is sparse.")
        for key in ("layer", "centered")
    }
    with pytest.raises(ConversionError) as caught:
        make(tmp_path, options("layer", "centered"), fake(no=no))
    text = str(caught.value)
    assert "nothing in it can be served: signature 'layer'" in text
    assert text.endswith("signature 'layer': It is sparse.; signature 'centered': It is sparse.")
    assert not (tmp_path / "out").exists()


def test_a_server_takes_a_model_of_which_nothing_runs(tmp_path: Path) -> None:
    no = {
        key: Refused(signature=key, kind=Kind.ENCODING, reason="It is sparse.")
        for key in ("layer", "centered", "embed")
    }
    made = make(tmp_path, options(), fake(no=no), allow_empty=True)
    assert {s.refused for s in made.signatures.values()} == {"It has no output.", "It is sparse."}


def test_a_shape_that_tensorflow_refuses_is_noted(tmp_path: Path) -> None:
    def refuse(key: str, shapes: Shapes) -> str | None:
        return "it wants one row" if key == "layer" and shapes["x"][0] == 4 else None

    made = make(tmp_path, options("layer"), fake(refuse=refuse))
    assert [p.input_shapes["x"] for p in made.signatures["layer"].programs] == [(1, 4)]
    with open_artifact(tmp_path / "out") as artifact:
        notes = artifact.report()["signatures"]["layer"]["notes"]
    assert notes == ["x[4,4] left out: it wants one row"]


def test_two_signatures_of_one_function_are_compiled_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []
    original = compiler.build

    def counted(program: Any, where: target.Target, **how: bool) -> compiler.Built:
        compiled.append(program.signature)
        return original(program, where, **how)

    monkeypatch.setattr(compiler, "build", counted)
    twice = FakeTensorFlow(
        FUNCTIONS | {"same": layer}, SPECS | {"same": SPECS["layer"]}, WEIGHTS, refused=INITIALIZER
    )
    made = make(tmp_path, options("layer", "same", "centered"), twice)
    assert sorted(compiled) == ["centered", "centered", "layer", "layer"]
    first, second = (made.signatures[key].programs for key in ("layer", "same"))
    assert [p.files for p in first] == [p.files for p in second]
    assert {p.key for p in first} & {p.key for p in second} == set()
    assert all(p.stats.compile_seconds == 0.0 for p in second)
    x = RANDOM.normal(size=(4, 4)).astype(np.float32)
    with open_artifact(tmp_path / "out") as artifact:
        got = answers(artifact, "same", {"x": x})
    np.testing.assert_allclose(got, np.tanh(x @ WEIGHTS["kernel"]), rtol=1e-6)


def test_functions_that_draw_numbers_are_compiled_each(tmp_path: Path) -> None:
    def drawn(weights: Mapping[str, Any], x: Any) -> dict[str, Any]:
        return {"y": x + jax.lax.rng_uniform(0.0, 1.0, x.shape)}

    both = FakeTensorFlow(
        {"layer": drawn, "same": drawn},
        {"layer": SPECS["layer"], "same": SPECS["layer"]},
        WEIGHTS,
    )
    made = make(tmp_path, options("layer", "same", check=False), both)
    files = [f for s in made.signatures.values() for p in s.programs for f in p.files]
    assert len(set(files)) == len(files) == 8
