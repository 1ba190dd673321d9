"""Which devices are busy: programs of one device run one after the other, in the order they ask.

Two programs with exchanges between devices, launched on overlapping meshes at once, would wait for
each other for ever: one device would start with the one, another device with the other.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet


class Occupancy:
    """Of all devices that a server runs programs on. Thread safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._busy: set[int] = set()
        self._waiting: deque[tuple[object, Sequence[AbstractSet[int]]]] = deque()

    @contextlib.contextmanager
    def one_of(self, places: Sequence[AbstractSet[int]]) -> Iterator[int]:
        """Waits until all devices of one place are idle; gives its number, and keeps it inside.

        Who asks later gets no device that somebody who asked before waits for.
        """
        me = object()
        with self._changed:
            self._waiting.append((me, places))
            while (found := self._free(me)) is None:
                self._changed.wait()
            self._waiting.remove((me, places))
            self._busy |= places[found]
        try:
            yield found
        finally:
            with self._changed:
                self._busy -= places[found]
                self._changed.notify_all()

    def _free(self, me: object) -> int | None:
        taken = set(self._busy)
        for who, places in self._waiting:
            found = next((n for n, ids in enumerate(places) if not taken & ids), None)
            if who is me:
                return found
            taken |= set().union(*places) if found is None else places[found]
        return None
