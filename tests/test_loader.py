"""Artifacts become programs that run: by their executables, or compiled where these do not fit."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import programs
import pytest

from jaxrt import compiler, loader, target
from jaxrt.artifact import ArtifactWriter, open_artifact
from jaxrt.errors import ArtifactError, DeviceError
from jaxrt.loader import HostProgram, LoadedModel
from jaxrt.manifest import (
    ExecutableEntry,
    HostEntry,
    Manifest,
    ProgramEntry,
    SignatureEntry,
    Source,
    TargetRecord,
)
from jaxrt.placed import Place
from jaxrt.program import Program, Rows
from jaxrt.specs import Dim, SignatureSpec, TensorSpec

CPU = target.attached("cpu")
KERNEL = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
SPEC = SignatureSpec(
    inputs={"x": TensorSpec(name="x:0", dtype="float32", dims=(Dim(-1), Dim(4)))},
    outputs={"y0": TensorSpec(name="y:0", dtype="float32", dims=(Dim(-1), Dim(3)))},
)


def layer(batch: int) -> Program:
    def function(weights: dict[str, jax.Array], x: jax.Array) -> jax.Array:
        return jnp.tanh(x @ weights["kernel"])

    return programs.program(function, batch, {"x": ((4,), np.float32)}, {"kernel": KERNEL})


def write(
    path: Path,
    *,
    key: str | None = CPU.fingerprint,
    executable: bytes | None = None,
    portable: bytes | None = None,
    platform: str = "cpu",
    twice: str | None = None,
) -> Path:
    """An artifact of `layer` at 1 and 4 rows; `key` None leaves the executables out.

    `executable` and `portable` stand in place of what the compiler made. `twice`: a second
    signature, `g`, of the same files, whose output has this name.
    """
    with ArtifactWriter(path) as writer:
        writer.weights({"kernel": KERNEL})
        entries = []
        for batch in (1, 4):
            built = compiler.build(layer(batch), CPU)
            entries.append(_entry(writer, f"f.{batch}", batch, built, key, executable, portable))
        signatures = {"f": SignatureEntry(spec=SPEC, programs=tuple(entries))}
        if twice is not None:
            renamed = tuple(_renamed(entry, twice) for entry in entries)
            signatures["g"] = SignatureEntry(spec=SPEC, programs=renamed)
        writer.commit(
            Manifest(
                jaxrt="0.1.0",
                model="m",
                tools={"jax": jax.__version__},
                source=Source(path="m", sha256="0" * 64, tags=("serve",)),
                options={},
                target=TargetRecord(platform=platform, device_kind="cpu", fingerprint={}),
                signatures=signatures,
            )
        )
    return path


def _renamed(entry: ProgramEntry, output: str) -> ProgramEntry:
    return dataclasses.replace(
        entry,
        key=entry.key.replace("f", "g"),
        output_names=(output,),
        output_shapes={output: entry.output_shapes["y0"]},
        output_dtypes={output: "float32"},
    )


def _entry(
    writer: ArtifactWriter,
    stem: str,
    batch: int,
    built: compiler.Built,
    key: str | None,
    executable: bytes | None,
    portable: bytes | None,
) -> ProgramEntry:
    entry = ProgramEntry(
        key=stem,
        input_names=("x",),
        input_shapes={"x": (batch, 4)},
        input_dtypes={"x": "float32"},
        output_names=("y0",),
        output_shapes={"y0": (batch, 3)},
        output_dtypes={"y0": "float32"},
        weights=("kernel",),
        rows="independent",
        rows_reason="each row alone",
        random=False,
        portable=writer.portable(stem, portable or built.portable),
    )
    if key is None:
        return entry
    file = writer.executable(stem, executable or built.executable)
    return dataclasses.replace(entry, executable=ExecutableEntry(file=file, key=key))


def no_host(entry: HostEntry) -> HostProgram:
    raise AssertionError(f"no host segment was written: {entry}")


def load(path: Path) -> LoadedModel:
    with open_artifact(path) as artifact:
        return loader.load(artifact, CPU, open_host=no_host)


def assert_right(model: LoadedModel) -> None:
    random = np.random.default_rng(0)
    assert [entry.program.input_shapes["x"] for entry in model.entries] == [(1, 4), (4, 4)]
    for entry in model.entries:
        x = random.normal(size=entry.program.input_shapes["x"]).astype(np.float32)
        found = entry.program.run({"x": x})["y0"]
        np.testing.assert_allclose(found, np.tanh(x @ KERNEL), rtol=1e-6)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def test_executables_of_this_machine_are_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "m")

    def compile_again(*_: Any) -> None:
        raise AssertionError("nothing is to be compiled")

    monkeypatch.setattr(compiler, "compile_portable", compile_again)
    model = load(path)
    assert [entry.recompiled for entry in model.entries] == [None, None]
    assert [entry.rows for entry in model.entries] == [Rows.INDEPENDENT] * 2
    assert_right(model)
    assert warnings(caplog) == []


def test_an_executable_of_another_machine_is_compiled_again_and_never_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "m", key="another", executable=b"machine code of another machine")

    def load_it(*_: Any) -> None:
        raise AssertionError("it must not even be loaded")

    monkeypatch.setattr(compiler, "load_executable", load_it)
    model = load(path)
    assert_right(model)
    assert [entry.recompiled for entry in model.entries] == [
        "made for another runtime or processor (another)"
    ] * 2
    first, second = warnings(caplog)
    assert first == (
        f"{path}: executable f.1 is not used: made for another runtime or processor (another); "
        "compiling its portable program"
    )
    assert "f.4" in second


def test_an_executable_that_the_runtime_refuses_is_compiled_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = load(write(tmp_path / "m", executable=b"not machine code"))
    assert_right(model)
    assert len(warnings(caplog)) == 2
    assert all("the runtime refuses it: " in line for line in warnings(caplog))


def test_an_artifact_without_executables_is_compiled(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert_right(load(write(tmp_path / "m", key=None)))
    assert all("is not used: the artifact has none" in line for line in warnings(caplog))


def test_a_portable_program_that_jax_does_not_read_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "m", key="another", portable=b"from before its window")
    with pytest.raises(ArtifactError, match=r"programs/f\.1\.jaxexport: .* run `jaxrt compile`"):
        load(path)


def test_weights_are_placed_once_for_all_programs(tmp_path: Path) -> None:
    assert load(write(tmp_path / "m")).weights.nbytes == KERNEL.nbytes


def test_every_program_is_announced(tmp_path: Path) -> None:
    said: list[str] = []
    with open_artifact(write(tmp_path / "m")) as artifact:
        loader.load(artifact, CPU, open_host=no_host, step=said.append)
    assert said == ["f.1", "f.4"]


def test_an_artifact_for_another_platform_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m", platform="tpu")
    with pytest.raises(DeviceError, match="compiled for tpu, the device here is cpu; serve it"):
        load(path)


def test_signatures_of_the_same_function_share_their_programs(tmp_path: Path) -> None:
    path = write(tmp_path / "m", twice="y0")
    model = load(path)
    assert_right(dataclasses.replace(model, signatures={"f": model.signatures["f"]}))
    mine, other = model.parts["f"], model.parts["g"]
    assert [e.entry.key for e in other] == ["g.1", "g.4"]
    assert [e.program for e in other] == [e.program for e in mine]


def test_programs_with_other_names_share_the_executable_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "m", twice="z")
    read = []
    original = compiler.load_executable

    def counted(data: bytes, where: target.Target, place: Place) -> Any:
        read.append(data)
        return original(data, where, place)

    monkeypatch.setattr(compiler, "load_executable", counted)
    model = load(path)
    assert len(read) == 2
    x = np.ones((4, 4), np.float32)
    one, other = model.parts["f"][1].program, model.parts["g"][1].program
    np.testing.assert_array_equal(one.run({"x": x})["y0"], other.run({"x": x})["z"])
