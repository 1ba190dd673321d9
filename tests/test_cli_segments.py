"""What runs where, as `jaxrt compile`, `jaxrt inspect`, the log at start and the benches say it."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mixed_models
import pytest
from endtoend import Server, environment, run

from jaxrt.artifact import open_artifact
from jaxrt.cli.segments import segment_tables, summaries

SIGNATURES = ("labelled", "shared", "echoed", "checked_late", "adds", "chosen")
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models and their artifacts, and what their compiles printed."""
    folder = tmp_path_factory.mktemp("home")
    mixed_models.build(folder / "models", "words", "frames", "examples")
    for model, signatures in (("words", SIGNATURES), ("frames", ("scaled", "looped"))):
        chosen = [part for name in signatures for part in ("--signature", name)]
        done = run(
            "compile", f"models/{model}", "--batch-sizes", "1,4", "--no-check", *chosen, home=folder
        )
        assert done.returncode == 0, done.stderr
        (folder / f"{model}.stdout").write_text(done.stdout)
    return folder


def report(home: Path, model: str) -> dict[str, Any]:
    with open_artifact(home / f"{model}.jaxrt") as artifact:
        found: dict[str, Any] = artifact.report()["signatures"]
    return found


def test_the_report_counts_operations_bytes_and_ops_of_each_segment(home: Path) -> None:
    shared = report(home, "words")["shared"]
    host, device = shared["segments"]
    assert (host["where"], device["where"]) == ("host, native", "device")
    assert host["flops"] == 2.0  # x[:, 0] * 10 and its cast to whole numbers
    assert device["flops"] == 2 * 4 * 4 + 4  # x @ square and x * 2
    assert shared["device_share"] == pytest.approx(36 / 38)
    assert (device["bytes_in"], device["bytes_out"]) == (16.0, 32.0)
    assert device["ops"] == {"MatMul": 1, "Mul": 1}
    assert host["reasons"] == {"no device has strings": {"AsString": 1, "StringJoin": 1}}
    assert shared["crossing_bytes"] == 0.0  # both take what the client sent


def test_what_stays_on_one_side_does_not_cross(home: Path) -> None:
    found = report(home, "words")
    assert found["labelled"]["crossing_bytes"] == 16.0  # ids to the device, numbers of labels back
    assert found["echoed"]["crossing_bytes"] == 0.0
    assert found["checked_late"]["crossing_bytes"] == pytest.approx(20.0)  # y and y < 1e6


def test_ops_in_branches_are_blamed_and_not_the_branch(home: Path) -> None:
    (host, _) = report(home, "words")["chosen"]["segments"]
    blamed = {op for ops in host["reasons"].values() for op in ops}
    assert "LookupTableFindV2" in blamed
    assert "If" not in blamed


def test_loops_whose_length_xla_does_not_know_make_a_lower_bound(home: Path) -> None:
    scaled = report(home, "frames")["scaled"]
    host, device = scaled["segments"]
    assert device["loops"] and not host["loops"]
    assert scaled["summary"].startswith("at least ")
    assert "≥ " in (home / "frames.stdout").read_text()
    looped = report(home, "frames")["looped"]
    assert looped["summary"] == "100 % of FLOPs on device; nothing on host"


def test_compile_and_inspect_print_the_table_and_a_line_for_each_signature(home: Path) -> None:
    inspected = run("inspect", "words.jaxrt", home=home)
    assert (inspected.returncode, inspected.stderr) == (0, "")
    for printed in ((home / "words.stdout").read_text(), inspected.stdout):
        lines = [" ".join(line.split()) for line in printed.splitlines()]
        assert any(
            line.startswith("shared 1 device 36 FLOP 16 B 32 B MatMul, Mul") for line in lines
        )
        assert any(line.startswith("adds 0 host, whole in TensorFlow unknown") for line in lines)
        (line,) = [line for line in lines if line.startswith("signature 'shared': ")]
        assert line.startswith(
            "signature 'shared': 95 % of FLOPs on device; AsString, StringJoin on host (no device "
            "has strings); no TensorFlow needed; nothing crosses"
        )
        assert any(line.startswith("warning: signature 'adds': 0 % of FLOPs") for line in lines)


def test_the_log_at_start_warns_of_what_is_not_on_the_device(home: Path) -> None:
    with Server(home / "words.jaxrt", home=home) as server:
        log = re.sub(r"\s+", " ", server.log)
        assert "What runs where; FLOPs and bytes for one example" in log
        assert re.search(r"INFO words version 1: signature 'shared': 95 % of FLOPs on device", log)
        assert re.search(r"WARNING words version 1: signature 'adds': 0 % of FLOPs on device", log)
        assert server.stop() == 0


def test_a_report_without_segments_says_nothing() -> None:
    assert segment_tables({}) == []
    assert list(summaries({"signatures": {"f": {"refused": "why"}}})) == []


def test_the_table_of_models_takes_artifacts_that_are_there_and_makes_the_others(
    home: Path,
) -> None:
    folder = home / "folder"
    shutil.copytree(home / "models", folder)
    (folder / "broken").mkdir()
    (folder / "broken" / "saved_model.pb").write_bytes(b"no model")
    (folder / "nothing").mkdir()
    done = subprocess.run(
        [sys.executable, ROOT / "bench" / "gauntlet_table.py", folder, "--work", home],
        cwd=home,
        env=environment(home),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.split() == ["broken", "examples", "frames", "words"]
    head, rule, *rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()]
    assert head[:4] == ["Model", "Signature", "Kind", "FLOPs on device"]
    assert rule == ["---"] * len(head)
    assert rows[0][0] == "broken" and "not a SavedModel or truncated" in rows[0][2]
    by_name = {(row[0], row[1]): row[2:] for row in rows[1:]}
    assert by_name["words", "`adds`"][:3] == ["host only", "0 %", "whole in TensorFlow"]
    assert by_name["words", "`shared`"][:4] == [
        "host → device", "95 %", "native", "AsString, StringJoin",
    ]  # fmt: skip
    assert by_name["frames", "`looped`"][:3] == ["one program", "100 %", "none"]
    assert by_name["examples", "`classify`"][0] == "host → device"
    assert json.loads((home / "examples.jaxrt" / "report.json").read_text())["signatures"]
