"""Numbers of one process, in memory that other processes may read: each series a few doubles.

One process writes, without locks or system calls; a process that takes the memory over after a
crash goes on where the numbers stood. Layout: a header, two areas for the index, the numbers. The
index is a line of JSON a series, `[family, [label values], first number, how many]`. The header's
double is twice the bytes of the index, plus the area that it is in: one store changes both.
"""

import json
import logging
import mmap
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

_log = logging.getLogger("jaxrt.serving")

if TYPE_CHECKING:
    View: TypeAlias = memoryview[float]  # Python 3.11 has no such class when it runs
else:
    View = memoryview
Key = tuple[str, tuple[str, ...]]
"""A family's name and the values of its labels."""
Numbers = Mapping[Key, Sequence[float]]
"""All series of one memory at one instant."""

_HEADER = 4096
_INDEX = 8 << 20
_START = _HEADER + 2 * _INDEX
SIZE = _START + (64 << 20)
"""Bytes of address space; what is never written takes no memory."""


def shared() -> int:
    """The descriptor of memory for one process's numbers, which child processes may be given."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("jaxrt-metrics")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, SIZE)
    return descriptor


class Cells:
    """The writing side; one for each memory. Series are made from one thread at a time."""

    def __init__(self, descriptor: int | None = None) -> None:
        """Goes on with what another process has left in the memory of `descriptor`; None: new."""
        self.memory = mmap.mmap(-1 if descriptor is None else descriptor, SIZE)
        self._numbers: View = memoryview(self.memory).cast("d")
        self._places = dict(_places(*_index(self.memory)))
        ends = (at + size for at, size in self._places.values())
        self._end = max(ends, default=_START // 8)
        self._freed: dict[int, list[int]] = {}
        self._full = False

    def series(self, family: str, labels: tuple[str, ...], size: int) -> View:
        """The `size` numbers of a series, zeros if it is new.

        Without room for one more, numbers that nobody reads: the server goes on.
        """
        place = self._places.get((family, labels))
        if place is None or place[1] != size:
            found = self._room((family, labels), size)
            if found is None:
                return memoryview(bytearray(8 * size)).cast("d")
            place = found
        at, _ = place
        return self._numbers[at : at + size]

    def forget(self, keys: Sequence[Key]) -> None:
        """These series are not listed from now on; who still writes to one does no harm.

        Their room is taken again, oldest first, when there is no other.
        """
        for key in keys:
            place = self._places.pop(key, None)
            if place is not None:
                self._freed.setdefault(place[1], []).append(place[0])
        area = 1 - _index(self.memory)[0]
        text = b"".join(_line(key, *place) for key, place in self._places.items())
        self._write(area, 0, text)

    def known(self) -> list[Key]:
        return list(self._places)

    def _room(self, key: Key, size: int) -> tuple[int, int] | None:
        if self._end + size <= SIZE // 8:
            at, end = self._end, self._end + size
        elif self._freed.get(size):
            at, end = self._freed[size].pop(0), self._end
        else:
            at, end = 0, 0
        area, text = _index(self.memory)
        line = _line(key, at, size)
        if not at or len(text) + len(line) > _INDEX:
            if not self._full:
                _log.error("no room for more metrics: %s%s is not counted, nor what is new", *key)
            self._full = True
            return None
        self._end = end
        self._numbers[at : at + size] = memoryview(bytes(8 * size)).cast("d")
        self._write(area, len(text), line)
        self._places[key] = at, size
        return at, size

    def _write(self, area: int, at: int, text: bytes) -> None:
        start = _HEADER + area * _INDEX + at
        self.memory[start : start + len(text)] = text
        self._numbers[0] = float(2 * (at + len(text)) + area)


def read(memory: mmap.mmap) -> Numbers:
    """All series in the memory of this or another process."""
    for _ in range(_ATTEMPTS):
        area, text = _index(memory)
        found = {
            key: memoryview(memory[8 * at : 8 * (at + size)]).cast("d").tolist()
            for key, (at, size) in _places(area, text)
        }
        if _index(memory)[0] == area:  # no room was freed and taken again meanwhile
            return found
        time.sleep(0.001)
    return found


_ATTEMPTS = 20


def _index(memory: mmap.mmap) -> tuple[int, bytes]:
    header = int(memoryview(memory[:8]).cast("d")[0])
    start = _HEADER + (header & 1) * _INDEX
    return header & 1, memory[start : start + (header >> 1)]


def _places(area: int, text: bytes) -> Iterator[tuple[Key, tuple[int, int]]]:
    for line in text.splitlines():
        family, labels, at, size = json.loads(line)
        yield (family, tuple(labels)), (at, size)


def _line(key: Key, at: int, size: int) -> bytes:
    family, labels = key
    return json.dumps([family, labels, at, size]).encode() + b"\n"
