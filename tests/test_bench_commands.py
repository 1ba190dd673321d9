"""The commands of bench/README.md, in their quick forms."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_every_command_that_the_readme_names_says_what_it_takes() -> None:
    text = (ROOT / "bench" / "README.md").read_text()
    (commands,) = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    modules = set(re.findall(r"python -m (bench\.\w+)", commands))
    assert modules == {
        *("bench.engine", "bench.http_models", "bench.http_compare", "bench.plots"),
        *("bench.compression", "bench.device"),
    }
    for module in modules - {"bench.http_models", "bench.device"}:
        flags = set(re.findall(rf"{module} .*", commands)[0].partition("#")[0].split())
        shown = run("-m", module, "--help")
        assert {flag for flag in flags if flag.startswith("--")} <= {*re.findall(r"--\w+", shown)}


def test_servers_are_measured_and_drawn(tmp_path: Path) -> None:
    stored = tmp_path / "http.json"
    quick = ("--workloads", "tabular", "--servers", "echo", "--rounds", "2", "--seconds", "0.1")
    shown = run("-m", "bench.http_compare", str(tmp_path), *quick, "--json", str(stored))
    (row,) = (line for line in shown.splitlines() if line.startswith("| echo"))
    assert len(row.split("|")) == 10
    found = json.loads(stored.read_text())["workloads"]["tabular"]["servers"]["echo"]
    assert len(found) == 2
    assert all(one["failed"] == 0 and one["closed"] > 0 and one["curve"] for one in found)
    run("-m", "bench.plots", "--http", str(stored), "--out", str(tmp_path / "plots"))
    picture = (tmp_path / "plots" / "http_tabular.svg").read_text()
    assert "<svg" in picture


def test_engines_are_drawn_from_what_they_stored(tmp_path: Path) -> None:
    cell = {"model": "mlp", "rows": 8, "refused": {}, "errors": {}}
    times = {"jaxrt": [1e-3, 2e-3], "tensorflow": [2e-3, 4e-3], "openvino": [5e-4, 1e-3]}
    stored = tmp_path / "engine.json"
    stored.write_text(json.dumps([cell | {"seconds": times}]))
    run("-m", "bench.plots", "--engine", str(stored), "--out", str(tmp_path))
    again = (tmp_path / "engine.svg").read_bytes()
    run("-m", "bench.plots", "--engine", str(stored), "--out", str(tmp_path))
    assert (tmp_path / "engine.svg").read_bytes() == again


@pytest.mark.slow
def test_models_are_built_served_profiled_and_timed(tmp_path: Path) -> None:
    run("-m", "bench.http_models", str(tmp_path))
    quick = ("--workloads", "tabular", "--servers", "jaxrt,echo", "--rounds", "1")
    shown = run("-m", "bench.http_compare", str(tmp_path), *quick, "--seconds", "0.2")
    assert "| jaxrt |" in shown
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"instances": [[0.5] * 80]}))
    made, answers = str(tmp_path / "tabular.jaxrt"), str(tmp_path / "answers.npz")
    run("-m", "bench.device", "record", made, str(tmp_path / "tabular"), answers)
    quick = ("--answers", answers, "--seconds", "0.1", "--json", str(tmp_path / "device.json"))
    assert "| program | rows |" in run("-m", "bench.device", "measure", made, *quick)
    found = json.loads((tmp_path / "device.json").read_text())["found"]
    assert found and all(one["error"] < 1e-4 and one["latency"] > 0 for one in found)
    profile = run("-m", "bench.http_profile", str(tmp_path / "tabular.jaxrt"), str(body))
    assert "| all of it |" in profile
    engine = ("--models", "mlp", "--rows", "1", "--rounds", "1", "--contenders", "jaxrt,tensorflow")
    assert "| mlp | 1 |" in run("-m", "bench.engine", "--work", str(tmp_path), *engine)
