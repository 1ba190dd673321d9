"""Where rapidjson's PrettyWriter puts brackets, commas and line breaks of nested lists."""

import dataclasses
import functools
from typing import Protocol

INDENT = b"    "


class Layout(Protocol):
    """The text around the leaves of a tensor of `rank` dimensions."""

    def __hash__(self) -> int: ...

    @property
    def level(self) -> int:
        """Lists and objects that are open where the tensor begins."""

    def start(self, rank: int) -> bytes:
        """Before the first leaf."""

    def gap(self, rank: int, closed: int) -> bytes:
        """Between two leaves, when the innermost `closed` < `rank` dimensions end there."""

    def end(self, rank: int) -> bytes:
        """After the last leaf."""


@dataclasses.dataclass(frozen=True, slots=True)
class Inline:
    """kFormatSingleLineArray: the items of row answers."""

    level: int

    def start(self, rank: int) -> bytes:
        return b"[" * rank

    def gap(self, rank: int, closed: int) -> bytes:
        return b"]" * closed + b", " + b"[" * closed

    def end(self, rank: int) -> bytes:
        return b"]" * rank


@dataclasses.dataclass(frozen=True, slots=True)
class Indented:
    """kFormatDefault: every list item on a line of its own."""

    level: int

    def start(self, rank: int) -> bytes:
        return b"".join(b"[\n" + INDENT * (self.level + n) for n in range(1, rank + 1))

    def gap(self, rank: int, closed: int) -> bytes:
        outer = self.level + rank - closed
        reopen = b"".join(b"[\n" + INDENT * (outer + n) for n in range(1, closed + 1))
        return self._close(rank, closed) + b",\n" + INDENT * outer + reopen

    def end(self, rank: int) -> bytes:
        return self._close(rank, rank)

    def _close(self, rank: int, closed: int) -> bytes:
        deepest = self.level + rank
        return b"".join(b"\n" + INDENT * (deepest - n) + b"]" for n in range(1, closed + 1))


@functools.lru_cache(maxsize=1024)
def frame(layout: Layout, rank: int) -> tuple[bytes, tuple[bytes, ...], bytes]:
    """Before the first leaf; the gaps, by how many dimensions end there; after the last leaf."""
    gaps = tuple(layout.gap(rank, closed) for closed in range(rank))
    return layout.start(rank), gaps, layout.end(rank)
