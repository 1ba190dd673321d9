"""What the passes did to each program, as a table."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from jaxrt.cli.console import table


def gains(report: Mapping[str, Any]) -> list[list[str]]:
    """Signature, input shapes and line, each line of each program that a pass changed."""
    return [
        [name, _shapes(program["input_shapes"]), line]
        for name, signature in report["signatures"].items()
        for program in _programs(signature)
        for line in program.get("passes", {}).get("gains", ())
    ]


def gain_tables(report: Mapping[str, Any]) -> list[Table]:
    """One, or none where no pass changed anything."""
    rows = gains(report)
    return [table("Optimized", ["signature", "input shapes", "what"], rows)] if rows else []


def _programs(signature: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from signature["programs"]
    for stage in signature["stages"]:
        yield from stage["programs"]


def _shapes(shapes: Mapping[str, list[int]]) -> str:
    return " ".join(f"{name}[{','.join(map(str, shape))}]" for name, shape in shapes.items())
