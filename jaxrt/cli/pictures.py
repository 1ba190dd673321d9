"""Pictures that a report can be drawn as: whoever has one adds it to `PICTURES`."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxrt.cli import plan_picture, size_picture
from jaxrt.errors import UsageError


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """What an <svg> element holds, and its size in pixels."""

    content: str
    width: int
    height: int


Draw = Callable[[Mapping[str, Any]], str | None]
"""Report → what an <svg> holds; None where the report has nothing to draw."""

PICTURES: tuple[tuple[Draw, int, int], ...] = (
    (plan_picture.plan_picture, plan_picture.WIDTH, plan_picture.HEIGHT),
    (size_picture.size_against_error, size_picture.WIDTH, size_picture.HEIGHT),
)
"""Each with its width and height in pixels."""


def write(report: Mapping[str, Any], path: Path) -> None:
    """All pictures of a report, one below the other. Raises UsageError where it has none."""
    if path.suffix != ".svg":
        raise UsageError(f"--plot {path}: want a file that ends in .svg")
    found = [
        Picture(content, width, height)
        for draw, width, height in PICTURES
        if (content := draw(report)) is not None
    ]
    if not found:
        raise UsageError(
            f"--plot {path}: the report has nothing to draw; compile with --allow_compression"
        )
    top, parts = 0, []
    for picture in found:
        parts.append(f'<svg y="{top}" height="{picture.height}">{picture.content}</svg>')
        top += picture.height
    width = max(picture.width for picture in found)
    try:
        path.write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top}" '
            f'font-family="sans-serif" font-size="13">{"".join(parts)}</svg>\n'
        )
    except OSError as error:
        raise UsageError(f"--plot {path}: cannot be written: {error.strerror}") from error
