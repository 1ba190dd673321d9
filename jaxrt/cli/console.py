"""What a person sees on the terminal: progress bars, tables, one-line errors. All on stderr."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Protocol

from rich import box
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table


class Steps(Protocol):
    """Long work tells how far it is."""

    def total(self, steps: int) -> None: ...

    def step(self, text: str) -> None:
        """One more step is being done: `text` says which."""


class _Bar:
    def __init__(self, progress: Progress, title: str) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=None, detail="")
        self._started = 0

    def total(self, steps: int) -> None:
        self._progress.update(self._task, total=steps)

    def step(self, text: str) -> None:
        # A step is announced when it begins, so the bar counts those that are done.
        self._progress.update(self._task, completed=self._started, detail=text)
        self._started += 1

    def finish(self) -> None:
        self._progress.update(self._task, completed=self._started, detail="")


FILE_WIDTH = 200
"""Columns of a table that goes to a file or a pipe, which has no width of its own."""


def stderr() -> Console:
    return _wide(Console(stderr=True, highlight=False))


def stdout() -> Console:
    return _wide(Console(highlight=False))


def _wide(console: Console) -> Console:
    if not console.is_terminal:
        console.width = FILE_WIDTH
    return console


@contextlib.contextmanager
def progress(title: str) -> Iterator[Steps]:
    """A bar while something long runs; nothing but its last line where stderr is a file."""
    console = stderr()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        bar = _Bar(bars, title)
        yield bar
        bar.finish()


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Numbers (columns whose every cell starts with a digit) are set right."""
    made = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD)
    for index, name in enumerate(columns):
        cells = [row[index] for row in rows]
        numeric = bool(cells) and all(c[:1].isdigit() or c in ("", "-") for c in cells)
        made.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def set_up_logging(verbose: bool) -> None:
    """jaxrt's log lines go to stderr with time and level; other libraries only warn."""
    handler: logging.Handler
    if stderr().is_terminal:
        handler = RichHandler(
            console=stderr(), show_path=False, omit_repeated_times=False, log_time_format="%X"
        )
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:  # a record is a line: what collects logs, or searches them, counts on it
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-8s %(message)s", "%X"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("jaxrt").setLevel(logging.DEBUG if verbose else logging.INFO)
