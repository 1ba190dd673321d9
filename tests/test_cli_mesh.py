"""`jaxrt compile` for devices that are elsewhere and for several emulated ones, end to end."""

import importlib.util
import json
import xml.dom.minidom
from pathlib import Path
from typing import Any

import pytest
from endtoend import one_line, run

from jaxrt.artifact import open_artifact

pytest_plugins = ("endtoend_fixtures",)

ONE = ("--signature", "serving_default", "--batch-sizes", "4")


def _report(path: Path) -> dict[str, Any]:
    with open_artifact(path) as opened:
        return opened.report()


def test_a_slice_that_is_elsewhere_is_compiled_for_and_checked_on_the_cpu(
    models: Path, tmp_path: Path
) -> None:
    given = ("--device", "tpu", "--topology", "v5litepod-4", *ONE)
    done = run("compile", models / "rows", *given, "-o", "r.jaxrt", home=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    with open_artifact(tmp_path / "r.jaxrt") as opened:
        manifest, report = opened.manifest, opened.report()
        (program,) = manifest.programs
        assert len(opened.executable(program.key) or b"") > 10_000
    assert (manifest.target.platform, manifest.target.device_kind) == ("tpu", "TPU v5 lite")
    assert manifest.target.fingerprint["topology"] == "v5e:2x2"
    assert manifest.mesh is not None and manifest.mesh.devices == 4
    found = report["signatures"]["serving_default"]["against_tensorflow"]
    assert found["on"] == "cpu" and all(output["ok"] for output in found["outputs"])
    assert report["plan"]["considered"][0]["compiled"]["memory_bytes"] > 0
    assert "Plan for v5e:2x2: batch split" in done.stdout
    shown = run("inspect", "r.jaxrt", home=tmp_path)
    assert "Plan for v5e:2x2: batch split" in shown.stdout
    drawn = run("inspect", "r.jaxrt", "--plot", "plan.svg", home=tmp_path)
    assert (drawn.returncode, drawn.stderr) == (0, "")
    assert "batch split" in xml.dom.minidom.parse(str(tmp_path / "plan.svg")).toxml()


def test_a_forced_mesh_and_layout_answer_as_tensorflow_on_emulated_devices(
    models: Path, tmp_path: Path
) -> None:
    meshing = ("--mesh", "2x2", "--shard", ".*=0:model")
    given = ("--device", "cpu:4", *meshing, *ONE)
    done = run("compile", models / "rows", *given, "-o", "r.jaxrt", home=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    with open_artifact(tmp_path / "r.jaxrt") as opened:
        manifest = opened.manifest
    assert str(manifest.mesh and manifest.mesh.shape) == "2×2"
    assert list(manifest.layouts.values()) == [("model", None)]
    (program,) = manifest.programs
    assert program.input_layouts == {"x": ("data", None)}
    assert program.output_layouts == {"y": ("data", None), "best": ("data",)}
    found = _report(tmp_path / "r.jaxrt")["signatures"]["serving_default"]["against_tensorflow"]
    assert found["on"] == "cpu" and all(output["ok"] for output in found["outputs"])
    verified = run("verify", "r.jaxrt", "--against", models / "rows", "--device", "cpu:4",
                   home=tmp_path)  # fmt: skip
    assert verified.returncode == 0, verified.stderr


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--device", "cpu", "--topology", "v5e:2x2"), "want --device tpu"),
        (("--device", "v5e:3x5"), "whole hosts"),
        (("--device", "nothing"), "want a kind of chip"),
        (("--mesh", "2"), "want DATAxMODEL"),
        (("--shard", "kernel"), "want REGEX=DIMENSION:AXIS"),
        (("--shard-policy", "fixed"), "fixed:DIM"),
    ],
)
def test_flags_that_mean_nothing_are_refused_in_one_line(
    given: tuple[str, ...], said: str, models: Path, tmp_path: Path
) -> None:
    done = run("compile", models / "linear" / "2", *given, home=tmp_path)
    assert said in one_line(done, 2)


@pytest.mark.cuda
def test_a_gpu_that_is_elsewhere_is_compiled_for(models: Path, tmp_path: Path) -> None:
    plugins = ("jax_cuda13_plugin", "jax_cuda12_plugin")
    assert any(map(importlib.util.find_spec, plugins)), "pip install 'jaxrt[cuda]'"
    done = run("compile", models / "rows", "--device", "h100", *ONE, "-o", "r.jaxrt", home=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    manifest = json.loads((tmp_path / "r.jaxrt" / "manifest.json").read_text())
    assert manifest["target"]["device_kind"] == "NVIDIA H100 80GB HBM3"
    assert manifest["mesh"] is None
