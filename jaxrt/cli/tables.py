"""Manifest and report as tables."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from jaxrt.cli.console import table
from jaxrt.cli.plans import plan_tables
from jaxrt.cli.segments import segment_tables
from jaxrt.compression.budget import spell
from jaxrt.manifest import Manifest, ProgramEntry
from jaxrt.specs import TensorSpec
from jaxrt.units import flops, size

INIT_OP = "__saved_model_init_op"
"""TF2's initializer, which stands among the signatures and which nobody calls."""


def report_tables(manifest: Manifest, report: Mapping[str, Any]) -> list[Table]:
    """What was compiled, how far it is from TensorFlow, and what was left out and why."""
    tables = [_programs(manifest)]
    tables += plan_tables(report)
    tables += segment_tables(report)
    if rows := errors(report):
        columns = ["signature", "output", "largest", "max error", "RMS error", "allowed", ""]
        title = f"Against TensorFlow{_at(report)}, {_inputs(report)}"
        tables.append(table(title, columns, rows))
    if rows := _left_out(report):
        tables.append(table("Not compiled", ["signature", "why"], rows))
    return tables


def _programs(manifest: Manifest) -> Table:
    rows = [
        [
            name,
            shapes(entry),
            "device",
            entry.rows + (", random" if entry.random else ""),
            "-" if entry.stats.flops is None else flops(entry.stats.flops),
            size(memory(entry)),
            f"{entry.stats.compile_seconds or 0:.2f} s",
        ]
        for name, programs in manifest.parts.items()
        for entry in programs
    ]
    return table(
        f"{manifest.model}: {len(rows)} programs for {manifest.target.platform} "
        f"({manifest.target.device_kind})",
        ["signature", "input shapes", "where", "rows", "per call", "memory", "compiled in"],
        rows,
    )


def tensor(spec: TensorSpec) -> str:
    """`float32[?,32]`."""
    if spec.shape is None:
        return f"{spec.dtype}, rank unknown"
    return f"{spec.dtype}[{','.join('?' if d is None else str(d) for d in spec.shape)}]"


def shapes(entry: ProgramEntry) -> str:
    """`ids[8,128] training=false`, the second of an input that the program fixes."""
    return " ".join(
        f"{name}={str(entry.values[name]).lower()}"
        if name in entry.values
        else f"{name}[{','.join(map(str, entry.input_shapes[name]))}]"
        for name in entry.input_names
    )


def memory(entry: ProgramEntry) -> float:
    """Bytes a call needs beside the weights: outputs and temporaries."""
    return (entry.stats.temp_bytes or 0) + (entry.stats.output_bytes or 0)


def errors(report: Mapping[str, Any]) -> list[list[str]]:
    """Signature, output and its error, each output of each; the last cell is its verdict."""
    rows = []
    for name, signature in report["signatures"].items():
        found = signature["against_tensorflow"] or {}
        if "skipped" in found:
            rows.append([name, "", "", "", "", "", f"not compared: {found['skipped']}"])
        rows += [[name, *error_cells(e), _verdict(e)] for e in found.get("outputs", ())]
    return rows


def _verdict(error: Mapping[str, Any]) -> str:
    """Reports of earlier versions have none."""
    otherwise = "ok" if error["ok"] else error["problem"] or "past the tolerance"
    return str(error.get("verdict", otherwise))


def _at(report: Mapping[str, Any]) -> str:
    """` at bf16`; nothing where products are exact."""
    found = (signature["against_tensorflow"] or {} for signature in report["signatures"].values())
    rounded = {checked["precision"] for checked in found if "precision" in checked} - {"f32"}
    return f" at {', '.join(sorted(rounded))}" if rounded else ""


def _inputs(report: Mapping[str, Any]) -> str:
    checks = (signature["against_tensorflow"] or {} for signature in report["signatures"].values())
    found = {check.get("inputs", "random inputs") for check in checks if "outputs" in check}
    return " and ".join(sorted(found)) or "random inputs"


def error_cells(error: Mapping[str, Any]) -> list[str]:
    """Output, largest magnitude, largest and RMS error, allowed error; JSON spells inf."""
    numbers = [f"{float(error[key]):.3g}" for key in ("largest", "max_error", "rms_error")]
    return [error["output"], *numbers, _allowed(error)]


def _allowed(error: Mapping[str, Any]) -> str:
    """Of single values, or of all together where weights are in few bits."""
    relative = error.get("allowed_rms")
    if relative and float(relative) * float(error["largest"]) > float(error["tolerance"]):
        return f"{spell(float(relative))} RMS"
    return f"{float(error['tolerance']):.3g}"


def _left_out(report: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for name, signature in report["signatures"].items():
        if name == INIT_OP:
            continue
        why = signature["refused"] or signature["unplanned"]
        rows += [[name, reason] for reason in ([why] if why else [])]
        rows += [[name, note] for note in signature["notes"]]
    return rows
