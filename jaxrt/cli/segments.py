"""What runs where, for people: the segments in a report as a table, and one line a signature."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from jaxrt.cli.console import table
from jaxrt.units import flops, size

_OPS = 8
"""Kinds of op that a cell names, the most frequent first; report.json names all."""
_COLUMNS = (
    "signature",
    "segment",
    "where",
    "FLOPs",
    "bytes in",
    "bytes out",
    "TensorFlow ops",
    "why not on the device",
)


def segment_tables(report: Mapping[str, Any]) -> list[Table]:
    """One, or none where the report has no signature that runs."""
    rows = [
        [name, str(number), *_cells(segment)]
        for name, signature in _signatures(report)
        for number, segment in enumerate(signature["segments"])
    ]
    if not rows:
        return []
    return [table("What runs where; FLOPs and bytes for one example", _COLUMNS, rows)]


def summaries(report: Mapping[str, Any]) -> Iterator[tuple[bool, str]]:
    """One line a signature, and whether it is a warning: nothing of it is on the device."""
    for name, signature in _signatures(report):
        yield signature["device_share"] == 0, f"signature {name!r}: {signature['summary']}"
        if why := signature.get("fallback"):
            yield False, f"signature {name!r}: shapes without a program go to TensorFlow: {why}"


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """The summaries as a command prints them."""
    for warns, text in summaries(report):
        yield f"warning: {text}" if warns else text


def _signatures(report: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Those that run. Artifacts made before reports had segments say nothing."""
    for name, signature in report.get("signatures", {}).items():
        if signature.get("segments"):
            yield name, signature


def _cells(segment: Mapping[str, Any]) -> list[str]:
    return [
        segment["where"],
        _flops(segment),
        *("unknown" if n is None else size(n) for n in (segment["bytes_in"], segment["bytes_out"])),
        _ops(segment["ops"]),
        escape(segment["why"]),
    ]


def _flops(segment: Mapping[str, Any]) -> str:
    """`≥ 3.1 MFLOP`: loops whose length nobody knows, or ops that nobody counts."""
    if segment["flops"] is None:
        return "unknown"
    bound = "≥ " if segment["loops"] or segment["uncounted"] else ""
    return bound + flops(segment["flops"])


def _ops(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{op} ×{n}" if n > 1 else op for op, n in ordered[:_OPS]]
    rest = len(ordered) - _OPS
    return ", ".join(named) + (f" and {rest} kinds more" if rest > 0 else "")
